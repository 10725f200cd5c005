"""Several calls in one object: each element of the list that `documents:` names is a separate document."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from tests.cases.made import accepted
from tests.mapping.sources import compiled, document, problems_of
from tests.real_parts import CASES, needs_cases
from tunerd.call import Mapped
from tunerd.cli import main
from tunerd.config.yaml_nodes import parse_yaml

RULES = """
call:
  let: {roles: {const: {rep: agent, buyer: user}}}
  call_id: doc.id
  call_type: {const: phone_call}
  start_timestamp: doc.started
  end_timestamp: doc.ended
  transcript_with_tool_calls:
    {for_each: {m: doc.turns}, role: "lookup(m.who, roles)", text: m.said, start_ms: m.at, end_ms: m.at}
recording: [{url: doc.audio}]
"""


def one(at: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"c-{at}", "started": 1782900000 + 100 * at, "ended": 1782900060 + 100 * at, "audio": f"https://a.example/{at}.wav",
        "turns": [{"who": "rep", "said": f"hello {at}", "at": 10}], **changes,
    }  # fmt: skip


def rule(text: str) -> Any:
    value = parse_yaml(f"documents: {text}", "config.yaml").value
    assert isinstance(value, dict)
    return value["documents"]


def read(listed: str, value: Any, rules: str = RULES, **settings: Any) -> Mapped:
    return compiled(rules, documents=rule(listed), **settings).map_read(document(value))


def ids(mapped: Mapped) -> list[str]:
    return [made.call.call_id if made.call else made.refused.refusal.where if made.refused else "?" for _, made in mapped.each]


@pytest.mark.parametrize(
    ("listed", "value"),
    [
        ("doc.calls", {"page": 1, "calls": [one(1), one(2)]}),
        ('"doc.pages[].calls[]"', {"pages": [{"calls": [one(1)]}, {"calls": [one(2)]}]}),
        ("[doc.results, doc.calls]", {"calls": [one(1), one(2)]}),
        ("doc", [one(1), one(2)]),
        ("values(doc)", {"a": one(1), "b": one(2)}),
    ],
)
def test_each_element_is_a_document(listed: str, value: Any) -> None:
    """Each element becomes a call with its own place and body."""
    mapped = read(listed, value)
    assert ids(mapped) == ["c-1", "c-2"]
    documents = [one for one, _ in mapped.each]
    assert [one.origin.offset for one in documents] == [0, 1]
    assert [orjson.loads(made.call.document)["id"] for _, made in mapped.each if made.call and made.call.document] == [
        "c-1",
        "c-2",
    ]


def test_broken_elements_are_seen_and_stop_no_other() -> None:
    """An element that is not an object, or that the rules refuse, is refused with its own place."""
    mapped = read("doc.calls", {"calls": [one(1), 7, None, one(3, turns=None), one(4)]})
    assert [where.partition(" ")[0] for where in ids(mapped)] == [
        "c-1", "documents[1]", "documents[2]", "call.transcript_with_tool_calls", "c-4",
    ]  # fmt: skip
    assert len({document.origin.offset for document, _ in mapped.each}) == 5


@pytest.mark.parametrize("value", [{"hello": 1}, {"calls": 7}, {"calls": None}])
def test_a_document_without_its_list_is_refused(value: Any) -> None:
    """A document without the list is not ignored, because the rule may be wrong."""
    (where,) = ids(read("doc.calls", value))
    assert where == "documents"


def test_an_empty_page_is_no_failure() -> None:
    """An empty list contains no call, and is no error."""
    ignored = read("doc.calls", {"calls": []}).ignored
    assert ignored is not None
    assert ignored.known


def test_an_element_is_not_taken_apart_again() -> None:
    """`tunerd retry` maps the element as the ledger keeps it."""
    mapping = compiled(RULES, documents=rule("doc.calls"))
    assert mapping.map(document(one(1))).call is not None


def test_a_page_of_a_platform() -> None:
    """`documents:` works together with a preset, and each element may be in an envelope, too."""
    pages = {"results": [accepted("vapi")[0], {"body": accepted("vapi")[0]}, {"odd": 1}]}
    mapped = read("doc.results", pages, rules="", preset="vapi")
    assert [bool(made.call) for _, made in mapped.each] == [True, True, False]
    assert mapped.each[2][1].refused is not None


def test_documents_and_gather() -> None:
    """Calls in one list and their transcripts in another: elements of both lists are parts of a call."""
    rules = """
call:
  call_id: about.id
  call_type: {const: phone_call}
  start_timestamp: about.started
  end_timestamp: about.ended
  transcript_with_tool_calls:
    {for_each: {s: "words.sentences"}, role: {const: user}, text: s.text, start_ms: s.start, end_ms: s.end}
