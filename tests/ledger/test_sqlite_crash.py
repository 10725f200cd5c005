"""What survives the end of the process, and what a reopened ledger makes of it."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tunerd.call import State
from tunerd.ledger import Admission, AdmitVerdict, Claimed, Filter, Reservation
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.testing import Recorder, make_call

from .parts import FORM, NOW, SENT, bring, claimed, file_mark, later, put, recording, refuse, state, take, the, verdicts, waiting

CHILD = """
import asyncio, sys
from pathlib import Path
from tunerd.call import Form
from tunerd.ledger import Admission, Delivered
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.testing import make_call
async def main():
    ledger = await SqliteLedger.open(Path(sys.argv[1]), now=1767225600.0, emit=lambda event: None)
    number = 0
    while True:
        await ledger.admit(Admission(calls=[make_call(f"c{number}")]), 1767225600.0)
        print(number, flush=True)
        claim = await ledger.claim("tuner", Form.CREATE_CALL, lambda unfrozen: unfrozen.payload, 1767225600.0)
        if number % 2:
            await ledger.settle(claim.claimed.row, Delivered(status=201, tuner_call_id=None, already_there=False), 1767225600.0)
        number += 1
asyncio.run(main())
"""


def _kill_in_the_middle(path: Path) -> list[int]:
    """Run the child until it has admitted 60 calls, kill it, and give what it told."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(60)]
    child.send_signal(signal.SIGKILL)
    return told + [int(line) for line in child.communicate()[0].split()]


class _TakesOne:
    def __init__(self) -> None:
        self.given: list[Claimed] = []

    def reserve(self, wanted: Mapping[str, int]) -> Sequence[Reservation]:
        return [Reservation(destination="tuner", form=FORM, freeze=lambda unfrozen: unfrozen.payload, count=1)]

    def receive(self, reserved: Sequence[Reservation], claims: Sequence[Claimed]) -> None:
        self.given.extend(claims)


async def test_a_call_that_was_handed_over_when_the_process_ended_goes_out_again(tmp_path: Path) -> None:
    """Nobody knows whether it was posted: it is due with the same bytes, and no newer document takes its place."""
    path, receiver = tmp_path / "ledger.db", _TakesOne()
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    ledger.set_call_receiver(receiver)
    await put(ledger, make_call("a", mtime_ns=1))
    await ledger.close()
    (before,) = receiver.given
    again = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    assert verdicts(await put(again, make_call("a", mtime_ns=2, text="newer"))) == [(AdmitVerdict.DUPLICATE, State.DUE)]
    assert (await claimed(again)).body == before.body
    assert [event.what for event in (await again.story("a"))[0].events] == ["admitted", "interrupted"]
    await again.close()


async def test_what_was_admitted_survives_sigkill(tmp_path: Path) -> None:
    """A process killed in the middle: every admission that returned is there, and what was being sent is due again."""
    path = tmp_path / "ledger.db"
    told = await asyncio.to_thread(_kill_in_the_middle, path)
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    rows = {row.call_id: row.state for row in await ledger.calls(Filter(), limit=1000)}
    assert {f"c{number}" for number in told} <= set(rows)
    assert len(rows) - len(told) <= 1
    assert State.SENDING not in rows.values()
    gauges = ledger.gauges()
    assert gauges.calls[State.DUE] + gauges.calls[State.SENT] == len(rows)
    assert gauges.calls[State.DUE] >= len(told) // 2
    await ledger.close()


async def test_claims_are_released_at_open_with_their_bodies(tmp_path: Path) -> None:
    """What was `sending` is due again with the same bytes, and a newer document does not replace it: it may have arrived."""
    path = tmp_path / "ledger.db"
    first = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await put(first, make_call())
    body = (await claimed(first)).body
    await first.close()
    second = await SqliteLedger.open(path, now=NOW + 5, emit=Recorder())
    assert verdicts(await put(second, make_call(text="newer", mtime_ns=9))) == [(AdmitVerdict.DUPLICATE, State.DUE)]
    again = await second.claim("tuner", FORM, refuse, NOW + 5)
    assert again.claimed is not None
    assert again.claimed.body == body
    await second.close()


