"""The payload and the frozen bodies: limits, what is left out, and the exact bytes of both forms."""

from typing import Any

import orjson
import pytest

from tests.bodies import BODIES, Body, url_of
from tunerd.call import Form, Refusal
from tunerd.mapping.forms import fields_not_carried, freeze_body
from tunerd.mapping.limits import check_create_call
from tunerd.mapping.payload import Payload, build
from tunerd.mapping.timeline import Placed, place
from tunerd.outcome import FailReason
from tunerd.sandbox.body_check import judge
from tunerd.tuner_fields import ROWS

START = 1_782_900_000_000
URL = "https://audio.example/c1.wav"
CREATE, SEND = Form.CREATE_CALL, Form.SEND_CALLS
HELLO = {"role": "agent", "text": "Hello.", "start_ms": 0, "end_ms": 900}


def fields(**edits: Any) -> dict[str, Any]:
    whole = {
        "call_id": "c1",
        "call_type": "phone_call",
        "start_timestamp": START,
        "end_timestamp": START + 60_000,
        ROWS: [HELLO],
        **edits,
    }
    return {name: value for name, value in whole.items() if value is not None}


def mapped(form: Form | None = CREATE, untimed: Any = "reject", **edits: Any) -> Payload | Refusal:
    given = fields(**edits)
    placed = place(given, form=form, untimed=untimed)
    return build(given, placed, form=form) if isinstance(placed, Placed) else placed


def payload(form: Form | None = CREATE, untimed: Any = "reject", **edits: Any) -> Payload:
    result = mapped(form, untimed, **edits)
    assert isinstance(result, Payload), result
    return result


def frozen(form: Form, *, mapped_for: Form | None = CREATE, url: str = URL, **edits: Any) -> Any:
    made = payload(mapped_for, **edits)
    body = freeze_body(made.body_json, url, made.checked_for, form)
    assert isinstance(body, bytes), body
    return orjson.loads(body)


# The table that the sandbox is tested with


def test_the_strict_check_answers_as_the_table() -> None:
    """check_create_call accepts and refuses exactly as the sandbox, at the same field."""
    for case in [case for case in BODIES if case.form is CREATE]:
        refusal = check_create_call(case.body)
        if case.accepted:
            assert refusal is None, case
        else:
            assert refusal is not None, case
            assert (refusal.where, refusal.reason) == (case.field, FailReason.INVALID), case


def without_recording(case: Body) -> tuple[dict[str, Any], str]:
    """The fields of a payload, and the recording's URL."""
    url = case.body.get("recording_url")
    return {name: value for name, value in case.body.items() if name != "recording_url"}, url if isinstance(url, str) else ""


@pytest.mark.parametrize("form", [CREATE, SEND, None])
def test_every_body_of_the_table_through_the_payload(form: Form | None) -> None:
    """What the form takes is not refused (but for a call in which nothing is said); what comes out, the form takes."""
    for case in BODIES:
        given, url = without_recording(case)
        made = mapped(form, **given)
        if isinstance(made, Refusal):
            assert form is not case.form or not case.accepted or case.name == "a message that says nothing", (case, made)
            continue
        for target in (form,) if form is not None else (CREATE, SEND):
            body = freeze_body(made.body_json, url, made.checked_for, target)
            if isinstance(body, Refusal):
                assert target is not case.form or not case.accepted, (case, body)
            else:
                assert not judge(target, body).problems, case
                assert target is SEND or check_create_call(orjson.loads(body)) is None, case


def test_an_unchecked_payload_is_checked_when_it_is_frozen() -> None:
    """It is accepted or refused as the table says, at the table's field."""
    for case in [case for case in BODIES if case.form is CREATE]:
        given, url = without_recording(case)
        body = freeze_body(orjson.dumps(given), url, None, CREATE)
        assert isinstance(body, bytes) is case.accepted, case
        if isinstance(body, Refusal):
            assert body.where == case.field, case


# Required fields


