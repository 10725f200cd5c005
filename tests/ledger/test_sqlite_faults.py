"""The disk under the ledger fills up, goes read-only, or answers with errors; and everything heals by itself."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ledger.broken_disk import Disk, Fault, ledger_on, looked_after
from tests.ledger.test_contract_audio import uploading
from tests.real_parts import needs_mount, needs_strace
from tunerd.call import State
from tunerd.clock import SystemClock
from tunerd.events import LedgerHealed, LedgerRebuilt, LedgerTrouble
from tunerd.ledger import FAR_AT_ONCE, FAR_NOT_YET, FarRule, Filter, LedgerUnavailable
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.testing import Recorder, make_call

from .parts import FORM, NOW, SENT, bring, claimed, egress, freeze, put, recording, state, take, waiting


@contextmanager
def mounted(tmp_path: Path, size: str) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    with mounted(tmp_path, "24m") as disk:
        yield disk


def fill(disk: Path) -> Path:
    """Take all the room that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


@needs_mount
async def test_a_full_disk(small_disk: Path) -> None:
    """Admissions are refused, nothing half-written; the result of the open request waits and is kept, thanks to the
    reserve; with room everything goes on by itself, within 10 s."""
    told = Recorder()
    ledger = await SqliteLedger.open(small_disk / "ledger.db", now=NOW, emit=told)
    await put(ledger, make_call("a"), make_call("b"))
    taken = await claimed(ledger)
    filler = fill(small_disk)
    big = [make_call(f"big{number}", text="x" * 100_000) for number in range(40)]
    with pytest.raises(LedgerUnavailable, match="disk of the ledger is full"):
        await put(ledger, *big)
    assert ledger.gauges().calls[State.DUE] == 1
    assert told.seen(LedgerTrouble)
    async with asyncio.timeout(10):
        await ledger.settle(taken.row, SENT, NOW)
    assert await state(ledger, "a") is State.SENT
    filler.unlink()
    async with asyncio.timeout(10):
        while True:
            try:
                await put(ledger, *big)
                break
            except LedgerUnavailable:
                await told.until(LedgerHealed, len(told.seen(LedgerTrouble)))
    assert ledger.gauges().calls[State.DUE] == 41
    await ledger.close()
    again = await SqliteLedger.open(small_disk / "ledger.db", now=NOW, emit=told)
    assert again.gauges().calls[State.DUE] == 41
    await again.close()


@needs_mount
@pytest.mark.parametrize("left", [0, 40_000])
async def test_a_disk_of_12_mib_that_was_full_takes_calls_again(tmp_path: Path, left: int) -> None:
    """Smaller than the write-ahead log may grow: filled by the ledger itself and then by others, to the last byte or nearly,
    the reserve too, and freed. It is open again within 10 s, with whatever was settled meanwhile; and three times over."""
    told = Recorder()
    with mounted(tmp_path, "12m") as disk:
        ledger = await SqliteLedger.open(disk / "ledger.db", now=NOW, emit=told)
        for time in range(3):
            await put(ledger, *(make_call(f"a{time}-{number}") for number in range(8)))
            taken = [await claimed(ledger) for _ in range(8)]
            with pytest.raises(LedgerUnavailable):  # noqa: PT012 - one of them finds no room
                for number in range(1000):
                    await put(ledger, make_call(f"b{time}-{number}", text="x" * 100_000))
            filler = fill(disk)
            settling = [asyncio.ensure_future(ledger.settle(call.row, SENT, NOW)) for call in taken]
            await ledger.alive()
            for _ in range(3):
                fill(disk).rename(disk / "filler2")
                with pytest.raises(LedgerUnavailable):
                    await put(ledger, make_call(f"c{time}", text="x" * 1_000_000))
                (disk / "filler2").rename(filler)
            os.truncate(filler, left)
            async with asyncio.timeout(10):
                await asyncio.gather(*settling)
                while True:
                    try:
                        await put(ledger, make_call(f"d{time}"))
                        break
                    except LedgerUnavailable:
                        await told.until(LedgerHealed, len(told.seen(LedgerTrouble)))
            filler.unlink()
            rows = [call.row for call in await ledger.calls(Filter(states=frozenset({State.DUE})), limit=1000)]
            for row in rows:
                claim = await ledger.claim("tuner", FORM, freeze, NOW, only=row)
                assert claim.claimed is not None
                await ledger.settle(row, SENT, NOW)
            assert not await ledger.sending()
        await ledger.close()
        again = await SqliteLedger.open(disk / "ledger.db", now=NOW, emit=told)
        assert set(again.gauges().calls.items()) >= {(State.DUE, 0), (State.SENDING, 0)}
        await again.close()


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


