"""Whoever writes documents chooses call ids, paths and details: nothing of them may move a terminal, in any command."""

import json
import re
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.admin.benches import refused
from tests.cli.test_order_commands import CONFIG, Daemon
from tests.ops.parts import NOW
from tunerd.call import Mapped, Refusal, RefusedDocument
from tunerd.cli import main
from tunerd.events import CallFailed
from tunerd.ops.encoding import encoded
from tunerd.ops.event_logger import EventLogger
from tunerd.ops.log_writer import open_log
from tunerd.outcome import FailReason
from tunerd.visible import visible, visible_json

HOSTILE = (
    "x\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "x\nSPOOF sent",
    "x\rSPOOF sent",
    "x\x00y",
    "x\x9b31mSPOOF",
    "x\x85y\x90z\x9d0;t\x9c",
    "x\u202eSPOOF\u2066y\u2069\u200fz\u061c",
    "x\u2028SPOOF\u2029y",
    "x\x7f\x08\u200b\ufeff\U000e0041y",
    "--all",
    "$(reboot) `reboot` 'x",
)


def is_harmless(text: str) -> bool:
    lines = text.split("\n")
    return all(line.isprintable() and not line.startswith("SPOOF") for line in lines)


def hostile(directory: Path, text: str) -> Iterator[Daemon]:
    made = Daemon(directory)
    made.do(lambda bench: bench.fail(text, detail=text))
    made.do(
        lambda bench: bench.refuse(
            refused(str(directory / "calls" / f"{text.replace('/', '')}.json".replace("\0", "")), what=text)
        )
    )
    yield made
    made.close()


@pytest.fixture(params=HOSTILE, ids=ascii)
def text(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def daemon(tmp_path: Path, text: str) -> Iterator[Daemon]:
    """Its ledger holds a failed call whose id and detail are hostile, and an unreadable file with such a name."""
    yield from hostile(tmp_path, text)


def test_commands_that_ask_the_ledger(daemon: Daemon, text: str) -> None:
    """Each prints visible characters and its own line ends only; JSON says exactly the id."""
    for order in (
        ("status",), ("status", "--", text), ("failed",), ("retry", "--", text), ("remap", "--state", "failed"), ("retry", "--all"),
        ("dismiss", "--", text), ("failed", "--dismissed"), ("forget", "--", text), ("retry", "--", "none" + text),
        ("forget", "--yes", "--", text), ("pause", "none" + text), ("resume", "none" + text),
        ("status", "--", "none" + text), ("status", "-c", f"/nowhere/{text}".replace("\0", "")),
    ):  # fmt: skip
        result = daemon.run(*order)
        assert is_harmless(result.stdout), (order, result.stdout)
        assert is_harmless(result.stderr), (order, result.stderr)
        assert result.exit_code in (0, 1, 2, 78), (order, result.output)


def test_json_of_commands(daemon: Daemon, text: str) -> None:
    """It stays JSON, gives the id back as it is, and has nothing invisible in it."""
    for order in (("failed", "--json"), ("status", "--json"), ("status", "--json", "--", text), ("retry", "--json", "--", text)):
        result = daemon.run(*order)
        assert is_harmless(result.stdout), order
        assert order[0] == "retry" or text in _texts(json.loads(result.stdout))


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def written(directory: Path, text: str) -> Path:
    """A configuration, and a file with two calls: one that maps, one that the rules refuse."""
    (directory / "calls").mkdir(exist_ok=True)
    (directory / "key").write_text("k")
    good = {"id": text, "start": 1_767_225_000_000, "url": "https://audio.example/a.wav", "note": text,
            "messages": [{"role": "agent", "text": text, "start_ms": 0, "end_ms": 900}]}  # fmt: skip
    config = CONFIG.format(directory=directory).replace("tuner: {", "tuner: {base_url: 'http://127.0.0.1:9', ")
    (directory / "config.yaml").write_text(config.replace("call_type: {{const", "call_type: {{const"))
    file = directory / "calls" / "1.json"
    file.write_text(json.dumps([good, {**good, "id": text + "2", "url": None, "messages": text}]))
    return file


def run(directory: Path, name: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, [name, *arguments])


def test_commands_that_read_files(tmp_path: Path, text: str) -> None:
    """explain, test, diff, send, audit, check and init: of what stands in documents only visible characters come out."""
    file, config = written(tmp_path, text), str(tmp_path / "config.yaml")
    (tmp_path / "new.yaml").write_text(
        (tmp_path / "config.yaml").read_text().replace("call_id: doc.id", "call_id: concat(doc.id, 'n')")
    )
    tests = {"tests": [{"name": "hostile", "input": json.loads(file.read_text())[0], "expect": {"call_id": "other"}}]}
    (tmp_path / "tests.yaml").write_text(json.dumps(tests))
    for name, *arguments in (
        ("explain", "-c", config, str(file)), ("explain", "-c", config, "--body", str(file)), ("explain", "-c", config, "--rules", str(file)),
        ("explain", "-c", config, "--summary", str(file)), ("explain", "-c", config, "--json", str(file)),
        ("diff", config, str(tmp_path / "new.yaml"), str(file)), ("diff", "--json", config, str(tmp_path / "new.yaml"), str(file)),
        ("test", "-c", config, "--tests", str(tmp_path / "tests.yaml")),
        ("send", "-c", config, str(file)), ("init", "--output", "-", str(file)), ("init", str(file)),
        ("explain", "-c", config, str(tmp_path / text.replace("\0", "").replace("/", ""))),
    ):  # fmt: skip
        result = run(tmp_path, name, *arguments)
        assert is_harmless(result.stdout), (name, arguments, result.stdout)
        assert is_harmless(result.stderr), (name, arguments, result.stderr)
        assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit), (name, arguments)