async def test_everything_is_as_it_was_after_reopening(tmp_path: Path) -> None:
    """Rows, gauges, gates, marks, waits, matches and stories are read back."""
    path = tmp_path / "ledger.db"
    first = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await first.admit(Admission(calls=[make_call("a"), make_call("b"), waiting("w")], mark=file_mark()), NOW)
    await first.settle((await claimed(first)).row, SENT, NOW)
    await first.settle((await claimed(first)).row, later(NOW + 60), NOW)
    before = (
        await first.calls(Filter()),
        first.gauges(),
        await first.stored_pauses(),
        await first.story("b"),
        await first.marks("agent"),
    )
    await first.close()
    second = await SqliteLedger.open(path, now=NOW + 5, emit=Recorder())
    after = (
        await second.calls(Filter()),
        second.gauges(),
        await second.stored_pauses(),
        await second.story("b"),
        await second.marks("agent"),
    )
    assert after == before
    assert await second.tick(NOW + 5) == ((), NOW + 1800)
    await bring(second, recording())
    assert await state(second, "w") is State.DUE
    assert (await take(second, NOW + 60)).claimed is not None
    assert [mark.path for mark in await second.disposable("agent")] == ["/calls/call-1.json"]
    await second.close()


async def test_rows_are_numbered_on(tmp_path: Path) -> None:
    """A reopened ledger goes on counting rows."""
    path = tmp_path / "ledger.db"
    first = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await put(first, make_call("a"))
    await first.close()
    second = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await put(second, make_call("b"))
    assert (await the(second, "b")).row == (await the(second, "a")).row + 1
    await second.close()


async def test_the_log_is_written_back_at_close(tmp_path: Path) -> None:
    """A closed ledger is one file, whose write-ahead log is empty."""
    path = tmp_path / "ledger.db"
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await put(ledger, make_call())
    await ledger.close()
    log = path.with_name("ledger.db-wal")
    assert not log.exists() or log.stat().st_size == 0


async def test_a_cancelled_claim_is_given_back(tmp_path: Path) -> None:
    """A worker that is cancelled while its claim is being committed leaves no call in nobody's hands."""
    ledger = await SqliteLedger.open(tmp_path / "ledger.db", now=NOW, emit=Recorder())
    woken = asyncio.Event()
    await put(ledger, make_call())
    ledger.on_due(lambda _: woken.set())
    async with asyncio.TaskGroup() as group:
        worker = group.create_task(take(ledger))
        await asyncio.sleep(0)
        worker.cancel()
    async with asyncio.timeout(10):
        await woken.wait()
    assert await state(ledger, "call-1") is State.DUE
    await ledger.close()


async def test_commands_that_queue_share_a_commit(sqlite: SqliteLedger) -> None:
    """Whatever queued while a commit ran goes into the next one, and each gets its own result."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(put(sqlite, make_call(f"c{number}"))) for number in range(300)]
    assert {verdicts(task.result())[0] for task in tasks} == {(AdmitVerdict.NEW, State.DUE)}
    assert sqlite.gauges().calls[State.DUE] == 300


async def test_only_the_culprit_of_a_batch_fails(sqlite: SqliteLedger) -> None:
    """A command that raises undoes nobody else's."""
    await put(sqlite, make_call("x"), make_call("y"))

    def burst(_: object) -> bytes:
        raise ZeroDivisionError

    async with asyncio.TaskGroup() as group:
        good = [group.create_task(put(sqlite, make_call(f"c{number}"))) for number in range(3)]
        bad = group.create_task(_fails(sqlite, burst))
        more = [group.create_task(put(sqlite, make_call(f"d{number}"))) for number in range(3)]
    assert bad.result()
    assert {verdicts(task.result())[0] for task in good + more} == {(AdmitVerdict.NEW, State.DUE)}
    assert sqlite.gauges().calls[State.DUE] == 8
    assert sqlite.gauges().calls[State.SENDING] == 0


async def _fails(ledger: SqliteLedger, freeze: object) -> bool:
    try:
        await ledger.claim("tuner", FORM, freeze, NOW)  # type: ignore[arg-type]
    except ZeroDivisionError:
        return True
    return False


async def test_forgotten_is_gone_from_the_file(tmp_path: Path) -> None:
    """After `forget` no byte of the call is left in the ledger's files, not in free pages either."""
    path = tmp_path / "ledger.db"
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    secret = "canary-" + "9" * 40
    await put(ledger, *(make_call(f"c{number}", text="x" * 9000) for number in range(20)))
    await put(ledger, make_call("w", text=secret * 300), make_call("sent", text=secret * 2))
    for _ in range(22):
        await ledger.settle((await claimed(ledger)).row, SENT, NOW)
    assert secret.encode() in path.with_name("ledger.db-wal").read_bytes() + path.read_bytes()
    await ledger.forget("w", NOW)
    await ledger.forget("sent", NOW)
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"canary-" not in left
    await ledger.close()
