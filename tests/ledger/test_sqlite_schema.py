"""Versions of the schema: migrations keep a copy, newer and foreign files are refused."""

import dataclasses
import sqlite3
from pathlib import Path

import pytest

from tunerd.call import Form, State
from tunerd.ledger import Filter, LedgerRefused
from tunerd.ledger.rows import LedgerRow, RowKind
from tunerd.ledger.sql.calls import CALL
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.ledger.sqlite.connect import APPLICATION_ID, connect, prepare, scripts
from tunerd.testing import Recorder, make_call

from .parts import NOW, put


async def make(path: Path) -> None:
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await put(ledger, make_call())
    await ledger.close()


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """One line, and the file is left as it is."""
    path = tmp_path / "ledger.db"
    await make(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LedgerRefused, match=r"newer tunerd \(schema 99, this one knows 1\)"):
        await SqliteLedger.open(path, now=NOW, emit=Recorder())
    assert [file.name for file in tmp_path.iterdir() if "corrupt" in file.name] == []


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """A file that is not ours is never migrated, nor set aside as damaged."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(LedgerRefused, match="another program"):
        await SqliteLedger.open(path, now=NOW, emit=Recorder())
    assert path.read_bytes() == before


async def test_a_migration_keeps_a_copy(tmp_path: Path) -> None:
    """Before a schema moves on, the file as it was is copied beside it, readable by its owner alone."""
    path = tmp_path / "ledger.db"
    await make(path)
    db = connect(path)
    prepare(db, path, NOW, [*scripts(), "CREATE TABLE later (x INTEGER) STRICT;"])
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.execute("INSERT INTO later VALUES (1)")
    db.close()
    copy = tmp_path / f"ledger.db.v1-{NOW:.0f}"
    assert copy.stat().st_mode & 0o777 == 0o600
    old = sqlite3.connect(copy)
    assert old.execute("PRAGMA user_version").fetchone() == (1,)
    assert old.execute("SELECT call_id, state FROM call").fetchall() == [("call-1", State.DUE.value)]
    old.close()


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    """A version is taken as a whole or not at all."""
    path = tmp_path / "ledger.db"
    await make(path)
    db = connect(path)
    with pytest.raises(sqlite3.OperationalError):
        prepare(db, path, NOW, [*scripts(), "CREATE TABLE later (x INTEGER) STRICT; CREATE TABLE call (x INTEGER);"])
    db.close()
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    assert ledger.gauges().calls[State.DUE] == 1
    await ledger.close()


async def test_the_file_is_set_up_as_decided(tmp_path: Path) -> None:
    """Our application id, WAL, incremental vacuum."""
    path = tmp_path / "ledger.db"
    await make(path)
    db = sqlite3.connect(path)
    asked = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "journal_mode", "auto_vacuum")]
    db.close()
    assert asked == [APPLICATION_ID, "wal", 2]


async def test_a_number_is_not_given_again(tmp_path: Path) -> None:
    """Not even if the newest row is erased right after a restart: somebody may still remember its number."""
    path = tmp_path / "ledger.db"
    await make(path)
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    (first,) = await ledger.calls(Filter())
    await ledger.forget(first.call_id or "", NOW)
    await put(ledger, make_call("call-2"))
    (second,) = await ledger.calls(Filter())
    await ledger.close()
    assert second.row > first.row


def test_rows_are_read_as_they_were_written() -> None:
    """The order in which a row's columns are read is the order in which they are written: no two are mixed up."""
    row = LedgerRow(kind=RowKind.CALL, state=State.DUE, source="", path="", admitted_at=0.0, changed_at=0.0)
    for number, field in enumerate(dataclasses.fields(LedgerRow)):
        if field.name not in ("kind", "state", "form", "audio") and not isinstance(getattr(row, field.name), bool):
            setattr(row, field.name, f"value {number}")
    for turn in range(64):  # every pair of the switches differs in one of these
        for number, name in enumerate(("may_have_arrived", "frozen_by_claim", "gathers", "dismissed", "seeks", "copies")):
            setattr(row, name, bool(turn >> number & 1))
        row.form, row.event_count = Form.SEND_CALLS, -1
        assert CALL.record(CALL.values(row)) == row


def test_sound_rows_in_every_table_pass_the_check_at_the_start(tmp_path: Path) -> None:
    """SQLite 3.40 takes a table WITHOUT ROWID for damaged whose key's columns are not its first columns, in their order:
    with one row in it the next start would set a sound ledger aside."""
    path = tmp_path / "ledger.db"
    db = connect(path)
    prepare(db, path, NOW, scripts())
    values = {"INTEGER": 1, "REAL": 1.0, "TEXT": "x", "BLOB": b"x"}
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%STRICT%'")]
    assert len(tables) >= 12
    db.execute("PRAGMA foreign_keys = OFF")
    for table in tables:
        columns = db.execute(f"PRAGMA table_info({table})").fetchall()
        row = {name: values[kind] for _, name, kind, *_ in columns}
        names = ", ".join(f'"{name}"' for name in row)
        db.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
        assert db.execute("PRAGMA quick_check").fetchall() == [("ok",)], table
        keys = [name for _, name, *_, at in sorted(columns, key=lambda column: column[-1]) if at]
        if "WITHOUT ROWID" in db.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]:
            assert [name for _, name, *_ in columns][: len(keys)] == keys, table
    db.close()
