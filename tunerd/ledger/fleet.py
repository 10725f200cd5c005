"""What delivery asks about the other tunerds on the same ledger, and the answers where there is none.

An instance of a fleet may have to stop sending, and shares pauses, probes, the rate limit and a cap with the others. Where one
process owns the ledger (SQLite) `ALONE` answers: constants, so that nothing is asked of anybody.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from tunerd.ledger.sending import StoredPauses


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


ALONE: Final = Alone()
