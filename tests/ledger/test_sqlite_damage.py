"""Damaged files: the ledger starts or refuses with one clear line, keeps the damaged file, and saves what can be read."""

import random
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from tunerd.call import Form, Fragment, Origin, State
from tunerd.events import LedgerRebuilt
from tunerd.ledger import Admission, AdmitVerdict, Filter, LedgerRefused, LedgerUnavailable
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.testing import Recorder, make_call

from .parts import NOW, SENT, bring, claimed, file_mark, freeze, later, put, recording, state, verdicts, waiting

OLD_NS = int((NOW - 40 * 86_400) * 1e9)
PAGE = 4096


async def make(path: Path, sent: int = 120) -> None:
    """A closed ledger: some sent calls, one that is tried again, one that waits, an old and a new file."""
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await put(ledger, *(make_call(f"s{number}") for number in range(sent)))
    for _ in range(sent):
        await ledger.settle((await claimed(ledger)).row, SENT, NOW)
    await put(ledger, make_call("open"))
    await ledger.settle((await claimed(ledger)).row, later(NOW + 5), NOW)
    await put(ledger, waiting("w"))
    await ledger.admit(Admission(mark=file_mark("/old", mtime_ns=OLD_NS)), NOW)
    await ledger.admit(Admission(mark=file_mark("/new", mtime_ns=int(NOW * 1e9))), NOW)
    await ledger.close()


async def reopen(path: Path) -> tuple[SqliteLedger, Recorder]:
    told = Recorder()
    return await SqliteLedger.open(path, now=NOW + 10, emit=told), told


def kept(path: Path) -> list[Path]:
    return [file for file in path.parent.iterdir() if ".corrupt-" in file.name]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2 // PAGE * PAGE]


def cut_oddly(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3 + 17]


def noise(data: bytes) -> bytes:
    return random.Random(1).randbytes(len(data))


def no_header(data: bytes) -> bytes:
    return bytes(100) + data[100:]


def text(_: bytes) -> bytes:
    return b"this is no database\n" * 400


