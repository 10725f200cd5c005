"""`tunerd audit` over real files and a real ledger, with no daemon and with one that holds it."""

import asyncio
import json
import os
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Never

import pytest
from click.testing import CliRunner, Result

from tests.cli.test_order_commands import CONFIG
from tunerd.admin.call_orders import CallOrders
from tunerd.admin.service import AdminService, LedgerPauses
from tunerd.admin.socket_server import SocketPlaces, serve_orders
from tunerd.admin.status_report import Facts, StatusReport
from tunerd.call import Form
from tunerd.cli import main
from tunerd.cli.audit import _files as audited_files
from tunerd.clock import SystemClock
from tunerd.intake.sources import Intake
from tunerd.ledger import Delivered
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.loading.config_file import load
from tunerd.mapping import compile_sources

SECRET = "canary-of-the-transcript"


def call(call_id: str) -> dict[str, object]:
    return {
        "id": call_id,
        "start": 1_767_225_000_000,
        "url": "https://audio.example/a.wav?token=canary-of-the-url",
        "messages": [{"role": "agent", "text": SECRET, "start_ms": 0, "end_ms": 900}],
    }


def write(path: Path, content: object, *, days: float = 0.04) -> None:
    """A file that was written so long ago."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    at = time.time() - days * 86_400
    os.utime(path, (at, at))


async def opened(directory: Path) -> SqliteLedger:
    return await SqliteLedger.open(directory / "ledger.db", now=time.time(), emit=lambda _: None)


async def read_all(directory: Path, *sent: str) -> None:
    """What a daemon does: read the directory, and have some calls accepted."""
    config = load(directory / "config.yaml", {})
    ledger = await opened(directory)
    mappers = {name: mapping.map for name, mapping in compile_sources(config, {}).items()}
    intake = Intake(config.sources, ledger, mappers, SystemClock(), lambda _: None)
    await intake.sweep()
    intake.close()
    back = []
    for _ in range(20):
        claimed = (await ledger.claim("api.usetuner.ai/42", Form.SEND_CALLS, lambda body: body.payload, time.time())).claimed
        if claimed is not None and claimed.call_id in sent:
            await ledger.settle(claimed.row, Delivered(status=200, tuner_call_id=None, already_there=False), time.time())
        elif claimed is not None:
            back.append(claimed.row)
    for row in back:
        await ledger.release(row, time.time())
    await ledger.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Three calls, one of them sent and moved to done/, one duplicate, half a file and one without messages."""
    calls = tmp_path / "calls"
    text = CONFIG.format(directory=tmp_path).replace(
        "    call:", "    after_sent: {move_to: done/}\n    settle: 1ms\n    settle_timeout: 1ms\n    rescan: 10ms\n    call:", 1
    )
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "key").write_text("k")
    write(calls / "moved.json", call("moved"))
    write(calls / "list.json", [call("one"), call("two")])
    write(calls / "again.json", call("one"))
    write(calls / "half.json", '{"id": "canary-half')
    write(calls / "unmappable.json", {**call("unmappable"), "messages": None})
    write(calls / "gone.json", call("gone"))
    asyncio.run(read_all(tmp_path, "moved", "gone", "two"))
    (calls / "done").mkdir()
    (calls / "moved.json").rename(calls / "done/moved.json.1")
    (calls / "gone.json").unlink()
    return tmp_path


def run(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["audit", "-c", str(directory / "config.yaml"), *arguments])


def run_later(directory: Path, *arguments: str) -> Result:
    """What was written is too young to be missed for the first 11 ms."""
    newest = max(file.stat().st_ctime for file in (directory / "calls").iterdir())
    while time.time() < newest + 0.05:
        pass
    return run(directory, *arguments)


def run_until_gap(directory: Path, *arguments: str) -> Result:
    """Again and again where the clock of files is behind."""
    until = time.monotonic() + 10
    while (result := run_later(directory, *arguments)).exit_code == 0 and time.monotonic() < until:
        pass
    return result


def report(result: Result) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(result.output)
    return made


