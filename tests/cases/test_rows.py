"""All speech reaches Tuner: turns of several lines, roles that no table names, words out of order."""

import re
from typing import Any

import orjson
import pytest

from tests.cases.made import map_on, payload, rows
from tests.mapping.sources import compiled, document
from tests.real_parts import CASES, needs_cases
from tunerd.call import Mapped
from tunerd.mapping.functions import FUNCTIONS

TIMES = {"startedAt": "2026-07-01T10:00:00Z", "endedAt": "2026-07-01T10:01:00Z"}


def _vapi(transcript: str) -> Mapped:
    return map_on("vapi", {"type": "end-of-call-report", "call": {"id": "v"}, **TIMES, "artifact": {"transcript": transcript}})


def _bland(transcript: str) -> Mapped:
    text = re.sub(r"(^|[\r\n])User:", r"\1user:", re.sub(r"(^|[\r\n])AI:", r"\1assistant:", transcript))
    return map_on("bland", {"call_id": "b", "started_at": TIMES["startedAt"], "call_length": 1, "concatenated_transcript": text})


def _vcon(transcript: str) -> Mapped:
    text = re.sub(r"(^|[\r\n])User:", r"\1Speaker 1:", re.sub(r"(^|[\r\n])AI:", r"\1Nora Bell:", transcript))
    dialog = {"type": "recording", "start": TIMES["startedAt"], "duration": 60, "parties": [0, 1], "url": "https://a.example/a"}
    analysis = {"type": "transcript", "dialog": 0, "body": text}
    parties = [{"tel": "tel:+15550100"}, {"name": "Nora Bell", "role": "agent"}]
    return map_on("vcon", {"vcon": "0.3.0", "uuid": "u", "parties": parties, "dialog": [dialog], "analysis": [analysis]})


PLAIN = {"vapi": _vapi, "bland": _bland, "vcon": _vcon}


@pytest.mark.parametrize("preset", PLAIN)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_without_a_known_speaker_belongs_to_the_turn_before(preset: str, end: str) -> None:
    """Lists, notes, times and lines with a colon stay part of their turn, in every preset that reads lines."""
    lines = ["AI: Your options are:", "1. Sales", "Note: we close at 18:30", "", "User: two please", "https://a.example: no?"]
    assert rows(PLAIN[preset](end.join(lines))) == [
        ("agent", "Your options are:\n1. Sales\nNote: we close at 18:30"),
        ("user", "two please\nhttps://a.example: no?"),
    ]


@pytest.mark.parametrize("preset", PLAIN)
@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_only_line_feeds_and_carriage_returns_end_a_line(preset: str, mark: str) -> None:
    """A Unicode line separator in a sentence is text, even if the next characters look like a speaker."""
    assert rows(PLAIN[preset](f"AI: one{mark}User: two\nUser: three")) == [("agent", f"one{mark}User: two"), ("user", "three")]


def turns(text: str, *more: Any) -> Any:
    return FUNCTIONS["turns"].call(text, *more)


@pytest.mark.parametrize(
    ("line", "who"),
    [
        ("AI: Hello", "AI"), ("ai : Hello", "AI"), ("**AI:** Hello", "AI"), ("**AI**: Hello", "AI"), ("[00:01:12] AI: Hello", "AI"),
        ("00:12 AI: Hello", "AI"), ("(0:12) - AI: Hello", "AI"), ("AI (00:12): Hello", "AI"), ("AI (bot): Hello", "AI"),
        ("2026-07-01T10:00:01Z AI: Hello", "AI"), ("AI\uff1aHello", "AI"), ("Said: Hello", None), ("AI Hello", None),
        ("  - AI: Hello", "AI"), ("> AI: Hello", "AI"),
    ],
)  # fmt: skip
def test_how_a_speaker_may_be_written(line: str, who: str | None) -> None:
    """A speaker may be in upper or lower case, in bold, in a list or after a time; nothing else begins a turn."""
    made = turns(line, {"AI": "agent"})
    assert [one.get("who") for one in made] == [who]
    if who:
        assert made[0]["text"] == "Hello"


def test_what_stands_before_the_first_speaker_is_not_lost() -> None:
    """A first line without a speaker is a turn without a role, and `unknown_roles` decides about it."""
    assert turns("Transcript\nAI: Hi", ["AI"]) == [{"text": "Transcript"}, {"who": "AI", "text": "Hi"}]
    mapped = _vapi("Call of Monday\nAI: Hi\nUser: Hi")
    assert rows(mapped) == [("agent", "Hi"), ("user", "Hi")]
    assert mapped.notes.rows_dropped == {"no_role": 1}


