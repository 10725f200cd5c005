"""URLs of recordings are asked for before their calls are sent (`verify: get`): when, and how many at a time.

The calls wait in the ledger, which decides what an answer means for them. Each host has a few questions at a time, and hosts
take turns, so that one with many URLs takes nothing from the others. A host that does not answer is left alone for a while.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from tunerd.audio_events import UrlChecked
from tunerd.clock import Clock
from tunerd.delivery.url_asking import UrlAnswer, UrlFinding
from tunerd.events import Emit, RecordingMatched
from tunerd.ledger import CheckedUrl, FailedCall, Gauges, LedgerUnavailable, Matched, UrlCheckPath, UrlToCheck
from tunerd.location import without_secrets
from tunerd.record import positional_record

AT_ONCE: Final = 16
AT_ONCE_OF_A_HOST: Final = 8
_TURN_S: Final = 0.5
_UNASKED_TURN_S: Final = 0.1
_SOON_S: Final = 5.0
_LATE_S: Final = 600.0
"""Between two questions for one URL: a quarter of the time since the first, within these."""
_FIRST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 300.0
_HOSTS_A_TURN: Final = 50
_PUT_OFF_A_TURN: Final = 200
"""URLs of a host that does not answer, of which nothing was known."""
_HOSTS_REMEMBERED: Final = 1000

AskUrl = Callable[[str, str], Awaitable[UrlFinding]]
"""(URL, source)."""


class UrlCheckLedger(UrlCheckPath, Protocol):
    def gauges(self) -> Gauges: ...


@positional_record
class _HostPause:
    until: float
    length_s: float
    detail: str


class UrlVerifier:
    """For all destinations."""

    def __init__(
        self,
        ledger: UrlCheckLedger,
        ask: AskUrl,
        clock: Clock,
        emit: Emit,
        tell_failed: Callable[[Sequence[FailedCall]], None],
    ) -> None:
        self._ledger, self._ask = ledger, ask
        self._clock, self._emit, self._tell_failed = clock, emit, tell_failed
        self._open: set[tuple[int, str]] = set()
        """Row and URL."""
        self._busy: Counter[str] = Counter()
        """Questions that are open, by host."""
        self._last_host = ""
        """The next turn begins behind it."""
        self._pauses: OrderedDict[str, _HostPause] = OrderedDict()
        self._ended = asyncio.Event()
        """A question was answered: there is room for another."""

    def is_idle(self) -> bool:
        """Each URL was asked for at least once, and no question is open."""
        return not self._open and not self._ledger.gauges().unasked_urls

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; questions that are open are broken off then, and asked again after a start."""
        async with asyncio.TaskGroup() as group:
            questions: set[asyncio.Task[None]] = set()
            while not stop.is_set():
                self._ended.clear()
                gauges = self._ledger.gauges()
                if gauges.url_checks:
                    questions |= {group.create_task(self._check(one)) for one in await self._startable()}
                questions = {one for one in questions if not one.done()}
                wait_s = _UNASKED_TURN_S if self._ledger.gauges().unasked_urls else _TURN_S
                await self._wait(stop, wait_s)
            for question in questions:
                question.cancel()

    async def _wait(self, stop: asyncio.Event, wait_s: float) -> None:
        """Until the next turn, `stop`, or room after all was taken."""
        if len(self._open) < AT_ONCE:
            await self._clock.wait(stop, wait_s)
        else:
            await self._clock.wait(self._ended, wait_s)

    async def _startable(self) -> Sequence[UrlToCheck]:
        """URLs that are due, of hosts that may be asked now. What is read does not depend on how many URLs wait."""
        found: list[UrlToCheck] = []
        with suppress(LedgerUnavailable):
            for host in await self._next_hosts():
                if len(self._open) >= AT_ONCE:
                    break
                self._last_host = host
                found += await self._take(host)
        return found

    async def _next_hosts(self) -> Sequence[str]:
        """Those whose turn it is; behind the last one comes the first again."""
        hosts = await self._ledger.hosts_to_check(self._last_host, _HOSTS_A_TURN)
        if self._last_host and len(hosts) < _HOSTS_A_TURN:
            hosts = [*hosts, *await self._ledger.hosts_to_check("", _HOSTS_A_TURN - len(hosts))]
        return list(dict.fromkeys(hosts))

    async def _take(self, host: str) -> Sequence[UrlToCheck]:
        """URLs of the host for which there is room, counted as asked for."""
        now, pause = self._clock.now(), self._pauses.get(host)
        if pause is not None and now < pause.until:
            await self._put_off(host, pause, now)
            return ()
        room = min(AT_ONCE - len(self._open), AT_ONCE_OF_A_HOST - self._busy[host])
        if room <= 0:
            return ()
        before = self._open.copy()  # what is read may be older than an answer that comes meanwhile
        due = await self._ledger.urls_to_check(host, now, AT_ONCE_OF_A_HOST)
        taken = [one for one in due if (one.row, one.url) not in before][:room]
        for one in taken:
            self._open.add((one.row, one.url))
            self._busy[host] += 1
        return taken

    async def _put_off(self, host: str, pause: _HostPause, now: float) -> None:
        """Say of URLs of which nothing was known that their host does not answer. They stay due: each waits for its turn."""
        if self._ledger.gauges().unasked_urls:
            found = await self._ledger.unanswered_urls(host, _PUT_OFF_A_TURN)
            if found:
                answers = [
                    CheckedUrl(row=one.row, url=one.url, again_at=one.due_at, detail=pause.detail, was_asked=False)
                    for one in found
                ]
                self._tell(await self._ledger.urls_checked(answers, now))

    async def _check(self, one: UrlToCheck) -> None:
        try:
            finding = await self._ask(one.url, one.source)
            now = self._clock.now()
            self._learn(one.host, finding, now)
            known_s = 0.0 if one.since is None else now - one.since
            again_at = None if finding.found is UrlAnswer.THERE else now + min(max(known_s / 4, _SOON_S), _LATE_S)
            answer = CheckedUrl(row=one.row, url=one.url, again_at=again_at, detail=finding.detail)
            with suppress(LedgerUnavailable):  # it is still due, and asked for again
                self._tell(await self._ledger.urls_checked([answer], now))
                self._emit(UrlChecked(source=one.source, call_id=one.call_id, path=one.path, url=without_secrets(one.url),
                                      found=finding.found.value, detail=finding.detail, is_first=one.since is None))  # fmt: skip
        finally:
            self._open.discard((one.row, one.url))
            self._busy[one.host] -= 1
            if not self._busy[one.host]:
                del self._busy[one.host]
            self._ended.set()

    def _learn(self, host: str, finding: UrlFinding, now: float) -> None:
        if finding.found is not UrlAnswer.UNREACHABLE:
            self._pauses.pop(host, None)
            return
        known = self._pauses.get(host)
        if known is None or now >= known.until:  # otherwise another question has just found the same
            length_s = _FIRST_PAUSE_S if known is None else min(2 * known.length_s, _LONGEST_PAUSE_S)
            self._pauses[host] = _HostPause(now + length_s, length_s, finding.detail)
            self._pauses.move_to_end(host)
            while len(self._pauses) > _HOSTS_REMEMBERED:
                self._pauses.popitem(last=False)

    def _tell(self, ended: Sequence[Matched | FailedCall]) -> None:
        for one in ended:
            if isinstance(one, Matched):
                self._emit(RecordingMatched(source=one.source, call_id=one.call_id, waited_s=one.waited_s))
        self._tell_failed([one for one in ended if isinstance(one, FailedCall)])
