"""Calls, manifests, second tellings, answers of hosts, orders of an operator, restarts, kills, `run --once` and sends in any order: the
end is the same, and no call gets another's audio.

A schedule is made from a number. Its facts are made so that everybody knows whose audio is whose: the name of a recording begins with
the name of its call. No code of the matching is used to judge it. Another kind of step is a function of a Life, made in `_steps`.
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import pytest

from tests.examples import IS_THOROUGH
from tunerd.call import Call, Choice, Fail, Hold, ManifestStrategy, Origin, Recording, State, UrlStrategy
from tunerd.ledger import FAR_AT_ONCE, FAR_NOT_YET, Admission, CheckedUrl, Filter
from tunerd.mapping.match_values import match_text
from tunerd.testing import MemoryLedger

from .parts import FORM, NOW, SENT, START, START_MS, freeze, waiting

WAIT_S: Final = 1800.0
SCHEDULES: Final = 10_000 if IS_THOROUGH else 300
SLICES: Final = 6
_WRITTEN_NS: Final = round(NOW * 1e9)
"""When documents were written, in nanoseconds."""


@dataclass
class Life:
    """A ledger through restarts, and whose audio each call was sent with."""

    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    now: float = NOW
    sent: dict[str, str] = field(default_factory=dict)
    published: set[str] = field(default_factory=set)
    """URLs at which a host has a recording."""
    orders: dict[str, str] = field(default_factory=dict)
    """Call -> the location that an operator gives it as soon as it is there."""

    async def tell(self, what: Call | Recording) -> None:
        calls, recordings = ([what], []) if isinstance(what, Call) else ([], [what])
        await self.ledger.admit(Admission(calls=calls, recordings=recordings), self.now)

    async def passes(self, seconds: float) -> None:
        self.now += seconds
        await self.ledger.tick(self.now)

    async def send(self, at_most: int = 100) -> None:
        """Claim calls and send them: a neighbour's recording is used up, a body is made."""
        for _ in range(at_most):
            claimed = (await self.ledger.claim("tuner", FORM, freeze, self.now)).claimed
            if claimed is None:
                return
            audio = claimed.body.rpartition(b'"recording_url":"')[2][:-2].decode()
            self.sent[claimed.call_id] = audio.rpartition("/")[2].partition(".")[0]
            await self.ledger.settle(claimed.row, SENT, self.now)

    async def ask(self, *, is_away: bool = False) -> None:
        """The URLs that are due are asked for (`verify: get`)."""
        for host in await self.ledger.hosts_to_check("", 100):
            for one in await self.ledger.urls_to_check(host, self.now, 100):
                again_at = None if one.url in self.published and not is_away else self.now + 60
                answer = CheckedUrl(row=one.row, url=one.url, again_at=again_at, detail="no recording")
                await self.ledger.urls_checked([answer], self.now)

    async def put_off(self) -> None:
        """Nobody asks, because the host is known not to answer."""
        for host in await self.ledger.hosts_to_check("", 100):
            for one in await self.ledger.urls_to_check(host, self.now, 100):
                answer = CheckedUrl(row=one.row, url=one.url, again_at=one.due_at, detail="no answer", was_asked=False)
                await self.ledger.urls_checked([answer], self.now)

    async def give(self) -> None:
        """`tunerd retry CALL_ID --recording LOCATION`."""
        for one in await self.ledger.calls(Filter(call_ids=frozenset(self.orders))) if self.orders else ():
            await self.ledger.use_recording(one.row, self.orders.pop(one.call_id or ""), self.now)

    async def retry(self) -> None:
        """`tunerd retry --all`."""
        for one in await self.ledger.calls(Filter(states=frozenset({State.FAILED}))):
            await self.ledger.requeue(one.row, self.now)

    async def restart(self) -> None:
        """Another process opens what was committed."""
        self.ledger = self.ledger.reopened(self.now)

    async def run_once(self) -> None:
        """`run --once` instead of the daemon."""
        await self.restart()
        await self.ledger.set_far_rule(FAR_NOT_YET, self.now)
        await self.ledger.set_far_rule(FAR_AT_ONCE, self.now)
        await self.ask()
        await self.send()
        await self.restart()

    async def die(self) -> None:
        """The process is killed between the claim of a call and its settlement."""
        await self.ledger.claim("tuner", FORM, freeze, self.now)
        await self.restart()


Step = Callable[[Life], Awaitable[None]]


