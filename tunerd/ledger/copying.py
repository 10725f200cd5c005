"""Copying a ledger from one place to another: the order of the steps, and what both ends have to be able to do.

The copy is made in one transaction of the target, or not at all. Before it the source notes a number under the target's name, and
with the rows the target takes it. So a copy that was broken off is begun again, and one that was broken off after the target was
complete is only ended: the source is marked as moved, and opening it is refused from then on.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from tunerd.ledger import LedgerRefused
from tunerd.ledger.exceptions import MISCONFIGURED
from tunerd.record import record

MOVED: Final = "moved:"
"""With the new place behind it: a name in the table meta."""
COPYING: Final = "copying:"
"""With the new place behind it, and the number of the copy as the value. Whoever opens the ledger in between removes it: what is
written from then on would not be in the copy."""
COPIED: Final = "copied"
"""In the target: the number of the copy that made it."""
NOT_COPIED: Final = frozenset({"instance", "counts"})
"""Tables of a fleet that say who works in it, and what the rows of the others add up to."""
_OF_THE_PLACE: Final = (MOVED, COPYING, COPIED, "schema")

Row = Sequence[object]


@record
class LastNumbers:
    """The last numbers that were given: none of them is given again."""

    call: int
    recording: int


class CopyEnd(Protocol):
    def words(self, exc: Exception) -> str | None:
        """What an error of this end means, in words that quote no value; None: it is not of this end."""
        ...

    def close(self) -> None: ...


class CopySource(CopyEnd, Protocol):
    def begin(self, target: str) -> int:
        """Note the copy durably; gives its number, that of a copy to the same place that was broken off if there was one."""
        ...

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Row]: ...
    def last_numbers(self) -> LastNumbers: ...
    def finish(self, target: str) -> None:
        """Mark it as moved, durably."""
        ...


class CopyTarget(CopyEnd, Protocol):
    def copied(self) -> int | None:
        """The number of the copy that is here; None: nothing is here. Raises LedgerRefused where something else is."""
        ...

    def write(self, table: str, columns: Sequence[str], rows: Iterator[Row]) -> int:
        """Gives how many there were."""
        ...

    def commit(self, number: int, last: LastNumbers) -> None:
        """Make all of it durable at once, with the number of the copy."""
        ...


def copy_ledger(source: CopySource, target: CopyTarget, place: str, tables: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Gives for each table how many rows there are; nothing, if the copy was complete already. Raises LedgerRefused."""
    there, counts = target.copied(), dict[str, int]()
    number = source.begin(place)
    if there is None:
        for table, columns in tables.items():
            if table not in NOT_COPIED:
                rows = source.rows(table, columns)
                counts[table] = target.write(table, columns, filter(_is_copied, rows) if table == "meta" else rows)
        target.commit(number, source.last_numbers())
    elif there != number:
        raise LedgerRefused(f"there is a ledger at {place} already, and it is no copy of this one; name a place without one")
    source.finish(place)
    return counts


def moved_to(name: str) -> LedgerRefused:
    """For a ledger with this name in its table meta."""
    place = name.removeprefix(MOVED)
    return LedgerRefused(
        f"this ledger was moved to {place} by `tunerd ledger copy`; set ledger.url to it", exit_code=MISCONFIGURED
    )


def _is_copied(row: Row) -> bool:
    return not str(row[0]).startswith(_OF_THE_PLACE)
