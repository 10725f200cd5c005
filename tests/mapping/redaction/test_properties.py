"""Of any payload whatever: nothing that a detector finds is left in its texts; ids, times and URLs are what they were."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tunerd.config import Redact
from tunerd.mapping.redaction import Redaction

REDACTION = Redaction(Redact())
PIECES = st.sampled_from(
    [
        "4111 1111 1111 1111", "4111111111111111", "4111-1111-1111-1111", "3782 822463 10005", "bob@example.org", "a@b.co.uk",
        "+41 44 668 18 00", "0446681800", "415-555-2671", "CH93 0076 2011 6238 5295 7", "DE89370400440532013000", "4111", "1111",
        "+41", "00", "1767225600000", "2026-07-01", "01.07.2026", "https://x.example/a@b.co", "TCK-1", "[card]", "@", ".", ",", "-",
        "+", "(", ")", "0", "1", "44", "x", "at", "bob", "\u00e4", "\u4e2d", "\u0664", "\n",
    ]
)  # fmt: skip
TEXTS = st.lists(st.tuples(PIECES, st.sampled_from(["", " ", " ", "-", ", "])), max_size=8).map(
    lambda parts: "".join(piece + gap for piece, gap in parts)
)
WORDS = st.lists(st.lists(PIECES, min_size=1, max_size=2).map("".join), max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    TEXTS | st.integers(-(2**63), 2**63) | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "note"]), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "note", "said"]), VALUES, max_size=3)


@st.composite
def payloads(draw: st.DrawFn) -> dict[str, Any]:
    rows = []
    for number in range(draw(st.integers(1, 3))):
        row: dict[str, Any] = {"role": "user", "start_ms": number * 1_000, "end_ms": number * 1_000 + 900}
        if text := draw(TEXTS):
            row["text"] = text
        if words := draw(WORDS):
            row["words"] = [{"word": word, "start_ms": at, "end_ms": at + 1, "confidence": 0.5} for at, word in enumerate(words)]
        if draw(st.booleans()):
            row["tool"] = {"name": draw(TEXTS), "request_id": draw(TEXTS), "params": draw(OBJECTS), "result": draw(OBJECTS)}
        rows.append(row)
    return {
        "call_id": draw(TEXTS),
        "call_type": "phone_call",
        "start_timestamp": draw(st.integers(10**12, 2 * 10**12)),
        "end_timestamp": 2 * 10**12,
        "recording_multi_channel_url": f"https://x.example/{draw(TEXTS)}",
        "caller_phone_number": draw(TEXTS),
        "sip_headers": draw(OBJECTS),
        "transcript": draw(TEXTS),
        "metadata": draw(OBJECTS),
        "transcript_with_tool_calls": rows,
    }


def texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in texts_in(item)]


def looked_at(body: dict[str, Any]) -> list[str]:
    rows = body["transcript_with_tool_calls"]
    found = [body["transcript"], *texts_in(body["metadata"])]
    for row in rows:
        found += [row.get("text", ""), " ".join(word["word"] for word in row.get("words", ()))]
        found += [text for name in ("params", "result") for text in texts_in(row.get("tool", {}).get(name))]
    return found


def unchanged(value: Any) -> Any:
    """The payload with everything blanked that may change: what is left has to be the same."""
    body = orjson.loads(orjson.dumps(value))
    body["transcript"] = body["metadata"] = None
    for row in body["transcript_with_tool_calls"]:
        row.pop("text", None)
        for word in row.get("words", ()):
            word["word"] = None
        for name in ("params", "result"):
            row.get("tool", {}).pop(name, None)
    return body


@settings(max_examples=examples(50), deadline=None)
@given(payloads())
def test_nothing_is_left_and_nothing_else_changes(payload: dict[str, Any]) -> None:
    """Texts hold nothing more that a detector finds; all the rest is the very same, and the shape of objects too."""
    done = REDACTION.apply(orjson.dumps(payload))
    body = orjson.loads(done.body_json)
    assert [text for text in looked_at(body) if REDACTION.detect(text)] == []
    assert unchanged(body) == unchanged(payload)
    assert sum(done.counts.values()) > 0 or done.body_json == orjson.dumps(payload)


@settings(max_examples=examples(25), deadline=None)
@given(payloads())
def test_once_is_enough(payload: dict[str, Any]) -> None:
    """What was redacted is redacted: a second time finds nothing."""
    once = REDACTION.apply(orjson.dumps(payload)).body_json
    assert REDACTION.apply(once).counts == {}


@settings(max_examples=examples(80), deadline=None)
@given(TEXTS)
def test_what_stays_of_a_text_is_the_text(text: str) -> None:
    """Hits are in order and apart, and every character outside of them stays."""
    expected, at = "", 0
    for hit in REDACTION.find(text):
        assert at <= hit.start < hit.end <= len(text)
        expected += f"{text[at : hit.start]}[{hit.kind}]"
        at = hit.end
    row = {"role": "user", "text": text, "start_ms": 0, "end_ms": 1}
    body = orjson.loads(REDACTION.apply(orjson.dumps({"transcript_with_tool_calls": [row]})).body_json)
    assert body["transcript_with_tool_calls"][0]["text"] == expected + text[at:]
