"""Random lives of a ledger, on `:memory:` and on a file with restarts: it does what the small model (model.py) says."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tunerd.call import Call, Fail, Hold, OnMissing, SendAnyway, State, Strategy, UrlStrategy
from tunerd.ledger import Admission, Filter, Pick, Retention, Settlement, StoredCall
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.testing import MemoryLedger, Recorder, make_call

from .model import Model
from .parts import FORM, NOW, REJECTED, SENT, START_MS, freeze, later

Step: TypeAlias = tuple[Any, ...]
PATHS = ["/calls/a.json", "/calls/b.json"]
ALL = Filter(dismissed=None)
WAYS: Sequence[tuple[Strategy, ...]] = [
    (UrlStrategy(location="https://a/doc"),),
    (UrlStrategy(location="https://a/doc", expires_at=NOW + 40),),
    (
        UrlStrategy(location=None),
        UrlStrategy(location="https://a/soon", expires_at=NOW + 20),
        UrlStrategy(location="https://a/later"),
    ),
    (UrlStrategy(location=None),),
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


rows = st.integers(1, 4)
settlements: st.SearchStrategy[Settlement] = st.one_of(
    st.just(SENT),
    st.just(REJECTED),
    st.builds(lambda s, counts, sure: later(NOW + s, counts=counts, sure=sure), st.integers(0, 90), st.booleans(), st.booleans()),
)
keeps = st.builds(
    lambda sent, failed, documents: Retention(
        sent_s=sent, failed_s=failed, recordings_s=0, max_failed_bytes=1 << 30, documents=documents
    ),
    *(st.integers(0, 80), st.integers(0, 80), st.integers(0, 3)),
)
steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("admit"), st.lists(calls(), max_size=3)),
    st.tuples(st.just("admit"), st.lists(calls(), max_size=3)),
    st.tuples(st.just("claim"), st.sampled_from(list(Pick)), st.sampled_from([frozenset[str](), frozenset({"x"})])),
    st.tuples(st.just("claim"), st.just(Pick.OLDEST), st.just(frozenset[str]())),
    st.tuples(st.just("settle"), rows, settlements),
    st.tuples(st.just("settle"), rows, settlements),
    st.tuples(st.just("release"), rows),
    st.tuples(st.just("tick")),
    st.tuples(st.just("trim"), keeps),
    st.tuples(st.just("wait"), st.sampled_from([1, 20, 40, 70])),
    st.tuples(st.just("replace"), rows, calls()),
    st.tuples(st.just("requeue"), rows),
    st.tuples(st.just("dismiss"), rows),
    st.tuples(st.just("forget"), st.sampled_from("abc")),
    st.tuples(st.just("shift"), st.integers(-50, 50)),
    st.tuples(st.just("reopen")),
)


def shown(call: StoredCall) -> tuple[object, ...]:
    due_at = call.due_at if call.state in (State.WAITING, State.DUE) else None
    return (call.row, call.state, call.call_id, call.agent, call.path, call.offset, call.attempts, due_at, call.reason,
            call.recording_location, call.dismissed)  # fmt: skip


class Life:
    """A ledger and its model, side by side."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.now, self.model = folder, NOW, Model()
        self.ledger: SqliteLedger = MemoryLedger()

    async def live(self, life: Sequence[Step]) -> None:
        await self.reopen()
        try:
            for name, *arguments in life:
                await getattr(self, name)(*arguments)
                assert [shown(call) for call in await self.ledger.calls(ALL, limit=1000)] == self.model.seen()
                assert self.ledger.gauges().calls == self.model.counts()
        finally:
            await self.ledger.close()

    async def reopen(self) -> None:
        if self.folder is not None:
            await self.ledger.close()
            self.ledger = await SqliteLedger.open(self.folder / "ledger.db", now=self.now, emit=Recorder())
            self.model.reopen(self.now)

    async def wait(self, seconds: int) -> None:
        self.now += seconds

    async def admit(self, calls: Sequence[Call]) -> None:
        told = await self.ledger.admit(Admission(calls=calls), self.now)
        expected = self.model.admit(calls, self.now)
        assert list(told.verdicts) == [(verdict, entry.state) for verdict, entry in expected]

    async def claim(self, pick: Pick, not_agents: frozenset[str]) -> None:
        told = await self.ledger.claim("tuner", FORM, freeze, self.now, pick=pick, not_agents=not_agents)
        entry = self.model.claim(pick, not_agents, self.now)
        if entry is None or told.claimed is None:
            assert (entry, told.claimed) == (None, None)
            return
        claimed = told.claimed
        assert (claimed.row, claimed.attempts, claimed.first_attempt_at) == (entry.row, entry.attempts, entry.first_attempt_at)
        assert orjson.loads(claimed.body) == {**orjson.loads(entry.call.payload), "recording_url": entry.url}

    async def settle(self, row: int, settlement: Settlement) -> None:
        await self.ledger.settle(row, settlement, self.now)
        self.model.settle(row, settlement, self.now)

    async def release(self, row: int) -> None:
        await self.ledger.release(row, self.now)
        self.model.release(row, self.now)

    async def tick(self) -> None:
        failed, next_at = await self.ledger.tick(self.now)
        assert (sorted(one.row for one in failed), next_at) == self.model.tick(self.now)

    async def trim(self, keep: Retention) -> None:
        assert await self.ledger.trim(keep, self.now) == self.model.trim(keep, self.now)

    async def shift(self, seconds: int) -> None:
        await self.ledger.shift(seconds)
        self.model.shift(seconds)

    async def replace(self, row: int, call: Call) -> None:
        await self._alike("replace", row, call)

    async def requeue(self, row: int) -> None:
        await self._alike("requeue", row)

    async def forget(self, call_id: str) -> None:
        await self._alike("forget", call_id)

    async def dismiss(self, row: int) -> None:
        assert await self.ledger.dismiss([row], self.now) == self.model.dismiss(row, self.now)

    async def _alike(self, name: str, *arguments: object) -> None:
        answers: list[object] = []
        for one in (self.ledger, self.model):
            try:
                answer = getattr(one, name)(*arguments, self.now)
                answers.append(await answer if one is self.ledger else answer)
            except (LookupError, ValueError) as exc:
                answers.append(type(exc))
        assert answers[0] == answers[1]


random_lives = given(life=st.lists(steps, min_size=6, max_size=20))


@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck), print_blob=False)
@random_lives
def test_the_ledger_does_what_the_model_says(life: Sequence[Step]) -> None:
    """After every step of a random life the ledger's answers and rows are the model's."""
    asyncio.run(Life(None).live(life))


@settings(max_examples=examples(8), deadline=None, suppress_health_check=list(HealthCheck), print_blob=False)
@random_lives
def test_the_ledger_on_a_file_does_so_too(life: Sequence[Step]) -> None:
    """With its threads, and through restarts in which calls were being sent."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(Life(Path(folder)).live(life))