@pytest.mark.parametrize(
    ("value", "text"), [("c1", "c1"), (42, "42"), (42.0, "42"), (0, "0"), (1.5, "1.5"), ("ü" * 200, "ü" * 200), (" x ", " x ")]
)
def test_the_call_id_is_text(value: Any, text: str) -> None:
    """Numbers become text; text stays as it is."""
    made = payload(call_id=value)
    assert (made.call_id, orjson.loads(made.body_json)["call_id"]) == (text, text)


@pytest.mark.parametrize(
    ("edits", "where", "reason"),
    [
        ({"call_id": None}, "call_id", "unmappable"),
        ({"call_id": ""}, "call_id", "unmappable"),
        ({"call_id": "  "}, "call_id", "unmappable"),
        ({"call_id": []}, "call_id", "unmappable"),
        ({"call_id": {"a": 1}}, "call_id", "invalid"),
        ({"call_id": True}, "call_id", "invalid"),
        ({"call_id": float("nan")}, "call_id", "invalid"),
        ({"call_id": 123456789012345678901.0}, "call_id", "invalid"),  # beyond 64 bits JSON readers round: two ids would be one
        ({"call_id": "c" * 201}, "call_id", "invalid"),
        ({"call_type": None}, "call_type", "unmappable"),
        ({"call_type": "t" * 101}, "call_type", "invalid"),
        ({"call_type": [1]}, "call_type", "invalid"),
    ],
)
def test_a_required_field_refuses_the_call(edits: Any, where: str, reason: str) -> None:
    """Missing is unmappable, wrong is invalid; the value is not quoted."""
    refusal = mapped(**{"call_id": "c1", **edits})
    assert isinstance(refusal, Refusal)
    assert (refusal.where, refusal.reason) == (where, reason)
    assert "ccc" not in refusal.what


@pytest.mark.parametrize(
    ("form", "edits", "checked_for"),
    [
        (CREATE, {}, CREATE),
        (SEND, {}, CREATE),
        (None, {}, CREATE),
        (None, {"call_id": "c" * 201}, None),
        (SEND, {"call_id": "c" * 201}, SEND),
        (None, {"call_type": "t" * 101}, None),
        (None, {ROWS: [{"role": "user", "content": "a"}]}, None),
        (SEND, {ROWS: [{"role": "user", "content": "a"}]}, SEND),
        (SEND, {ROWS: [{"role": "Anna", "text": "a", "start_ms": 0}]}, SEND),
    ],
)
def test_which_form_a_payload_is_known_to_suit(form: Form | None, edits: Any, checked_for: Form | None) -> None:
    """create-call whenever it does; else only the form that was asked for."""
    assert payload(form, **edits).checked_for is checked_for


# Optional fields


@pytest.mark.parametrize(
    ("name", "value", "sent"),
    [
        ("user_sentiment", " Positive ", "positive"),
        ("user_sentiment", "angry", None),
        ("user_sentiment", 1, None),
        ("call_status", "s" * 100, "s" * 100),
        ("call_status", "s" * 101, None),
        ("disconnection_reason", "d" * 101, "d" * 100),
        ("caller_phone_number", "+1 (555) 010-0123", "+15550100123"),
        ("caller_phone_number", 15550100123, "15550100123"),
        ("caller_phone_number", "sip:anna@sip.example", "sip:anna@sip.example"),
        ("caller_phone_number", "+" + "4" * 50, None),
        ("call_successful", "True", True),
        ("call_successful", 0, False),
        ("call_successful", "8 of 10", None),
        ("in_voicemail", [True], None),
        ("duration_ms", "61500.5", 61501),
        ("duration_ms", -1, None),
        ("agent_version", 0, 0),
        ("agent_version", "v3", None),
        ("agent_version", -1, None),
        ("call_cost", 5.71, 5.71),
        ("call_cost", {"total": 1}, None),
        ("call_cost", float("inf"), None),
        ("recording_multi_channel_url", url_of(1024), url_of(1024)),
        ("recording_multi_channel_url", url_of(1025), None),
        ("transcript", "user: a", "user: a"),
        ("transcript", ["user: a"], None),
        ("call_analysis", {"a": None}, {"a": None}),
        ("call_analysis", '{"a": 1}', {"a": 1}),
        ("metadata", [1], None),
        ("sip_headers", {"X-Correlation-Id": "1"}, {"X-Correlation-Id": "1"}),
        ("recording_file_extension", "wav", "wav"),
        ("recording_s3_caller_channel", 0, 0),
    ],
)
def test_an_optional_field_fits_or_is_left_out(name: str, value: Any, sent: Any) -> None:
    """What does not meet its limit is left out and named; it never fails the call. URLs are never cut."""
    made = payload(**{name: value})
    body = orjson.loads(made.body_json)
    assert body.get(name) == sent
    assert made.left_out == (() if sent is not None else (name,))
    assert made.repairs == ({"cut": 1} if name == "disconnection_reason" else {})
    assert check_create_call({**body, "recording_url": URL}) is None