@needs_mount
async def test_without_a_reserve_the_result_waits_in_memory(small_disk: Path) -> None:
    """Not even the reserve is there: no claims, no admissions, the open request's result waits; questions are answered
    and the writer is alive. With room it heals by itself, and the result is written."""
    told = Recorder()
    ledger = await SqliteLedger.open(small_disk / "ledger.db", now=NOW, emit=told)
    await put(ledger, make_call("a"), make_call("b"))
    taken = await claimed(ledger)
    (small_disk / "ledger.db.reserve").unlink()
    fill(small_disk)
    with pytest.raises(LedgerUnavailable):
        await put(ledger, *(make_call(f"c{number}", text="x" * 90_000) for number in range(100)))
    settling = asyncio.ensure_future(ledger.settle(taken.row, SENT, NOW))
    with pytest.raises(LedgerUnavailable):
        await put(ledger, make_call("d"))
    with pytest.raises(LedgerUnavailable):
        await take(ledger)
    assert await ledger.alive()
    assert await state(ledger, "a") is State.SENDING
    assert not settling.done()
    resize(small_disk, "48m")
    async with asyncio.timeout(10):
        await settling
        await told.until(LedgerHealed)
    assert await state(ledger, "a") is State.SENT
    assert (await take(ledger)).claimed is not None
    assert len(told.seen(LedgerTrouble)) == len(told.seen(LedgerHealed)) == 1
    assert (small_disk / "ledger.db.reserve").exists()
    await ledger.close()


SYNCS_FAIL = """
import asyncio, sys
from pathlib import Path
from tunerd.call import Form
from tunerd.events import LedgerTrouble, LedgerHealed
from tunerd.ledger import Admission, Delivered, LedgerUnavailable
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.testing import Recorder, make_call
async def main():
    told = Recorder()
    ledger = await SqliteLedger.open(Path(sys.argv[1]), now=1767225600.0, emit=told)
    for number in range(40):
        while True:
            try:
                await ledger.admit(Admission(calls=[make_call(f"c{number}")]), 1767225600.0)
                claim = await ledger.claim("tuner", Form.CREATE_CALL, lambda unfrozen: unfrozen.payload, 1767225600.0)
                break
            except LedgerUnavailable as exc:
                assert "I/O" in str(exc) or "now" in str(exc), exc
                await told.until(LedgerHealed, len(told.seen(LedgerTrouble)))
        if claim.claimed is not None:
            await ledger.settle(claim.claimed.row, Delivered(status=201, tuner_call_id=None, already_there=False), 1767225600.0)
    calls = ledger.gauges().calls
    print(len(told.seen(LedgerTrouble)), len(told.seen(LedgerHealed)), sum(calls.values()), calls["sending"])
    await ledger.close()
asyncio.run(main())
"""


