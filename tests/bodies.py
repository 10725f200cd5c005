"""One table of request bodies, with the answer of each of Tuner's two request forms: the sandbox's tests post every row over
HTTP, and the payload's tests check every row in memory. Each row is a small change of a good body.

The table covers only what the two forms specify, with one exception: both refuse an empty text or list in a required field,
because it says nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson

from tunerd.call import Form, Json

START_MS: Final = 1_705_392_000_000
END_MS: Final = START_MS + 61_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    name: str
    form: Form
    body: Mapping[str, Json]
    accepted: bool
    field: str = ""
    """One place where a refused body is wrong, as `transcript_with_tool_calls[0].tool.params`. For a missing or unknown field
    it is that field; for an untimed row it is the place of the row."""

    def json(self) -> bytes:
        return orjson.dumps(self.body)

    def __str__(self) -> str:
        return f"{self.form}: {self.name}"


class _Gone:
    """As a value it means that the field is left out."""


GONE: Final = _Gone()
Edit: TypeAlias = "Json | _Gone"

AGENT: Final[Mapping[str, Json]] = {"role": "agent", "text": "Hello, this is the library.", "start_ms": 0, "end_ms": 1800}
USER: Final[Mapping[str, Json]] = {"role": "user", "text": "Is it open today?", "start_ms": 2100, "end_ms": 3300}
WORD: Final[Mapping[str, Json]] = {"word": "Hello", "start_ms": 2100, "end_ms": 2500}
WORDS: Final[Json] = [WORD, {"word": "there", "start_ms": 2520, "end_ms": 2900}]
_FREE: Final[Json] = {"any": [1, {"thing": None}], "empty": ""}

_CREATE: Final[Mapping[str, Json]] = {
    "call_id": "call_12345",
    "call_type": "phone_call",
    "transcript_with_tool_calls": [AGENT, USER],
    "start_timestamp": START_MS,
    "end_timestamp": END_MS,
    "recording_url": "https://audio.example/call_12345.wav",
}
_SEND: Final[Mapping[str, Json]] = {
    **_CREATE,
    "transcript_with_tool_calls": [
        {"role": "assistant", "content": "Hello, this is the library."},
        {"role": "user", "content": "Is it open today?"},
    ],
}


def create_body(**edits: Edit) -> dict[str, Json]:
    """A good create-call body with some fields changed (or GONE)."""
    return {name: value for name, value in {**_CREATE, **edits}.items() if not isinstance(value, _Gone)}


def send_body(**edits: Edit) -> dict[str, Json]:
    """A good send-calls body with some fields changed (or GONE)."""
    return {name: value for name, value in {**_SEND, **edits}.items() if not isinstance(value, _Gone)}


def url_of(length: int) -> str:
    return "https://audio.example/".ljust(length, "a")


def _edit(base: Mapping[str, Json], **edits: Edit) -> dict[str, Json]:
    return {name: value for name, value in {**base, **edits}.items() if not isinstance(value, _Gone)}


_ROWS = "transcript_with_tool_calls"


def _ok(name: str, **edits: Edit) -> Body:
    return Body(name=name, form=Form.CREATE_CALL, body=create_body(**edits), accepted=True)


def _no(field: str, name: str, **edits: Edit) -> Body:
    return Body(name=name, form=Form.CREATE_CALL, body=create_body(**edits), accepted=False, field=field)


def _row_ok(name: str, row: Mapping[str, Json]) -> Body:
    return _ok(name, transcript_with_tool_calls=[AGENT, row])


def _row_no(field: str, name: str, row: Json) -> Body:
    """`field` is relative to the row; empty means the row itself."""
    where = f"{_ROWS}[1].{field}" if field else f"{_ROWS}[1]"
    return _no(where, name, transcript_with_tool_calls=[AGENT, row])


def _tool(**tool: Json) -> dict[str, Json]:
    return {"role": "agent_function", "tool": {"name": "opening_hours", "request_id": "r1", **tool}}


def _result(**tool: Json) -> dict[str, Json]:
    return {"role": "agent_result", "tool": {"name": "opening_hours", "request_id": "r1", **tool}}


def _node(node: Mapping[str, Json]) -> dict[str, Json]:
    return {"role": "node_transition", "node": node}


def _send_ok(name: str, **edits: Edit) -> Body:
    return Body(name=name, form=Form.SEND_CALLS, body=send_body(**edits), accepted=True)


def _send_no(field: str, name: str, **edits: Edit) -> Body:
    return Body(name=name, form=Form.SEND_CALLS, body=send_body(**edits), accepted=False, field=field)


_CREATE_FIELDS: Final = (
    _ok("the required fields alone"),
    *(_no(name, f"no {name}", **{name: GONE}) for name in _CREATE),
    *(_no(name, f"{name} null", **{name: None}) for name in _CREATE),
    # call_id 1-200
    _ok("call_id of 1", call_id="c"),
    _ok("call_id of 200", call_id="c" * 200),
    _no("call_id", "call_id of 201", call_id="c" * 201),
    _ok("call_id of 200 two-byte characters: characters count, not bytes", call_id="ü" * 200),
    _no("call_id", "call_id of 201 two-byte characters", call_id="ü" * 201),
    _no("call_id", "call_id empty", call_id=""),
    _no("call_id", "call_id a number", call_id=12345),
    # call_type 1-100
    _ok("call_type of 100", call_type="t" * 100),
    _no("call_type", "call_type of 101", call_type="t" * 101),
    _no("call_type", "call_type empty", call_type=""),
    _ok("call_type is no closed list", call_type="carrier_pigeon"),
    # times
    _ok("times in epoch seconds", start_timestamp=1_705_392_000, end_timestamp=1_705_392_061),
    _ok("end = start", end_timestamp=START_MS),
    _no("end_timestamp", "end 1 ms before start", end_timestamp=START_MS - 1),
    _no("start_timestamp", "start fractional", start_timestamp=1_705_392_000.5),
    _no("end_timestamp", "end fractional", end_timestamp=1_705_392_061_000.5),
    _no("start_timestamp", "start as digits in text", start_timestamp="1705392000000"),
    _no("start_timestamp", "start as ISO text", start_timestamp="2024-01-16T08:00:00Z"),
    _no("start_timestamp", "start true", start_timestamp=True),
    # recording_url 1-1024
    _ok("recording_url of 1024", recording_url=url_of(1024)),
    _no("recording_url", "recording_url of 1025", recording_url=url_of(1025)),
    _no("recording_url", "recording_url empty", recording_url=""),
    _no("recording_url", "recording_url a list", recording_url=[url_of(40)]),
    _ok("multi-channel URL of 1024", recording_multi_channel_url=url_of(1024)),
    _no("recording_multi_channel_url", "multi-channel URL of 1025", recording_multi_channel_url=url_of(1025)),
    # closed and limited texts
    *(_ok(f"sentiment {mood}", user_sentiment=mood) for mood in ("positive", "neutral", "negative", "unknown")),
    _no("user_sentiment", "sentiment with a capital", user_sentiment="Positive"),
    _no("user_sentiment", "sentiment outside the list", user_sentiment="angry"),
    _no("user_sentiment", "sentiment a number", user_sentiment=1),
    _ok("call_status of 100", call_status="s" * 100),
    _no("call_status", "call_status of 101", call_status="s" * 101),
    _ok("disconnection_reason of 100", disconnection_reason="d" * 100),
    _no("disconnection_reason", "disconnection_reason of 101", disconnection_reason="d" * 101),
    _ok("caller_phone_number of 50", caller_phone_number="+" + "4" * 49),
    _no("caller_phone_number", "caller_phone_number of 51", caller_phone_number="+" + "4" * 50),
    _no("caller_phone_number", "caller_phone_number a number", caller_phone_number=4930123456),
    # numbers and booleans
    _ok("duration_ms", duration_ms=61_500),
    _no("duration_ms", "duration_ms in text", duration_ms="61500"),
    _ok("agent_version 0", agent_version=0),
    _no("agent_version", "agent_version -1", agent_version=-1),
    _no("agent_version", "agent_version in text", agent_version="v3"),
    _ok("call_cost with a fraction", call_cost=12.75),
    _no("call_cost", "call_cost an object", call_cost={"total": 12.75}),
    _no("call_cost", "call_cost true", call_cost=True),
    _ok("call_successful and in_voicemail", call_successful=True, in_voicemail=False),
    _no("call_successful", "call_successful in text", call_successful="true"),
    _no("in_voicemail", "in_voicemail 1", in_voicemail=1),
    # free objects, plain text
    _ok("transcript in plain text", transcript="agent: Hello.\nuser: Is it open today?"),
    _no("transcript", "transcript a list", transcript=["agent: Hello."]),
    *(
        _ok(f"{name} free", **{name: _FREE})
        for name in ("collected_dynamic_variables", "call_analysis", "metadata", "general_meta_data_raw")
    ),
    *(
        _no(name, f"{name} {what}", **{name: value})
        for name in ("collected_dynamic_variables", "call_analysis", "metadata", "general_meta_data_raw")
        for what, value in (("a list", [1]), ("a text", "{}"))
    ),
    _ok("sip fields", sip_call_id="a84b@sip.example", sip_headers={"X-Correlation-Id": "42"}, recipient="+4930123456"),
    _no("sip_headers", "sip_headers a list of pairs", sip_headers=[{"name": "X-Correlation-Id", "value": "42"}]),
    _no("sip_call_id", "sip_call_id a number", sip_call_id=42),
    _ok("recording_file_extension", recording_file_extension="wav"),
    _ok("an optional field null", user_sentiment=None, call_cost=None, metadata=None),
    # names that the form does not have (any more)
    _no("userSentiment", "a field of the other form", userSentiment="positive"),
    _no("agent_remote_identifier", "the agent belongs into the query", agent_remote_identifier="support-bot"),
    _no("call_lenght", "an unknown field", call_lenght=1),
)

_CREATE_ROWS: Final = (
    _no(_ROWS, "transcript empty", transcript_with_tool_calls=[]),
    _no(_ROWS, "transcript an object", transcript_with_tool_calls={"0": AGENT}),
    _no(_ROWS, "transcript a text", transcript_with_tool_calls="agent: Hello."),
    _ok("one row", transcript_with_tool_calls=[AGENT]),
    _row_no("", "a row that is a text", "Hello."),
    # roles
    *(_row_no("role", f"role {role!r}", _edit(USER, role=role)) for role in ("bot", "assistant", "system", "User", "", None, 1)),
    _row_no("role", "row without a role", _edit(USER, role=GONE)),
    # timing of speech: one of three
    _row_ok("start and duration", _edit(USER, end_ms=GONE, duration_ms=1200)),
    _row_ok("words only", _edit(USER, start_ms=GONE, end_ms=GONE, words=WORDS)),
    _row_ok("words and times", _edit(USER, words=WORDS)),
    _row_ok("words without text", _edit(USER, text=GONE, start_ms=GONE, end_ms=GONE, words=WORDS)),
    _row_ok("speech of no length", _edit(USER, end_ms=2100)),
    _row_ok("speech that ends before it starts", _edit(USER, end_ms=2000)),
    _row_ok("speech across another row", _edit(USER, start_ms=900)),
    _row_no("", "untimed speech of the user", _edit(USER, start_ms=GONE, end_ms=GONE)),
    _row_no("", "untimed speech of the agent", _edit(AGENT, start_ms=GONE, end_ms=GONE)),
    _row_no("", "start alone", _edit(USER, end_ms=GONE)),
    _row_no("", "end alone", _edit(USER, start_ms=GONE)),
    _row_no("", "end and duration", _edit(USER, start_ms=GONE, duration_ms=1200)),
    _row_no("", "duration alone", _edit(USER, start_ms=GONE, end_ms=GONE, duration_ms=1200)),
    _row_no("", "start null", _edit(USER, start_ms=None)),
    _row_no("", "empty words are no timing", _edit(USER, start_ms=GONE, end_ms=GONE, words=[])),
    _row_no("", "the older {role, content} row", {"role": "user", "content": "Is it open today?"}),
    _no(f"{_ROWS}[2]", "one untimed row of three", transcript_with_tool_calls=[AGENT, USER, {"role": "user", "text": "Hello?"}]),
    _row_no("start_ms", "row start in text", _edit(USER, start_ms="2100")),
    _row_no("start_ms", "row start fractional", _edit(USER, start_ms=2100.5)),
    _row_no("end_ms", "row end fractional", _edit(USER, end_ms=3300.25)),
    _row_no("duration_ms", "row duration fractional", _edit(USER, end_ms=GONE, duration_ms=0.5)),
    _row_no("text", "row text a list", _edit(USER, text=["Is it open today?"])),
    _row_ok("a row may carry more", _edit(USER, language="en", speaker_id=7)),
    _row_ok("row metadata", _edit(AGENT, metadata={"e2e_latency": 812.5, "interrupted": True, "any": [1]})),
    _row_no("metadata", "row metadata a list", _edit(AGENT, metadata=[812.5])),
    # words
    _row_ok("a word with confidence", _edit(USER, words=[{"word": "Is", "start_ms": 2100, "end_ms": 2200, "confidence": 0.98}])),
    *(
        _row_no(f"words[0].{name}", f"a word without {name}", _edit(USER, words=[_edit(WORD, **{name: GONE})]))
        for name in ("word", "start_ms", "end_ms")
    ),
    _row_no("words[0].start_ms", "a word's time in seconds", _edit(USER, words=[{"word": "Is", "start_ms": 2.1, "end_ms": 2.2}])),
    _row_no("words[0].confidence", "confidence in text", _edit(USER, words=[_edit(WORD, confidence="high")])),
    _row_no("words", "words a text", _edit(USER, words="Is it open today?")),
    # tools
    _row_ok("tool call, untimed", _tool(params={"day": "today"})),
    _row_ok("tool call, timed", _tool(params={"day": "today"}, start_ms=3400)),
    _row_ok("tool call without params", _tool()),
    _row_ok("tool result, untimed", _result(result={"open": True}, is_error=False)),
    _row_ok("tool result with an error", _result(is_error=True, error="no such day")),
    _row_ok("wrapped value", _result(result={"value": [9, 17]})),
    *(
        _row_no("tool.params", f"params {kind}", _tool(params=value))
        for kind, value in (("a text", "{}"), ("a list", [1]), ("a number", 1))
    ),
    *(
        _row_no("tool.result", f"result {kind}", _result(result=v))
        for kind, v in (("a text", "ok"), ("a list", [9, 17]), ("true", True))
    ),
    _row_no("tool.is_error", "is_error in text", _result(is_error="false")),
    _row_no("tool.error", "error an object", _result(error={"code": 5})),
    _row_no("tool.start_ms", "tool start fractional", _tool(start_ms=3400.5)),
    _row_no("tool", "tool a text", {"role": "agent_function", "tool": "opening_hours"}),
    # nodes
    _row_ok("node, untimed", _node({"from": "start", "to": "hours"})),
    _row_ok("node with a reason", _node({"from": "start", "to": "hours", "reason": "asked"})),
    _row_no("node.from", "node without from", _node({"to": "hours"})),
    _row_no("node.from", "node from null", _node({"from": None, "to": "hours"})),
    _row_no("node.to", "node without to", _node({"from": "start"})),
    _row_no("node.to", "node to a number", _node({"from": "start", "to": 2})),
)

_SEND_CALLS: Final = (
    _send_ok("bare {role, content} messages"),
    _send_ok("with a sentiment", userSentiment="unknown"),
    *(_send_no(name, f"no {name}", **{name: GONE}) for name in _SEND),
    *(_send_no(name, f"{name} null", **{name: None}) for name in _SEND),
    *(_send_no(name, f"{name} empty", **{name: ""}) for name in ("call_id", "call_type", "recording_url")),
    # limited only by their types
    _send_ok("call_id of 201", call_id="c" * 201),
    _send_ok("call_type of 101", call_type="t" * 101),
    _send_ok("recording_url of 1025", recording_url=url_of(1025)),
    _send_no("call_id", "call_id a number", call_id=12345),
    _send_no("start_timestamp", "start fractional", start_timestamp=1_705_392_000.5),
    _send_no("start_timestamp", "start in text", start_timestamp="1705392000000"),
    _send_no("end_timestamp", "end true", end_timestamp=True),
    _send_no("userSentiment", "sentiment outside the list", userSentiment="angry"),
    _send_no("userSentiment", "sentiment with a capital", userSentiment="Positive"),
    # messages
    *(
        _send_ok(f"any role: {role}", transcript_with_tool_calls=[{"role": role, "content": "Hello."}])
        for role in ("user", "agent", "system", "tool", "agent_function", "Anna", "客服")
    ),
    _send_ok("a message that says nothing", transcript_with_tool_calls=[{"role": "user", "content": ""}]),
    _send_no(f"{_ROWS}[0].role", "role empty", transcript_with_tool_calls=[{"role": "", "content": "Hello."}]),
    _send_no(f"{_ROWS}[0].role", "no role", transcript_with_tool_calls=[{"content": "Hello."}]),
    _send_no(f"{_ROWS}[0].role", "role a number", transcript_with_tool_calls=[{"role": 1, "content": "Hello."}]),
    _send_no(f"{_ROWS}[0].content", "no content", transcript_with_tool_calls=[{"role": "user"}]),
    _send_no(f"{_ROWS}[0].content", "content null", transcript_with_tool_calls=[{"role": "user", "content": None}]),
    _send_no(f"{_ROWS}[0].content", "content an object", transcript_with_tool_calls=[{"role": "tool", "content": {"open": 1}}]),
    _send_no(
        f"{_ROWS}[0].content",
        "text in the place of content",
        transcript_with_tool_calls=[{"role": "user", "text": "Hello.", "start_ms": 0, "end_ms": 900}],
    ),
    _send_no(
        f"{_ROWS}[0].start_ms",
        "a message with more than role and content",
        transcript_with_tool_calls=[{"role": "user", "content": "Hello.", "start_ms": 0}],
    ),
    _send_no(f"{_ROWS}[1]", "a message that is a text", transcript_with_tool_calls=[{"role": "user", "content": "a"}, "b"]),
    _send_no(_ROWS, "transcript empty", transcript_with_tool_calls=[]),
    _send_no(_ROWS, "transcript an object", transcript_with_tool_calls={"role": "user", "content": "Hello."}),
    # only fields that the form's table has
    _send_no("user_sentiment", "the other form's name of the sentiment", user_sentiment="positive"),
    _send_no("duration_ms", "a field of the other form", duration_ms=61_500),
    _send_no("metadata", "metadata", metadata={}),
    _send_no("workspace_id", "the workspace belongs into the query", workspace_id=42),
)

BODIES: Final[tuple[Body, ...]] = (*_CREATE_FIELDS, *_CREATE_ROWS, *_SEND_CALLS)
