"""How a call finds its recording (the rules of docs/recordings.md). Pure: what is known goes in, a decision comes out.

A wrong join puts one customer's audio at another's call, so every doubt here ends in "none": a null key, a tie, a recording
that another call is nearer to. What is near is taken at once; what is farther away has to have been known for a while.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import Final, TypeAlias

from tunerd.call import Hold, ManifestStrategy, OnMissing, SendAnyway, Strategy, UrlStrategy
from tunerd.ledger import FarRule
from tunerd.outcome import FailReason

EXPIRES_SOON_S: Final = 120.0
"""A farther recording is taken this long before its URL expires, however short it has been known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """A stored recording that no call has taken."""

    row: int
    url: str | None
    started_at_ms: int | None
    expires_at: float | None = None
    known_at: float = 0.0
    path: str = ""
    """Of the manifest that told it last: what a person knows it by."""


class Standing(StrEnum):
    """How far a call has come with what it looked for."""

    OPEN = "open"
    """It takes the recording that is its own."""
    CLOSED = "closed"
    """It takes none any more (sent without one, dismissed), but what would be its own is nobody else's."""
    SERVED = "served"
    """It has its recording. Another one that is nearer to it than to anybody else is given to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeker:
    """A call that looks, or looked, for a recording with some key."""

    call: int
    started_at_ms: int
    within_ms: int | None
    near_ms: int = 0
    ended_at_ms: int | None = None
    standing: Standing = Standing.OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Partner:
    """The recording that is the call's own, as far as is known now: neither of the two has anything nearer."""

    found: Free
    is_near: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """The call and others, or it and several recordings, are equally near: nobody gets anything."""

    recordings: tuple[Free, ...]
    others: int
    """Calls beside this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A recording that a strategy may answer with, from `at` on."""

    found: Free
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """What a manifest strategy has been told for good: there is none (or it expired), since when."""

    at: float
    expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """A strategy that this decision answers with "absent" or "expired"; the recording that says so is used up."""

    position: int
    recording: int
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """The call is ready: send it with this URL."""

    url: str
    expires_at: float | None = None
    recording: int | None = None
    """The stored recording that it takes; None for a URL of the document or of `on_missing`."""
    position: int | None = None
    """The strategy that the recording answers."""
    closes: tuple[Closing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitUntil:
    at: float
    """When time alone may change the answer."""
    closes: tuple[Closing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted:
    reason: FailReason
    tie: Tie | None = None
    closes: tuple[Closing, ...] = ()


Decision: TypeAlias = Use | WaitUntil | Exhausted


Closeness: TypeAlias = tuple[bool, float]
"""Sorts: first what is near, then what is farther; in each by how far apart (ms) the two started."""


def closeness(seeker: Seeker, started_at_ms: int | None) -> Closeness | None:
    """None: they cannot belong together. Near: the recording starts beside the start of the call or during the call; with
    `within: any` everything is. Without a start it is as far away as can be."""
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
    """Which recording is whose: the two that are nearest to each other first, then the nearest of the rest. Whoever is in a
    tie gets nothing, and what is in a tie nobody does. The order of the arguments says nothing."""
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
    """Equally near to one call and with the same URL: whichever of them it takes is right."""
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
    """Perhaps a second recording of a call that has its own, and surely not of one that began minutes away."""
    served = (closeness(seeker, one.started_at_ms) for seeker in seekers if seeker.standing is Standing.SERVED)
    return any(other is not None and other <= close for other in served)


def taken_from(partner: Partner, *, waits_from: float, wait_s: float, far: FarRule, now: float) -> float:
    """From when on the call may take it. A farther one is taken when both sides have known each other for the strategy's
    wait, or shortly before it expires."""
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

    Strategies are asked top to bottom while their waits run side by side: a later one counts only when all before it
    have answered "absent" or their wait is over. A URL that has expired is no answer but an absence. A recording that may
    only be taken later keeps its strategy waiting until then.
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
