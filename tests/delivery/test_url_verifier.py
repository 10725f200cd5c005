"""When URLs are asked for, and how many at a time: a ledger in memory, a fake clock, and hosts that a test plays."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.delivery.made import NOW
from tunerd.audio_events import UrlChecked
from tunerd.call import Fail, State, UrlStrategy
from tunerd.delivery.url_asking import UrlAnswer, UrlFinding
from tunerd.delivery.url_verifier import AT_ONCE, AT_ONCE_OF_A_HOST, UrlVerifier
from tunerd.events import CallFailed
from tunerd.ledger import Admission, CheckedUrl, FailedCall, Filter, Matched, UrlToCheck
from tunerd.testing import FakeClock, MemoryLedger, Recorder, make_call

THERE = UrlFinding(UrlAnswer.THERE)
ABSENT = UrlFinding(UrlAnswer.ABSENT, "a.example answered 404")
GONE = UrlFinding(UrlAnswer.UNREACHABLE, "a.example did not answer within 10 s")


class Hosts:
    """What hosts answer, and what they were asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.open: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.answer: Callable[[str], UrlFinding | Awaitable[UrlFinding]] = lambda _: THERE

    async def __call__(self, url: str, source: str) -> UrlFinding:
        host = url.split("/")[2]
        self.asked.append(url)
        for name in (host, "all"):
            self.open[name] += 1
            self.most[name] = max(self.most[name], self.open[name])
        try:
            given = self.answer(url)
            return await given if isinstance(given, Awaitable) else given
        finally:
            for name in (host, "all"):
                self.open[name] -= 1