@pytest.mark.parametrize("value", [None, "", [], {}])
@pytest.mark.parametrize("name", ["user_sentiment", "call_cost", "metadata", "call_successful"])
def test_missing_is_not_sent_and_not_counted(name: str, value: Any) -> None:
    """null, empty text, list and object are nothing at all."""
    made = payload(**{name: value})
    assert name not in orjson.loads(made.body_json)
    assert made.left_out == ()


def test_the_payload_has_no_recording() -> None:
    """The URL goes in when the body is frozen."""
    assert "recording_url" not in orjson.loads(payload(recording_url=URL).body_json)


# What JSON cannot hold


def test_lone_surrogates_are_replaced() -> None:
    """Anywhere, names included; a pair of surrogates is the character that it means."""
    made = payload(call_id="a\ud800b", metadata={"k\udc00": "\ud83d\ude00"}, **{ROWS: [{**HELLO, "text": "x\ud800"}]})
    body = orjson.loads(made.body_json)
    assert body["call_id"] == made.call_id == "a\ufffdb"
    assert body["metadata"] == {"k\ufffd": "\U0001f600"}
    assert body[ROWS][0]["text"] == "x\ufffd"
    assert made.repairs == {"surrogates": 4}


def test_numbers_beyond_64_bits() -> None:
    """They become what any JSON reader makes of them; beyond that, null."""
    made = payload(metadata={"a": 1 << 70, "b": 10**400, "c": (1 << 64) - 1, "d": float("nan")})
    assert orjson.loads(made.body_json)["metadata"] == {"a": float(1 << 70), "b": None, "c": (1 << 64) - 1, "d": None}
    assert made.repairs == {"big_numbers": 2}


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def test_what_is_nested_too_deep() -> None:
    """An optional field is left out, a row refuses the call; Python's own recursion is never reached."""
    made = payload(metadata=_nested(900))
    assert made.left_out == ("metadata",)
    assert "metadata" not in orjson.loads(made.body_json)
    refusal = mapped(**{ROWS: [HELLO, {"role": "agent_result", "tool": {"name": "f", "result": _nested(900)}}]})
    assert isinstance(refusal, Refusal)
    assert (refusal.where, refusal.reason) == (ROWS, FailReason.INVALID)


def test_the_same_fields_give_the_same_bytes() -> None:
    """Whatever the order in which the fields were mapped."""
    given = fields(metadata={"a": 1}, call_cost=1, user_sentiment="neutral")
    results = []
    for order in (given, dict(reversed(given.items()))):
        placed = place(order, form=CREATE, untimed="reject")
        assert isinstance(placed, Placed)
        built = build(order, placed, form=CREATE)
        assert isinstance(built, Payload)
        results.append(built.body_json)
    assert results[0] == results[1]


# Freezing


def test_create_call_is_the_payload_and_the_url() -> None:
    """Spliced in, whatever characters the URL has."""
    made = payload(metadata={"a": "}"})
    for url in (URL, "https://audio.example/ü%22?a='&b=%7D"):
        body = freeze_body(made.body_json, url, made.checked_for, CREATE)
        assert isinstance(body, bytes)
        assert orjson.loads(body) == {**orjson.loads(made.body_json), "recording_url": url}


