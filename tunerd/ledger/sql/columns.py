"""How a record is stored in a table: each field of its type is a column of the same name, and is listed nowhere else.

A column's form follows from the field's type: flags are 0 and 1, enumerations their text. SQL text cannot hold every file name
(they need not be UTF-8): Python carries odd bytes as lone surrogates, which are stored as characters of the private use area.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from functools import partial
from operator import attrgetter
from types import UnionType
from typing import Any, Final, Generic, TypeVar, get_args, get_type_hints

R = TypeVar("R")

FREE_TEXT: Final = frozenset({"path", "home", "place", "detail"})
"""Columns that may hold a file name."""
UNSIGNED: Final = frozenset({"device", "inode", "home_inode"})
"""Columns that hold 64 bits without a sign, stored as 64 bits with one."""


class Unsound(Exception):
    """The ledger holds what no version of tunerd writes."""


_TO_PRIVATE: Final = {0xDC00 + byte: 0xF700 + byte for byte in range(0x80, 0x100)}
_FROM_PRIVATE: Final = {private: lone for lone, private in _TO_PRIVATE.items()}


def to_text(text: str) -> str:
    if text.isascii():
        return text
    return text.translate(_TO_PRIVATE).encode("utf-8", "replace").decode()


def from_text(text: str) -> str:
    return text if text.isascii() else text.translate(_FROM_PRIVATE)


def to_signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def from_signed(number: int) -> int:
    return number + 2**64 if number < 0 else number


def quoted(names: Sequence[str]) -> str:
    """Column names as a statement lists them."""
    return ", ".join(f'"{name}"' for name in names)


class RecordColumns(Generic[R]):
    """The columns of one record type in one table. `names` and `listed` have them in the order of `values` and `record`."""

    def __init__(
        self, table: str, record: type[R], *, key: Sequence[str] = (), without: Sequence[str] = (), text: Sequence[str] = ()
    ) -> None:
        """`key`: the table's primary key, for `upsert`. `without`: fields that are no columns. `text`: columns that may hold a
        file name beside those of FREE_TEXT."""
        self.names = tuple(field.name for field in fields(record) if field.name not in without)  # type: ignore[arg-type]
        self.listed = quoted(self.names)
        marks = ", ".join("?" * len(self.names))
        self.insert = f"INSERT INTO {table} ({self.listed}) VALUES ({marks})"
        self.upsert = f"{self.insert} {on_conflict_replace(key, self.names)}" if key else ""
        self._read = attrgetter(*self.names)
        is_by_keyword = any(field.kw_only for field in fields(record))  # type: ignore[arg-type]
        self._make: Callable[..., R] = partial(_by_keyword, record, self.names) if is_by_keyword else record
        types = get_type_hints(record)
        self._flags = [at for at, name in enumerate(self.names) if types[name] is bool]
        self._texts = [at for at, name in enumerate(self.names) if name in FREE_TEXT or name in text]
        self._unsigned = [at for at, name in enumerate(self.names) if name in UNSIGNED]
        self._members = [(at, members) for at, name in enumerate(self.names) if (members := _members_of(types[name]))]
        self.conversions: Mapping[str, Callable[[Any], object]] = {
            **{self.names[at]: to_text for at in self._texts},
            **{self.names[at]: to_signed for at in self._unsigned},
            **{self.names[at]: _text_or_none for at, _ in self._members},
        }
        """Columns whose value is written in another form, and how."""

    def values(self, record: R) -> list[object]:
        """What to write for a record."""
        values = list(self._read(record))
        for at in self._texts:
            if not values[at].isascii():
                values[at] = to_text(values[at])
        for at in self._unsigned:
            values[at] = to_signed(values[at])
        for at, _ in self._members:
            if values[at] is not None:
                values[at] = str(values[at])
        return values

    def record(self, columns: Sequence[Any]) -> R:
        """The record that was written. Raises Unsound for an enumeration's value that does not exist."""
        values = list(columns)
        for at in self._flags:
            values[at] = values[at] == 1
        for at in self._texts:
            if not values[at].isascii():
                values[at] = from_text(values[at])
        for at in self._unsigned:
            values[at] = from_signed(values[at])
        try:
            for at, members in self._members:
                values[at] = members[values[at]]
        except KeyError:
            raise Unsound("a row is in a state that does not exist") from None
        return self._make(*values)


def on_conflict_replace(key: Sequence[str], names: Sequence[str]) -> str:
    """The end of an INSERT that puts the new row in place of the one with the same key."""
    others = ", ".join(f'"{name}" = excluded."{name}"' for name in names if name not in key)
    return f"ON CONFLICT ({quoted(key)}) DO UPDATE SET {others}"


def _by_keyword(record: type[R], names: Sequence[str], *values: object) -> R:
    return record(**dict(zip(names, values, strict=True)))


def _members_of(kind: Any) -> Mapping[object, object]:
    """The members of an enumeration by their values; an optional one has None besides."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    found = next((one for one in kinds if isinstance(one, type) and issubclass(one, StrEnum)), None)
    if found is None:
        return {}
    return {member.value: member for member in found} | ({None: None} if type(None) in kinds else {})


def _text_or_none(text: object) -> object:
    return None if text is None else str(text)
