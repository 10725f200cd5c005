"""What a transaction has to know of the other instances of a fleet, whose tables these are, too."""

from typing import Final, Protocol

UPKEEP: Final = "upkeep"
"""Work for all: waits that end, retention, and what instances leave behind that are gone."""


class OtherInstances(Protocol):
    def begin(self) -> None:
        """A transaction begins."""
        ...

    def has_name(self) -> bool:
        """Whether no other start has taken this instance's name, as of the beginning of the transaction."""
        ...

    def acts_for_all(self, work: str) -> bool:
        """Whether it is for this instance to do this work now. True: nobody else does it until the transaction has ended."""
        ...

    def is_alone(self) -> bool:
        """Whether no other instance lives."""
        ...

    def is_alive(self, number: int) -> bool:
        """Whether the instance with this number lives (instance.number, LedgerRow.owner)."""
        ...

    def alive_since(self) -> float:
        """An instance whose last heartbeat is older is dead (table instance)."""
        ...

    def note_reading(self, is_reading: bool) -> None:
        """Whether this instance still reads for the first time what was there when it started."""
        ...

    def is_reading(self) -> bool:
        """Whether another one does."""
        ...


class NoOthers:
    """One process owns the ledger."""

    def begin(self) -> None:
        pass

    def has_name(self) -> bool:
        return True

    def acts_for_all(self, work: str) -> bool:
        return True

    def is_alone(self) -> bool:
        return True

    def is_alive(self, number: int) -> bool:
        return False

    def alive_since(self) -> float:
        return 0.0

    def note_reading(self, is_reading: bool) -> None:
        pass

    def is_reading(self) -> bool:
        return False
