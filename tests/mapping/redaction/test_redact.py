"""Redaction of a payload: which parts are looked at, words beside their text, objects, fields; and what never changes."""

import time
from typing import Any

import orjson
import pytest

from tunerd.config import Redact
from tunerd.mapping.redaction import Redaction

CARD, IBAN, MAIL, PHONE = "4111 1111 1111 1111", "CH93 0076 2011 6238 5295 7", "bob@example.org", "+41 44 668 18 00"


def body_of(*rows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "call_id": "c-1",
        "call_type": "phone_call",
        "start_timestamp": 1782900000000,
        "end_timestamp": 1782900060000,
        **fields,
        "transcript_with_tool_calls": list(rows) or [{"role": "user", "text": "hello", "start_ms": 0, "end_ms": 900}],
    }


def redacted(body: dict[str, Any], **settings: Any) -> tuple[dict[str, Any], dict[str, int]]:
    done = Redaction(Redact(**settings)).apply(orjson.dumps(body))
    return orjson.loads(done.body_json), dict(done.counts)


def words_of(*said: str) -> list[dict[str, Any]]:
    return [{"word": word, "start_ms": 100 * at, "end_ms": 100 * at + 90} for at, word in enumerate(said)]


def row_of(text: str, *said: str, **settings: Any) -> tuple[str, list[str], dict[str, int]]:
    row = {"role": "user", "text": text, "start_ms": 0, "end_ms": 9_000, "words": words_of(*said)}
    body, counts = redacted(body_of(row), **settings)
    [row] = body["transcript_with_tool_calls"]
    assert [(word["start_ms"], word["end_ms"]) for word in row["words"]] == [(100 * at, 100 * at + 90) for at in range(len(said))]
    return row["text"], [word["word"] for word in row["words"]], counts


def test_every_part_that_holds_words_of_people_is_looked_at() -> None:
    """Texts, tools, the plain transcript, free-form objects however deep; each hit counts once."""
    deep = {"a": [{"b": [f"mail {MAIL}"]}], "said": f"card {CARD}"}
    body, counts = redacted(
        body_of(
            {"role": "user", "text": f"my card is {CARD}", "start_ms": 0, "end_ms": 900, "metadata": {"note": MAIL}},
            {
                "role": "agent_function",
                "tool": {"name": "pay", "request_id": "r1", "params": {"card": CARD}, "result": {"value": f"sent to {MAIL}"}},
            },
            {"role": "agent_result", "tool": {"name": "pay", "error": f"{CARD} was refused"}},
            {"role": "node_transition", "node": {"from": "a", "to": "b", "reason": f"said {PHONE}"}},
            transcript=f"user: my card is {CARD}\nagent: and your iban?\nuser: {IBAN}",
            disconnection_reason=f"{PHONE} hung up",
            metadata=deep,
            call_analysis={"summary": f"Wants a call at {PHONE}."},
            collected_dynamic_variables={"mail": MAIL},
            general_meta_data_raw={"list": [CARD, MAIL, 1, None, True]},
        )
    )
    text = orjson.dumps(body).decode()
    assert not [canary for canary in (CARD, IBAN, MAIL, PHONE) if canary in text]
    assert counts == {"card": 6, "email": 5, "phone": 3, "iban": 1}
    assert body["transcript_with_tool_calls"][1]["tool"]["params"] == {"card": "[card]"}
    assert body["general_meta_data_raw"] == {"list": ["[card]", "[email]", 1, None, True]}
    assert body["disconnection_reason"] == "[phone] hung up"


KEPT: dict[str, Any] = {
    "call_id": CARD,
    "call_type": "phone_call",
    "caller_phone_number": PHONE,
    "recipient": PHONE,
    "sip_call_id": f"{PHONE}@sip.example.org",
    "sip_headers": {"X-Correlation-Id": CARD},
    "recording_multi_channel_url": f"https://audio.example/{MAIL}/4111111111111111.wav",
    "duration_ms": 4111111111111111,
    "call_cost": 4111111111111111,
    "user_sentiment": "neutral",
}


