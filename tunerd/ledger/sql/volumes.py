"""Whose disk a file is on, as numbers that stand in the tables: `volume` for the places of documents, `owner` for audio.

Volume 0 and owner 0 are those of everybody: of a shared source, and of everything where one process owns the ledger.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol


class Volumes(Protocol):
    @property
    def own(self) -> int:
        """The number of this instance, whatever its start."""
        ...

    def of(self, source: str) -> int:
        """The volume from which this instance reads a source. Negative: it has none, and nothing is known of its files."""
        ...

    def is_shared(self, source: str) -> bool:
        """Whether every instance sees the same files of it."""
        ...

    def owner(self, volume: int, ask: Callable[..., Any]) -> int:
        """The instance that a volume belongs to. `ask` runs a statement in the open transaction."""
        ...


class OneVolume:
    """One process owns the ledger."""

    own: Final = 0

    def of(self, source: str) -> int:
        return 0

    def is_shared(self, source: str) -> bool:
        return False

    def owner(self, volume: int, ask: Callable[..., Any]) -> int:
        return 0
