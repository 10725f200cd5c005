"""The ledger's SQL in PostgreSQL's words: parameters of statements, and the tables of schema/0001.sql. Pure text."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from tunerd.ledger.sql.columns import on_conflict_replace, quoted

_TYPES: Final = {"INTEGER": "BIGINT", "REAL": "DOUBLE PRECISION", "BLOB": "BYTEA", "TEXT": 'TEXT COLLATE "C"'}
"""Text is compared byte by byte, as SQLite does."""
_ARRAYS: Final = {"INTEGER": "bigint[]", "REAL": "double precision[]", "BLOB": "bytea[]", "TEXT": "text[]"}
_TABLE: Final = re.compile(r"^CREATE TABLE (\w+) \((.*?)^\)[^;]*;", re.MULTILINE | re.DOTALL)
_COLUMN: Final = re.compile(r'^ {4}"?(\w+)"? (INTEGER|REAL|BLOB|TEXT)\b', re.MULTILINE)
_PARAMETER: Final = re.compile(r"\?|(?<!:):([a-z_]+)")


@cache
def translated(sql: str) -> str:
    """A statement of sql/ with the parameters of psycopg."""
    return _PARAMETER.sub(lambda found: f"%({found[1]})s" if found[1] else "%s", sql.replace("%", "%%"))


def schema(text: str) -> str:
    """A file of schema/ for PostgreSQL."""
    bare = re.sub(r"--[^\n]*", "", text)
    bare = re.sub(r"\)\s*STRICT[^;]*;", ");", bare)
    return re.sub(r"\b(INTEGER|REAL|BLOB|TEXT)\b", lambda found: _TYPES[found[1]], bare)


def columns(text: str) -> Mapping[str, Mapping[str, str]]:
    """Of each table in a file of schema/ its columns, and the type of each."""
    return {name: dict(_COLUMN.findall(body)) for name, body in _TABLE.findall(text)}


@cache
def insert_one(table: str, names: tuple[str, ...], key: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({quoted(names)}) VALUES ({', '.join(['%s'] * len(names))}){_end(names, key)}"


@cache
def insert_many(table: str, names: tuple[str, ...], key: tuple[str, ...], types: tuple[str, ...]) -> str:
    """An array for each column: it settles the types of NULLs, and is one statement however many rows there are."""
    return f"INSERT INTO {table} ({quoted(names)}) SELECT * FROM unnest({_arrays(types)}){_end(names, key)}"


@cache
def update_one(table: str, names: tuple[str, ...]) -> str:
    """The number comes last."""
    settings = ", ".join(f'"{name}" = %s' for name in names)
    return f"UPDATE {table} SET {settings} WHERE row = %s"


@cache
def update_many(table: str, names: tuple[str, ...], types: tuple[str, ...]) -> str:
    """The array of numbers comes first; `types` has its type, too."""
    settings = ", ".join(f'"{name}" = new.column{at}' for at, name in enumerate(names, 1))
    listed = ", ".join(["number", *(f"column{at}" for at in range(1, len(names) + 1))])
    return f"UPDATE {table} SET {settings} FROM unnest({_arrays(types)}) AS new ({listed}) WHERE {table}.row = new.number"


@cache
def delete_many(table: str) -> str:
    return f"DELETE FROM {table} WHERE row = ANY(%s::bigint[])"


def _end(names: Sequence[str], key: Sequence[str]) -> str:
    return f" {on_conflict_replace(key, names)}" if key else ""


def _arrays(types: Sequence[str]) -> str:
    return ", ".join(f"%s::{_ARRAYS[kind]}" for kind in types)
