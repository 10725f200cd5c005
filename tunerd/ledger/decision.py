"""What becomes of a call whose strategies have answered, or not yet (the rules of docs/recordings.md). Pure: known answers go in,
a decision comes out. Which recording belongs to which call is matching.py's matter.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tunerd.call import Hold, ManifestStrategy, OnMissing, SendAnyway, Strategy, UrlStrategy
from tunerd.ledger.matching import Candidate, Tie
from tunerd.location import LocationKind, stored_location
from tunerd.outcome import FailReason
from tunerd.record import record


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
    """The call is ready: its recording is here."""

    location: str
    expires_at: float | None = None
    recording: int | None = None
    """The stored recording that it takes; None for a location of the document or of `on_missing`."""
    position: int | None = None
    """The strategy that the recording answers."""
    identity: str = ""
    """Of the file that was found there, as it was then."""
    closes: tuple[Closing, ...] = ()
    is_placeholder: bool = False
    """No strategy gave it, but `on_missing`."""


@record
class WaitUntil:
    at: float
    """When time alone may change the decision."""
    closes: tuple[Closing, ...] = ()
    urls: tuple[str, ...] = ()
    """Those that are to be asked for (`verify: get`)."""


@record
class Exhausted:
    reason: FailReason
    tie: Tie | None = None
    closes: tuple[Closing, ...] = ()


Decision: TypeAlias = Use | WaitUntil | Exhausted


@record
class CheckedUrls:
    """What is known of the URLs of a call that are only sent once their host gives a byte of them (`verify: get`)."""

    wait_s: float
    """For so long a URL may be absent before the next strategy answers."""
    absent: Mapping[str, float] = field(default_factory=dict)
    """URL -> since when it counts as absent."""
    there: Collection[str] = ()

    def absent_at(self, location: str, now: float) -> float | None:
        """When the location counts as absent; None: it may be sent. A URL that may still come is decided anew by its next answer,
        or else after another wait."""
        if location in self.there or stored_location(location).kind is not LocationKind.URL:
            return None
        return self.absent.get(location, now + self.wait_s)


@dataclass(slots=True)
class _Waits:
    """What is waited for, while strategies are asked from top to bottom."""

    checks: CheckedUrls | None
    now: float
    silent_at: float
    """When the last strategy was done."""
    open_until: list[float] = field(default_factory=list)
    """Waits of unanswered strategies that still run."""
    urls: list[str] = field(default_factory=list)

    def add(self, until: float) -> None:
        self.silent_at = max(self.silent_at, until)
        if until > self.now:
            self.open_until.append(until)

    def may_use(self, location: str) -> bool:
        """Whether nothing has to be waited for before this location; a URL may have to be asked for."""
        absent_at = None if self.checks is None else self.checks.absent_at(location, self.now)
        if self.checks is not None and stored_location(location).kind is LocationKind.URL:
            self.urls.append(location)
        if absent_at is not None:
            self.add(absent_at)
        return absent_at is None and not self.open_until


def decide(
    strategies: Sequence[Strategy],
    on_missing: OnMissing,
    *,
    offers: Mapping[int, Candidate | Tie],
    answers: Mapping[int, Absence],
    waits_from: float,
    now: float,
    checks: CheckedUrls | None = None,
) -> Decision:
    """What becomes of a call. `offers` and `answers` go by the strategy's position; with `checks` URLs are asked for first.

    Strategies are asked top to bottom while their waits run at the same time: a later one counts only when all before it have
    answered "absent" or their wait is over. A URL that has expired counts as absent. A recording that may only be taken later
    keeps its strategy waiting until then, and so does a URL that is not there yet.
    """
    closes: list[Closing] = []
    waits = _Waits(checks, now, waits_from)
    expired = False
    tie: Tie | None = None
    for position, strategy in enumerate(strategies):
        if isinstance(strategy, UrlStrategy):
            if strategy.location is None:
                continue
            if strategy.expires_at is not None and strategy.expires_at <= now:
                expired = True
            elif waits.may_use(strategy.location):
                return Use(location=strategy.location, expires_at=strategy.expires_at, closes=tuple(closes))
            continue
        if not strategy.key:
            continue
        offered = offers.get(position)
        if isinstance(offered, Candidate) and offered.at > now:
            waits.add(offered.at)
            continue
        tie = offered if isinstance(offered, Tie) else tie
        found = offered.found if isinstance(offered, Candidate) else None
        gone = found is not None and found.expires_at is not None and found.expires_at <= now
        if found is not None and found.location is not None and not gone:
            if waits.may_use(found.location):
                return Use(location=found.location, expires_at=found.expires_at, recording=found.row, position=position,
                           identity=found.identity, closes=tuple(closes))  # fmt: skip
        elif found is not None:
            closes.append(Closing(position=position, recording=found.row, expired=found.location is not None))
            expired |= found.location is not None
            waits.add(now)
            continue
        elif (answer := answers.get(position)) is not None:
            expired |= answer.expired
            waits.silent_at = max(waits.silent_at, answer.at)
            continue
        waits.add(waits_from + strategy.wait_s)
    if waits.open_until:
        return WaitUntil(at=min(waits.open_until), closes=tuple(closes), urls=tuple(waits.urls))
    missing = _missing(on_missing, expired, tie, waits.silent_at, now, tuple(closes))
    return replace(missing, urls=tuple(waits.urls)) if isinstance(missing, WaitUntil) else missing


def _missing(
    on_missing: OnMissing, expired: bool, tie: Tie | None, silent_at: float, now: float, closes: tuple[Closing, ...]
) -> Decision:
    if isinstance(on_missing, SendAnyway):
        return Use(location=on_missing.url, closes=closes, is_placeholder=True)
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


def brings_location(strategies: Sequence[Strategy], now: float) -> bool:
    """Whether the document itself brings a location that has not expired, and no manifest is asked before it."""
    for strategy in strategies:
        if isinstance(strategy, UrlStrategy):
            if strategy.location is not None and (strategy.expires_at is None or strategy.expires_at > now):
                return True
        elif strategy.key:
            return False
    return False
