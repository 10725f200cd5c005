"""Every preset on documents of our own in its platform's shapes: the whole outcome, and both request forms."""

import orjson
import pytest

from tests.mapping.presets.golden import Case, body_of, cases, map_file, told
from tunerd.call import Form
from tunerd.mapping.limits import check_create_call
from tunerd.sandbox.body_check import judge

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_document_becomes_exactly_what_was_read_and_approved(case: Case) -> None:
    """Body, recording, refusal, strategies and repairs of each variant are compared whole."""
    assert told(map_file(case.preset, Form.CREATE_CALL, case.document)) == orjson.loads(case.expected.read_bytes())


def test_both_forms_take_the_body() -> None:
    """What maps at all meets the strict check of create-call, and the sandbox's own models of both forms."""
    for case in CASES:
        for form in Form:
            call = map_file(case.preset, form, case.document).call
            assert (call is None) == ("body" not in orjson.loads(case.expected.read_bytes()))
            if call is not None:
                body = body_of(call, form)
                assert form is Form.SEND_CALLS or check_create_call(body) is None
                assert not judge(form, orjson.dumps(body)).problems


def test_no_variant_hides_an_error_in_an_optional_rule() -> None:
    """No field is left out because its rule failed: every fixture is a shape that the preset knows."""
    assert [case for case in CASES if map_file(case.preset, Form.CREATE_CALL, case.document).notes.left_out] == []
