"""What delivery and intake ask about the other tunerds on the same ledger, and the answers where there is none.

An instance of a fleet may have to stop sending, shares pauses, probes, the rate limit and a cap with the others, and takes turns
with them at a source that all of them see. Where one process owns the ledger (SQLite) `ALONE` answers: constants, so that nothing
is asked of anybody.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from tunerd.ledger.sending import StoredPauses
from tunerd.record import record


@record
class Tokens:
    """Starts that an instance may make: one each 1/rate seconds."""

    count: int
    ahead_s: float
    """The first was allowed so long ago: what a rest has saved up."""


class Fleet(Protocol):
    @property
    def is_shared(self) -> bool:
        """Other instances may be there."""
        ...

    @property
    def is_superseded(self) -> bool:
        """Another start took this instance's name: this one sends nothing any more, and has to end."""
        ...

    def may_send(self, lease: int | None = None) -> bool:
        """Whether no other instance can have given this one up. With `lease` (`Claimed.lease`): nor since the claim. Asked before
        a claim, and right before a request's first byte."""
        ...

    def on_superseded(self, call: Callable[[], None]) -> None:
        """Call this in the event loop once the instance is superseded (at once if it is already)."""
        ...

    def on_pauses(self, follow: Callable[[Mapping[str, StoredPauses]], None]) -> None:
        """Call `follow` in the event loop with the pauses of all destinations, after each change that the ledger knows of: those
        that this instance stored, and those of others (about once a second)."""
        ...

    async def claim_probe(self, destination: str, agent: str, for_s: float) -> float:
        """Be the one instance that tries a paused destination, or an agent of it (else ''), for the next `for_s` seconds. 0: it
        is; else after how many seconds to ask again. Raises LedgerUnavailable."""
        ...

    async def take_tokens(self, destination: str, rate: float, count: int) -> "Tokens | float":
        """Take `count` starts of the fleet's `rate_limit` (`rate` a second); they are lost if they are not used. A number: there
        are none for so many seconds. Raises LedgerUnavailable."""
        ...

    async def take_slots(self, destination: str, cap: int, in_use: int) -> int:
        """This instance's share of `delivery.fleet_concurrency` (`cap`), while it has `in_use` requests open. To be asked about
        once a second; until then the share holds. Raises LedgerUnavailable."""
        ...

    async def begin_reading(self, source: str) -> str:
        """Be the one instance that reads a source whose files all of them see (`shared: true`): until `end_reading`, or until
        this instance ends or is silent for too long. "": it is. Else the name of the one that is. What this instance submitted
        before, about files of the source, is stored by then or never. Raises LedgerUnavailable."""
        ...

    async def still_reads(self, source: str) -> bool:
        """Whether no other one reads the source, or has since `begin_reading`. Commands of one that does not raise NotTheReader.
        Raises LedgerUnavailable."""
        ...

    async def end_reading(self, source: str) -> None:
        """Another one may. Raises LedgerUnavailable."""
        ...


class Alone:
    """One process owns the ledger."""

    is_shared = False
    is_superseded = False

    def may_send(self, lease: int | None = None) -> bool:
        return True

    def on_superseded(self, call: Callable[[], None]) -> None:
        """Nobody can."""

    def on_pauses(self, follow: Callable[[Mapping[str, StoredPauses]], None]) -> None:
        """Nobody else stores pauses."""

    async def claim_probe(self, destination: str, agent: str, for_s: float) -> float:
        return 0.0

    async def take_tokens(self, destination: str, rate: float, count: int) -> "Tokens | float":
        return Tokens(count=count, ahead_s=0.0)

    async def take_slots(self, destination: str, cap: int, in_use: int) -> int:
        return cap

    async def begin_reading(self, source: str) -> str:
        return ""

    async def still_reads(self, source: str) -> bool:
        return True

    async def end_reading(self, source: str) -> None:
        """Nobody waits for it."""


ALONE: Final = Alone()