"""
    gather = parse_yaml(
        "{key: [doc.id, doc.callId], parts: {about: doc.id, words: doc.callId}, complete: about && words, wait: 1h}", "g"
    )
    mapping = compiled(rules, documents=rule("[doc.calls, doc.transcripts]"), gather=gather)
    about = mapping.map_read(document({"calls": [one(1), one(2)]}, path="/calls/a.json"))
    said = [{"callId": f"c-{at}", "sentences": [{"text": f"w{at}", "start": 0, "end": 5}]} for at in (1, 2)]
    words = mapping.map_read(document({"transcripts": said}, path="/calls/b.json"))
    parts = [made.fragment for _, made in (*about.each, *words.each)]
    for key in ("c-1", "c-2"):
        gathered = mapping.gather(None, [part for part in parts if part is not None and part.key == key])
        assert gathered is not None
        assert gathered.call is not None
        assert gathered.call.call_id == key


def test_a_wrong_rule_is_told_at_load() -> None:
    """The message has the place of the rule."""
    assert problems_of(RULES, documents=rule("dok.calls")) == [
        "config.yaml:1:12: sources.agent.documents: unknown name `dok` (did you mean `doc`?)"
    ]


def configured(directory: Path, name: str, content: bytes) -> Path:
    (directory / "calls").mkdir()
    (directory / f"calls/{name}").write_bytes(content)
    config = {
        "tuner": {"workspace_id": 1, "agent_remote_identifier": "a", "base_url": "http://127.0.0.1:9", "api_key": "made-up"},
        "ledger": {"url": f"sqlite:///{directory}/l.db"}, "http": {"listen": None}, "delivery": {"dry_run": True},
    }  # fmt: skip
    lines = "\n".join(f"    {line}" for line in RULES.strip().splitlines())
    file = directory / "config.yaml"
    head = "".join(f"{key}: {json.dumps(value)}\n" for key, value in config.items())
    file.write_text(f"{head}sources:\n  - name: agent\n    path: calls\n    documents: doc.calls\n{lines}\n")
    return file


@pytest.mark.parametrize("name", ["page.json", "pages.ndjson"])
def test_the_daemon_reads_each_element_once(tmp_path: Path, name: str) -> None:
    """In whole files and lines of a log each element gets a row, the broken one as failed; a second run finds nothing new."""
    pages = [{"calls": [one(1), one(2)]}, {"calls": [one(3), "broken"]}]
    content = orjson.dumps({"calls": [*pages[0]["calls"], *pages[1]["calls"]]})
    if name.endswith("ndjson"):
        content = b"".join(orjson.dumps(page) + b"\n" for page in pages)
    file = configured(tmp_path, name, content)
    for _ in range(2):
        done = CliRunner().invoke(main, ["run", "--once", "--wait", "0s", "-c", str(file)])
        assert "3 still due" in done.output, done.output
        assert "1 failed" in done.output, done.output
    audit = CliRunner().invoke(main, ["audit", "-c", str(file)])
    assert "4 documents" in audit.output, audit.output
    explained = CliRunner().invoke(main, ["explain", "-c", str(file), str(tmp_path / "calls" / name)])
    assert explained.output.count("call c-") == 3, explained.output


@needs_cases
def test_the_shared_page_of_calls() -> None:
    """The case many-calls-in-one-object: two calls and their two transcripts."""
    rules = RULES.replace("doc.id", "doc.metaData.id")
    page = orjson.loads((CASES / "many-calls-in-one-object/call.json").read_bytes())
    assert len(read("doc.calls", page, rules=rules).each) == 2
    words = orjson.loads((CASES / "many-calls-in-one-object/transcript.json").read_bytes())
    assert len(read("doc.callTranscripts", words, rules=rules).each) == 2


@pytest.mark.parametrize(
    "around", [lambda calls: {"page": 1, "calls": calls}, lambda calls: {"data": {"items": calls}, "next": None}]
)
def test_init_proposes_the_list(tmp_path: Path, around: Any) -> None:
    """For files of no known platform, the proposed configuration maps every call of the page."""
    file = tmp_path / "page.json"
    calls = [
        {**one(at), "turns": [{"role": "agent", "text": "a", "at": 1}, {"role": "user", "text": "b", "at": 3}]} for at in (1, 2)
    ]
    file.write_bytes(orjson.dumps(around(calls)))
    done = CliRunner().invoke(main, ["init", "--from", str(file)])
    assert "    documents: doc." in done.stdout, done.output
    assert done.stderr.count("gives a call") == 2, done.output
    assert done.exit_code == 0, done.output


def test_init_leaves_a_call_with_its_turns_whole(tmp_path: Path) -> None:
    """A list of turns is not taken for a list of calls, even if each turn has an id and a time."""
    file = tmp_path / "call.json"
    turns = [{"id": f"t{at}", "role": "agent", "text": "a", "created_at": "2026-07-01T10:00:05Z"} for at in (1, 2)]
    file.write_bytes(orjson.dumps({**one(1), "turns": turns}))
    done = CliRunner().invoke(main, ["init", "--from", str(file)])
    assert "documents:" not in done.stdout, done.output


@needs_cases
def test_init_finds_the_shared_pages(tmp_path: Path) -> None:
    """The case many-calls-in-one-object: the message names the list of calls."""
    done = CliRunner().invoke(main, ["init", "--from", str(CASES / "many-calls-in-one-object/call.json")])
    assert "documents: doc.calls" in done.stdout, done.output
