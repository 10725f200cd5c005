"""`gather:`: the rules over single documents, and the call that several of them make."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from tests.mapping.sources import CREATE, compiled, document
from tunerd.call import Document, Fragment, Mapped
from tunerd.carried_key import keyed
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.mapping import SourceMapping
from tunerd.mapping.gathering import MOST_BYTES, in_order
from tunerd.outcome import FailReason
from tunerd.yaml_location import ConfigError

RETELL = """
gather:
  key: doc.call.id
  parts: {ended: doc.event == 'ended', analyzed: doc.event == 'analyzed'}
  complete: ended && analyzed
  wait: 30s
call:
  call_id: ended.call.id
  call_type: {const: phone_call}
  start_timestamp: 1782900000000
  end_timestamp: 1782900060000
  user_sentiment: analyzed.mood
  transcript_with_tool_calls: {for_each: {m: ended.said}, role: {const: user}, text: m, start_ms: 0}
"""
ENDED = {"event": "ended", "call": {"id": "c-1"}, "said": ["hello"]}
ANALYZED = {"event": "analyzed", "call": {"id": "c-1"}, "mood": "positive"}

LINES = """
gather: {key: doc.id, wait: 1m}
call:
  call_id: "docs[0].id"
  call_type: {const: web_call}
  start_timestamp: 1782900000000
  end_timestamp: 1782900060000
  transcript_with_tool_calls: {for_each: {m: docs}, role: m.role, text: m.text, start_ms: 0}
"""


def gathering(text: str, **settings: Any) -> SourceMapping:
    members = parse_yaml(text, "config.yaml").value
    assert isinstance(members, dict)
    return compiled(text, CREATE, gather=members["gather"], **settings)


def fragments(mapping: SourceMapping, values: Sequence[Any], path: str = "/calls/{}.json") -> list[Fragment]:
    """Each value as a file of its own, one written after the other."""
    found: list[Fragment] = []
    for at, value in enumerate(values):
        mapped = mapping.map(document(value, path.format(at), mtime_ns=at + 1))
        assert mapped.fragment is not None, mapped
        found.append(mapped.fragment)
    return found


def gathered(mapping: SourceMapping, values: Sequence[Any]) -> Mapped:
    mapped = mapping.gather(None, fragments(mapping, values))
    assert mapped is not None
    return mapped


def body(mapped: Mapped) -> dict[str, Any]:
    assert mapped.call is not None, mapped.refused
    read: dict[str, Any] = orjson.loads(mapped.call.payload)
    return read


def test_a_document_becomes_a_fragment() -> None:
    """The key is trimmed text, the first true part names it, the wait comes with it."""
    (one,) = fragments(gathering(RETELL), [{**ENDED, "call": {"id": " c-1 "}}])
    assert (one.key, one.part, one.wait_s, one.decides) == ("c-1", "ended", 30.0, True)
    assert orjson.loads(one.document)["said"] == ["hello"]


@pytest.mark.parametrize(
    ("rules", "matter"),
    [(RETELL, [True, False]), (RETELL.replace("analyzed.mood", "docs[-1].mood"), [True, True])],
)
def test_what_no_rule_can_see_does_not_matter(rules: str, matter: list[bool]) -> None:
    """A document that is no part says nothing, unless some rule of the call reads all documents."""
    assert [one.matters for one in fragments(gathering(rules), [ENDED, {**ENDED, "event": "started"}])] == matter


def test_parts_are_roots_of_the_call() -> None:
    """Fields come from whichever part has them, whatever the order the documents came in."""
    mapping = gathering(RETELL)
    for values in ([ENDED, ANALYZED], [ANALYZED, ENDED]):
        fields = body(gathered(mapping, values))
        assert (fields["call_id"], fields["user_sentiment"]) == ("c-1", "positive")


@pytest.mark.parametrize(("values", "complete"), [([ENDED], False), ([ANALYZED], False), ([ANALYZED, ENDED], True)])
def test_complete_ends_the_wait(values: list[Any], complete: bool) -> None:
    """Nothing is mapped before the call is complete or its wait is over."""
    mapping = gathering(RETELL)
    mapped = mapping.gather(None, fragments(mapping, values), wait_is_over=False)
    assert (mapped is not None) is complete


def test_a_missing_field_names_the_part_that_never_came() -> None:
    """The refusal of an incomplete call says which part is not there."""
    mapped = gathered(gathering(RETELL), [ANALYZED])
    assert mapped.refused is not None
    assert mapped.refused.refusal.reason is FailReason.UNMAPPABLE
    assert mapped.refused.refusal.where.startswith("call.call_id (line ")
    assert mapped.refused.refusal.what.endswith("; its part `ended` never came")


def test_an_optional_part_may_be_missing() -> None:
    """Mapped with what is there."""
    assert "user_sentiment" not in body(gathered(gathering(RETELL), [ENDED]))


def test_the_newest_of_a_part_wins() -> None:
    """Without `newest` the document that was written last counts."""
    fields = body(gathered(gathering(RETELL), [ENDED, ANALYZED, {**ANALYZED, "mood": "negative"}]))
    assert fields["user_sentiment"] == "negative"


@pytest.mark.parametrize("stamp", ["2026-07-01T10:00:0{}Z", "{}"])
def test_a_greater_newest_wins_whatever_came_last(stamp: str) -> None:
    """`newest` may be a number or a time; a document without one is the oldest."""
    mapping = gathering(RETELL.replace("  wait:", "  newest: doc.at\n  wait:"))
    moods = [(2, "positive"), (3, "negative"), (1, "neutral"), (None, "unknown")]
    analyzed = [{**ANALYZED, "mood": mood, "at": at and stamp.format(at)} for at, mood in moods]
    assert body(gathered(mapping, [ENDED, *analyzed]))["user_sentiment"] == "negative"


def test_lines_without_a_key_have_none() -> None:
    """Whose call they belong to is told by the document before them in the file."""
    mapping = gathering(LINES)
    lines = [{"id": "a"}, {"role": "user", "text": "x"}, {"id": "b"}, {"role": "agent", "text": "y"}]
    found: list[Fragment] = []
    for at, line in enumerate(lines):
        for path in ("/calls/one.ndjson", "/calls/two.ndjson")[: 1 if at < 2 else 2]:
            mapped = mapping.map(document(line, path, offset=at))
            assert mapped.fragment is not None
            found.append(mapped.fragment)
    assert [one.key for one in found] == ["a", "", "b", "b", "", ""]
    assert {key: len(ones) for key, ones in keyed(found).calls.items()} == {"a": 2, "b": 4}
    assert {key: len(ones) for key, ones in keyed(found[1:2]).calls.items()} == {"": 1}


def test_docs_stand_in_the_order_of_the_file() -> None:
    """`docs` are all documents; within a log by their place, even where the file's time went back."""
    mapping = gathering(LINES)
    lines = [{"id": "a", "role": "user", "text": "one"}, {"role": "agent", "text": "two"}, {"role": "user", "text": "three"}]
    made = [mapping.map(document(line, offset=at, mtime_ns=9 - at)).fragment for at, line in enumerate(lines)]
    mapped = mapping.gather(None, [one for one in reversed(made) if one is not None])
    assert mapped is not None
    assert [row["text"] for row in body(mapped)["transcript_with_tool_calls"]] == ["one", "two", "three"]


