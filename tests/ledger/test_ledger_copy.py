"""`tunerd ledger copy`: a ledger in a file moves to PostgreSQL, and back."""

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.ledger.parts import NOW, REJECTED, SENT, bring, claimed, file_mark, put, recording, waiting
from tests.ledger.postgres_server import Cluster, needs_postgres
from tests.ledger.test_contract_gather import collect, fragment, groups
from tunerd.call import State
from tunerd.config import LedgerConfig, Secret
from tunerd.copy_ledger import copy_to
from tunerd.ledger import LedgerRefused
from tunerd.ledger.copying import CopySource, copy_ledger
from tunerd.ledger.disks import Disks
from tunerd.ledger.postgresql.dialect import columns
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.ledger.sqlite.connect import scripts
from tunerd.ledger.sqlite.file_copy import FileSource
from tunerd.open_ledger import open_copy_target, open_server
from tunerd.testing import Recorder, make_call

pytestmark = needs_postgres

TABLES = columns("".join(scripts()))
OF_A_FLEET = {"counts", "instance"}
ODD = "caf\u00e9 \0 \U0001f600 \\ ' \" \t\n\r"


@pytest.fixture
def url(postgres: Cluster) -> str:
    return postgres.database()


async def filled(path: Path) -> None:
    """A ledger with calls that wait, are due, are being sent, were sent and have failed."""
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await put(ledger, waiting("waits"))
    await bring(ledger, recording("https://audio.example/free.ogg", key="another room"))
    for number, settlement in enumerate((SENT, REJECTED, None)):
        await put(ledger, make_call(f"c{number}"))
        claim = await claimed(ledger)
        if settlement is not None:
            await ledger.settle(claim.row, settlement, NOW + 1)
    await put(ledger, make_call("due"))
    await ledger.close()


