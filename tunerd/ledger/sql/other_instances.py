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

    def begin_reading(self, source: str) -> str:
        """Take the turn to read a shared source; gives "", or the name of the living instance that has it."""
        ...

    def still_reads(self, source: str) -> bool:
        """Whether nobody else had the turn since `begin_reading`. True: nobody takes it until the transaction has ended."""
        ...

    def end_reading(self, source: str) -> None: ...

    def check_reader(self, source: str) -> None:
        """Before anything is stored of what was read of a source. Raises NotTheReader where it is shared and not this instance's
        turn."""
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

    def begin_reading(self, source: str) -> str:
        return ""

    def still_reads(self, source: str) -> bool:
        return True

    def end_reading(self, source: str) -> None:
        pass

    def check_reader(self, source: str) -> None:
        pass

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
