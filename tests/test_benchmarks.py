"""What `make bench` says about a figure that has a goal. No test checks the figures themselves."""

from pathlib import Path

import pytest

from benchmarks.bars import at_least, at_most, to_reach
from tests.ledger.postgres_server import needs_postgres

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (at_most(61.7, 64), "to reach: 64, reached"),
        (at_most(64.1, 64), "to reach: 64, **not reached**"),
        (at_least(0.45, 0.45), "to reach: 0.45, reached"),
        (at_least(0.31, 0.45), "to reach: 0.45, **not reached**"),
        (to_reach("25 and 100", False), "to reach: 25 and 100, **not reached**"),
    ],
)
def test_a_bar_says_whether_it_was_reached(told: str, expected: str) -> None:
    """The output says whether the goal was reached; a figure equal to the goal counts as reached."""
    assert told == expected


def test_every_bar_says_so() -> None:
    """Every benchmark that prints a goal also prints the verdict."""
    assert [file.name for file in sorted(BENCHMARKS.glob("*.py")) if "to reach:" in file.read_text()] == ["bars.py"]


@needs_postgres
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_benchmark_of_a_fleet_measures_each_of_its_scenes() -> None:
    """In its small size the benchmark prints 12 lines, and a verdict for each of its six goals."""
    from benchmarks.fleet import SMALL, measure

    lines = [line async for line in measure(SMALL)]
    assert len(lines) == 12
    assert sum("to reach:" in line for line in lines) == 6