def test_everything_is_accounted_for(directory: Path) -> None:
    """Sent and moved away, on the way, failed, duplicate, and the row whose file is gone: no gap."""
    result = run(directory, "--json")
    made = report(result)
    assert (result.exit_code, made["gap"]) == (0, False)
    (of,) = made["sources"]
    assert {name: count for name, count in of.items() if count} == {
        "name": "agent", "files": 5, "documents": 6, "sent": 2, "open": 1, "failed": 2, "duplicates": 1,
    }  # fmt: skip
    assert (made["extra"], made["extra_open"]) == (1, 0)
    assert sorted(Path(row["path"]).name for row in made["failed"]) == ["half.json", "unmappable.json"]
    assert [row["call_id"] for row in made["duplicates"]] == ["one"]


def test_a_document_that_the_ledger_does_not_have_is_a_gap(directory: Path) -> None:
    """Unless it was written so long ago that its row may be gone."""
    write(directory / "calls/missing.json", call("missing"))
    write(directory / "calls/torn.json", '{"id": 1')
    write(directory / "calls/old.json", call("old"), days=40)
    made = report(result := run_until_gap(directory, "--json"))
    assert result.exit_code == 1
    assert [(Path(row["path"]).name, row["call_id"]) for row in made["missing"]] == [
        ("missing.json", "missing"), ("torn.json", None),
    ]  # fmt: skip
    (of,) = made["sources"]
    assert (of["missing"], of["unread"], of["unknown"]) == (2, 0, 1)


def test_what_was_written_just_now_may_be_about_to_be_read(directory: Path) -> None:
    """Within settle_timeout and a scan, by its mtime or (copied here with old times) its ctime."""
    config = directory / "config.yaml"
    config.write_text(config.read_text().replace("rescan: 10ms", "rescan: 1h"))
    write(directory / "calls/copied.json", call("copied"), days=3)
    made = report(result := run(directory, "--json"))
    assert result.exit_code == 0
    assert made["sources"][0]["unread"] == 1


def test_a_file_that_was_overwritten_and_not_read_again_is_a_gap(directory: Path) -> None:
    """Its place is in the ledger with the document before; one whose rule has changed since is told apart."""
    overwritten = directory / "calls/list.json"
    write(overwritten, [call("one"), call("own")])
    assert report(run(directory, "--json"))["sources"][0]["other_id"] == 1
    os.utime(overwritten)
    assert [row["call_id"] for row in report(run_until_gap(directory, "--json"))["missing"]] == ["own"]


def test_a_directory_that_is_gone_is_no_all_clear(directory: Path) -> None:
    """What cannot be listed cannot be compared: it is named, and the exit code is 1."""
    (directory / "calls").rename(directory / "elsewhere")
    result = run(directory)
    assert result.exit_code == 1
    assert "cannot be listed" in result.output
    assert "No gap" not in result.output


def test_since_looks_at_younger_files_only(directory: Path) -> None:
    """And neither at older files nor at older rows."""
    write(directory / "calls/missing.json", call("missing"), days=3)
    made = report(result := run(directory, "--json", "--since", "2d"))
    assert result.exit_code == 0
    assert made["sources"][0]["files"] == 5
    assert report(run_until_gap(directory, "--json", "--since", "4d"))["gap"] is True


def test_the_text_says_what_is_missing_and_shows_nothing_of_a_call(directory: Path) -> None:
    """Counts, places and call ids; no transcript, no URL."""
    write(directory / "calls/missing.json", call("missing"))
    result = run_until_gap(directory)
    assert result.exit_code == 1
    assert "MISSING" in result.output
    assert f"  {directory}/calls/missing.json  missing  not in the ledger\n" in result.output
    for text in (result.output, run(directory, "--json").output):
        assert SECRET not in text
        assert "canary" not in text


def test_it_asks_the_daemon_that_holds_the_ledger(directory: Path) -> None:
    """Through the control socket the same comes out, while the daemon goes on."""

    async def with_daemon() -> Result:
        ledger = await opened(directory)
        status = StatusReport(ledger, Facts(version="1", config_file="c"), time.time, destinations=tuple)
        calls = CallOrders(ledger, dict, _no_place, time.time, _no_place)
        async with serve_orders(
            AdminService(status, calls, LedgerPauses(ledger, time.time)),
            SocketPlaces(ledger=str(directory / "ledger.db"), env={}),
        ):
            result = await asyncio.to_thread(run, directory, "--json")
        await ledger.close()
        return result

    alone, asked = report(run(directory, "--json")), report(asyncio.run(with_daemon()))
    assert {**alone, "generated_at": 0} == {**asked, "generated_at": 0}