def test_ids_times_urls_and_phone_fields_stay() -> None:
    """Whatever they look like."""
    row = {
        "role": "user", "text": "hello", "start_ms": 4111111111111111, "end_ms": 4111111111111112,
        "tool": {"name": MAIL, "request_id": CARD}, "node": {"from": MAIL, "to": CARD},
    }  # fmt: skip
    body = body_of(row, **KEPT)
    given = orjson.dumps(body)
    done = Redaction(Redact()).apply(given)
    assert done.body_json is given
    assert done.counts == {}


KEPT_INSIDE: dict[str, Any] = {
    "order_id": "4929000000006",
    "orderId": 4111111111111111,
    "startedAt": "4111111111111111",
    "timestamp": 4111111111111111,
    "id": "0446681800",
    "message_ids": ["4111111111111111", 4111111111111111],
    "trace": "550e8400-e29b-41d4-a716-446655440000",
    "link": "https://crm.example/u?mail=bob@example.org&card=4111111111111111",
    "started": "2026-07-01T10:30:00.123456+02:00",
    "epoch": 1767225600000,
    "as_text": "1767225600000",
    "seconds": "1767225600",
    "ratio": 0.4111111111111111,
    "bob@example.org": "the names of members stay",
    "yes": True,
    "flag": None,
    "latency_ms": 4111111111111111,
}


@pytest.mark.parametrize("name", KEPT_INSIDE)
def test_what_stays_in_free_form_objects(name: str) -> None:
    """Ids and times by their name and shape; UUIDs, dates and URLs by their form; epochs because no card begins like them."""
    given = {"outer": {name: KEPT_INSIDE[name]}}
    body, counts = redacted(body_of(metadata=given))
    assert (body["metadata"], counts) == (given, {})


@pytest.mark.parametrize(
    ("name", "value", "after"),
    [
        ("user_id", MAIL, "[email]"),
        ("user_id", "+41446681800", "[phone]"),
        ("account_id", "CH9300762011623852957", "[iban]"),
        ("paid", "4111111111111111", "[card]"),
        ("card", 4111111111111111, "[card]"),
        ("grid", 4111111111111111, "[card]"),
        ("updated_at", f"by {MAIL}", "by [email]"),
    ],
)
def test_what_does_not_stay_in_free_form_objects(name: str, value: Any, after: str) -> None:
    """The name of an id protects nothing that cannot be one."""
    body, _ = redacted(body_of(metadata={name: value}))
    assert body["metadata"] == {name: after}


def test_only_what_is_asked_for_is_looked_for() -> None:
    """Each detector by itself; none at all is no work."""
    body = body_of({"role": "user", "text": f"{CARD} {MAIL}", "start_ms": 0, "end_ms": 1})
    assert redacted(body, detect=("email",))[1] == {"email": 1}
    assert redacted(body, detect=())[1] == {}


# Words.


@pytest.mark.parametrize(
    ("text", "said", "text_after", "said_after"),
    [
        (f"It is {CARD}.", ["It", "is", "4111", "1111", "1111", "1111."],
         "It is [card].", ["It", "is", "[card]", "[card]", "[card]", "[card]"]),
        ("Mail bob@example.org, please", ["Mail", "bob@example.org,", "please"],
         "Mail [email], please", ["Mail", "[email]", "please"]),
        # the words are cut otherwise
        ("It is 4111111111111111, ok", ["it", "is", "4111", "1111", "1111", "1111", "ok"],
         "It is [card], ok", ["it", "is", "[card]", "[card]", "[card]", "[card]", "ok"]),
        (f"{CARD} ok", ["4111111111111111", "ok"], "[card] ok", ["[card]", "ok"]),
        # a word more, a word less, but the number is there
        (f"So it is {CARD}", ["um", "it", "is", "4111-1111-1111-1111"], "So it is [card]", ["um", "it", "is", "[card]"]),
        # spoken digits: everything between the neighbours
        ("It is 4111 1111 1111 1111, right?", ["it", "is", "four", "one", "one", "one", "and", "so", "on", "right"],
         "It is [card], right?", ["it", "is", *["[card]"] * 7, "right"]),
        ("write to bob@example.org", ["write", "to", "bob", "at", "example", "dot", "org"],
         "write to [email]", ["write", "to", *["[email]"] * 5]),
        ("4111111111111111", ["four", "one"], "[card]", ["[card]", "[card]"]),
        # said twice, written twice, spoken out once
        (f"{CARD}, again {CARD} ok", ["4111", "1111", "1111", "1111", "again", "four", "ones", "ok"],
         "[card], again [card] ok", [*["[card]"] * 4, "again", "[card]", "[card]", "ok"]),
        # only the words show it
        ("It is 4111_1111_1111_1111 ok", ["It", "is", "4111", "1111", "1111", "1111", "ok"],
         "It is [card] ok", ["It", "is", *["[card]"] * 4, "ok"]),
        ("something else", ["my", "mail", "bob@example.org"], "something else", ["my", "mail", "[email]"]),
        ("nothing here", ["nothing", "here"], "nothing here", ["nothing", "here"]),
    ],
)  # fmt: skip
def test_words_go_with_their_text(text: str, said: list[str], text_after: str, said_after: list[str]) -> None:
    """A hit in either is taken out of both; times of words never change."""
    assert row_of(text, *said)[:2] == (text_after, said_after)