@needs_cases
def test_the_shared_turn_of_several_lines() -> None:
    """The case lines-in-a-turn gives the expected rows."""
    assert rows(map_on("vapi", orjson.loads((CASES / "lines-in-a-turn/vapi.json").read_bytes()))) == [
        ("agent", "Your options are:\n1. Sales\n2. Support"),
        ("user", "two please"),
        ("agent", "Fine.\nNote: we close at six."),
    ]


HOME_MADE = """
call:
  let: {roles: {const: {assistant: agent, user: user, narrator: null}}}
  call_id: doc.id
  call_type: {const: phone_call}
  start_timestamp: 1782900000000
  end_timestamp: 1782900060000
  transcript_with_tool_calls:
    for_each: {m: doc.messages}
    let: {who: "lookup(m.role, roles)"}
    rows:
      - {role: who, text: m.text, start_ms: seconds_to_ms(m.at), end_ms: seconds_to_ms(m.at)}
      - {when: m.kind == 'result', role: {const: agent_result}, start_ms: seconds_to_ms(m.at), tool: {name: m.name, result: m.text}}
"""
TALK = [
    {"role": "assistant", "text": "Hi", "at": 1},
    {"role": "human_agent", "text": "I take over", "at": 3},
    {"role": "user", "text": "Hi", "at": 5},
]


def home_made(messages: list[Any], **settings: Any) -> Mapped:
    return compiled(HOME_MADE, **settings).map(document({"id": "r1", "messages": messages}))


def test_a_role_that_no_table_names_is_refused_by_default() -> None:
    """With custom rules an unknown role is refused; the message names the role and what to do, and does not quote the words."""
    refused = home_made(TALK).refused
    assert refused is not None
    assert refused.refusal.where.startswith("call.transcript_with_tool_calls (line ")
    assert "`human_agent`" in refused.refusal.what
    assert "unknown_roles: drop" in refused.refusal.what
    assert "I take over" not in refused.refusal.what
    assert refused.call_id == "r1"


def test_drop_counts_and_names() -> None:
    """`unknown_roles: drop` sends the other rows; the notes say how many rows are missing, why, and of which role."""
    mapped = home_made([*TALK, {"role": "human_agent", "text": "Bye", "at": 9}], unknown_roles="drop")
    assert rows(mapped) == [("agent", "Hi"), ("user", "Hi")]
    assert (mapped.notes.rows_dropped, mapped.notes.unknown_roles) == ({"unknown_role": 2}, ("human_agent",))


def test_agent_takes_the_words_for_the_agents() -> None:
    """`unknown_roles: agent` keeps every word, and the role is still reported."""
    mapped = home_made(TALK, unknown_roles="agent")
    assert rows(mapped) == [("agent", "Hi"), ("agent", "I take over"), ("user", "Hi")]
    assert (mapped.notes.rows_dropped, mapped.notes.unknown_roles) == ({}, ("human_agent",))


@pytest.mark.parametrize("odd", [{"text": "Who am I?", "at": 2}, {"role": None, "text": "x", "at": 2}, {"role": "", "text": "x"}])
def test_a_row_without_any_role_is_no_better(odd: dict[str, Any]) -> None:
    """Words without a speaker are kept or reported like those of an unknown role."""
    assert home_made([*TALK[::2], odd]).refused is not None
    assert home_made([*TALK[::2], odd], unknown_roles="drop").notes.rows_dropped == {"no_role": 1}


@pytest.mark.parametrize("role", ["narrator", "Narrator", "system", "developer", "tool", "function"])
def test_what_nobody_says_is_left_out_and_counted(role: str) -> None:
    """Roles that the table maps to null, prompts and results of tools are not speech, and do not stop the call."""
    mapped = home_made([*TALK[::2], {"role": role, "text": "You are a bot", "at": 0}])
    assert rows(mapped) == [("agent", "Hi"), ("user", "Hi")]
    assert (mapped.notes.rows_dropped, mapped.notes.unknown_roles) == ({"not_speech": 1}, ())


@pytest.mark.parametrize(
    "row", [{"role": "event", "at": 1}, {"role": "event", "text": " ", "at": 1}, {"role": "event", "text": ""}]
)
def test_a_row_that_says_nothing_is_nothing_lost(row: dict[str, Any]) -> None:
    """Rows without words need no role in the table."""
    mapped = home_made([*TALK[::2], row])
    assert mapped.call is not None
    assert mapped.notes.rows_dropped == {}


def test_what_another_row_of_the_item_holds_is_not_lost() -> None:
    """The text of a result is in the tool row, so no other block has to name its role."""
    mapped = home_made([*TALK[::2], {"role": "lookup_result", "kind": "result", "name": "n", "text": "found", "at": 2}])
    assert mapped.call is not None
    assert mapped.notes.rows_dropped == {}