def _no_place(*_: object) -> Never:
    raise AssertionError("an audit changes nothing")


def test_without_a_ledger_it_says_so(tmp_path: Path) -> None:
    """One line, and exit code 1."""
    (tmp_path / "config.yaml").write_text(CONFIG.format(directory=tmp_path))
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "there is no ledger" in result.stderr


def test_what_cannot_be_read_is_unknown_and_no_gap_is_not_claimed(directory: Path) -> None:
    """A name that this user cannot read: neither missing nor accounted for; the exit code says that nobody knows."""
    (directory / "calls" / "loop.json").symlink_to("loop.json")
    result = run(directory, "--json")
    made = report(result)
    assert (result.exit_code, made["gap"], made["missing"]) == (1, None, [])
    assert [(Path(row["path"]).name, row["what"]) for row in made["unreadable"]] == [
        ("loop.json", "cannot be read: Too many levels of symbolic links")
    ]
    said = run(directory).output
    assert "1  cannot be compared: unknown, no permission to read" in said
    assert "Not known whether there is a gap: 1 files or directories cannot be read." in said
    assert "No gap" not in said
    assert "MISSING" not in said


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_user_without_rights_hears_unknown_instead_of_missing(directory: Path) -> None:
    """A file, a directory that cannot be listed, and one that cannot be entered."""
    source = replace(load(directory / "config.yaml", {}).sources[0], recursive=True)
    for name in ("no-list", "no-enter"):
        write(directory / "calls" / name / "1.json", call(name))
    (directory / "calls" / "no-list").chmod(0o711)
    (directory / "calls" / "no-enter").chmod(0o744)
    (directory / "calls" / "half.json").chmod(0o600)
    for parent in (directory, *directory.parents):
        if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forking beside threads: the child only lists directories
        child = os.fork()
    if child == 0:
        os.setuid(65534)
        unlisted: list[tuple[str, str, str]] = []
        seen = [path for path, _, _ in audited_files(source, unlisted)]
        os.write(
            writer, json.dumps([sorted(Path(p).name for p in seen), sorted((Path(p).name, w) for _, p, w in unlisted)]).encode()
        )
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    seen, unlisted = json.loads(os.read(reader, 65_536))
    os.close(reader)
    assert "half.json" in seen  # it is only opened later
    why = "this user may not read it"
    assert unlisted == [["1.json", f"cannot be read: {why}"], ["no-list", f"cannot be listed: {why}"]]


def test_no_gap_is_said_of_what_was_compared(directory: Path) -> None:
    """What the rules ignore is counted apart; what is older than ignore_older likewise; and what cannot be compared keeps
    the audit from saying that there is no gap."""
    assert run(directory).output.endswith("\nNo gap: every document is in the ledger.\n")
    text = (directory / "config.yaml").read_text()
    (directory / "config.yaml").write_text(
        text.replace("    call:\n", "    ignore_older: 1d\n    call:\n      when: doc.id != 'ignored'\n", 1)
    )
    write(directory / "calls" / "ignored.json", call("ignored"))
    write(directory / "calls" / "old.json", call("old"), days=2)
    result = run_later(directory)
    assert result.exit_code == 0, result.output
    assert "1  ignored by the rules" in result.output
    assert "1  ignored: not in the ledger, and older than ignore_older" in result.output
    assert result.output.endswith("\nNo gap: every document is in the ledger, except 2 that are ignored (see above).\n")
    write(directory / "calls" / "very-old.json", call("very-old"), days=400)
    (directory / "config.yaml").write_text(text)
    (directory / "calls" / "old.json").unlink()
    (directory / "calls" / "ignored.json").unlink()
    result = run_later(directory)
    assert result.exit_code == 0, result.output
    assert "No gap" not in result.output
    assert result.output.endswith("1 cannot be compared (see above).\n")