def test_files_stand_in_the_order_they_were_written() -> None:
    """Between files the file's time decides, then the path."""

    def at(path: str, mtime_ns: int, offset: int = 0) -> Document:
        return document({}, path, mtime_ns=mtime_ns, offset=offset)

    listed = [at("/c", 1), at("/b", 2), at("/a", 2), at("/log", 3, 5), at("/log", 1, 9), at("/z", 4)]
    places = [(one.origin.path, one.origin.offset) for one in in_order(reversed(listed))]
    assert places == [("/c", 0), ("/a", 0), ("/b", 0), ("/log", 5), ("/log", 9), ("/z", 0)]


def test_a_folder_is_a_call() -> None:
    """`key: file.dir` and parts by file.name; `file` of the call is its newest document's."""
    mapping = gathering("""
gather:
  key: file.dir
  parts: {talk: file.name == 'talk.json', facts: file.name == 'facts.json'}
  complete: talk && facts
  wait: 10s
call:
  call_id: file.dir
  call_type: {const: phone_call}
  start_timestamp: facts.start
  end_timestamp: facts.end
  transcript_with_tool_calls: {for_each: {m: talk.said}, role: {const: user}, text: m, start_ms: 0}
""")
    files = {"talk": {"said": ["hi"]}, "facts": {"start": 1782900000000, "end": 1782900060000}}
    made = [mapping.map(document(value, f"/calls/call-7/{name}.json")).fragment for name, value in files.items()]
    mapped = mapping.gather(None, [one for one in made if one is not None], wait_is_over=False)
    assert mapped is not None
    assert body(mapped)["call_id"] == "call-7"
    assert mapping.map(document({}, "/calls/stray.json")).fragment.key == ""  # type: ignore[union-attr]


def test_what_was_kept_is_gathered_with_what_is_new() -> None:
    """The text kept with a mapped call holds all of its documents: alone it maps again, with a newer one it is replaced."""
    mapping = gathering(RETELL)
    ended, first, second = fragments(mapping, [ENDED, ANALYZED, {**ANALYZED, "mood": "negative"}])
    before = mapping.gather(None, [ended, first])
    assert before is not None
    assert before.call is not None
    kept = before.call.document
    assert kept is not None
    again = mapping.map(document(kept))
    assert again.call is not None
    assert again.call.payload == before.call.payload
    after = mapping.gather(kept, [second])
    assert after is not None
    assert body(after)["user_sentiment"] == "negative"