@dataclass
class Facts:
    """The documents of a schedule, and with which recording each call has to go out (None: with none)."""

    runs_once: bool
    """Whether tunerd is sometimes a `run --once`, which takes at once a recording that is not near; so none is then."""
    told: list[Call | Recording] = field(default_factory=list)
    ends: dict[str, str | None] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    """What else belongs to them."""
    orders: dict[str, str] = field(default_factory=dict)

    def call(self, name: str, at_s: float, strategy: ManifestStrategy, on_missing: Hold | Fail) -> None:
        made = waiting(name, strategy, at_s=at_s, on_missing=on_missing, mtime_ns=_WRITTEN_NS)
        self.told.append(replace(made, ended_at_ms=START_MS + round((at_s + 100) * 1000)))

    def verified(self, name: str, wait_s: float) -> None:
        """A call whose URL is asked for."""
        made = waiting(name, UrlStrategy(location=_url_of(f"{name}1")), on_missing=Fail(), mtime_ns=_WRITTEN_NS)
        self.told.append(replace(made, verify_s=wait_s))
        self.ends[name] = f"{name}1"

    def recording(self, name: str, at_s: float, *, telling: int = 1, has_id: bool = False, **other: object) -> None:
        made = Recording(
            origin=Origin(source="egress", path=f"/egress/{name}-{telling}.json", mtime_ns=_WRITTEN_NS + telling),
            source="egress",
            key="",
            id=f"EG_{name}" if has_id else "",
            location=_url_of(name, telling),
            started_at=START + at_s,
        )
        self.told.append(replace(made, **other))  # type: ignore[arg-type]


def _url_of(name: str, telling: int = 1) -> str:
    return f"https://audio.example/{name}.ogg?sig={telling}"


def _room(facts: Facts, chance: random.Random) -> None:
    """A room that is used again and again; each call may have several recordings, and the document of a call may never come."""
    choice = chance.choice([Choice.NEAREST, Choice.FIRST, Choice.LAST, Choice.LONGEST])
    strategy = ManifestStrategy(
        source="egress", key="blue", within_s=150.0 if facts.runs_once else 600.0, wait_s=WAIT_S, choice=choice
    )
    missing = chance.choice([Hold(hold_s=1e6), Fail()])
    at_s = 0.0
    for name in "ABCD"[: chance.randint(1, 4)]:
        is_told = choice is not Choice.NEAREST or chance.random() < 0.8
        if is_told:
            facts.call(name, at_s, strategy, missing)
            if chance.random() < 0.2:  # a newer document of the same call
                again = facts.told[-1]
                facts.told.append(replace(again, origin=replace(again.origin, mtime_ns=_WRITTEN_NS + 2)))
        has_id = chance.random() < 0.5
        first = chance.randint(1, 20)
        own = {f"{name}1": (float(first), 10.0)}
        if choice is not Choice.NEAREST and chance.random() < 0.6:
            own[f"{name}2"] = (first + chance.randint(20, 100) + 0.0, chance.choice([5.0, 20.0]))
        for recording, (after_s, lasts_s) in own.items():
            described = {"key": "blue", "has_id": has_id, "duration_s": lasts_s}
            facts.recording(recording, at_s + after_s, **described)  # type: ignore[arg-type]
            if chance.random() < 0.4:
                facts.recording(recording, at_s + after_s + 0.4, telling=2, **described)  # type: ignore[arg-type]
        if is_told:
            facts.ends[name] = _picked(own, choice)
        at_s += chance.randint(300, 500)


def _picked(own: Mapping[str, tuple[float, float]], choice: Choice) -> str:
    """`own`: name of each recording -> when it begins and how long it lasts."""
    begins, lasts = {one: at for one, (at, _) in own.items()}, {one: lasts_s for one, (_, lasts_s) in own.items()}
    if choice is Choice.LONGEST:
        return max(own, key=lasts.__getitem__)
    return max(own, key=begins.__getitem__) if choice is Choice.LAST else min(own, key=begins.__getitem__)