@pytest.mark.parametrize(
    ("form", "url", "accepted"),
    [
        (CREATE, url_of(1024), True),
        (CREATE, url_of(1025), False),
        (SEND, url_of(1025), True),
        (CREATE, "HTTPS://audio.example/a", True),
        (CREATE, "s3://bucket/a.wav", False),
        (SEND, "pending", False),
        (SEND, "", False),
        (CREATE, "https://a.example/\ud800", False),
        (SEND, "https://a.example/\ud800", False),
    ],
)
def test_the_recording_url(form: Form, url: str, accepted: bool) -> None:
    """http or https, at most 1024 characters for create-call, never cut and never quoted."""
    made = payload()
    body = freeze_body(made.body_json, url, made.checked_for, form)
    if accepted:
        assert isinstance(body, bytes)
        assert orjson.loads(body)["recording_url"] == url
    else:
        assert isinstance(body, Refusal)
        assert (body.where, body.reason) == ("recording_url", FailReason.INVALID)
        assert "example" not in body.what


def test_send_calls_has_exactly_its_fields() -> None:
    """Nothing of the other form, and rows of role and content."""
    body = frozen(
        SEND,
        user_sentiment="Negative",
        metadata={"a": 1},
        duration_ms=5,
        **{
            ROWS: [
                {**HELLO, "words": [{"word": "Hello.", "start_ms": 0, "end_ms": 900}]},
                {"role": "agent_function", "start_ms": 950, "tool": {"name": "look", "request_id": "r", "params": '{"day": 1}'}},
                {"role": "agent_result", "start_ms": 960, "tool": {"request_id": "r", "result": "closed"}},
                {"role": "agent_result", "start_ms": 970, "tool": {"name": "look", "is_error": True, "error": "timeout"}},
                {"role": "agent_result", "start_ms": 975, "tool": {"name": "look", "result": [1, 2]}},
                {"role": "node_transition", "start_ms": 980, "node": {"to": "hours", "reason": "asked"}},
            ]
        },
    )
    assert body == {
        "call_id": "c1",
        "call_type": "phone_call",
        ROWS: [
            {"role": "agent", "content": "Hello."},
            {"role": "agent_function", "content": 'look {"day":1}'},
            {"role": "agent_result", "content": "look closed"},
            {"role": "agent_result", "content": "look error: timeout"},
            {"role": "agent_result", "content": "look [1,2]"},
            {"role": "node_transition", "content": "start -> hours (asked)"},
        ],
        "start_timestamp": START,
        "end_timestamp": START + 60_000,
        "recording_url": URL,
        "userSentiment": "negative",
    }


@pytest.mark.parametrize("form", [SEND, None])
def test_a_home_made_document_without_times(form: Form | None) -> None:
    """Bare {role, content} messages become the request of the first form, exact in every field."""
    rows = [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Hi."}]
    assert frozen(SEND, mapped_for=form, **{ROWS: rows}) == {
        "call_id": "c1",
        "call_type": "phone_call",
        ROWS: rows,
        "start_timestamp": START,
        "end_timestamp": START + 60_000,
        "recording_url": URL,
    }


def test_a_lenient_payload_is_refused_by_create_call_when_frozen() -> None:
    """The form became known only now: the row is named, and what to do."""
    made = payload(None, **{ROWS: [HELLO, {"role": "user", "content": "secret"}]})
    refusal = freeze_body(made.body_json, URL, made.checked_for, CREATE)
    assert isinstance(refusal, Refusal)
    assert (refusal.where, refusal.reason) == (f"{ROWS}[1]", FailReason.INVALID)
    assert "remap" in refusal.what
    assert "secret" not in refusal.what


def test_a_stored_payload_that_is_no_json() -> None:
    """A damaged ledger row is a refusal of that call, not the end of the claim."""
    assert isinstance(freeze_body(b"{", URL, None, CREATE), Refusal)
    assert isinstance(freeze_body(b"{", URL, SEND, SEND), Refusal)


def test_fields_that_a_form_cannot_carry() -> None:
    """For `check`: send-calls has no place for most, the sentiment has another name there."""
    assert fields_not_carried(CREATE) == frozenset()
    lost = fields_not_carried(SEND)
    assert {"metadata", "duration_ms", "call_cost"} <= lost
    assert not lost & {"call_id", "user_sentiment", "recording_url", ROWS}
