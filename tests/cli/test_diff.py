"""`tunerd diff`, run as a user runs it."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.mapping.sources import document
from tests.workbench.made import CONFIG, call, plant
from tunerd.cli import main
from tunerd.ledger import Admission
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.loading.config_file import load_text
from tunerd.workbench.compiled import compile_config


def diff(directory: Path, new: str, *arguments: object, old: str = CONFIG) -> Result:
    plant(directory, old)
    (directory / "new.yaml").write_text(new)
    paths = [str(directory / name) for name in ("config.yaml", "new.yaml")]
    return CliRunner().invoke(main, ["diff", *paths, *map(str, arguments)], catch_exceptions=False)


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_the_same_rules_change_nothing(tmp_path: Path) -> None:
    """Exit code 0, and only the count."""
    plant(tmp_path, one=call(), two=call(id="c-2", draft=True), three="{half")
    result = diff(tmp_path, CONFIG + "# a comment\n", tmp_path / "calls")
    assert (result.exit_code, result.stdout) == (0, "3 documents and calls compared: 3 unchanged\n")


CHANGES = [
    ("doc.mood", "[doc.mood, {const: neutral}]", 'user_sentiment old (nothing) new "neutral"', "1 changed"),
    ("multiply(doc.cost, 100)", "null", "call_cost old 50.0 new (nothing)", "1 changed"),
    ("ghost: null}", "ghost: user}", "transcript_with_tool_calls[2] old (nothing)",
     "1 changed"),
    ("key: doc.room\n", "key: doc.id\n", "(from egress, key room-7)", "1 changed"),
    ("url: doc.audio", "url: \"concat('https://a.example/', doc.id)\"", 'new "https://a.example/c-1"', "1 changed"),
    ("support-bot", "other-bot", '(agent) old "support-bot" new "other-bot"', "1 changed"),
    ("api: create-call", "api: send-calls", "transcript_with_tool_calls[0].content", "1 changed"),
    ("workspace_id: 42", "workspace_id: 43", '(destination) old "api.usetuner.ai/42"', "1 changed"),
    ("doc.began", "doc.room", "is refused, unmappable: call.start_timestamp (line 12)", "1 now refused"),
    ("{test_call: doc.test}", "{a_room: doc.room}", "is refused, refused: call.refuse.a_room", "1 now refused"),
    ('when: "!doc.draft"', 'when: "doc.draft"', "now left out", "1 now left out"),
    ("name: agent\n    path: calls", "name: agent\n    path: elsewhere", "", "1 unchanged"),
    ("name: agent\n", "name: bots\n", "", "1 unchanged"),
    ("name: agent\n    path: calls", "name: bots\n    path: elsewhere", "no longer read", "1 no longer read"),
]  # fmt: skip


@pytest.mark.parametrize(("was", "becomes", "told", "counted"), CHANGES)
def test_each_kind_of_change_is_shown_field_by_field(tmp_path: Path, was: str, becomes: str, told: str, counted: str) -> None:
    """What is in the body, where the recording comes from, and where the call goes."""
    assert was in CONFIG
    plant(tmp_path, one=call())
    result = diff(tmp_path, CONFIG.replace(was, becomes), tmp_path / "calls")
    assert told in squeezed(result.stdout), result.stdout
    assert f"1 document or call compared: {counted}" in result.stdout
    assert result.exit_code == (0 if "unchanged" in counted else 1)
    assert max(len(line) for line in result.stdout.splitlines() if str(tmp_path) not in line) <= 80


def test_what_was_refused_or_left_out_and_now_is_a_call(tmp_path: Path) -> None:
    """The other way round is told as well."""
    plant(tmp_path, one=call(test=True), two=call(draft=True))
    mended = CONFIG.replace("      refuse: {test_call: doc.test}\n", "").replace('      when: "!doc.draft"\n', "")
    result = diff(tmp_path, mended, tmp_path / "calls")
    assert "2 documents and calls compared: 2 now accepted" in result.stdout
    assert "was refused, refused: call.refuse.test_call (line 9)" in squeezed(result.stdout)


def test_many_calls_are_bounded_and_summed_up(tmp_path: Path) -> None:
    """Twenty calls in full, the rest in numbers; --all and --json show everything."""
    many: dict[str, Any] = {f"n{at:02}": call(id=f"c-{at}") for at in range(30)}
    plant(tmp_path, **many)
    new = CONFIG.replace("doc.mood", "[doc.mood, {const: neutral}]").replace("text: m.text", "text: upper(m.text)")
    result = diff(tmp_path, new, tmp_path / "calls")
    assert "and 10 more calls that differ (--all shows them)" in result.stdout
    assert "30  transcript_with_tool_calls[].text" in squeezed(result.stdout).replace(" 30 ", " 30  ")
    assert result.stdout.count("n29.json") == 0
    assert diff(tmp_path, new, tmp_path / "calls", "--all").stdout.count("n29.json") == 1
    told = json.loads(diff(tmp_path, new, tmp_path / "calls", "--json").stdout)
    assert told["counts"]["changed"] == 30
    assert told["fields"] == {"user_sentiment": 30, "transcript_with_tool_calls[].text": 30}
    assert told["differences"][0]["changes"][-1] == {"path": "user_sentiment", "new": "neutral"}


def test_rules_that_gather_otherwise_are_paired_by_call_id(tmp_path: Path) -> None:
    """Old: a document is a call. New: the documents of one id are."""
    plant(tmp_path, one=call(), two=call(cost=1))
    new = CONFIG.replace("    call:\n", "    gather: {key: doc.id, wait: 1s, parts: {it: doc.id}}\n    call:\n", 1)
    head, tail = new.split("    call:\n", 1)
    body, rest = tail.split("  - name: egress", 1)
    new = head + "    call:\n" + body.replace("doc.", "it.") + "  - name: egress" + rest
    result = diff(tmp_path, new, tmp_path / "calls")
    assert "1 changed, 1 no longer read" in result.stdout, result.output


def test_usage_and_unreadable_files_are_told_apart_from_differences(tmp_path: Path) -> None:
    """Exit code 2 for trouble, 78 for a bad configuration."""
    plant(tmp_path, one=call())
    assert diff(tmp_path, CONFIG).exit_code == 2
    assert diff(tmp_path, CONFIG, tmp_path / "calls", "--from-ledger", 3).exit_code == 2
    assert diff(tmp_path, CONFIG, "--source", "agent", tmp_path / "none.json").exit_code == 2
    bad = diff(tmp_path, CONFIG.replace("doc.mood", "dco.mood"), tmp_path / "calls")
    assert bad.exit_code == 78
    assert "new.yaml:14" in bad.stderr


def admitted(directory: Path, documents: Sequence[object], text: str, mtime_ns: int = 0) -> None:
    """A ledger in which a daemon admitted these."""
    mapping = compile_config(load_text(text, str(directory / "config.yaml"), {}, resolve_secrets=False), {}, {})["agent"].mapping

    async def fill() -> None:
        ledger = await SqliteLedger.open(
            directory / "ledger.db", now=time.time(), wait_for_lock_s=0.0, create=True, emit=lambda _: None
        )
        for at, value in enumerate(documents):
            read = document(value, f"{directory}/calls/{at}.json")
            made = mapping.map(replace(read, origin=replace(read.origin, mtime_ns=mtime_ns)))
            admission = Admission(calls=[made.call] if made.call else [], refused=[made.refused] if made.refused else [])
            await ledger.admit(admission, time.time())
        await ledger.close()

    asyncio.run(fill())


def test_the_newest_documents_of_the_ledger(tmp_path: Path) -> None:
    """No file is needed any more; refused ones count, too."""
    text = CONFIG + f'ledger: {{url: "sqlite://{tmp_path}/ledger.db"}}\n'
    plant(tmp_path, text)
    admitted(tmp_path, [call(id=f"c-{at}") for at in range(6)] + [call(id="c-t", test=True)], text)
    new = text.replace("doc.mood", "[doc.mood, {const: neutral}]").replace("      refuse: {test_call: doc.test}\n", "")
    result = diff(tmp_path, new, "--from-ledger", 3, old=text)
    assert result.exit_code == 1
    assert "3 documents and calls compared: 2 changed, 1 now accepted" in result.stdout, result.output
    assert "c-0" not in result.stdout
    result = diff(tmp_path, text, "--from-ledger", 300, old=text)
    assert (result.exit_code, result.stdout) == (0, "7 documents and calls compared: 7 unchanged\n")
    assert "the ledger holds 7 documents" in result.stderr


def test_documents_of_the_ledger_keep_the_time_of_their_file(tmp_path: Path) -> None:
    """A rule that falls back to file.mtime gives what it gave when the document was read."""
    text = CONFIG.replace("doc.ended", "[doc.ended, file.mtime]") + f'ledger: {{url: "sqlite://{tmp_path}/ledger.db"}}\n'
    plant(tmp_path, text)
    admitted(tmp_path, [call(ended=None)], text, mtime_ns=1_767_225_900_000_000_000)
    new = text.replace("doc.ended, file.mtime", "doc.ended, {const: 1767225900000}")
    result = diff(tmp_path, new, "--from-ledger", 3, old=text)
    assert (result.exit_code, result.stdout) == (0, "1 document or call compared: 1 unchanged\n")


def test_without_a_ledger_it_says_so(tmp_path: Path) -> None:
    """One line, exit code 1, and none is made."""
    text = CONFIG + f'ledger: {{url: "sqlite://{tmp_path}/ledger.db"}}\n'
    result = diff(tmp_path, text, "--from-ledger", 3, old=text)
    assert result.exit_code == 1
    assert "there is no ledger" in result.stderr
    assert not (tmp_path / "ledger.db").exists()
