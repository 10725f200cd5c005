"""What a transaction changed is in the tables whenever somebody reads them, in few statements, and gone after a rollback."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.parts import NOW
from tunerd.call import State
from tunerd.ledger.rows import Body, LedgerRow, RowKind, Want
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.damage import open_sound
from tunerd.ledger.sqlite.sqlite_database import sqlite_of
from tunerd.ledger.states import Move


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store, _ = open_sound(tmp_path / "ledger.db", NOW, 86_400.0)
    yield store
    store.db.close()


def row(call_id: str) -> LedgerRow:
    return LedgerRow(kind=RowKind.CALL, state=State.DUE, source="calls", destination="tuner", workspace="42", agent="a", call_id=call_id,
               path="/calls/log", admitted_at=NOW, changed_at=NOW, due_at=NOW)  # fmt: skip


def add(store: Store, *call_ids: str) -> list[LedgerRow]:
    rows = [row(call_id) for call_id in call_ids]
    for one in rows:
        store.add(one, Body(payload=b"{}", document=one.call_id.encode() if one.call_id else None))
    return rows


def statements(store: Store) -> list[str]:
    """Of what follows: the first word of each statement that SQLite begins."""
    seen: list[str] = []
    sqlite_of(store).connection.set_trace_callback(lambda sql: seen.append(sql.split()[0]))
    return seen


def test_what_was_changed_is_read(store: Store) -> None:
    """Rows, changes of rows that are new or older, and bodies are seen by the same transaction, and after the commit."""
    store.begin(full=False)
    (older,) = add(store, "older")
    store.commit()
    store.begin(full=False)
    (newer,) = add(store, "newer")
    store.change(newer, detail="of the newer")
    store.change(older, detail="of the older")
    store.change(older, status=503)
    store.set_body(older, Body(payload=b'{"of": 2}'))
    for _ in ("within", "after the commit"):
        seen = {one.call_id: one for call_id in ("older", "newer") for one in store.calls.with_id("42", "a", call_id)}
        assert (seen["newer"].detail, seen["older"].detail, seen["older"].status) == ("of the newer", "of the older", 503)
        assert store.bodies.payload(older.row)[0] == b'{"of": 2}'
        if sqlite_of(store).connection.in_transaction:
            store.commit()


def test_a_rollback_forgets(store: Store) -> None:
    """Nothing that was not written yet comes into the next transaction."""
    store.begin(full=False)
    add(store, "gone")
    store.rollback()
    store.begin(full=False)
    add(store, "there")
    store.commit()
    assert [call_id for (call_id,) in store.db.execute("SELECT call_id FROM call")] == ["there"]
    assert store.db.execute("SELECT count(*) FROM body").fetchone() == (1,)


def test_a_new_row_takes_an_id_that_was_given_up(store: Store) -> None:
    """One call gets another id and a new one takes its old id, in one transaction."""
    store.begin(full=False)
    (first,) = add(store, "wanted")
    store.commit()
    store.begin(full=False)
    store.change(first, call_id="other")
    (second,) = add(store, "wanted")
    store.commit()
    assert [one.row for one in store.calls.with_id("42", "a", "wanted")] == [second.row]


def test_an_id_cannot_be_held_twice(store: Store) -> None:
    """The table's own rule still stands, at the latest at the commit."""
    store.begin(full=False)
    add(store, "one", "one")
    with pytest.raises(sqlite3.IntegrityError):
        store.commit()
    store.rollback()


def test_forty_rows_are_few_statements(store: Store) -> None:
    """40 new rows with their bodies, then 40 that move on and lose their bodies: as many statements as there are parts."""
    store.begin(full=False)
    rows = add(store, *(f"c{number}" for number in range(40)))
    seen = statements(store)
    store.commit()
    assert seen == ["INSERT", "INSERT", "INSERT", "INSERT", "INSERT", "COMMIT"], "the last counts the commit"
    store.begin(full=False)
    for one in rows:
        store.move(one, Move.CLAIM, State.SENDING, NOW, claimed_at=NOW)
        store.bodies.remove(one.row)
    seen.clear()
    store.commit()
    assert seen == ["UPDATE", "DELETE", "INSERT", "COMMIT"]
    assert len(store.calls.sending(0)) == 40
    assert store.db.execute("SELECT count(*) FROM body").fetchone() == (0,)


def test_bodies_of_sent_calls_go_some_at_a_time(store: Store) -> None:
    """Of many that are kept up to an eighth more stay for a while; of few, none."""
    for kept, most in ((80, 90), (4, 4)):
        store.begin(full=False)
        store.bodies.keep(kept)
        rows = add(store, *(f"{kept}-{number}" for number in range(120)))
        for one in rows:
            store.bodies.note_sent(one.row)
        store.commit()
        there = store.db.execute("SELECT count(*) FROM body").fetchone()[0]
        assert kept <= there <= most
        assert store.bodies.get(rows[-1].row) is not None


def test_new_wants_are_written_together_and_are_seen_at_once(store: Store) -> None:
    """However many calls bring wants, they take one statement; a question of the same transaction has them, a rollback none."""
    store.begin(full=False)
    for one in add(store, "a", "b", "c", "d"):
        store.wants.note_closed([want(one.row)])
    seen = statements(store)
    assert [found.key for found in store.wants.rivals_near("rooms", "room-2", 1_000)] == ["room-2"]
    assert seen.count("INSERT") == 1
    store.wants.note_closed([want(9)])
    store.rollback()
    store.begin(full=False)
    assert store.wants.rivals_near("rooms", "room-2", 1_000) == []
    assert store.wants.of(9) == []


def want(call: int) -> Want:
    return Want(call=call, position=1, source="rooms", key=f"room-{call}", started_at_ms=1_000, ended_at_ms=None, within_ms=None,
                near_ms=0, seeking=False)  # fmt: skip