def add_odd_rows(path: Path) -> None:
    """Calls in every state, and in each table rows with odd values."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for table, kinds in TABLES.items():
            if table not in OF_A_FLEET | {"meta"}:
                for number in range(100, 100 + len(State)):
                    db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(kinds))})", tuple(values(db, table, number)))
        for number, state in enumerate(State, 100):
            db.execute("UPDATE call SET state = ? WHERE row = ?", (state, number))
        db.execute("UPDATE call SET kind = 'call', audio = 'none', dismissed = 0 WHERE row >= 100")
        db.execute("UPDATE call SET recording_location = 'file:///a/b.wav', audio = 'pending' WHERE row = 101")
        db.execute("UPDATE recording SET source = 'file:', location = 'file:///a/b.wav' WHERE row = 101")
        db.execute("UPDATE want SET source = 'file:' WHERE call = 101")
        db.execute("INSERT INTO meta (name, value) VALUES ('last_row', 5000)")


def values(db: sqlite3.Connection, table: str, number: int) -> Iterator[object]:
    """Of one row: NULL in each second row where the table allows it."""
    for _, name, kind, is_needed, _, _ in db.execute(f"PRAGMA table_info({table})").fetchall():
        if not is_needed and number % 2 and name != "row":
            yield None
        elif name in ("holder", "claims", "volume", "owner"):
            yield 0
        else:
            yield {
                "INTEGER": number,
                "REAL": number + 1 / 3,
                "BLOB": bytes(range(256)) * number,
                "TEXT": f"{name} {number} {ODD}",
            }[kind]


def rows(path: Path) -> dict[str, Counter[object]]:
    """Every row of every table, without the marks of a copy."""
    with closing(sqlite3.connect(path)) as db:
        found = {table: Counter(db.execute(f"SELECT * FROM {table}").fetchall()) for table in TABLES}
    found["meta"] = Counter({row: 1 for row in found["meta"] if not row[0].startswith(("moved:", "copying:", "copied"))})
    return found


async def test_there_and_back_every_row_is_the_same(tmp_path: Path, url: str) -> None:
    """Byte for byte, in every table."""
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    await filled(first)
    add_odd_rows(first)
    before = rows(first)
    assert all(before[table] for table in TABLES if table not in OF_A_FLEET)
    counts = await copy_to(str(first), url, "one")
    assert counts["call"] == before["call"].total()
    await copy_to(url, str(second), "one")
    assert rows(second) == before


async def test_it_works_on_in_postgresql(tmp_path: Path, url: str) -> None:
    """What was being sent is due, the counts are right, and no number is given twice."""
    path = tmp_path / "ledger.db"
    await filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("INSERT INTO meta (name, value) VALUES ('last_row', 5000)")
    await copy_to(str(path), url, "one")
    ledger = await open_server(LedgerConfig(server=Secret(url)), NOW, Recorder(), "one")
    try:
        found = {state: count for state, count in ledger.gauges().calls.items() if count}
        assert found == {State.WAITING: 1, State.SENT: 1, State.FAILED: 1, State.DUE: 2}
        await put(ledger, make_call("new"))
        assert (await ledger.story("new"))[0].call.row > 5000
    finally:
        await ledger.close()


async def test_a_call_that_is_gathered_is_the_instances_that_the_copy_names(tmp_path: Path, url: str) -> None:
    """It reads the files that may be part of it; another one looks at the call only when that is gone."""
    path = tmp_path / "ledger.db"
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await collect(ledger, fragment())
    await ledger.close()
    await copy_to(str(path), url, "one")
    one, two = [await open_server(LedgerConfig(server=Secret(url)), NOW, Recorder(), name) for name in ("one", "two")]
    try:
        assert await groups(two) == []
        assert [found.key for found in await groups(one)] == ["k"]
    finally:
        await one.close()
        await two.close()


async def test_a_moved_ledger_is_not_opened_any_more(tmp_path: Path, url: str) -> None:
    """Neither end: each refusal names the new place."""
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    await filled(first)
    await copy_to(str(first), url, "one")
    with pytest.raises(LedgerRefused, match=r"was moved to postgresql://127\.0\.0\.1") as caught:
        await SqliteLedger.open(first, now=NOW, emit=Recorder())
    assert caught.value.exit_code == 78
    await copy_to(url, str(second), "one")
    with pytest.raises(LedgerRefused, match=re.escape(f"was moved to sqlite://{second}")) as caught:
        await open_server(LedgerConfig(server=Secret(url)), NOW, Recorder(), "one")
    assert caught.value.exit_code == 78
    await (await SqliteLedger.open(second, now=NOW, emit=Recorder())).close()


class _Breaks(Exception):
    """What a test does to a copy."""


class Breaking:
    """A source that breaks off at a table, or at the very end."""

    def __init__(self, source: CopySource, at: str) -> None:
        self._source, self._at = source, at
        self.begin, self.last_numbers, self.close = source.begin, source.last_numbers, source.close

    def rows(self, table: str, columns: tuple[str, ...]) -> Iterator[tuple[object, ...]]:
        if table == self._at:
            raise _Breaks
        yield from self._source.rows(table, columns)  # type: ignore[misc]

    def finish(self, target: str) -> None:
        raise _Breaks


@pytest.mark.parametrize("at", ["call", "want", "the end"])
async def test_a_copy_that_was_broken_off_can_be_repeated(tmp_path: Path, url: str, at: str) -> None:
    """Wherever it was broken off; until it is complete, the old ledger can be used as before."""
    path = tmp_path / "ledger.db"
    await filled(path)
    add_odd_rows(path)
    before = rows(path)
    source, target = FileSource(path, NOW), open_copy_target(LedgerConfig(server=Secret(url)), "one")
    with pytest.raises(_Breaks):
        copy_ledger(
            Breaking(source, at), target, f"postgresql://{url.partition('@')[2]}", {t: tuple(c) for t, c in TABLES.items()}
        )
    source.close()
    target.close()
    assert rows(path) == before
    await copy_to(str(path), url, "one")
    await copy_to(url, str(tmp_path / "back.db"), "one")
    assert rows(tmp_path / "back.db") == before


async def test_a_ledger_that_was_used_in_between_is_not_taken_for_a_copy(tmp_path: Path, url: str) -> None:
    """The copy was complete and the source not marked yet; then the old ledger was opened again: what it wrote is not lost."""
    path = tmp_path / "ledger.db"
    await filled(path)
    source, target = FileSource(path, NOW), open_copy_target(LedgerConfig(server=Secret(url)), "one")
    with pytest.raises(_Breaks):
        copy_ledger(Breaking(source, "the end"), target, "postgresql://elsewhere", {t: tuple(c) for t, c in TABLES.items()})
    source.close()
    target.close()
    await (await SqliteLedger.open(path, now=NOW, emit=Recorder())).close()
    with pytest.raises(LedgerRefused, match=r"there is a ledger at .* already"):
        await copy_to(str(path), url, "one")
    await (await SqliteLedger.open(path, now=NOW, emit=Recorder())).close()


async def test_a_running_tunerd_prevents_it(tmp_path: Path, url: str) -> None:
    """At either end, with 75."""
    path = tmp_path / "ledger.db"
    await filled(path)
    held = await SqliteLedger.open(tmp_path / "held.db", now=NOW, emit=Recorder())
    running = await open_server(LedgerConfig(server=Secret(url)), NOW, Recorder(), "one")
    try:
        for source, target in (
            (str(path), url),
            (url, str(path)),
            (str(tmp_path / "held.db"), url),
            (url, str(tmp_path / "held.db")),
        ):
            with pytest.raises(LedgerRefused) as caught:
                await copy_to(source, target, "one")
            assert caught.value.exit_code == 75
    finally:
        await running.close()
        await held.close()


async def test_a_fleet_of_several_does_not_fit_a_file(tmp_path: Path, url: str) -> None:
    """Only one process reads with a ledger in a file; what the others have read would be read again."""
    for name in ("one", "two"):
        ledger = await open_server(LedgerConfig(server=Secret(url)), NOW, Recorder(), name)
        await put(ledger, make_call(f"of-{name}"))
        await ledger.close()
    from tunerd.ledger.postgresql.postgresql_server import Server, connect

    with connect(Server(url=url)) as connection:
        connection.execute(
            "UPDATE tunerd.call SET owner = (SELECT number FROM tunerd.instance WHERE name = 'two') WHERE call_id = 'of-two'"
        )
    with pytest.raises(LedgerRefused, match=r"has other instances than one \(two\)"):
        await copy_to(url, str(tmp_path / "ledger.db"), "one")
    assert not (tmp_path / "ledger.db").exists()


async def test_an_instance_that_the_ledger_does_not_know_is_refused(tmp_path: Path, url: str) -> None:
    """A mistyped name would leave what its files are known for behind."""
    await (await open_server(LedgerConfig(server=Secret(url)), NOW, Recorder(), "one")).close()
    with pytest.raises(LedgerRefused, match="knows no instance won"):
        await copy_to(url, str(tmp_path / "ledger.db"), "won")


async def test_the_instance_knows_its_files_after_the_copy(tmp_path: Path, url: str) -> None:
    """Its first start in PostgreSQL reads none of them again; for another instance they are other files."""
    path = tmp_path / "ledger.db"
    await filled(path)
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await ledger.set_mark(file_mark("/calls/a.json"), NOW)
    (mark,) = await ledger.marks(file_mark("/calls/a.json").source)
    await ledger.close()
    await copy_to(str(path), url, "one")
    for name, expected in (("one", [mark]), ("two", [])):
        disks = Disks(volumes={mark.source: f"the disk of {name}"})
        opened = await open_server(LedgerConfig(server=Secret(url)), NOW, Recorder(), name, disks=disks)
        try:
            assert list(await opened.marks(mark.source)) == expected
        finally:
            await opened.close()


async def test_a_source_that_became_shared_comes_back_with_the_marks_of_the_shared_volume(tmp_path: Path, url: str) -> None:
    """Both volumes know the same file, and a ledger in a file has one."""
    path, back = tmp_path / "ledger.db", tmp_path / "back.db"
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await ledger.set_mark(file_mark("/calls/a.json"), NOW)
    await ledger.close()
    await copy_to(str(path), url, "one")
    from tunerd.ledger.postgresql.postgresql_server import Server, connect

    with connect(Server(url=url)) as connection:
        connection.execute("CREATE TEMP TABLE known AS SELECT * FROM tunerd.file")
        connection.execute('UPDATE known SET volume = 0, "offset" = 50')
        connection.execute("INSERT INTO tunerd.file SELECT * FROM known")
    await copy_to(url, str(back), "one")
    again = await SqliteLedger.open(back, now=NOW, emit=Recorder())
    assert [mark.offset for mark in await again.marks("agent")] == [50]
    await again.close()


async def test_a_server_that_goes_away_breaks_the_copy_off(tmp_path: Path, url: str) -> None:
    """With words that quote no row, and the ledger can still be copied."""
    path = tmp_path / "ledger.db"
    await filled(path)
    source, target = FileSource(path, NOW), open_copy_target(LedgerConfig(server=Secret(url)), "one")
    import psycopg

    from tunerd.ledger.postgresql.postgresql_server import Server, connect

    target.copied()
    with connect(Server(url=url)) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation IS NOT NULL")
    with pytest.raises(psycopg.Error) as caught:
        target.write("call", tuple(TABLES["call"]), source.rows("call", tuple(TABLES["call"])))
    assert target.words(caught.value) in ("the server is being shut down (57P01)",
                                          "the PostgreSQL server of the ledger does not answer (no connection)")  # fmt: skip
    source.close()
    target.close()
    assert (await copy_to(str(path), url, "one"))["call"] == 5