@pytest.mark.parametrize("role", ["Frau Schmidt from Leipzig", "x" * 60, "\x1b[31mred", "a\nb"])
def test_a_strange_role_is_not_quoted(role: str) -> None:
    """A role with names of people or control characters is reported only by its length, because it must not reach the log."""
    refused = home_made([*TALK[::2], {"role": role, "text": "x", "at": 2}]).refused
    assert refused is not None
    assert role not in refused.refusal.what
    assert f"(a role of {len(role)} characters)" in refused.refusal.what


@pytest.mark.parametrize(
    "first", ["[lookup(m.role, roles), lookup(m.kind, roles)]", "classify(m.role, roles)", "lookup(m.role, roles)"]
)
def test_however_the_table_is_asked(first: str) -> None:
    """Unknown roles are noticed in lookups and in classify, alone or as one of several rules."""
    text = HOME_MADE.replace('let: {who: "lookup(m.role, roles)"}', "").replace("role: who", f"role: {first}")
    if first.startswith("["):
        text = text.replace(first, "['lookup(m.role, roles)', 'lookup(m.kind, roles)']")
    else:
        text = text.replace(f"role: {first}", f'role: "{first}"')
    assert compiled(text).map(document({"id": "r", "messages": TALK})).refused is not None


def test_a_lookup_with_a_default_drops_nothing() -> None:
    """A rule with a default has no unknown roles."""
    text = HOME_MADE.replace("lookup(m.role, roles)", "lookup(m.role, roles, 'agent')")
    assert rows(compiled(text).map(document({"id": "r", "messages": TALK})))[1] == ("agent", "I take over")


PRESET_ROWS = {
    "vapi": {"type": "end-of-call-report", "call": {"id": "v"}, **TIMES, "artifact": {"messages": [
        {"role": "bot", "message": "Hi", "secondsFromStart": 1, "duration": 400},
        {"role": "copilot", "message": "I take over", "secondsFromStart": 3, "duration": 400}]}},
    "retell": {"event": "call_analyzed", "call": {"call_id": "r", "start_timestamp": 1782900000000, "end_timestamp": 1782900060000,
        "transcript_object": [{"role": "agent", "content": "Hi", "words": [{"word": "Hi", "start": 1, "end": 2}]},
                              {"role": "copilot", "content": "I take over", "words": [{"word": "I", "start": 3, "end": 4}]}]}},
    "bland": {"call_id": "b", "started_at": TIMES["startedAt"], "call_length": 1, "transcripts": [
        {"user": "assistant", "text": "Hi", "created_at": "2026-07-01T10:00:01Z"},
        {"user": "copilot", "text": "I take over", "created_at": "2026-07-01T10:00:03Z"}]},
    "pipecat": {"call_id": "p", "started_at": TIMES["startedAt"], "ended_at": TIMES["endedAt"], "messages": [
        {"role": "system", "content": "You are a bot"}, {"role": "assistant", "content": "Hi"},
        {"role": "copilot", "content": "I take over"}]},
    "livekit": {"job_id": "l", "started_at": 1782900000, "ended_at": 1782900060, "history": {"items": [
        {"type": "message", "role": "assistant", "content": ["Hi"], "created_at": 1782900001},
        {"type": "message", "role": "copilot", "content": ["I take over"], "created_at": 1782900003}]}},
    "ultravox": {"call": {"callId": "u", "joined": TIMES["startedAt"], "ended": TIMES["endedAt"]}, "messages": [
        {"role": "MESSAGE_ROLE_AGENT", "text": "Hi", "timespan": {"start": "1s", "end": "2s"}},
        {"role": "MESSAGE_ROLE_COPILOT", "text": "I take over", "timespan": {"start": "3s", "end": "4s"}}]},
    "telnyx": {"data": {"event_type": "call.conversation.ended", "occurred_at": TIMES["endedAt"], "payload": {
        "call_leg_id": "t", "conversation_id": "t", "duration_sec": 60, "messages": [
            {"role": "assistant", "content": "Hi", "timestamp": "2026-07-01T10:00:01Z"},
            {"role": "copilot", "content": "I take over", "timestamp": "2026-07-01T10:00:03Z"}]}}},
    "openai-realtime": {"call_id": "o", "started_at": TIMES["startedAt"], "ended_at": TIMES["endedAt"], "items": [
        {"role": "assistant", "content": [{"transcript": "Hi"}]}, {"role": "copilot", "content": [{"transcript": "I take over"}]}]},
}  # fmt: skip