def _callers(facts: Facts, chance: random.Random) -> None:
    """Calls without a common key; of one caller two lie so near to each other that nobody can tell whose audio is whose, whether the
    document of the second one comes or not. An operator may say it."""
    for name in "KLM"[: chance.randint(0, 3)]:
        caller = match_text(["caller"], {"caller": name})
        strategy = ManifestStrategy(source="egress", key=caller, within_s=120.0, wait_s=WAIT_S, near_s=0.0, choice=Choice.ONLY)
        facts.call(name, chance.randint(0, 50), strategy, Fail())
        facts.recording(f"{name}1", chance.randint(0, 60), match=caller)
        facts.ends[name] = f"{name}1"
        kind = chance.choice(["alone", "alone", "neighbours", "untold"])
        if kind == "neighbours":
            facts.call(f"{name}x", chance.randint(20, 90), strategy, Fail())
            facts.ends |= {name: None, f"{name}x": None}
        elif kind == "untold":
            facts.recording(f"{name}x1", chance.randint(20, 90), match=caller)
            facts.ends[name] = None
        if kind != "alone" and chance.random() < 0.5:
            facts.orders[name] = _url_of(f"{name}1")
            facts.ends[name] = f"{name}1"


def _moved(facts: Facts, chance: random.Random) -> None:
    """A manifest that is wrong at first: it names a time at which there was no call. The newer one is right."""
    strategy = ManifestStrategy(source="egress", key="green", within_s=600.0, wait_s=WAIT_S)
    facts.call("Q", 0, strategy, Hold(hold_s=1e6))
    facts.recording("Q1", 50_000, has_id=True, key="green")
    facts.recording("Q1", 2, telling=2, has_id=True, key="green")
    facts.ends["Q"] = "Q1"


def _verified(facts: Facts, chance: random.Random) -> None:
    """A URL that comes within its wait; and one that is there from the beginning, whose wait may be over before anybody has asked, or
    before anybody has asked twice."""
    for name, wait_s in (("V", WAIT_S), ("W", 60.0)):
        facts.verified(name, wait_s)

    async def publish(life: Life) -> None:
        life.published.add(_url_of("V1"))

    facts.steps.append(publish)


def _steps(facts: Facts, chance: random.Random) -> list[Step]:
    """The facts in any order, each told once or again, and between them what else happens; all within the strategies' wait."""
    told = facts.told + chance.sample(facts.told, chance.randint(0, min(3, len(facts.told))))
    steps: list[Step] = [lambda life, what=what: life.tell(what) for what in told]  # type: ignore[misc]
    steps += facts.steps
    steps += [Life.give] * (2 if facts.orders else 0)
    steps += [Life.ask] * chance.randint(0, 2)
    steps += [lambda life: life.ask(is_away=True)] * chance.randint(0, 1)
    steps += [Life.put_off] * chance.randint(0, 4)
    steps += [Life.retry] * chance.randint(0, 1)
    steps += [Life.run_once] * (chance.randint(1, 2) if facts.runs_once else 0)
    steps += [Life.restart] * chance.randint(0, 2)
    steps += [Life.die] * chance.randint(0, 2)
    steps += [lambda life: life.send(1)] * chance.randint(0, 3)
    steps += [Life.send] * chance.randint(0, 2)
    steps += [lambda life: life.passes(WAIT_S / 10)] * chance.randint(0, 9)
    chance.shuffle(steps)
    return steps


async def _finish(life: Life) -> None:
    for _ in range(3):
        await life.ask()
        await life.send()
        await life.passes(WAIT_S)
    await life.restart()


async def _live(number: int) -> None:
    chance = random.Random(number)
    facts = Facts(runs_once=chance.random() < 0.3)
    for part in (_room, _callers, _moved, _verified):
        if chance.random() < 0.7:
            part(facts, chance)
    life = Life(published={_url_of("W1")}, orders=facts.orders)
    for step in _steps(facts, chance):
        await step(life)
        assert all(audio.startswith(name) and facts.ends[name] is not None for name, audio in life.sent.items())
    await life.give()
    await _finish(life)
    await _judge_end(life, facts)
    for what in facts.told:  # all of it once more, and what failed is tried again: nothing changes
        await life.tell(what)
    await life.retry()
    await _finish(life)
    await _judge_end(life, facts)


async def _judge_end(life: Life, facts: Facts) -> None:
    assert life.sent == {name: audio for name, audio in facts.ends.items() if audio is not None}
    rest = {one.call_id: one.state for one in await life.ledger.calls(Filter(dismissed=None)) if one.state is not State.SENT}
    assert rest == {name: State.FAILED for name, audio in facts.ends.items() if audio is None}


@pytest.mark.parametrize("part", range(SLICES))
async def test_the_order_of_what_happens_does_not_matter(part: int) -> None:
    """Each call goes out with its own audio, or with none where nobody can tell; on the way no call has another's."""
    for number in range(part, SCHEDULES, SLICES):
        try:
            await _live(number)
        except BaseException as exc:
            exc.add_note(f"schedule {number}")
            raise
