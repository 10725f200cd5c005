"""The timeline on random transcripts: whatever is not refused is what create-call takes, in order, and stable."""

import copy
import os
from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tunerd.call import Form, Refusal
from tunerd.mapping.limits import check_create_call
from tunerd.mapping.payload import Payload, build
from tunerd.mapping.timeline import Placed, place
from tunerd.tuner_fields import ROLES, ROWS

START = 1_782_900_000_000
LENGTH = 300_000
DOUBTS = {"spoken_too_fast", "much_shorter_than_call", "much_longer_than_call"}
"""Counted, but nothing is changed: a second pass doubts again."""

_near = st.one_of(
    st.integers(-2_000, LENGTH + 2_000),
    st.sampled_from([0, 1000, 1000, 5000, LENGTH]),
    st.floats(-500, LENGTH, allow_nan=False),
)
_odd = st.one_of(
    _near,
    st.none(),
    st.sampled_from(["", "1200", "soon", [], {}, True, 10**30, -(10**9), float("nan"), float("inf"), START, START / 1000]),
)
_text = st.one_of(st.text(alphabet="ab é你\ud800 ", max_size=30), st.sampled_from(["", " ", "hello there", "你好吗"]))
_scalar = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _text)
_json = st.one_of(
    _scalar,
    st.lists(_scalar, max_size=2),
    st.dictionaries(_text, _scalar, max_size=2),
    st.sampled_from(['{"a": {"b": 1}}', "[1]", "{"]),
)


def _rows(times: st.SearchStrategy[Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    timing = st.one_of(
        st.fixed_dictionaries({"start_ms": times, "end_ms": times}),
        st.fixed_dictionaries({"start_ms": times, "duration_ms": st.integers(0, 9000)}),
        st.fixed_dictionaries({"start_ms": times}),
        st.fixed_dictionaries({"end_ms": times}),
        st.fixed_dictionaries({"start_at": _near.map(lambda ms: START + ms)}),
        st.fixed_dictionaries({}),
    )
    word = st.fixed_dictionaries({"word": _text, "start_ms": times, "end_ms": times}, optional={"confidence": values})
    speech = st.builds(
        lambda row, timing: {**row, **timing},
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "agent"]), "text": _text},
            optional={"words": st.lists(word, max_size=3), "metadata": values, "more": st.booleans()},
        ),
        timing,
    )
    ids = st.sampled_from(["r1", "r2", "r3", 7, None])
    tool = st.builds(
        lambda row, timing: {**row, **timing},
        st.fixed_dictionaries(
            {
                "role": st.sampled_from(["agent_function", "agent_result"]),
                "tool": st.fixed_dictionaries(
                    {"request_id": ids},
                    optional={"name": _text, "params": values, "result": values, "is_error": values, "error": values},
                ),
            }
        ),
        timing,
    )
    node = st.builds(
        lambda node, timing: {"role": "node_transition", "node": node, **timing},
        st.fixed_dictionaries({"to": _text}, optional={"from": _text, "reason": values}),
        timing,
    )
    return st.lists(st.one_of(speech, speech, tool, node), min_size=1, max_size=8)


_plausible = _rows(_near, _json)
_wild = st.one_of(_rows(_odd, _json), st.lists(_json, max_size=3))


def _given(rows: Any) -> dict[str, Any]:
    return {"call_id": "c", "call_type": "t", "start_timestamp": START, "end_timestamp": START + LENGTH, ROWS: rows}


def _said(rows: Any) -> Counter[str]:
    """Non-blank characters of all speech, in any order and cut."""
    return Counter(
        char for row in rows if row["role"] in ("user", "agent") for char in row.get("text") or "" if not char.isspace()
    )


def _check(rows: list[Any]) -> None:
    before = copy.deepcopy(rows)
    result = place(_given(rows), form=Form.CREATE_CALL, untimed="spread")
    assert repr(rows) == repr(before), "the input was changed"
    if isinstance(result, Refusal):
        assert result.where
        assert result.what
        return
    starts = [row["start_ms"] for row in result.rows]
    assert starts == sorted(starts)
    assert all(type(ms) is int and ms >= 0 for row in result.rows for name, ms in row.items() if name.endswith("_ms"))
    assert all(row["end_ms"] >= row["start_ms"] for row in result.rows if "end_ms" in row)
    assert {row["role"] for row in result.rows} <= ROLES
    assert result.fits_create_call
    assert not _said(rows) - _said(result.rows), "speech was lost"

    again = place(_given(copy.deepcopy(result.rows)), form=Form.CREATE_CALL, untimed="reject")
    assert isinstance(again, Placed)
    assert repr(again.rows) == repr(result.rows) or again.rows == result.rows, "a second pass changed something"
    assert not set(again.repairs) - {"after_end", "result_without_call", *DOUBTS}

    payload = build(_given(rows), result, form=Form.CREATE_CALL)
    assert isinstance(payload, Payload), payload
    assert payload.checked_for is Form.CREATE_CALL
    assert check_create_call({**orjson.loads(payload.body_json), "recording_url": "https://a.example/a.wav"}) is None


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(_plausible)
def test_random_transcripts(rows: list[Any]) -> None:
    """Valid, ordered, nothing said is lost, and a second pass changes nothing."""
    _check(rows)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif("TUNERD_SLOW" not in os.environ, reason="about two minutes: `make thorough` runs it")
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(_plausible)
def test_many_random_transcripts(rows: list[Any]) -> None:
    """The same on many more."""
    _check(rows)


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(_wild, st.sampled_from([*Form, None]), st.sampled_from(["reject", "spread"]))
def test_wild_transcripts_never_raise(rows: Any, form: Form | None, untimed: Any) -> None:
    """Odd types everywhere end in rows or in a refusal, in every form; what comes out can be written as JSON."""
    result = place(_given(rows), form=form, untimed=untimed)
    if isinstance(result, Placed):
        payload = build(_given(rows), result, form=form)
        assert isinstance(payload, Payload)
        orjson.loads(payload.body_json)
