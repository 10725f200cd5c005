"""URLs of recordings are asked for before their calls are sent (`verify: get`): when, and how many at a time.

The calls wait in the ledger, which decides what an answer means for them. A host that does not answer is left alone for a while,
so that it takes nothing from the others.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from tunerd.audio_events import UrlChecked
from tunerd.clock import Clock
from tunerd.delivery.url_asking import UrlAnswer, UrlFinding, host_of
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
_PAGE: Final = 200
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
        """URLs that are due and whose host may be asked now; those of a host that does not answer are put off."""
        found: list[UrlToCheck] = []
        now, after = self._clock.now(), None
        with suppress(LedgerUnavailable):
            while len(self._open) < AT_ONCE and (page := await self._ledger.urls_to_check(now, after, _PAGE)):
                put_off = [answer for one in page if (answer := self._take(one, now, found)) is not None]
                if put_off:
                    self._tell(await self._ledger.urls_checked(put_off, now))
                after = page[-1]
        return found

    def _take(self, one: UrlToCheck, now: float, found: list[UrlToCheck]) -> CheckedUrl | None:
        """Count the URL as asked for, if there is room for it. Or the answer for all URLs of its host, which does not answer."""
        host, key = host_of(one.url), (one.row, one.url)
        if key in self._open:
            return None
        pause = self._pauses.get(host)
        if pause is not None and now < pause.until:
            return CheckedUrl(row=one.row, url=one.url, again_at=pause.until, detail=pause.detail, was_asked=False)
        if len(self._open) < AT_ONCE and self._busy[host] < AT_ONCE_OF_A_HOST:
            self._open.add(key)
            self._busy[host] += 1
            found.append(one)
        return None

    async def _check(self, one: UrlToCheck) -> None:
        host = host_of(one.url)
        try:
            finding = await self._ask(one.url, one.source)
            now = self._clock.now()
            self._learn(host, finding, now)
            known_s = 0.0 if one.since is None else now - one.since
            again_at = None if finding.found is UrlAnswer.THERE else now + min(max(known_s / 4, _SOON_S), _LATE_S)
            answer = CheckedUrl(row=one.row, url=one.url, again_at=again_at, detail=finding.detail)
            with suppress(LedgerUnavailable):  # it is still due, and asked for again
                self._tell(await self._ledger.urls_checked([answer], now))
                self._emit(UrlChecked(source=one.source, call_id=one.call_id, path=one.path, url=without_secrets(one.url),
                                      found=finding.found.value, detail=finding.detail, is_first=one.is_new))  # fmt: skip
        finally:
            self._open.discard((one.row, one.url))
            self._busy[host] -= 1
            if not self._busy[host]:
                del self._busy[host]
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
