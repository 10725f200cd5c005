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

from tunerd.call import Choice
from tunerd.ledger import FarRule
from tunerd.record import record

EXPIRES_SOON_S: Final = 120.0
"""A farther recording is taken this long before its URL expires, even if it has not been known for long."""


@record
class Free:
    """A stored recording that no call has taken."""

    row: int
    location: str | None
    started_at_ms: int | None
    expires_at: float | None = None
    duration_s: float | None = None
    known_at: float = 0.0
    written_at: float = 0.0
    """When what describes it, or the file, was written."""
    path: str = ""
    """Of the manifest that described it last, or of the file: a person knows it by this."""
    identity: str = ""
    """Of a file that tunerd itself found."""
    owner: int = 0
    """The instance that alone can open it; 0: any."""


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
    choice: Choice = Choice.NEAREST


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
    taken: int = 0
    """Further recordings, which calls have. They count for Choice.ONLY."""


@record
class Candidate:
    """A recording with which a strategy may answer, from `at` on."""

    found: Free
    at: float


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
    chooses = [seeker for seeker in seekers if seeker.choice is not Choice.NEAREST]
    for seeker in seekers:
        for one in free if seeker.standing is not Standing.SERVED and seeker.choice is Choice.NEAREST else ():
            close = closeness(seeker, one.started_at_ms)
            if close is not None and not _is_nearer(chooses, one, close):
                pairs[seeker.call, one.row] = min(close, pairs.get((seeker.call, one.row), close))
    recordings = {one.row: one for one in free}
    found: dict[int, Partner | Tie] = {}
    gone: set[int] = set()
    for close, level in groupby(sorted((close, pair) for pair, close in pairs.items()), key=itemgetter(0)):
        alike = [(call, row) for _, (call, row) in level if call not in found and row not in gone]
        alike = _each_location_once(alike, recordings, gone)
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


def _each_location_once(
    pairs: Sequence[tuple[int, int]], recordings: Mapping[int, Free], gone: set[int]
) -> list[tuple[int, int]]:
    """Of several that are equally near to one call and have the same location, any is right: keep the first."""
    seen: dict[tuple[int, str], int] = {}
    kept = []
    for call, row in pairs:
        location = recordings[row].location
        if location is not None and seen.setdefault((call, location), row) != row:
            gone.add(row)
        else:
            kept.append((call, row))
    return kept


def _is_served_nearer(seekers: Sequence[Seeker], one: Free, close: Closeness) -> bool:
    """Whether a call that has its recording is at least as near: this is perhaps a second recording of that call."""
    return _is_nearer([seeker for seeker in seekers if seeker.standing is Standing.SERVED], one, close)


def _is_nearer(seekers: Sequence[Seeker], one: Free, close: Closeness) -> bool:
    """Whether one of these calls is at least as near to a recording."""
    found = (closeness(seeker, one.started_at_ms) for seeker in seekers)
    return any(other is not None and other <= close for other in found)


def chosen(seeker: Seeker, others: Sequence[Seeker], free: Sequence[Free]) -> Partner | Tie | None:
    """The first, last or longest of the recordings that belong to a call: no other call is nearer to one of them, whatever that
    call has or looks for. It is never near, so it is taken after the wait only."""
    own: list[Free] = []
    rivals = 0
    for one in free:
        close = closeness(seeker, one.started_at_ms)
        if close is None:
            continue
        theirs = [other for each in others if (other := closeness(each, one.started_at_ms)) is not None and other <= close]
        if not theirs:
            own.append(one)
        elif min(theirs) == close:
            own.append(one)
            rivals = max(rivals, theirs.count(close))
    own = [one for one in own if one.location is not None] or own[:1]  # what says that there is none counts alone only
    if not own:
        return None
    best = own if len(own) == 1 else _best(seeker.choice, own)
    if rivals or len(best) > 1:
        return Tie(recordings=tuple(own if rivals else best), others=rivals)
    return Partner(found=best[0], is_near=False)


def _best(choice: Choice, own: Sequence[Free]) -> Sequence[Free]:
    """All of them where one does not say what is compared; several that are equal."""
    sizes = [one.duration_s if choice is Choice.LONGEST else one.started_at_ms for one in own]
    known = [size for size in sizes if size is not None]
    if len(known) < len(own):
        return own
    wanted = min(known) if choice is Choice.FIRST else max(known)
    best = {one.location: one for one, size in reversed(list(zip(own, sizes, strict=True))) if size == wanted}
    return list(best.values())


def only(seeker: Seeker, others: Sequence[Seeker], free: Sequence[Free], taken: Sequence[int | None]) -> Partner | Tie | None:
    """The recording of a call with which it has no key in common: the only one that starts near it, if the call is the only one
    near to that. `others`: all calls that are known; `taken`: the starts of recordings that calls have. Both count."""
    own = [one for one in free if closeness(seeker, one.started_at_ms) is not None]
    if not own:
        return None
    has = sum(closeness(seeker, started_at_ms) is not None for started_at_ms in taken)
    rivals = {each.call for each in others for one in own if closeness(each, one.started_at_ms) is not None}
    if has or rivals or len(own) > 1:
        return Tie(recordings=tuple(own), others=len(rivals), taken=has)
    return Partner(found=own[0], is_near=False)


def taken_from(
    partner: Partner, *, waits_from: float, wait_s: float, far: FarRule, now: float, written_at: float | None = None
) -> float:
    """From when on the call may take it. A farther one is taken when call and recording have both been known for the strategy's
    wait, or shortly before the recording expires. `written_at`: since when call and recording were both written, if only the wait
    tells that there is nobody else; what was just read may be followed by others even if nothing is unread."""
    if partner.is_near:
        return -math.inf
    found = partner.found
    at = max(waits_from, found.known_at) + wait_s
    if found.expires_at is not None:
        at = min(at, found.expires_at - EXPIRES_SOON_S)
    if far.at_once:
        at = -math.inf if written_at is None else min(at, written_at + wait_s)
    return now + 60.0 if far.not_before == math.inf else max(at, far.not_before)