@pytest.mark.parametrize("preset", PRESET_ROWS)
def test_a_preset_counts_and_names_a_role_it_does_not_know(preset: str) -> None:
    """A new role of a platform stops no call: the other rows are sent, and the role is reported. Prompts are not reported."""
    mapped = map_on(preset, PRESET_ROWS[preset])
    assert rows(mapped) == [("agent", "Hi")]
    assert mapped.notes.unknown_roles in (("copilot",), ("MESSAGE_ROLE_COPILOT",))
    assert mapped.notes.rows_dropped.get("unknown_role") == 1


def test_a_presets_word_holds_as_long_as_its_rows_do() -> None:
    """The source's setting wins over the preset's; a source's own rows count as custom rules."""
    vapi = PRESET_ROWS["vapi"]
    assert compiled("", preset="vapi", unknown_roles="reject").map(document(vapi)).refused is not None
    own = """
call:
  transcript_with_tool_calls:
    for_each: {m: doc.artifact.messages}
    role: lookup(m.role, roles)
    text: m.message
    start_ms: seconds_to_ms(m.secondsFromStart)
"""
    assert compiled(own, preset="vapi").map(document(vapi)).refused is not None


@needs_cases
def test_the_shared_unknown_role() -> None:
    """The case unknown-role gives the expected result."""
    value = orjson.loads((CASES / "unknown-role/r1.json").read_bytes())
    assert compiled(HOME_MADE).map(document(value)).refused is not None
    assert rows(compiled(HOME_MADE, unknown_roles="agent").map(document(value)))[1] == ("agent", "I take over")


WORDS = """
call:
  call_id: doc.id
  call_type: {const: phone_call}
  start_timestamp: epoch_ms(doc.started)
  end_timestamp: epoch_ms(doc.ended)
  transcript_with_tool_calls:
    for_each: {m: doc.messages}
    role: m.role
    text: m.text
    TIMES
    words: "m.words[].{word: w, start_ms: s, end_ms: e}"
"""
UNORDERED = {"id": "w1", "started": 1782900000, "ended": 1782900060, "messages": [
    {"role": "agent", "text": "a b c d", "words": [{"w": "b", "s": 9000, "e": 9400}, {"w": "c", "s": 9400, "e": 9600},
                                                  {"w": "a", "s": 4865, "e": 5000}, {"w": "d", "s": 9700, "e": 9800}]},
    {"role": "user", "text": "x", "words": [{"w": "x", "s": 12000, "e": 12500}]}]}  # fmt: skip


@pytest.mark.parametrize("times", ["", "start_ms: m.words[0].s", "{start_ms: m.words[0].s, end_ms: m.words[-1].e}"])
def test_words_out_of_order_time_their_row(times: str) -> None:
    """The row starts with its earliest word and ends with its latest; all words stay, sorted by time."""
    lines = times.strip("{}").replace(", ", "\n    ")
    row = payload(compiled(WORDS.replace("TIMES", lines)).map(document(UNORDERED)))["transcript_with_tool_calls"][0]
    assert (row["start_ms"], row["end_ms"]) == (4865, 9800)
    assert [word["word"] for word in row["words"]] == ["a", "b", "c", "d"]


def test_words_alone_are_a_sentence_in_the_order_of_time() -> None:
    """A row without text gets its text from the sorted words."""
    value = {**UNORDERED, "messages": [{**UNORDERED["messages"][0], "text": None}]}  # type: ignore[index]
    assert rows(compiled(WORDS.replace("TIMES", "")).map(document(value))) == [("agent", "a b c d")]


def test_words_out_of_order_in_a_preset() -> None:
    """Retell's rows start with their first word in time, wherever it is in the list."""
    words = [{"word": "b ", "start": 9.0, "end": 9.4}, {"word": "a ", "start": 4.865, "end": 5.0}]
    said = [{"role": "agent", "content": "a b", "words": words}]
    call = {"call_id": "r", "start_timestamp": 1782900000000, "end_timestamp": 1782900060000, "transcript_object": said}
    row = payload(map_on("retell", {"event": "call_analyzed", "call": call}))["transcript_with_tool_calls"][0]
    assert (row["start_ms"], row["end_ms"], [word["word"] for word in row["words"]]) == (4865, 9400, ["a", "b"])


@needs_cases
def test_the_shared_words() -> None:
    """The case words-unordered gives the expected rows."""
    value = orjson.loads((CASES / "words-unordered/1.json").read_bytes())
    first = payload(compiled(WORDS.replace("TIMES", "")).map(document(value)))["transcript_with_tool_calls"][0]
    assert (first["start_ms"], first["end_ms"], len(first["words"])) == (4865, 9600, 5)