def test_a_hit_in_text_and_words_counts_once() -> None:
    """As it was said once."""
    assert row_of(f"It is {CARD}.", "It", "is", *CARD.split())[2] == {"card": 1}
    assert row_of("else", "mail", MAIL)[2] == {"email": 1}


def test_very_long_rows_are_not_compared_word_by_word() -> None:
    """Where that would take too long, all of its words go."""
    filler = [f"w{number}" for number in range(1_500)]
    text, said, _ = row_of(" ".join(filler) + f" {CARD}", *reversed(filler), "four", "ones")
    assert text.endswith("[card]")
    assert set(said) == {"[card]"}


# Patterns and fields.


def test_patterns_stand_as_their_name() -> None:
    """In texts wherever they are found, numbers that match as a whole; before the detectors."""
    row = {"role": "user", "text": "TCK-12 and ext 4111111111111111", "start_ms": 0, "end_ms": 1}
    body, counts = redacted(
        body_of(row, metadata={"ticket": "see TCK-99.", "pin": 1234, "pins": [12345], "at": 1234}),
        patterns={"ticket": r"TCK-\d+", "extension": r"ext \d+", "pin": r"\d{4}"},
    )
    assert body["transcript_with_tool_calls"][0]["text"] == "[ticket] and [extension]"
    assert body["metadata"] == {"ticket": "see [ticket].", "pin": "[pin]", "pins": [12345], "at": 1234}
    assert counts == {"ticket": 2, "extension": 1, "pin": 1}


def test_a_pattern_does_not_see_what_stands_for_another() -> None:
    """`[email]` is no text of the caller."""
    text, _, _ = row_of(f"{MAIL} email", MAIL, "email", patterns={"word": "email"})
    assert text == "[email] [word]"


FIELDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("call_analysis.summary", {"call_analysis": {"summary": "s", "score": 1}}, {"call_analysis": {"summary": "[redacted]", "score": 1}}),
    ("call_analysis", {"call_analysis": {"summary": "s"}}, {}),
    ("metadata.*", {"metadata": {"a": "x", "b": 2, "c": [1]}}, {"metadata": {"a": "[redacted]"}}),
    ("metadata.*.x", {"metadata": {"a": {"x": "1", "y": "2"}}}, {"metadata": {"a": {"x": "[redacted]", "y": "2"}}}),
    ("metadata.people[].name", {"metadata": {"people": [{"name": "A"}, {"name": "B", "n": 1}]}},
     {"metadata": {"people": [{"name": "[redacted]"}, {"name": "[redacted]", "n": 1}]}}),
    ("metadata.people.name", {"metadata": {"people": [{"name": "A"}]}}, {"metadata": {"people": [{"name": "[redacted]"}]}}),
    ("metadata.names[]", {"metadata": {"names": ["A", "B"]}}, {"metadata": {"names": ["[redacted]", "[redacted]"]}}),
    ("metadata.names", {"metadata": {"names": [1, {"a": 2}], "b": 1}}, {"metadata": {"b": 1}}),
    ("metadata.**.ssn", {"metadata": {"ssn": "1", "a": [{"b": {"ssn": 2, "c": 3}}]}}, {"metadata": {"ssn": "[redacted]", "a": [{"b": {"c": 3}}]}}),
    ('metadata."a.b"', {"metadata": {"a.b": "x", "a": {"b": "y"}}}, {"metadata": {"a.b": "[redacted]", "a": {"b": "y"}}}),
    ("caller_phone_number", {"caller_phone_number": PHONE}, {}),
    ("transcript", {"transcript": "user: hello"}, {"transcript": "[redacted]"}),
    ("duration_ms", {"duration_ms": 5}, {}),
    ("metadata.nothing.here", {"metadata": {"nothing": 1}}, {"metadata": {"nothing": 1}}),
    ("metadata.a", {"metadata": {"a": None, "b": 1}}, {"metadata": {"a": None, "b": 1}}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "given", "after"), FIELDS)