class CountingLedger(MemoryLedger):
    """Counts the rows that are read of it, and the URLs whose row was written without a question."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0
        self.put_off: Counter[str] = Counter()

    async def hosts_to_check(self, after: str, limit: int) -> Sequence[str]:
        found = await super().hosts_to_check(after, limit)
        self.read += len(found)
        return found

    async def urls_to_check(self, host: str, now: float, limit: int) -> Sequence[UrlToCheck]:
        found = await super().urls_to_check(host, now, limit)
        self.read += len(found)
        return found

    async def unanswered_urls(self, host: str, limit: int) -> Sequence[UrlToCheck]:
        found = await super().unanswered_urls(host, limit)
        self.read += len(found)
        return found

    async def urls_checked(self, answers: Sequence[CheckedUrl], now: float) -> Sequence[Matched | FailedCall]:
        self.put_off.update(one.url for one in answers if not one.was_asked)
        return await super().urls_checked(answers, now)


class Bench:
    def __init__(self) -> None:
        self.clock, self.ledger, self.hosts, self.told = FakeClock(NOW), CountingLedger(), Hosts(), Recorder()
        self.failed: list[FailedCall] = []
        self.verifier = UrlVerifier(self.ledger, self.hosts, self.clock, self.told, self.failed.extend)

    async def admit(self, *ids: str, host: str = "a.example", wait_s: float = 600.0) -> None:
        calls = [
            make_call(i, strategies=(UrlStrategy(location=f"https://{host}/{i}.wav?sig=1"),), on_missing=Fail()) for i in ids
        ]
        await self.ledger.admit(Admission(calls=[replace(call, verify_s=wait_s) for call in calls]), self.clock.now())

    async def states(self) -> Counter[State]:
        return Counter(call.state for call in await self.ledger.calls(Filter(), limit=5000))


@asynccontextmanager
async def verifying() -> AsyncIterator[Bench]:
    bench, stop = Bench(), asyncio.Event()
    task = asyncio.ensure_future(bench.verifier.run(stop))
    try:
        yield bench
    finally:
        stop.set()
        await bench.clock.advance(1.0)
        await task
        await bench.ledger.close()


async def test_a_url_that_is_there_makes_its_call_due() -> None:
    """Asked for once, soon after the call came."""
    async with verifying() as bench:
        await bench.admit("a")
        assert not bench.verifier.is_idle()
        await bench.clock.advance(1.0)
        assert bench.hosts.asked == ["https://a.example/a.wav?sig=1"]
        assert await bench.states() == {State.DUE: 1}
        assert bench.verifier.is_idle()
        (told,) = bench.told.seen(UrlChecked)
        assert (told.url, told.found) == ("https://a.example/a.wav", "there")


async def test_an_absent_url_is_asked_for_again_and_less_and_less_often() -> None:
    """In ten minutes a dozen questions or so; when it comes, the call is due."""
    async with verifying() as bench:
        bench.hosts.answer = lambda _: ABSENT
        await bench.admit("a")
        await bench.clock.advance(590.0)
        assert 8 <= len(bench.hosts.asked) <= 25
        assert await bench.states() == {State.WAITING: 1}
        bench.hosts.answer = lambda _: THERE
        await bench.clock.advance(200.0)
        assert await bench.states() == {State.DUE: 1}
        assert [told.is_first for told in bench.told.seen(UrlChecked)][:2] == [True, False]


async def test_a_host_that_does_not_answer_is_left_alone_for_a_while() -> None:
    """A hundred of its calls cost a few questions, and calls of another host are asked for at once."""
    async with verifying() as bench:
        bench.hosts.answer = lambda url: GONE if "//a." in url else THERE
        await bench.admit(*(f"a{n}" for n in range(100)))
        await bench.clock.advance(60.0)
        assert len(bench.hosts.asked) < 8 * AT_ONCE_OF_A_HOST
        bench.hosts.asked.clear()
        await bench.admit("b", host="b.example")
        await bench.clock.advance(1.0)
        assert "https://b.example/b.wav?sig=1" in bench.hosts.asked
        bench.hosts.answer = lambda _: THERE
        await bench.clock.advance(300.0)
        assert await bench.states() == {State.DUE: 101}


async def test_a_host_that_hangs_takes_no_room_from_the_others() -> None:
    """At most eight questions are open at one host, and sixteen in all."""
    async with verifying() as bench:
        release = asyncio.Event()

        async def hangs() -> UrlFinding:
            await release.wait()
            return THERE

        bench.hosts.answer = lambda url: THERE if "//b." in url else hangs()
        await bench.admit(*(f"a{n}" for n in range(300)))
        await bench.clock.advance(1.0)
        await bench.admit("b", host="b.example")
        await bench.clock.advance(1.0)
        assert bench.hosts.open["a.example"] == AT_ONCE_OF_A_HOST
        assert await bench.states() == {State.WAITING: 300, State.DUE: 1}
        await bench.admit(*(f"c{n}" for n in range(30)), host="c.example")
        await bench.admit(*(f"d{n}" for n in range(30)), host="d.example")
        await bench.clock.advance(1.0)
        assert bench.hosts.open["all"] == AT_ONCE
        release.set()
        await bench.clock.advance(30.0)
        assert bench.hosts.most["all"] == AT_ONCE
        assert await bench.states() == {State.DUE: 361}


async def test_questions_are_broken_off_at_a_stop() -> None:
    """Nobody waits for a host that hangs, and nothing is lost: the URL is still due."""
    bench, stop = Bench(), asyncio.Event()
    bench.hosts.answer = lambda _: asyncio.Event().wait()  # type: ignore[assignment,return-value]
    task = asyncio.ensure_future(bench.verifier.run(stop))
    await bench.admit("a")
    await bench.clock.advance(1.0)
    assert bench.hosts.open["all"] == 1
    stop.set()
    await bench.clock.advance(1.0)
    await task
    assert len(await bench.ledger.urls_to_check("a.example:443", bench.clock.now(), 10)) == 1
    assert bench.told.seen(CallFailed) == []
    await bench.ledger.close()


async def test_no_call_is_given_up_whose_url_was_not_asked_for() -> None:
    """A host so slow that its queue is longer than the wait of the calls: each of them is sent once it was its turn."""
    async with verifying() as bench:

        async def slow() -> UrlFinding:
            await bench.clock.wait(asyncio.Event(), 20.0)
            return THERE

        bench.hosts.answer = lambda _: slow()
        await bench.admit(*(f"a{n}" for n in range(40)), wait_s=10.0)
        for _ in range(12):
            await bench.clock.advance(10.0)
            await bench.ledger.tick(bench.clock.now())
        assert await bench.states() == {State.DUE: 40}
        assert bench.failed == []


async def test_a_pause_of_the_host_is_no_answer_for_a_url() -> None:
    """While a host does not answer, its URLs are put off, and only those that were asked for may count as absent."""
    async with verifying() as bench:
        bench.hosts.answer = lambda _: GONE
        await bench.admit(*(f"a{n}" for n in range(100)))
        for _ in range(12):
            await bench.clock.advance(60.0)
            await bench.ledger.tick(bench.clock.now())
        asked_twice = [url for url, count in Counter(bench.hosts.asked).items() if count > 1]
        assert len(bench.failed) <= len(asked_twice) < 100
        bench.hosts.answer = lambda _: THERE
        await bench.clock.advance(1200.0)
        assert (await bench.states())[State.DUE] == 100 - len(bench.failed)


async def test_a_host_with_many_urls_costs_a_turn_a_few_rows() -> None:
    """2,000 URLs of a host that answers in five seconds: what is read does not grow with them, and a URL of another host that
    comes behind them is asked for in the next turn."""
    async with verifying() as bench:

        async def slow() -> UrlFinding:
            await bench.clock.wait(asyncio.Event(), 5.0)
            return ABSENT

        bench.hosts.answer = lambda url: THERE if "//b." in url else slow()
        await bench.admit(*(f"a{n}" for n in range(2000)))
        await bench.clock.advance(1.0)
        assert bench.hosts.open["a.example"] == AT_ONCE_OF_A_HOST
        bench.ledger.read = 0
        await bench.clock.advance(4.0)
        assert 0 < bench.ledger.read <= 4 * 10 * 2
        asked, bench.ledger.read = len(bench.hosts.asked), 0
        await bench.admit("b", host="b.example")
        await bench.clock.advance(0.2)
        assert "https://b.example/b.wav?sig=1" in bench.hosts.asked
        assert bench.ledger.read <= 3 * 2 * AT_ONCE_OF_A_HOST
        await bench.clock.advance(60.0)
        assert len(bench.hosts.asked) - asked >= 10 * AT_ONCE_OF_A_HOST, "the slow host is asked as fast as it answers"


async def test_hosts_that_take_all_room_give_some_to_the_next() -> None:
    """Two slow hosts with more URLs than there is room: a third one is asked when the first question ends, whatever its name."""
    for name in ("0.example", "m.example", "z.example"):
        async with verifying() as bench:

            async def slow(bench: Bench = bench) -> UrlFinding:
                await bench.clock.wait(asyncio.Event(), 5.0)
                return ABSENT

            bench.hosts.answer = lambda url, slow=slow, name=name: THERE if name in url else slow()  # type: ignore[misc]
            for host in ("a.example", "n.example"):
                await bench.admit(*(f"{host[0]}{n}" for n in range(500)), host=host)
            await bench.clock.advance(1.0)
            assert bench.hosts.open["all"] == AT_ONCE
            await bench.admit("third", host=name)
            await bench.clock.advance(5.0)
            assert f"https://{name}/third.wav?sig=1" in bench.hosts.asked


async def test_more_hosts_than_a_turn_looks_at_are_all_asked() -> None:
    """The next turn begins where the one before ended: a thousand hosts, each with a URL that is not there, take a few seconds."""
    async with verifying() as bench:
        bench.hosts.answer = lambda _: ABSENT
        for number in range(1000):
            await bench.admit(f"c{number}", host=f"h{number}.example")
        await bench.clock.advance(10.0)
        assert len(set(bench.hosts.asked)) == 1000


async def test_urls_of_a_host_that_does_not_answer_are_written_once() -> None:
    """However long it is away: `run --once` need not wait for them, and what was asked for is asked for again in turn."""
    async with verifying() as bench:
        bench.hosts.answer = lambda _: GONE
        await bench.admit(*(f"a{n}" for n in range(1000)), wait_s=100_000.0)
        await bench.clock.advance(2.0)
        assert bench.verifier.is_idle()
        (story,) = await bench.ledger.story("a999")
        assert any("not asked for yet, since a.example did not answer within 10 s" in line for line in story.waits_for)
        bench.ledger.read = 0
        await bench.clock.advance(3600.0)
        assert max(bench.ledger.put_off.values()) == 1
        assert bench.ledger.read <= 3600 * 2 * 2, "two looks for hosts a turn"
        asked = Counter(bench.hosts.asked)
        assert len(asked) >= 12 * AT_ONCE_OF_A_HOST
        assert max(asked.values()) == 1, "each gets its turn before one is asked for again"