@needs_strace
def test_failing_syncs_reopen_and_heal(tmp_path: Path) -> None:
    """EIO on fsync: the file is closed, opened again and checked; nothing that was admitted is lost, and
    no claim that could not be confirmed leaves its call in nobody's hands."""
    fault = "inject=fsync,fdatasync:error=EIO:when=12..14"
    done = subprocess.run(
        [
            *("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", fault),
            *(sys.executable, "-c", SYNCS_FAIL, str(tmp_path / "ledger.db")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    troubles, healed, rows, sending = map(int, done.stdout.split())
    assert troubles == healed >= 1
    assert (rows, sending) == (40, 0)


SYNC_LOSES_PAGES = """
import asyncio, sqlite3, sys
from pathlib import Path
from tunerd.events import LedgerHealed, LedgerTrouble
from tunerd.ledger import Admission, LedgerUnavailable
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.testing import make_call
path, troubles = Path(sys.argv[1]), []
def told(event):
    if isinstance(event, LedgerTrouble):
        troubles.append(event)
        if sys.argv[2] == "lost":  # a page that was written before the sync that failed; no later command comes by it
            pages = path.read_bytes()
            text = next(at for at in range(0, len(pages), 4096) if pages[at : at + 4096].count(b"word ") > 700)
            with path.open("r+b") as file:
                file.seek(text)
                file.write(b"\\xff" * 8)
        if sys.argv[2] == "gone":
            path.rename(f"{path}.away")
    elif isinstance(event, LedgerHealed):
        print("healed", flush=True)
async def main():
    ledger = await SqliteLedger.open(path, now=1767225600.0, emit=told)
    number = admitted = 0
    while not troubles or number < 60:
        try:
            await ledger.admit(Admission(calls=[make_call(f"new-{number}")]), 1767225600.0)
            admitted += 1
        except LedgerUnavailable:
            await asyncio.sleep(0.05)
        number += 1
        if number == 50 and sys.argv[2] == "gone":
            Path(f"{path}.away").rename(path)
    await ledger.close()
    print(admitted)
try:
    asyncio.run(main())
except sqlite3.DatabaseError as exc:
    print(type(exc).__name__, exc)
"""


@needs_strace
@pytest.mark.parametrize("pages", ["kept", "lost", "gone"])
async def test_after_a_failed_sync_the_file_is_opened_anew_and_checked(tmp_path: Path, pages: str) -> None:
    """After EIO on a sync nobody knows what the disk holds, and the open connection's cache would hide it: the file is
    opened again and read through. Sound: it goes on. Damaged: the process ends, and the next open rebuilds. Gone: it is
    waited for, and no empty one made in its place."""
    path, told = tmp_path / "ledger.db", Recorder()
    ledger = await SqliteLedger.open(path, now=NOW, emit=told)
    await put(ledger, *(make_call(f"old-{number}", text="word " * 1000) for number in range(100)))
    await ledger.close()
    process = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"),
        *("-e", "inject=fsync,fdatasync:error=EIO:when=12"),
        *(sys.executable, "-c", SYNC_LOSES_PAGES, str(path), pages),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        said = (await process.communicate())[0].decode()
    again = await SqliteLedger.open(path, now=NOW, emit=told)
    calls = sum(again.gauges().calls.values())
    await again.close()
    if pages != "lost":
        healed, admitted = said.splitlines()
        assert healed == "healed"
        assert int(admitted) <= calls - 100, "whatever was said to be admitted is there"
        assert not told.seen(LedgerRebuilt)
    else:
        assert said == "LedgerDamaged the ledger's file is damaged; tunerd rebuilds it when it is started again\n"
        assert told.seen(LedgerRebuilt)


async def test_min_free_refuses_admissions_before_zero(tmp_path: Path) -> None:
    """With less than `min_free` left nothing new is admitted, while what is there goes on."""
    path = tmp_path / "ledger.db"
    roomy = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await put(roomy, make_call())
    await roomy.close()
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder(), min_free_bytes=1 << 60)
    with pytest.raises(LedgerUnavailable, match="min_free"):
        await put(ledger, make_call("b"))
    await ledger.settle((await claimed(ledger)).row, SENT, NOW)
    assert await state(ledger, "call-1") is State.SENT
    await ledger.close()


async def test_an_upload_whose_target_is_kept_is_given_out_though_the_disk_has_trouble(tmp_path: Path) -> None:
    """Between the settlement with the target and the upload the disk fails for a moment: the upload is not left to the next
    start, when its target may be over."""
    disk = Disk()
    async with ledger_on(disk, tmp_path / "ledger.db", SystemClock(), Recorder()) as ledger:
        row = await uploading(ledger)
        disk.breaks(Fault.IO_ERROR)
        asked = asyncio.ensure_future(ledger.upload(row))
        await looked_after(ledger)
        disk.heals()
        async with asyncio.timeout(20):
            found = await asked
        assert found is not None
        assert found.row == row


async def test_a_closed_ledger_takes_nothing(tmp_path: Path) -> None:
    """After close every command is refused, none hangs."""
    ledger = await SqliteLedger.open(tmp_path / "ledger.db", now=NOW, emit=Recorder())
    await ledger.close()
    with pytest.raises(LedgerUnavailable):
        await put(ledger, make_call())
    assert not await ledger.alive()


async def test_the_rule_about_far_recordings_waits_for_no_disk(tmp_path: Path) -> None:
    """While nothing can be written it holds up neither a start, nor `run --once`, nor a stop. It holds from the first commit that
    works."""
    disk, told = Disk(), Recorder()
    async with ledger_on(disk, tmp_path / "ledger.db", SystemClock(), told) as ledger:
        await ledger.set_far_rule(FAR_NOT_YET, NOW)
        await put(ledger, waiting("a", egress(within_s=600.0, wait_s=10)))
        await bring(ledger, recording(at_s=300.0))
        disk.breaks(Fault.IO_ERROR)
        with pytest.raises(LedgerUnavailable):
            await put(ledger, make_call("b"))
        async with asyncio.timeout(5):
            for rule in (FAR_AT_ONCE, FAR_NOT_YET, FarRule()):
                assert not await ledger.set_far_rule(rule, NOW)
        disk.heals()
        await told.until(LedgerHealed)
        await ledger.tick(NOW + 100)
        assert await state(ledger, "a") is State.DUE