def test_the_audit(tmp_path: Path, text: str) -> None:
    """Missing, failed and duplicate places with such ids, as text and as JSON."""
    daemon = Daemon(tmp_path)
    try:
        written(tmp_path, text)
        daemon.config.write_text(
            CONFIG.format(directory=tmp_path).replace(
                "    call:", "    settle: 1ms\n    settle_timeout: 1ms\n    rescan: 10ms\n    call:", 1
            )
        )
        daemon.do(lambda bench: bench.admit(text))
        for order in (("audit",), ("audit", "--json")):
            result = daemon.run(*order)
            assert is_harmless(result.stdout), result.stdout
            assert is_harmless(result.stderr)
    finally:
        daemon.close()


@pytest.mark.parametrize("format", ["text", "json"])
def test_the_log(tmp_path: Path, text: str, format: str) -> None:
    """A line of the log is one line, whatever a call is called."""
    with (tmp_path / "log").open("w+", encoding="utf-8", newline="") as stream:
        logger = EventLogger(open_log("json" if format == "json" else "text", stream=stream, now=lambda: NOW))
        logger(CallFailed(source="agent", reason=FailReason.INVALID, call_id=text, path=f"/c/{text}", where=text, what=text))
        stream.seek(0)
        said = stream.read()
    assert said.count("\n") == 1
    assert is_harmless(said)
    if format == "json":
        assert json.loads(said)["call_id"] == text


def test_a_refusal_by_the_rules_is_told_likewise(tmp_path: Path, text: str) -> None:
    """What `retry` reports of a document that the rules still refuse."""

    def rule(document: object) -> Mapped:
        return Mapped(
            refused=RefusedDocument(origin=document.origin, refusal=Refusal(reason=FailReason.INVALID, where=text, what=text))
        )  # type: ignore[attr-defined]

    daemon = Daemon(tmp_path)
    try:
        daemon.do(lambda bench: bench.fail(text))
        daemon.bench.rules["agent"].rule = rule
        for order in (("retry", "--all"), ("retry", "--all", "--json"), ("status", "--", text), ("failed",)):
            result = daemon.run(*order)
            assert is_harmless(result.stdout + result.stderr), order
    finally:
        daemon.close()


def test_visible_keeps_what_people_write() -> None:
    """Letters of any script, blanks and backslashes stay; nothing invisible does."""
    assert visible("Müller 東京 שלום \\n $x") == "Müller 東京 שלום \\n $x"
    assert visible("a\x1b\x9b\n\u202e\udcff") == "a\\x1b\\x9b\\n\\u202e\\udcff"
    assert all(char.isprintable() for char in visible("".join(map(chr, range(0x3000)))))


def test_json_says_the_same_with_everything_invisible_escaped() -> None:
    """Every character that is not visible, those beyond the first plane too; and text that needs no escape is untouched."""
    value = {"a": "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)}
    raw = encoded(value).decode()
    assert json.loads(raw) == value
    assert not {char for char in raw if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    assert visible_json('{"a": "Müller"}') == '{"a": "Müller"}'


def test_a_command_to_copy_does_what_it_says(daemon: Daemon, text: str) -> None:
    """`tunerd failed` gives a command for each call; pasted into a shell, it reaches that call, and no other."""
    said = re.sub(r"\n +", " ", daemon.run("failed").stdout)
    command = next(found for found in re.findall(r"tunerd retry .*", said) if "--place" not in found)
    told = subprocess.run(
        ["bash", "-c", command.replace("tunerd retry", "printf '%s\\0' retry", 1)], capture_output=True, check=True
    )
    words = told.stdout.decode("utf-8", "surrogateescape").split("\0")[1:-1]
    if "\0" not in text:
        assert words == (["--", text] if text.startswith("-") else [text])
