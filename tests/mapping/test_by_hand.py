"""The benchmark of the mapping compares like with like: both ways give the same call."""

import pytest

from benchmarks.mapping import Case, cases, check


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_rules_and_hand_give_the_same_call(case: Case) -> None:
    """Payload, call id, start and recording of the made documents, which have 120 to 130 rows."""
    assert 120 <= check(case) <= 130
