"""A sound file that lacks commits: its log is gone, cut or damaged, or an older copy replaced it. It is reported, in any order of events."""

import asyncio
import sys
from pathlib import Path

import pytest

from tunerd.events import Event, LedgerRolledBack
from tunerd.ledger.lock import lock_path
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.ledger.sqlite.open_file import open_file
from tunerd.testing import Recorder, make_call

from .parts import NOW, claimed, put
from .test_sqlite_damage import make, reopen

ALONE = """
import asyncio, resource, sys
from pathlib import Path
from tunerd.ledger.lock import hold
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
lock = asyncio.run(hold(Path(sys.argv[1]), 0.0))
if sys.argv[2] == "closed":
    lock.release()
"""


@pytest.mark.parametrize("harm", ["removed", "cut", "damaged", "an older copy"])
async def test_a_write_ahead_log_that_was_rolled_back_is_told(tmp_path: Path, harm: str) -> None:
    """The file is sound, so SQLite finds no fault; tunerd reports once how many commits are missing."""
    path, wal, copy = tmp_path / "ledger.db", tmp_path / "ledger.db-wal", tmp_path / "copy"
    await make(path, sent=3)
    ledger, _ = await reopen(path)
    before = path.read_bytes()
    for number in range(5):
        await put(ledger, make_call(f"n{number}"))
    copy.mkdir()
    for name in ("ledger.db", "ledger.db-wal", "ledger.db.lock"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())  # as a SIGKILL leaves them
    await ledger.close()
    path, wal = copy / "ledger.db", copy / "ledger.db-wal"
    data = wal.read_bytes()
    if harm == "removed":
        wal.unlink()
    elif harm == "cut":
        wal.write_bytes(data[: len(data) // 2])
    elif harm == "damaged":
        middle = len(data) // 2
        wal.write_bytes(data[:middle] + bytes(byte ^ 0xFF for byte in data[middle : middle + 64]) + data[middle + 64 :])
    else:
        wal.unlink()
        path.write_bytes(before)
    ledger, told = await reopen(path)
    (rolled_back,) = told.seen(LedgerRolledBack)
    assert 0 < rolled_back.commits <= 8
    await ledger.close()
    ledger, told = await reopen(path)
    assert told.seen(LedgerRolledBack) == []
    await ledger.close()


@pytest.mark.parametrize("end", ["closed", "killed", "deleted"])
async def test_nothing_is_rolled_back_after_an_ordinary_end(tmp_path: Path, end: str) -> None:
    """A stop, a SIGKILL, a ledger that its owner deleted to begin anew: none of them loses a commit."""
    path, copy = tmp_path / "ledger.db", tmp_path / "copy"
    await make(path, sent=3)
    ledger, _ = await reopen(path)
    await put(ledger, make_call("one"))
    copy.mkdir()
    for name in ("ledger.db", "ledger.db-wal", "ledger.db.lock"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    await ledger.close()
    if end == "deleted":
        path.unlink()
    ledger, told = await reopen(copy / "ledger.db" if end == "killed" else path)
    assert told.seen(LedgerRolledBack) == []
    await ledger.close()


async def older_copy(path: Path, changes: int = 5) -> int:
    """A closed ledger in whose place a copy was put that lacks commits; returns how many."""
    await make(path, sent=3)
    before = path.read_bytes()
    ledger, _ = await reopen(path)
    for number in range(changes):
        await put(ledger, make_call(f"n{number}"))
    await ledger.close()
    path.write_bytes(before)
    return changes


@pytest.mark.parametrize("changes", [0, 1, 8])
async def test_a_command_leaves_the_report_to_the_daemon(tmp_path: Path, changes: int) -> None:
    """After a restore `tunerd status` may be the first to open the ledger, and other commands commit something, even more than is
    missing: nobody reads what they emit, so the next daemon reports all the same."""
    path = tmp_path / "ledger.db"
    missing = await older_copy(path)
    for number in range(changes):
        command = await SqliteLedger.open(path, now=NOW + 10, emit=Recorder(), reports=False)
        await put(command, make_call(f"m{number}"))
        await command.close()
    command = await SqliteLedger.open(path, now=NOW + 10, emit=Recorder(), reports=False)
    await command.close()
    ledger, told = await reopen(path)
    assert told.seen(LedgerRolledBack) == [LedgerRolledBack(commits=missing)]
    await ledger.close()
    ledger, told = await reopen(path)
    assert told.seen(LedgerRolledBack) == []
    await ledger.close()


async def test_what_the_open_itself_commits_hides_nothing(tmp_path: Path) -> None:
    """The copy was made while a call was sent, so opening it commits once; it lacks one commit, and that is reported."""
    path, copy = tmp_path / "ledger.db", tmp_path / "copy"
    ledger, _ = await reopen(path)
    await put(ledger, make_call("one"))
    await claimed(ledger, NOW + 10)
    copy.mkdir()
    for name in ("ledger.db", "ledger.db-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    await put(ledger, make_call("two"))
    await ledger.close()
    (copy / "ledger.db.lock").write_bytes(lock_path(path).read_bytes())
    ledger, told = await reopen(copy / "ledger.db")
    assert told.seen(LedgerRolledBack) == [LedgerRolledBack(commits=1)]
    await ledger.close()


async def test_the_lock_file_is_brought_up_to_date_after_the_report(tmp_path: Path) -> None:
    """A process that is killed in between has not reported it: the next one does."""
    path = tmp_path / "ledger.db"
    await older_copy(path)
    noted = lock_path(path).read_bytes()[1024:]
    seen: list[bytes] = []

    def emit(event: Event) -> None:
        if isinstance(event, LedgerRolledBack):
            seen.append(lock_path(path).read_bytes()[1024:])

    await (await SqliteLedger.open(path, now=NOW + 10, emit=emit)).close()
    assert seen == [noted]
    assert lock_path(path).read_bytes()[1024:] != noted


@pytest.mark.parametrize("end", ["closed", "killed"])
async def test_the_number_is_in_the_lock_file_at_every_moment(tmp_path: Path, end: str) -> None:
    """Neither taking nor releasing the lock removes it even briefly: it is still there where it could not be written again."""
    path = tmp_path / "ledger.db"
    missing = await older_copy(path)
    alone = await asyncio.create_subprocess_exec(sys.executable, "-c", ALONE, str(path), end)
    assert await alone.wait() == 0
    ledger, told = await reopen(path)
    assert told.seen(LedgerRolledBack) == [LedgerRolledBack(commits=missing)]
    await ledger.close()


async def test_an_older_copy_that_came_during_an_outage_is_reported_at_the_next_start(tmp_path: Path) -> None:
    """The file is opened again after the disk failed; it was put back from a copy meanwhile."""
    path = tmp_path / "ledger.db"
    await make(path, sent=3)
    before = path.read_bytes()
    ledger, _ = await reopen(path)
    for number in range(5):
        await put(ledger, make_call(f"n{number}"))
    await ledger.close()
    file, store = await open_file(
        path, now=NOW, wait_for_lock_s=0.0, create=False, keep_sent_s=0.0, emit=Recorder(), reports=True
    )  # fmt: skip
    store.db.close()
    path.write_bytes(before)
    file.reopen().db.close()
    file.close()
    ledger, told = await reopen(path)
    assert told.seen(LedgerRolledBack) == [LedgerRolledBack(commits=5)]
    await ledger.close()
