"""Random lives of a ledger: on a file, with threads and restarts, it does what the same ledger does on `:memory:`."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunerd.call import Call, Fail, Hold, OnMissing, Recording, SendAnyway, Strategy, UrlStrategy
from tunerd.ledger import Admission, FileMark, Filter, Gate, Keep, Pick, Settlement
from tunerd.ledger.commands.send import reclaim_all
from tunerd.ledger.sql.store import SqliteStore
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.outcome import PauseReason
from tunerd.testing import MemoryLedger, Recorder, make_call

from .parts import FORM, NOW, REJECTED, SENT, START_MS, egress, file_mark, freeze, ignored, later, recording, refused

Both: TypeAlias = tuple[MemoryLedger, SqliteLedger]
PATHS = ["/calls/a.json", "/calls/b.json", "/calls/l.ndjson"]
ALL = Filter(dismissed=None)

WAYS: Sequence[tuple[Strategy, ...]] = [
    (UrlStrategy(url="https://a/doc"),),
    (UrlStrategy(url="https://a/doc", expires_at=NOW + 40),),
    (egress(wait_s=50),),
    (egress(wait_s=50), UrlStrategy(url="https://a/doc")),
    (egress("hall", wait_s=20, within_s=None), egress(wait_s=50, within_s=30)),
    (egress(None), egress("hall", wait_s=5)),
]
MISSING: Sequence[OnMissing] = [Hold(hold_s=60), Fail(), SendAnyway(url="https://none")]


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """One of few calls, so that they meet."""
    return make_call(
        draw(st.sampled_from("abc")),
        agent=draw(st.sampled_from(["x", "y"])),
        started_at_ms=START_MS + 1000 * draw(st.sampled_from([0, 1, 4, 40])),
        path=draw(st.sampled_from(PATHS)),
        offset=draw(st.sampled_from([0, 50])),
        mtime_ns=draw(st.integers(1, 3)),
        strategies=draw(st.sampled_from(WAYS)),
        on_missing=draw(st.sampled_from(MISSING)),
        text=draw(st.sampled_from(["one", "two"])),
    )


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    key = draw(st.sampled_from(["room", "hall"]))
    return recording(
        draw(st.sampled_from(["https://a/1", "https://a/2", None])),
        at_s=draw(st.sampled_from([0, 1, 2, 4, 41] if key == "room" else [0, 3, None])),
        key=key,
        path=draw(st.sampled_from(["/e/1.json", "/e/2.json", "/e/3.json"])),
        expires_at=draw(st.sampled_from([None, None, NOW + 30, NOW + 5000])),
    )


@st.composite
def marks(draw: st.DrawFn) -> FileMark | None:
    path = draw(st.sampled_from([None, *PATHS]))
    return None if path is None else file_mark(path, whole=not path.endswith("ndjson"), inode=draw(st.integers(1, 3)))


@st.composite
def admissions(draw: st.DrawFn) -> Admission:
    place = st.tuples(st.sampled_from(PATHS), st.sampled_from([0, 50]))
    return Admission(
        calls=draw(st.lists(calls(), max_size=3)),
        recordings=draw(st.lists(recordings(), max_size=2)),
        refused=[refused(path, offset) for path, offset in draw(st.lists(place, max_size=1))],
        ignored=[ignored(path, offset) for path, offset in draw(st.lists(place, max_size=1))],
        mark=draw(marks()),
        replaces_failed=draw(st.booleans()),
    )


rows = st.integers(1, 8)
settlements: st.SearchStrategy[Settlement] = st.one_of(
    st.just(SENT),
    st.just(REJECTED),
    st.builds(lambda s, counts, sure: later(NOW + s, counts=counts, sure=sure), st.integers(0, 90), st.booleans(), st.booleans()),
)
gates = st.sampled_from(
    [
        Gate(),
        Gate(closed_until=NOW + 9),
        Gate(pause=PauseReason.AUTH, paused_since=NOW),
        Gate(agents={"x": (PauseReason.AUTH, NOW)}),
    ]
)
keeps = st.builds(
    lambda sent, failed, recordings, documents: Keep(
        sent_s=sent, failed_s=failed, recordings_s=recordings, max_failed_bytes=600, documents=documents
    ),
    *(st.integers(0, 80), st.integers(0, 80), st.integers(0, 80), st.integers(0, 3)),
)
steps = st.one_of(
    st.tuples(st.just("admit"), admissions()),
    st.tuples(st.just("admit"), admissions()),
    st.tuples(st.just("claim"), st.sampled_from(list(Pick)), st.sampled_from([frozenset[str](), frozenset({"x"})])),
    st.tuples(st.just("claim"), st.just(Pick.OLDEST), st.just(frozenset[str]())),
    st.tuples(st.just("settle"), rows, settlements),
    st.tuples(st.just("settle"), rows, settlements),
    st.tuples(st.just("release"), rows),
    st.tuples(st.just("tick")),
    st.tuples(st.just("trim"), keeps),
    st.tuples(st.just("pass"), st.integers(1, 40)),
    st.tuples(st.just("gate"), gates),
    st.tuples(st.just("replace"), rows, calls()),
    st.tuples(st.just("requeue"), rows),
    st.tuples(st.just("dismiss"), rows),
    st.tuples(st.just("forget"), st.sampled_from("abc")),
    st.tuples(st.just("shift"), st.integers(-50, 50)),
    st.tuples(st.just("vanished"), st.sampled_from(PATHS)),
    st.tuples(st.just("disposed"), st.sampled_from(PATHS)),
    st.tuples(st.just("mark"), st.sampled_from(PATHS)),
    st.tuples(st.just("reopen")),
)


async def _step(ledger: MemoryLedger | SqliteLedger, step: tuple[object, ...], now: float) -> object:
    """One command on one ledger; what it gives, or the exception that it raises."""
    do: dict[str, Callable[..., object]] = {
        "admit": lambda admission: ledger.admit(admission, now),
        "claim": lambda pick, agents: ledger.claim("tuner", FORM, freeze, now, pick=pick, not_agents=agents),
        "settle": lambda row, settlement: ledger.settle(row, settlement, now),
        "release": lambda row: ledger.release(row, now),
        "tick": lambda: ledger.tick(now),
        "trim": lambda keep: ledger.trim(keep, now),
        "gate": lambda gate: ledger.set_gate("tuner", gate, now),
        "replace": lambda row, call: ledger.replace(row, call, now),
        "requeue": lambda row: ledger.requeue(row, now),
        "dismiss": lambda row: ledger.dismiss([row], now),
        "forget": lambda call_id: ledger.forget(call_id, now),
        "shift": lambda seconds: ledger.shift(seconds),
        "vanished": lambda path: ledger.vanished("agent", [path], now),
        "disposed": lambda path: ledger.disposed("agent", path, now),
        "mark": lambda path: ledger.mark("agent", path),
    }
    name, *arguments = step
    try:
        return await do[str(name)](*arguments)  # type: ignore[misc]
    except (LookupError, ValueError) as exc:
        return type(exc)


def _reclaim(now: float, store: SqliteStore) -> None:
    reclaim_all(store, now)


async def _seen(ledger: MemoryLedger | SqliteLedger) -> object:
    """Everything that can be asked."""
    stories = [await ledger.story(call_id) for call_id in "abc"]
    listed = await ledger.calls(ALL, limit=1000)
    documents = [await ledger.document(row.row) for row in listed]
    files = [sorted(mark.path for mark in await ledger.disposable("agent")), list(await ledger.marks("agent"))]
    return [ledger.gauges(), list(listed), stories, documents, files, dict(await ledger.gates())]


async def _live(life: Sequence[tuple[object, ...]], folder: Path) -> None:
    memory, now = MemoryLedger(), NOW
    sqlite = await SqliteLedger.open(folder / "ledger.db", now=now, emit=Recorder())
    woken: tuple[list[str], list[str]] = ([], [])
    memory.on_due(woken[0].append)
    sqlite.on_due(woken[1].append)
    try:
        for step in life:
            if step[0] == "pass":
                now += float(str(step[1]))
                continue
            if step[0] == "reopen":
                await sqlite.close()
                sqlite = await SqliteLedger.open(folder / "ledger.db", now=now, emit=Recorder())
                sqlite.on_due(woken[1].append)
                memory.change(partial(_reclaim, now))
                del woken[0][len(woken[1]) :]
            else:
                assert await _step(sqlite, step, now) == await _step(memory, step, now)
            assert await _seen(sqlite) == await _seen(memory)
            assert woken[1] == woken[0]
    finally:
        await sqlite.close()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False)
@given(life=st.lists(steps, min_size=4, max_size=14))
def test_sqlite_does_what_memory_does(life: Sequence[tuple[object, ...]]) -> None:
    """After every step of a random life both give the same answer, and everything that can be asked is the same."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_live(life, Path(folder)))