def test_fields_by_path(path: str, given: dict[str, Any], after: dict[str, Any]) -> None:
    """Text becomes [redacted]; everything else goes; the rest of the call stays."""
    assert redacted(body_of(**given), fields=(path,), detect=())[0] == body_of(**after)


@pytest.mark.parametrize(
    ("path", "after"),
    [
        ("transcript_with_tool_calls[].text", {"text": "[redacted]", "words": ["[redacted]", "[redacted]"]}),
        ("transcript_with_tool_calls[].words", {"text": "one two", "words": ["[redacted]", "[redacted]"]}),
        ("transcript_with_tool_calls[].words[].word", {"text": "one two", "words": ["[redacted]", "[redacted]"]}),
        ("transcript_with_tool_calls[].tool.params.ssn", {"tool": {"name": "t", "params": {"ssn": "[redacted]", "b": 1}}}),
        ("transcript_with_tool_calls[].tool.params", {"tool": {"name": "t"}}),
        ("transcript_with_tool_calls[].tool", {"tool": None}),
        ("transcript_with_tool_calls[].metadata", {"metadata": None}),
    ],
)
def test_fields_of_rows(path: str, after: dict[str, Any]) -> None:
    """A row's text takes its words along; the row, its role and its times stay."""
    row = {
        "role": "user", "text": "one two", "start_ms": 0, "end_ms": 200, "words": words_of("one", "two"),
        "tool": {"name": "t", "params": {"ssn": "078-05-1120", "b": 1}}, "metadata": {"a": 1},
    }  # fmt: skip
    body, counts = redacted(body_of(row), fields=(path,), detect=())
    [done] = body["transcript_with_tool_calls"]
    assert (done["role"], done["start_ms"], done["end_ms"]) == ("user", 0, 200)
    for name, value in after.items():
        found = [word["word"] for word in done["words"]] if name == "words" else done.get(name)
        assert found == value
    assert counts == {"field": 1}


def test_places_are_told_where_they_are_asked_for() -> None:
    """For `explain`: the path and the kind, never the value."""
    body = body_of(
        {"role": "user", "text": f"card {CARD}", "start_ms": 0, "end_ms": 1},
        metadata={"to": [{"mail": MAIL}]},
        call_analysis={"summary": "x"},
    )
    done = Redaction(Redact(fields=("call_analysis.summary",))).apply(orjson.dumps(body), with_places=True)
    assert list(done.places) == [
        ("call_analysis.summary", "field"),
        ("metadata.to[0].mail", "email"),
        ("transcript_with_tool_calls[0].text", "card"),
    ]


def test_short_texts_stay_short_enough() -> None:
    """What stands for a hit may be longer than it; the limit of the field holds."""
    body, _ = redacted(body_of(disconnection_reason="x1 " * 33), detect=(), patterns={"some-long-name": r"x\d"})
    assert len(body["disconnection_reason"]) == 100


def test_many_hits_of_a_row_are_compared_with_its_words_once() -> None:
    """Where text and words say a number in different ways: the row is compared once, not once for each hit (seconds for a row of a hundred)."""
    redaction = Redaction(Redact(detect=("card",)))

    def took(hits: int) -> float:
        parts = ["4111111111111111" if at < hits else "something" for at in range(100)]
        text = " ".join(f"please take {part} for it" for part in parts)
        said = text.replace("4111111111111111", "four one one").split()
        words = [{"word": word, "start_ms": at, "end_ms": at + 1} for at, word in enumerate(said)]
        body = {"transcript_with_tool_calls": [{"role": "user", "text": text, "words": words}]}
        began = time.process_time()
        redacted = orjson.loads(redaction.apply(orjson.dumps(body)).body_json)
        assert "four" not in orjson.dumps(redacted).decode() or hits == 0
        return time.process_time() - began

    took(1)
    assert took(100) < 60 * max(took(1), 0.01)