def empty(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("harm", [cut, cut_oddly, noise, no_header, text, empty])
async def test_a_damaged_file_is_set_aside_and_the_ledger_starts(tmp_path: Path, harm) -> None:  # type: ignore[no-untyped-def]
    """Whatever the damage: the file is kept as .corrupt-<time> byte for byte, it is told once, and work goes on."""
    path = tmp_path / "ledger.db"
    await make(path)
    path.write_bytes(harm(path.read_bytes()))
    damaged = path.read_bytes()
    ledger, told = await reopen(path)
    (rebuilt,) = told.seen(LedgerRebuilt)
    (aside,) = kept(path)
    assert aside.name == "ledger.db.corrupt-20260101T000010Z"
    assert rebuilt.kept_as == str(aside)
    assert aside.read_bytes() == damaged
    assert verdicts(await put(ledger, make_call("after"))) == [(AdmitVerdict.NEW, State.DUE)]
    assert ledger.gauges().calls[State.SENT] == len(await ledger.calls(Filter(states=frozenset({State.SENT})), limit=1000))
    await ledger.close()
    again, told = await reopen(path)
    assert told.seen(LedgerRebuilt) == []
    await again.close()


async def test_what_can_be_read_is_taken_over(tmp_path: Path) -> None:
    """A broken page of an index: every sent id, the open call with its body, the wait, and old marks are saved. Marks of
    files that may hold lost calls are not: those files are read again."""
    path = tmp_path / "ledger.db"
    await make(path)
    break_pages_of(path, "call_holder")
    ledger, told = await reopen(path)
    assert [event.salvaged for event in told.seen(LedgerRebuilt)] == [122]
    assert (
        verdicts(await put(ledger, *(make_call(f"s{number}") for number in range(120))))
        == [(AdmitVerdict.DUPLICATE, State.SENT)] * 120
    )
    assert (await claimed(ledger, NOW + 5)).attempts == 1
    await bring(ledger, recording())
    assert await state(ledger, "w") is State.DUE
    assert [mark.path for mark in await ledger.marks("agent")] == ["/old"]
    await ledger.close()


async def test_calls_that_gather_are_taken_over(tmp_path: Path) -> None:
    """Their documents are there, nothing is made of half of them, and reading the files again adds nothing."""
    path = tmp_path / "ledger.db"
    await make(path)
    ledger, _ = await reopen(path)
    origin = Origin(source="agent", path="/new", length=7, mtime_ns=int(NOW * 1e9))
    part = Fragment(
        origin=origin, source="agent", key="g", part=None, newest=None, document=b'{"n":1}', settled_at=NOW, wait_s=60.0
    )
    await ledger.admit(Admission(fragments=[part], mark=file_mark("/new")), NOW)
    await ledger.close()
    break_pages_of(path, "call_holder")
    ledger, told = await reopen(path)
    assert told.seen(LedgerRebuilt)
    assert (ledger.gauges().calls[State.GATHERING], ledger.gauges().gathering_bytes) == (1, 7)
    await ledger.admit(Admission(fragments=[part], mark=file_mark("/new")), NOW + 10)
    ((group,), _) = await ledger.groups("agent", NOW + 60)
    assert [one.document for one in group.fragments] == [b'{"n":1}']
    await ledger.close()


def lose_bodies(path: Path) -> None:
    """What a call was made of is gone, its row is not; and an index is broken, so that the next open rebuilds."""
    db = sqlite3.connect(path)
    db.execute("DELETE FROM body")
    db.execute("DELETE FROM frozen")
    db.commit()
    db.close()
    break_pages_of(path, "call_holder")


async def test_open_calls_whose_document_is_lost_stay_visible(tmp_path: Path) -> None:
    """Their rows can be read, with id and path; their files are gone. They stand as failed(document_lost), counted in what
    is told, and say what to do. What was sent stays sent."""
    path = tmp_path / "ledger.db"
    await make(path)
    lose_bodies(path)
    ledger, told = await reopen(path)
    (rebuilt,) = told.seen(LedgerRebuilt)
    assert (rebuilt.salvaged, rebuilt.documents_lost, rebuilt.is_readable) == (122, 2, True)
    failed = await ledger.calls(Filter(states=frozenset({State.FAILED})), limit=10)
    assert {(row.call_id, row.reason, row.path) for row in failed} == {
        ("open", "document_lost", "/calls/open.json"),
        ("w", "document_lost", "/calls/w.json"),
    }
    assert all("put the file back" in row.detail for row in failed)
    assert ledger.gauges().calls[State.SENT] == 120
    assert (await ledger.claim("tuner", Form.CREATE_CALL, freeze, NOW + 100)).claimed is None
    await ledger.close()
    again, told = await reopen(path)
    assert again.gauges().calls[State.FAILED] == 2
    await again.close()


async def test_a_lost_document_that_is_read_again_goes_on(tmp_path: Path) -> None:
    """The same document, no newer than the lost one: the row gets it back and is sent; another call is none of its business."""
    path = tmp_path / "ledger.db"
    await make(path)
    lose_bodies(path)
    ledger, _ = await reopen(path)
    assert await ledger.mark("agent", "/calls/open.json") is None, "its file is read again"
    assert verdicts(await put(ledger, make_call("open"))) == [(AdmitVerdict.REVIVED, State.DUE)]
    assert (await claimed(ledger, NOW + 100)).call_id == "open"
    assert verdicts(await put(ledger, waiting("w"))) == [(AdmitVerdict.REVIVED, State.WAITING)]
    await bring(ledger, recording())
    assert await state(ledger, "w") is State.DUE
    await ledger.close()


@pytest.mark.parametrize("harm", ["DELETE FROM fragment", "UPDATE fragment SET document = NULL WHERE seq = 1"])
async def test_a_gathered_call_whose_documents_are_lost_stays_visible(tmp_path: Path, harm: str) -> None:
    """Its key, its path, and that it lost what it was made of, be it a part: it is never sent short. Its documents count as
    new when they are read again."""
    path = tmp_path / "ledger.db"
    await make(path)
    ledger, _ = await reopen(path)
    origin = Origin(source="agent", path="/new", length=7, mtime_ns=int(NOW * 1e9))
    part = Fragment(
        origin=origin, source="agent", key="g", part=None, newest=None, document=b'{"n":1}', settled_at=NOW, wait_s=60.0
    )
    more = replace(part, origin=replace(origin, offset=7), document=b'{"n":2}')
    await ledger.admit(Admission(fragments=[part, more], mark=file_mark("/new")), NOW)
    await ledger.close()
    db = sqlite3.connect(path)
    db.execute(harm)
    db.commit()
    db.close()
    break_pages_of(path, "call_holder")
    ledger, told = await reopen(path)
    assert [event.documents_lost for event in told.seen(LedgerRebuilt)] == [1]
    (row,) = await ledger.calls(Filter(states=frozenset({State.FAILED})), limit=10)
    assert (row.call_id, row.reason) == ("g", "document_lost")
    await ledger.admit(Admission(fragments=[part, more], mark=file_mark("/new")), NOW + 20)
    ((group,), _) = await ledger.groups("agent", NOW + 200)
    assert sorted(one.document for one in group.fragments) == [b'{"n":1}', b'{"n":2}']
    await ledger.close()


async def test_rows_that_cannot_be_read_are_told_in_numbers(tmp_path: Path) -> None:
    """Of a call whose row is gone a body and events are left: at least so many are told to be lost. A file of which nothing
    can be read says so."""
    path = tmp_path / "ledger.db"
    await make(path)
    break_pages_of(path, "call", at_most=1)
    ledger, told = await reopen(path)
    (rebuilt,) = told.seen(LedgerRebuilt)
    assert 0 < rebuilt.unread <= 122 - rebuilt.salvaged
    await ledger.close()
    path.write_bytes(noise(path.read_bytes()))
    ledger, told = await reopen(path)
    assert [event.is_readable for event in told.seen(LedgerRebuilt)] == [False]
    await ledger.close()


async def test_rows_beyond_a_broken_page_are_saved(tmp_path: Path) -> None:
    """One broken page in the middle of the calls loses what stood on it, and no more."""
    path = tmp_path / "ledger.db"
    await make(path)
    break_pages_of(path, "call", at_most=1)
    ledger, told = await reopen(path)
    (rebuilt,) = told.seen(LedgerRebuilt)
    assert 90 <= rebuilt.salvaged < 122
    names = {row.call_id for row in await ledger.calls(Filter(), limit=1000)}
    assert {"s0", "s119"} <= names or {"s1", "s118"} <= names
    await ledger.close()


async def test_flipped_bits_are_found_or_harmless(tmp_path: Path) -> None:
    """Random flipped bytes, many times: the ledger always starts, and its gauges agree with its rows."""
    path = tmp_path / "ledger.db"
    await make(path, sent=30)
    whole = path.read_bytes()
    for seed in range(12):
        chance = random.Random(seed)
        data = bytearray(whole)
        for _ in range(chance.choice([1, 30])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            ledger, _ = await reopen(path)
        except LedgerRefused:  # the version or the owner's mark was hit
            continue
        try:
            rows = await ledger.calls(Filter(dismissed=None), limit=1000)
        except LedgerUnavailable:  # a text that no check of pages sees: whoever reads it is told so, and the next start rebuilds
            await ledger.close()
            ledger, told = await reopen(path)
            assert told.seen(LedgerRebuilt)
            rows = await ledger.calls(Filter(dismissed=None), limit=1000)
        assert sum(ledger.gauges().calls.values()) <= len(rows)
        await put(ledger, make_call(f"after{seed}"))
        await ledger.close()


@pytest.mark.parametrize("harm", ["detail = CAST(x'63616e617279ff' AS TEXT)", "state = 'due', kind = 'nonsense'"])
async def test_damage_met_while_running_ends_the_process_and_is_mended_at_the_next_start(tmp_path: Path, harm: str) -> None:
    """Flipped bits that no check of pages sees: whoever meets the row fails, in words that quote nothing of it; the next
    start rebuilds, without that row. No crash loop."""
    path = tmp_path / "ledger.db"
    await make(path, sent=3)
    db = sqlite3.connect(path)
    db.execute(f"UPDATE call SET {harm} WHERE state = 'due'")
    db.commit()
    db.close()
    ledger, told = await reopen(path)
    with pytest.raises(sqlite3.DatabaseError, match="is damaged") as failed:
        await claimed(ledger, NOW + 10)
    assert "canary" not in repr(failed.getrepr(chain=False))
    await ledger.close()
    ledger, told = await reopen(path)
    assert [event.salvaged for event in told.seen(LedgerRebuilt)] == [4]
    assert ledger.gauges().calls[State.DUE] == 0
    assert await state(ledger, "w") is State.WAITING
    await ledger.close()


async def test_a_rebuilt_ledger_says_so_until_somebody_has_held_back(tmp_path: Path) -> None:
    """The mark is in the ledger: it outlives the process that rebuilt it, and any command in between."""
    path = tmp_path / "ledger.db"
    await make(path, sent=3)
    ledger, _ = await reopen(path)
    assert not await ledger.is_rebuilt()
    await ledger.close()
    path.write_bytes(b"")
    for _ in range(2):
        ledger, _ = await reopen(path)
        assert await ledger.is_rebuilt()
        await ledger.close()
    ledger, _ = await reopen(path)
    await ledger.resends_quarantined()
    await ledger.close()
    ledger, _ = await reopen(path)
    assert not await ledger.is_rebuilt()
    await ledger.close()


@pytest.mark.parametrize("harm", [cut, noise, empty])
async def test_who_does_not_report_changes_nothing(tmp_path: Path, harm) -> None:  # type: ignore[no-untyped-def]
    """One line that says what does; the file stays as it is, and nothing new lies beside it."""
    path = tmp_path / "ledger.db"
    await make(path, sent=3)
    path.write_bytes(harm(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(LedgerRefused, match="is damaged; `tunerd run` sets it aside"):
        await SqliteLedger.open(path, now=NOW, emit=Recorder(), reports=False)
    assert path.read_bytes() == before
    assert not kept(path)
    ledger, told = await reopen(path)
    assert told.seen(LedgerRebuilt)
    await ledger.close()


@pytest.mark.parametrize("content", [b"delivery: {concurrency: 4}\n", b"k", bytes(5000)])
@pytest.mark.parametrize("reports", [True, False])
async def test_a_file_that_never_was_a_ledger_is_refused_and_left_alone(tmp_path: Path, content: bytes, reports: bool) -> None:
    """`ledger.url` names a file of the user's: one line, the file byte for byte as before, nothing new beside it, and the
    same at the next start."""
    path = tmp_path / "base.yaml"
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(LedgerRefused, match=r"base\.yaml is no ledger; it is left untouched: .*\(ledger\.url\)"):
            await SqliteLedger.open(path, now=NOW, emit=Recorder(), reports=reports)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("beside", [".lock", ".reserve", ".suspect", "-wal"])
async def test_a_ledger_without_its_first_page_is_known_by_what_stands_beside_it(tmp_path: Path, beside: str) -> None:
    """Any one file of an earlier run is enough: it is set aside and rebuilt, not taken for somebody else's."""
    path = tmp_path / "ledger.db"
    await make(path, sent=3)
    damaged = bytes(PAGE) + path.read_bytes()[PAGE:]
    for file in tmp_path.iterdir():
        file.unlink()
    path.write_bytes(damaged)
    (tmp_path / f"ledger.db{beside}").write_bytes(b"")
    ledger, told = await reopen(path)
    assert told.seen(LedgerRebuilt)
    assert [file.read_bytes() for file in kept(path) if not file.name.endswith("-wal")] == [damaged]
    await ledger.close()


async def test_a_ledger_cut_within_its_header_is_still_a_ledger(tmp_path: Path) -> None:
    """A few bytes of a database's header are no file of somebody else's."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"SQLite f")
    ledger, told = await reopen(path)
    assert told.seen(LedgerRebuilt)
    await ledger.close()


@pytest.mark.parametrize("when", ["noted", "its log is aside", "it is aside", "half made", "made"])
async def test_a_rebuild_that_was_killed_is_done_again_from_the_same_file(tmp_path: Path, when: str) -> None:
    """Wherever the process died: the next open goes on with the file that was set aside, loses nothing that could be
    read of it, keeps one copy, and the ledger says that it was rebuilt."""
    path = tmp_path / "ledger.db"
    await make(path, sent=30)
    break_pages_of(path, "call_holder")
    name = "ledger.db.corrupt-20260101T000007Z"
    aside, suspect, fresh = tmp_path / name, tmp_path / "ledger.db.suspect", tmp_path / "ledger.db.rebuilt"
    (tmp_path / "ledger.db-wal").write_bytes(b"a log")
    damaged = path.read_bytes()
    suspect.write_text(name)
    if when != "noted":
        (tmp_path / "ledger.db-wal").rename(tmp_path / f"{name}-wal")
    if when in ("it is aside", "half made"):
        path.rename(aside)
    if when == "half made":
        fresh.write_bytes(damaged[:PAGE])
    if when == "made":  # all but the note is done
        first, _ = await reopen(path)
        await first.close()
        suspect.write_text(name)
    ledger, told = await reopen(path)
    assert sorted(kept(path)) == [aside, tmp_path / f"{name}-wal"]
    assert aside.read_bytes() == damaged
    assert not suspect.exists()
    assert not fresh.exists()
    assert await ledger.is_rebuilt()
    assert ledger.gauges().calls[State.SENT] == 30
    await ledger.close()
    again, told = await reopen(path)
    assert told.seen(LedgerRebuilt) == []
    await again.close()


async def test_a_suspicion_of_a_file_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    """Whoever deletes a suspect ledger begins anew; the new one is not rebuilt at the start after that."""
    path = tmp_path / "ledger.db"
    (tmp_path / "ledger.db.suspect").touch()
    for _ in range(2):
        ledger, told = await reopen(path)
        assert told.seen(LedgerRebuilt) == []
        assert not await ledger.is_rebuilt()
        await ledger.close()


def break_pages_of(path: Path, name: str, at_most: int = 1000) -> None:
    """Overwrite pages of a table or index, but not its root."""
    db = sqlite3.connect(path)
    root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0]
    db.close()
    data = bytearray(path.read_bytes())
    at = (root - 1) * PAGE
    kind = data[at]
    pages = [root]
    if kind in (2, 5):  # an interior page: its children
        count = int.from_bytes(data[at + 3 : at + 5], "big")
        cells = [int.from_bytes(data[at + 12 + 2 * n : at + 14 + 2 * n], "big") for n in range(count)]
        pages = [int.from_bytes(data[at + cell : at + cell + 4], "big") for cell in cells]
    middle = len(pages) // 2
    for page in pages[middle : middle + at_most]:
        data[(page - 1) * PAGE : page * PAGE] = b"\xff" * PAGE
    path.write_bytes(data)