def test_a_place_that_was_read_anew_counts_once() -> None:
    """A file that was written again takes the place of what it held before."""
    mapping = gathering(LINES)
    first = fragments(mapping, [{"id": "a", "role": "user", "text": "old"}])
    before = mapping.gather(None, first)
    assert before is not None
    assert before.call is not None
    after = mapping.gather(before.call.document, fragments(mapping, [{"id": "a", "role": "user", "text": "new"}]))
    assert after is not None
    assert [row["text"] for row in body(after)["transcript_with_tool_calls"]] == ["new"]


def test_when_and_refuse_see_the_whole_call() -> None:
    """A call that `when` leaves out is ignored as a whole; one that is refused says why."""
    mapping = gathering(RETELL.replace("call:\n", "call:\n  when: ended.said\n  refuse: {spam: analyzed.mood == 'spam'}\n", 1))
    assert gathered(mapping, [{**ENDED, "said": []}, ANALYZED]).ignored is not None
    refused = gathered(mapping, [ENDED, {**ANALYZED, "mood": "spam"}]).refused
    assert refused is not None
    assert refused.refusal.reason is FailReason.REFUSED


def test_a_rule_that_fails_is_named() -> None:
    """Rules over one document, over all of them, and `complete`: each is told with its place."""
    broken = gathering(RETELL.replace("key: doc.call.id", "key: add(doc.call.id, 'x')")).map(document(ENDED))
    assert broken.refused is not None
    assert broken.refused.refusal.where == "gather.key (line 3)"
    mapping = gathering(RETELL.replace("complete: ended && analyzed", "complete: abs(ended.event)"))
    assert mapping.gather(None, fragments(mapping, [ENDED]), wait_is_over=False) is None
    over = gathered(mapping, [ENDED])
    assert over.call is not None
    required = gathered(gathering(RETELL.replace("call_id: ended.call.id", "call_id: abs(ended.event)")), [ENDED])
    assert required.refused is not None
    assert required.refused.refusal.what.endswith("its part `analyzed` never came")


def test_a_key_for_everything_does_not_fill_the_disk() -> None:
    """Documents of one key that are too many together are refused, by name of the likely reason."""
    refused = gathered(gathering(LINES), [{"id": "a", "text": "x" * (MOST_BYTES // 2)}, {"id": "a", "text": "y" * MOST_BYTES}])
    assert refused.refused is not None
    assert refused.refused.refusal.reason is FailReason.TOO_LARGE


def test_a_document_may_bring_a_recording_too() -> None:
    """`manifest:` beside `gather:` is asked for each document as it is read."""
    mapping = gathering(RETELL + "manifest: {key: doc.call.id, url: doc.audio}\n")
    mapped = mapping.map(document({**ENDED, "audio": "https://audio.example/1"}))
    assert mapped.fragment is not None
    assert mapped.recording is not None
    assert mapping.map(document(ENDED)).recording is None


def test_explain_shows_both_halves() -> None:
    """Over several files: what each gather rule found, and every field of the call."""
    mapping = gathering(RETELL)
    explanation = mapping.explain_gathered(fragments(mapping, [ENDED, ANALYZED]))
    runs = {rule.path: rule.runs for rule in explanation.rules}
    assert (runs["gather.parts.ended"], runs["call.user_sentiment"]) == (2, 1)
    assert {field.name: field.value for field in explanation.fields}["user_sentiment"] == "positive"
    assert explanation.mapped.call is not None


@pytest.mark.parametrize(
    ("was", "becomes", "problem"),
    [
        ("  key: doc.call.id\n", "", "gather.key: `key:` is missing"),
        ("  wait: 30s\n", "", "gather.wait: `wait:` is missing"),
        ("wait: 30s", "wait: soon", "gather.wait: takes a duration"),
        ("wait: 30s", "wiat: 30s", "gather.wiat: unknown member `wiat` (did you mean `wait`?)"),
        ("key: doc.call.id", "key: ended.call.id", "gather.key: unknown name `ended`"),
        ("complete: ended && analyzed", "complete: doc.x", "gather.complete: unknown name `doc`: the source gathers"),
        ("call_id: ended.call.id", "call_id: doc.call.id", "call.call_id: unknown name `doc`: the source gathers"),
        ("{ended: doc", "{docs: doc.x, ended: doc", "gather.parts.docs: the name `docs` is taken already"),
        ("{ended: doc", "{Docs: doc.x, ended: doc", "gather.parts.Docs: `Docs` is no name"),
        ("call:\n", "call:\n  let: {ended: docs}\n", "call.let.ended: the name `ended` is taken already"),
    ],
)
def test_mistakes_are_told_at_load(was: str, becomes: str, problem: str) -> None:
    """Each with its path, its place and what to write."""
    assert was in RETELL
    with pytest.raises(ConfigError) as error:
        gathering(RETELL.replace(was, becomes, 1))
    assert f"sources.agent.{problem}" in str(error.value)
