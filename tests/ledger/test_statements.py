"""Every statement of the ledger, read off its modules: it walks an index, each index is walked by one, each column is used."""

import importlib
import pkgutil
import re
import sqlite3
from collections.abc import Iterator

import pytest

from tunerd.ledger import sql, sqlite
from tunerd.ledger.sql.audios import AUDIO
from tunerd.ledger.sql.calls import CALL
from tunerd.ledger.sql.columns import RecordColumns
from tunerd.ledger.sql.files import MARK
from tunerd.ledger.sql.groups import GROUP
from tunerd.ledger.sql.recordings import RECORDING
from tunerd.ledger.sql.url_checks import URL_CHECK
from tunerd.ledger.sql.wants import WANT
from tunerd.ledger.sqlite.connect import connect, prepare, scripts

MODULES = [
    importlib.import_module(f"{package.__name__}.{module.name}")
    for package in (sql, sqlite)
    for module in pkgutil.iter_modules(package.__path__)
]
COMMON = [module for module in MODULES if module.__name__.startswith(sql.__name__)]
STATEMENTS = {
    f"{module.__name__.removeprefix('tunerd.ledger.')}.{name}": text
    for module in MODULES
    for name, text in vars(module).items()
    if isinstance(text, str) and name.isupper() and not name.startswith("_") and text.split(" ", 1)[0].rstrip() in
    ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
}  # fmt: skip

AT_A_START = {"calls.SENDING", "store.TALLY", "due_calls.AGENTS", "destinations.STORED_PAUSES", "audios.LIMIT",
              "url_checks.COUNTS"}  # fmt: skip
NOW_AND_THEN = {"calls.SHIFT", "calls.MOVABLE", "calls.OPEN_BY_DESTINATION", "calls.SENT_TO", "wants.LOOKED_FOR", "wants.SHIFT",
                "recordings.SHIFT", "audios.SHIFT", "url_checks.SHIFT", "recordings.UNMATCHED", "groups.SHIFT", "groups.NEXT_SOURCE"}  # fmt: skip
"""A jump of the clock, and what is stranded: asked so seldom that they may walk a table."""
SORTS = {"recordings.SAME_START", "recordings.SAME_LOCATION", "wants.SEEKERS_WITHOUT_WINDOW", "wants.RIVALS_WITHOUT_WINDOW", "wants.FAR_DUE",
         "cuts.FIRST_OF_CALL", "groups.COMPACT", "files.AT_PATH", "cuts.ROWS_OF_SOURCE", "calls.REFUSED_UNNAMED"}  # fmt: skip
"""These sort what they found, which is little: the rows of one place, one call, one log."""


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    connection = connect(path)
    prepare(connection, path, 0.0, scripts())
    yield connection
    connection.close()


def plan(db: sqlite3.Connection, text: str) -> str:
    names = set(re.findall(r":([a-z_]+)", text))
    values: object = dict.fromkeys(names, 0) if names else (0,) * text.count("?")
    return "\n".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", values))


def short(name: str) -> str:
    return name.split(".", 1)[1]


def test_there_are_statements() -> None:
    assert len(STATEMENTS) > 90


def test_a_statement_walks_an_index(db: sqlite3.Connection) -> None:
    """However many calls there are: no statement that a call's way needs scans a table, or sorts more than a few rows."""
    tables = {table for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for name, text in STATEMENTS.items():
        steps = plan(db, text)
        if short(name) not in AT_A_START | NOW_AND_THEN:
            scanned = set(re.findall(r"SCAN (\w+)", steps)) & tables
            assert not scanned - ({"meta"} if "meta" in text else set()), (name, steps)
            assert ("TEMP B-TREE" in steps) <= (short(name) in SORTS), (name, steps)


def test_each_index_is_walked_by_a_statement(db: sqlite3.Connection) -> None:
    """An index that no statement uses costs every call a write."""
    lists = {  # made by commands/listing.py
        "failed": "SELECT row FROM call WHERE (state = 'failed' OR audio = 'failed') AND dismissed = ? ORDER BY row LIMIT ?",
    }
    steps = " ".join(plan(db, text) for text in [*STATEMENTS.values(), *lists.values()])
    indexes = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")]
    assert [name for name in indexes if not re.search(rf"INDEX {name}\b", steps)] == []


@pytest.mark.parametrize(
    ("table", "columns", "others"),
    [
        ("call", CALL, ()),
        ("recording", RECORDING, ()),
        ("want", WANT, ()),
        ("audio", AUDIO, ()),
        ("url_check", URL_CHECK, ()),
        ("gathering", GROUP, ()),
        ("file", MARK, ("vanished_at", "disposed", "kept")),
    ],
)
def test_a_record_is_its_table(
    db: sqlite3.Connection, table: str, columns: RecordColumns[object], others: tuple[str, ...]
) -> None:
    """The fields of a record and the columns of its table are the same."""
    assert {name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))} == {*columns.names, *others}


def test_statements_are_written_in_the_sql_that_engines_share() -> None:
    """What only SQLite understands lives in ledger/sqlite/ (docs/decisions/one-ledger.md)."""
    only_sqlite = r"INSERT OR|REPLACE INTO|INDEXED BY|CROSS JOIN \w+ ON|\biif\(|\btotal\(|\browid\b|PRAGMA|\?[0-9]|\bIS \?|\bGLOB\b|\binstr\("
    for name in [name for name in STATEMENTS if name.startswith("sql.")]:
        text = re.sub(r"'[^']*'", "''", STATEMENTS[name])
        assert not re.search(only_sqlite, text), name
        assert not ("?" in text and re.search(r":[a-z]", text)), f"{name} has both kinds of parameters"


FINDS = {
    "recordings.FREE_FROM": "recording_free", "recordings.FREE_BEFORE": "recording_free",
    "recordings.FREE_BETWEEN": "recording_free", "recordings.FREE_WITH_START": "recording_free",
    "recordings.ALIKE_FROM": "recording_match", "recordings.ALIKE_BEFORE": "recording_match",
    "recordings.SAME_START": "recording_key", "recordings.SAME_ALIKE": "recording_match",
    "wants.SEEKERS_FROM": "want_open", "wants.SEEKERS_BEFORE": "want_open",
    "wants.RIVALS_FROM": "want_key", "wants.RIVALS_BEFORE": "want_key",
}  # fmt: skip


@pytest.mark.parametrize("name", FINDS)
def test_calls_and_recordings_find_each_other_by_key_or_values_and_start(db: sqlite3.Connection, name: str) -> None:
    """However many of them there are: each of these walks its index from a start, and sorts at most what one second holds."""
    steps = plan(db, STATEMENTS[f"sql.{name}"])
    assert f"INDEX {FINDS[name]} (source=? AND " in steps, steps
    assert "started_at_ms" in steps.partition(FINDS[name])[2].partition(")")[0], steps
    assert ("TEMP B-TREE" in steps) == (name == "recordings.SAME_START"), steps


def test_urls_of_a_host_are_found_in_their_order(db: sqlite3.Connection) -> None:
    """However many a host has: the next host is one look into the index, and its first URLs are its first entries there."""
    for name, index in (("NEXT_HOST", "url_check_due (host>?)"), ("DUE", "url_check_due (host=? AND due_at>? AND due_at<?)"),
                        ("UNANSWERED", "url_check_unanswered (host=?)")):  # fmt: skip
        assert f"INDEX {index}" in plan(db, STATEMENTS[f"sql.url_checks.{name}"])
