"""The same commands with no daemon running: they take the ledger themselves, with the rules of the configuration."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.admin.benches import refused
from tests.cli.test_order_commands import CONFIG
from tunerd.call import Call, Form
from tunerd.cli import main
from tunerd.cli.admin import open_admin
from tunerd.cli.target import Target
from tunerd.events import LedgerRolledBack
from tunerd.ledger import Admission, Ended, LedgerRefused
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.ledger.sqlite.errors import LedgerDamaged
from tunerd.outcome import FailReason
from tunerd.testing import Recorder, make_call

DESTINATION = "api.usetuner.ai/42"


async def opened(directory: Path) -> SqliteLedger:
    return await SqliteLedger.open(directory / "ledger.db", now=time.time(), wait_for_lock_s=0.0, emit=lambda _: None)


async def plant(directory: Path, *calls: Call) -> None:
    """A ledger as a daemon leaves it: these calls failed, and one document was not readable."""
    ledger = await opened(directory)
    for call in calls:
        await ledger.admit(Admission(calls=[call]), time.time())
        claim = await ledger.claim(call.destination, Form.SEND_CALLS, lambda unfrozen: unfrozen.payload, time.time())
        assert claim.claimed is not None
        await ledger.settle(claim.claimed.row, Ended(reason=FailReason.REJECTED, status=422, detail="HTTP 422"), time.time())
    await ledger.admit(Admission(refused=[refused(str(directory / "calls" / "half.json"))]), time.time())
    await ledger.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A configuration, its source, and a ledger with one rejected call and one unreadable file."""
    (tmp_path / "calls").mkdir()
    (tmp_path / "config.yaml").write_text(CONFIG.format(directory=tmp_path))
    call = make_call("call-1", destination=DESTINATION)
    asyncio.run(plant(tmp_path, call))
    return tmp_path


def run(directory: Path, name: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, [name, "-c", str(directory / "config.yaml"), *arguments])


def document(call_id: str) -> str:
    return json.dumps({
        "id": call_id,
        "start": 1_767_225_000_000,
        "url": "https://audio.example/a.wav",
        "messages": [{"role": "agent", "text": "Hello.", "start_ms": 0, "end_ms": 900}],
    })  # fmt: skip


def test_status_says_that_nothing_runs(directory: Path) -> None:
    """And what the ledger holds."""
    result = run(directory, "status")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.output.startswith("tunerd is not running; this is the content of its ledger\n")
    assert "  failed              2   tunerd failed\n" in result.output
    assert f"  {DESTINATION}\n" in result.output
    assert json.loads(run(directory, "status", "--json").output)["daemon"]["running"] is False


async def test_a_restored_backup_is_reported_although_a_command_came_first(directory: Path) -> None:
    """`status` and `dismiss` open the ledger before the daemon does: its log says all the same that the backup lacks changes."""
    path = directory / "ledger.db"
    backup = path.read_bytes()
    assert (await asyncio.to_thread(run, directory, "pause")).exit_code == 0
    path.write_bytes(backup)
    for name, *arguments in (["status"], ["dismiss", "call-1"], ["status"]):
        assert (await asyncio.to_thread(run, directory, name, *arguments)).exit_code == 0
    told = Recorder()
    await (await SqliteLedger.open(path, now=time.time(), emit=told)).close()
    assert told.seen(LedgerRolledBack) == [LedgerRolledBack(commits=1)]


def test_the_story_is_there(directory: Path) -> None:
    """From the ledger itself."""
    assert "rejected: HTTP 422" in run(directory, "status", "call-1").output


def test_a_due_call_waits_for_a_daemon(directory: Path) -> None:
    """Nobody sends it now, so no time is told."""
    half = directory / "calls" / "half.json"
    half.write_text(document("call-7"))
    run(directory, "retry", "--place", str(half))
    assert "  next attempt  when tunerd runs again; it is not running\n" in run(directory, "status", "call-7").output


def test_a_repaired_file_is_read_again(directory: Path) -> None:
    """The place of the failed row is read and mapped with the configuration's rules; the call is due."""
    half = directory / "calls" / "half.json"
    half.write_text(document("call-7"))
    result = run(directory, "retry", "--place", str(half))
    assert (result.exit_code, result.output) == (0, "1 call to be sent again: now due\n")
    assert run(directory, "status", "call-7").output.startswith("call-7   due\n")


def test_a_document_that_the_rules_refuse_stays_failed(directory: Path) -> None:
    """The stored document of call-1 has no messages: the report names the rule and its line."""
    result = run(directory, "retry", "call-1")
    assert result.exit_code == 1
    assert "1 still failed:\n  call-1   " in result.output
    assert "transcript_with_tool_calls" in result.output


def test_dismiss_forget_pause_and_resume(directory: Path) -> None:
    """What they do stays in the ledger for the next daemon."""
    assert run(directory, "dismiss", "call-1").output == "1 call dismissed\n"
    assert "call-1" not in run(directory, "failed").output
    assert run(directory, "forget", "--yes", "call-1").exit_code == 0
    assert run(directory, "status", "call-1").exit_code == 1
    assert run(directory, "pause").output == f"paused: {DESTINATION}\n"
    assert "paused (operator)" in run(directory, "status").output
    assert run(directory, "resume", DESTINATION).output == f"resumed: {DESTINATION}\n"
    assert "paused" not in run(directory, "status").output


def test_a_ledger_that_another_process_holds_is_75(directory: Path) -> None:
    """A daemon without a socket, or one that is just starting: one line that names the holder."""

    async def held() -> Result:
        ledger = await opened(directory)
        try:
            return await asyncio.to_thread(run, directory, "status")
        finally:
            await ledger.close()

    result = asyncio.run(held())
    assert result.exit_code == 75
    assert result.stderr.startswith("tunerd: ")
    assert result.stderr.count("\n") == 1


async def test_damage_that_a_command_meets_on_its_way_is_one_line(directory: Path) -> None:
    """What no check at the start saw: refused with what to do, as a ledger that is damaged at the start is."""
    with pytest.raises(LedgerRefused, match="is damaged; `tunerd run` rebuilds it"):
        async with open_admin(Target(config=directory / "config.yaml")):
            raise LedgerDamaged
