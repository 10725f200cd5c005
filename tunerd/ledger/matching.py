"""How a call finds its recording (the rules of shared recordings.md). Pure: what is known goes in, a decision comes out.

A wrong join puts one customer's audio at another's call, so every doubt here ends in "none": a null key, an exact tie,
a recording that another waiting call is nearer to.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from tunerd.call import Hold, ManifestStrategy, OnMissing, SendAnyway, Strategy, UrlStrategy
from tunerd.outcome import FailReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """A stored recording that no call has taken."""

    row: int
    url: str | None
    started_at_ms: int | None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeker:
    """A call that still looks for a recording with some key."""

    call: int
    started_at_ms: int
    within_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
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
    closes: tuple[Closing, ...] = ()


Decision: TypeAlias = Use | WaitUntil | Exhausted


def distance_ms(seeker: Seeker, started_at_ms: int | None) -> float | None:
    """How far apart call and recording started; None: they cannot belong together; inf: the manifest does not say."""
    if started_at_ms is None:
        return math.inf if seeker.within_ms is None else None
    apart = abs(started_at_ms - seeker.started_at_ms)
    return apart if seeker.within_ms is None or apart <= seeker.within_ms else None


def nearest_call(started_at_ms: int | None, seekers: Sequence[Seeker]) -> int | None:
    """The one call that a new recording is for, or None: nobody, or two calls are equally near."""
    fitting = sorted((apart, s.call) for s in seekers if (apart := distance_ms(s, started_at_ms)) is not None)
    if not fitting:
        return None
    if any(apart == fitting[0][0] and call != fitting[0][1] for apart, call in fitting[1:]):
        return None
    return fitting[0][1]


def offer(seeker: Seeker, free: Sequence[Free], rivals: Mapping[int, Sequence[Seeker]]) -> Free | None:
    """The recording that a call may take: the nearest that no other call is nearer to. An exact tie, between two
    recordings or with another call, is not guessed. `rivals`: for each recording's row who else looks for it."""
    fitting = [(apart, r) for r in free if (apart := distance_ms(seeker, r.started_at_ms)) is not None]
    fitting.sort(key=lambda pair: (pair[0], pair[1].row))
    for index, (apart, found) in enumerate(fitting):
        if any(other == apart and r.url != found.url for other, r in fitting[index + 1 :]):
            return None
        others = (distance_ms(r, found.started_at_ms) for r in rivals.get(found.row, ()) if r.call != seeker.call)
        nearest = min((other for other in others if other is not None), default=None)
        if nearest is not None and nearest == apart:
            return None
        if nearest is None or nearest > apart:
            return found
    return None


def decide(
    strategies: Sequence[Strategy],
    on_missing: OnMissing,
    *,
    offers: Mapping[int, Free],
    answers: Mapping[int, Answer],
    waits_from: float,
    now: float,
) -> Decision:
    """What becomes of a call. `offers` and `answers` go by the strategy's position.

    Strategies are asked top to bottom while their waits run side by side: a later one counts only when all before it
    have answered "absent" or their wait is over. A URL that has expired is no answer but an absence.
    """
    closes: list[Closing] = []
    open_until: list[float] = []  # waits of unanswered strategies that still run
    silent_at = waits_from  # when the last strategy was done
    expired = False
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
        found = offers.get(position)
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
    return _missing(on_missing, expired, silent_at, now, tuple(closes))


def _missing(on_missing: OnMissing, expired: bool, silent_at: float, now: float, closes: tuple[Closing, ...]) -> Decision:
    if isinstance(on_missing, SendAnyway):
        return Use(url=on_missing.url, closes=closes)
    if expired:
        return Exhausted(reason=FailReason.RECORDING_EXPIRED, closes=closes)
    if isinstance(on_missing, Hold) and silent_at + on_missing.hold_s > now:
        return WaitUntil(at=silent_at + on_missing.hold_s, closes=closes)
    return Exhausted(reason=FailReason.RECORDING_MISSING, closes=closes)


def looks_for(strategy: Strategy, answer: Answer | None, until: float) -> str:
    """One line for `status CALL_ID`; never a URL (its query may be a secret)."""
    if isinstance(strategy, UrlStrategy):
        return f"url: {'in the document' if strategy.url is not None else 'absent'}"
    head = f"manifest {strategy.source}, key {strategy.key!r}"
    if not strategy.key:
        return f"manifest {strategy.source}: absent (null key)"
    if answer is not None:
        return f"{head}: {'expired' if answer.expired else 'absent'}"
    return f"{head}: no answer yet, waits until {_instant(until)}"


def held_by(
    strategies: Sequence[Strategy],
    on_missing: OnMissing,
    answers: Mapping[int, Answer | None],
    *,
    waits_from: float,
    due_at: float,
) -> str | None:
    """One line for `status CALL_ID` on a call that only `on_missing: hold` keeps waiting, until `due_at`; None: a strategy's
    own wait still runs."""
    wanted = wants_of(strategies)
    silent = [strategy for position, strategy in wanted if answers.get(position) is None]
    if not isinstance(on_missing, Hold) or any(waits_from + strategy.wait_s >= due_at for strategy in silent):
        return None
    if silent:
        why, counts = "no strategy has given one in time", "a recording or a newer document"
    else:
        why = "every strategy says that there is none"
        counts = "a newer document, or its manifest written anew with a URL," if wanted else "a newer document"
    return f"{why}; held until {_instant(due_at)} by on_missing: hold ({counts} still counts until then), then it fails"


def _instant(at: float) -> str:
    """As `status` writes it, too."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def wants_of(strategies: Sequence[Strategy]) -> Sequence[tuple[int, ManifestStrategy]]:
    """The manifest strategies that look for something, with their positions; a null or empty key matches nothing."""
    return [(i, s) for i, s in enumerate(strategies) if isinstance(s, ManifestStrategy) and s.key]
