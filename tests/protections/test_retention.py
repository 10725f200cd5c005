"""Months of calls (a year in `make thorough`), simulated in seconds: rows, events and bytes of the ledger stay bounded, and a deleted call is not sent
again from a file that was kept."""

import sqlite3
from dataclasses import replace
from pathlib import Path

from tests.examples import IS_THOROUGH
from tests.ledger.parts import FORM, SENT, file_mark, freeze, recording, refused
from tunerd.ledger import Admission, Deferred, Ended, Retention
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.outcome import FailReason, RetryReason
from tunerd.testing import Recorder, make_call

NOW = 1_767_225_600.0
DAY_S = 86_400.0
DAYS, CALLS_A_DAY = 365 if IS_THOROUGH else 200, 8
KEEP = Retention(sent_s=30 * DAY_S, failed_s=90 * DAY_S, recordings_s=7 * DAY_S, max_failed_bytes=40_000, documents=50)
RETRY = Deferred(due_at=0.0, reason=RetryReason.SERVER_ERROR, status=503, detail="503", counts=True, surely_not_arrived=False)
TABLES = ("call", "body", "frozen", "recording", "origin", "event", "want", "file")


def rows(path: Path) -> dict[str, int]:
    db = sqlite3.connect(path)
    counts = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
    db.close()
    return counts


def held_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, path.with_name(path.name + "-wal")) if file.exists())


async def day(ledger: SqliteLedger, number: int) -> None:
    """Sent calls, one of them after 25 attempts, rejected calls, an unreadable file, and recordings that no call asks for."""
    now = NOW + number * DAY_S
    calls = [
        make_call(f"call-{number}-{n}", text="word " * 300, path=f"/calls/{number}.json", offset=n) for n in range(CALLS_A_DAY)
    ]
    mark = file_mark(f"/calls/{number}.json", inode=number)
    spare = [recording(f"https://audio.example/{number}/{n}.ogg", key=f"room-{number}-{n}") for n in range(3)]
    bad = refused(f"/calls/{number}-bad.json", head=b"{" * 4000)
    await ledger.admit(Admission(calls=calls, recordings=spare, refused=[bad], mark=mark), now)
    for n in range(CALLS_A_DAY):
        claim = await ledger.claim("tuner", FORM, freeze, now)
        assert claim.claimed is not None
        if n == 0 and number % 5 == 0:
            for _ in range(25):
                await ledger.settle(claim.claimed.row, RETRY, now)
                again = await ledger.claim("tuner", FORM, freeze, now)
                assert again.claimed is not None
                claim = again
        rejected = Ended(reason=FailReason.REJECTED, status=422, detail="422")
        await ledger.settle(claim.claimed.row, rejected if n % 8 == 7 else SENT, now)
    if number >= 10 and number % 2:
        await ledger.vanished("agent", [f"/calls/{number - 10}.json"], now)


async def test_a_year_leaves_a_bounded_ledger(tmp_path: Path) -> None:
    """From the fourth month on only the marks of files on disk grow: sent rows stay 30 days, failed ones 90, their bodies
    within max_failed_bytes, recordings 7 days, with at most 20 events per call."""
    path = tmp_path / "ledger.db"
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    sizes, counts = dict[int, int](), dict[int, dict[str, int]]()
    for number in range(DAYS):
        await day(ledger, number)
        while await ledger.trim(KEEP, NOW + number * DAY_S + 3600):
            pass
        if number in (119, DAYS - 1):
            sizes[number], counts[number] = held_bytes(path), rows(path)
    assert not await ledger.story("call-0-0")
    assert await ledger.mark("agent", "/calls/0.json") == file_mark("/calls/0.json", inode=0), "still on disk, and known as read"
    assert await ledger.mark("agent", "/calls/1.json") is None, "long gone from the disk"
    await ledger.close()
    first, last = counts[119], counts[DAYS - 1]
    for table in set(TABLES) - {"file"}:
        assert last[table] <= first[table] + CALLS_A_DAY, (table, first, last)
    sent_a_day, failed_a_day = CALLS_A_DAY * 7 // 8, CALLS_A_DAY // 8 + 1
    assert last["call"] <= 31 * sent_a_day + 91 * failed_a_day
    assert last["recording"] <= 8 * 3
    assert last["event"] <= 20 * last["call"]
    assert last["file"] <= DAYS // 2 + 20
    marks_grown = (last["file"] - first["file"]) * 400
    assert sizes[DAYS - 1] <= 1.2 * sizes[119] + marks_grown, sizes


async def test_bodies_of_failed_calls_stay_within_their_limit(tmp_path: Path) -> None:
    """Beyond max_failed_bytes the oldest failed calls lose their documents, but not their rows: each stays visible."""
    ledger = await SqliteLedger.open(tmp_path / "ledger.db", now=NOW, emit=Recorder())
    for n in range(30):
        await ledger.admit(Admission(calls=[make_call(f"call-{n}", text="word " * 1000)]), NOW + n)
        claim = await ledger.claim("tuner", FORM, freeze, NOW + n)
        assert claim.claimed is not None
        await ledger.settle(claim.claimed.row, Ended(reason=FailReason.REJECTED, status=422, detail="422"), NOW + n)
    while await ledger.trim(KEEP, NOW + 60):
        pass
    documents = [await ledger.document(row) for row in range(1, 31)]
    kept = [document for document in documents if document is not None]
    assert 0 < len(kept) < 30
    assert documents[-1] is not None
    assert documents[0] is None
    assert sum(ledger.gauges().calls.values()) == 30
    await ledger.close()


async def test_documents_that_no_rule_could_map_keep_their_bodies(tmp_path: Path) -> None:
    """A wrong rule on a log of any size stays repairable: `max_failed_bytes` does not delete these documents, the gauges show
    their size, also after a restart, and dismissing them frees it."""
    path = tmp_path / "ledger.db"
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    document = b'{"said": "' + b"word " * 2000 + b'"}'
    bad = [replace(refused(offset=n * 20_000), document=document, head=b"") for n in range(30)]
    reasons = [replace(one, refusal=replace(one.refusal, reason=FailReason.UNMAPPABLE)) for one in bad]
    await ledger.admit(Admission(refused=reasons), NOW)
    assert 30 * len(document) > KEEP.max_failed_bytes
    while await ledger.trim(KEEP, NOW + 60):
        pass
    assert all([await ledger.document(row) == document for row in range(1, 31)])
    assert ledger.gauges().unmapped_bytes == 30 * len(document)
    await ledger.close()
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    assert ledger.gauges().unmapped_bytes == 30 * len(document)
    await ledger.dismiss(list(range(1, 31)), NOW + 61)
    assert ledger.gauges().unmapped_bytes == 0
    while await ledger.trim(KEEP, NOW + 120):
        pass
    assert sum([await ledger.document(row) is not None for row in range(1, 31)]) * len(document) <= KEEP.max_failed_bytes
    await ledger.close()
