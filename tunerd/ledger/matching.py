"""How a call finds its recording (the rules of docs/recordings.md). Pure: known facts go in, a decision comes out.

A wrong match puts one customer's audio at another's call. So every doubt ends in "none": a null key, a tie, a recording to
which another call is nearer. A near recording is taken at once; a farther one only after it has been known for a while.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import Final, TypeAlias

from tunerd.call import Hold, ManifestStrategy, OnMissing, SendAnyway, Strategy, UrlStrategy
from tunerd.ledger import FarRule
from tunerd.outcome import FailReason
from tunerd.record import record

EXPIRES_SOON_S: Final = 120.0
"""A farther recording is taken this long before its URL expires, even if it has not been known for long."""


@record
class Free:
    """A stored recording that no call has taken."""

    row: int
    url: str | None
    started_at_ms: int | None
    expires_at: float | None = None
    known_at: float = 0.0
    path: str = ""
    """Of the manifest that described it last: a person knows it by this."""


class Standing(StrEnum):
    """Whether a call still takes a recording."""

    OPEN = "open"
    """It takes a recording."""
    CLOSED = "closed"
    """It no longer takes one (sent without, dismissed), but the recording that belongs to it goes to no other call."""
    SERVED = "served"
    """It has its recording. A second one that is nearer to it than to any other call goes to no call."""


@record
class Seeker:
    """A call that looks, or looked, for a recording with some key."""

    call: int
    started_at_ms: int
    within_ms: int | None
    near_ms: int = 0
    ended_at_ms: int | None = None
    standing: Standing = Standing.OPEN


@record
class Partner:
    """The recording that belongs to the call, as far as is known now: neither of the two has anything nearer."""

    found: Free
    is_near: bool


@record
class Tie:
    """Several calls, or several recordings, are equally near to each other: no call gets any of them."""

    recordings: tuple[Free, ...]
    others: int
    """Calls beside this one."""


@record
class Candidate:
    """A recording with which a strategy may answer, from `at` on."""

    found: Free
    at: float


@record
class Absence:
    """The final answer of a manifest strategy without a recording: since when there is none, or since when it is expired."""

    at: float
    expired: bool = False


@record
class Closing:
    """A strategy that this decision answers with "absent" or "expired"; it uses up the recording that says so."""

    position: int
    recording: int
    expired: bool


@record
class Use:
    """The call is ready: send it with this URL."""

    url: str
    expires_at: float | None = None
    recording: int | None = None
    """The stored recording that it takes; None for a URL of the document or of `on_missing`."""
    position: int | None = None
    """The strategy that the recording answers."""
    closes: tuple[Closing, ...] = ()


@record
class WaitUntil:
    at: float
    """When time alone may change the decision."""
    closes: tuple[Closing, ...] = ()


@record
class Exhausted:
    reason: FailReason
    tie: Tie | None = None
    closes: tuple[Closing, ...] = ()


Decision: TypeAlias = Use | WaitUntil | Exhausted


Closeness: TypeAlias = tuple[bool, float]
"""Sorts near pairs before farther ones, and each by how far apart (ms) the two started."""


def closeness(seeker: Seeker, started_at_ms: int | None) -> Closeness | None:
    """None: they cannot belong together. A recording is near if it starts close to the start of the call, or during the call.
    With `within: any` every recording may belong, and none is far; one without a start is the last choice."""
    if started_at_ms is None:
        return (False, math.inf) if seeker.within_ms is None else None
    apart = abs(started_at_ms - seeker.started_at_ms)
    if seeker.within_ms is None:
        return (False, apart)
    if apart > seeker.within_ms:
        return None
    is_during = seeker.ended_at_ms is not None and seeker.started_at_ms <= started_at_ms <= seeker.ended_at_ms
    return (apart > seeker.near_ms and not is_during, apart)


def partners(seekers: Sequence[Seeker], free: Sequence[Free]) -> Mapping[int, Partner | Tie]:
    """Which recording belongs to which call: first the two that are nearest to each other, then the nearest of the others. A call
    in a tie gets none, and a recording in a tie goes to none. The order of the arguments does not matter."""
    pairs: dict[tuple[int, int], Closeness] = {}
    for seeker in seekers:
        for one in free if seeker.standing is not Standing.SERVED else ():
            if (close := closeness(seeker, one.started_at_ms)) is not None:
                pairs[seeker.call, one.row] = min(close, pairs.get((seeker.call, one.row), close))
    recordings = {one.row: one for one in free}
    found: dict[int, Partner | Tie] = {}
    gone: set[int] = set()
    for close, level in groupby(sorted((close, pair) for pair, close in pairs.items()), key=itemgetter(0)):
        alike = [(call, row) for _, (call, row) in level if call not in found and row not in gone]
        alike = _each_url_once(alike, recordings, gone)
        rivals, choices = Counter(row for _, row in alike), Counter(call for call, _ in alike)
        for call, row in alike:
            own = [recordings[other] for one, other in alike if one == call]
            if any(rivals[one.row] > 1 for one in own) or choices[call] > 1:
                found[call] = Tie(recordings=tuple(own), others=max(rivals[one.row] for one in own) - 1)
            elif close[0] and _is_served_nearer(seekers, recordings[row], close):
                gone.add(row)
            else:
                found[call] = Partner(found=recordings[row], is_near=not close[0])
        gone.update(row for _, row in alike)
    return found


def _each_url_once(pairs: Sequence[tuple[int, int]], recordings: Mapping[int, Free], gone: set[int]) -> list[tuple[int, int]]:
    """Of several that are equally near to one call and have the same URL, any is right: keep the first."""
    seen: dict[tuple[int, str], int] = {}
    kept = []
    for call, row in pairs:
        url = recordings[row].url
        if url is not None and seen.setdefault((call, url), row) != row:
            gone.add(row)
        else:
            kept.append((call, row))
    return kept


def _is_served_nearer(seekers: Sequence[Seeker], one: Free, close: Closeness) -> bool:
    """Whether a call that has its recording is at least as near: this is perhaps a second recording of that call."""
    served = (closeness(seeker, one.started_at_ms) for seeker in seekers if seeker.standing is Standing.SERVED)
    return any(other is not None and other <= close for other in served)


def taken_from(partner: Partner, *, waits_from: float, wait_s: float, far: FarRule, now: float) -> float:
    """From when on the call may take it. A farther one is taken when call and recording have both been known for the strategy's
    wait, or shortly before the recording expires."""
    if partner.is_near:
        return -math.inf
    found = partner.found
    at = max(waits_from, found.known_at) + wait_s
    if found.expires_at is not None:
        at = min(at, found.expires_at - EXPIRES_SOON_S)
    if far.at_once:
        at = -math.inf
    return now + 60.0 if far.not_before == math.inf else max(at, far.not_before)


def decide(
    strategies: Sequence[Strategy],
    on_missing: OnMissing,
    *,
    offers: Mapping[int, Candidate | Tie],
    answers: Mapping[int, Absence],
    waits_from: float,
    now: float,
) -> Decision:
    """What becomes of a call. `offers` and `answers` go by the strategy's position.

    Strategies are asked top to bottom while their waits run at the same time: a later one counts only when all before it have
    answered "absent" or their wait is over. A URL that has expired counts as absent. A recording that may only be taken later
    keeps its strategy waiting until then.
    """
    closes: list[Closing] = []
    open_until: list[float] = []  # waits of unanswered strategies that still run
    silent_at = waits_from  # when the last strategy was done
    expired = False
    tie: Tie | None = None
    for position, strategy in enumerate(strategies):
        if isinstance(strategy, UrlStrategy):
            if strategy.url is None:
                continue
            if strategy.expires_at is not None and strategy.expires_at <= now:
                expired = True
            elif not open_until:
                return Use(url=strategy.url, expires_at=strategy.expires_at, closes=tuple(closes))
            continue
        if not strategy.key:
            continue
        offered = offers.get(position)
        if isinstance(offered, Candidate) and offered.at > now:
            open_until.append(offered.at)
            silent_at = max(silent_at, offered.at)
            continue
        tie = offered if isinstance(offered, Tie) else tie
        found = offered.found if isinstance(offered, Candidate) else None
        gone = found is not None and found.expires_at is not None and found.expires_at <= now
        if found is not None and found.url is not None and not gone:
            if not open_until:
                return Use(
                    url=found.url, expires_at=found.expires_at, recording=found.row, position=position, closes=tuple(closes)
                )
        elif found is not None:
            closes.append(Closing(position=position, recording=found.row, expired=found.url is not None))
            expired |= found.url is not None
            silent_at = max(silent_at, now)
            continue
        elif (answer := answers.get(position)) is not None:
            expired |= answer.expired
            silent_at = max(silent_at, answer.at)
            continue
        until = waits_from + strategy.wait_s
        silent_at = max(silent_at, until)
        if until > now:
            open_until.append(until)
    if open_until:
        return WaitUntil(at=min(open_until), closes=tuple(closes))
    return _missing(on_missing, expired, tie, silent_at, now, tuple(closes))


def _missing(
    on_missing: OnMissing, expired: bool, tie: Tie | None, silent_at: float, now: float, closes: tuple[Closing, ...]
) -> Decision:
    if isinstance(on_missing, SendAnyway):
        return Use(url=on_missing.url, closes=closes)
    if tie is not None:
        return Exhausted(reason=FailReason.RECORDING_AMBIGUOUS, tie=tie, closes=closes)
    if expired:
        return Exhausted(reason=FailReason.RECORDING_EXPIRED, closes=closes)
    if isinstance(on_missing, Hold) and silent_at + on_missing.hold_s > now:
        return WaitUntil(at=silent_at + on_missing.hold_s, closes=closes)
    return Exhausted(reason=FailReason.RECORDING_MISSING, closes=closes)


def wants_of(strategies: Sequence[Strategy]) -> Sequence[tuple[int, ManifestStrategy]]:
    """The manifest strategies that look for something, with their positions; a null or empty key matches nothing."""
    return [(i, s) for i, s in enumerate(strategies) if isinstance(s, ManifestStrategy) and s.key]


def brings_url(strategies: Sequence[Strategy], now: float) -> bool:
    """Whether the document itself brings a URL that has not expired, and no manifest is asked before it."""
    for strategy in strategies:
        if isinstance(strategy, UrlStrategy):
            if strategy.url is not None and (strategy.expires_at is None or strategy.expires_at > now):
                return True
        elif strategy.key:
            return False
    return False
