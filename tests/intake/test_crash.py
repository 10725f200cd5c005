"""A document over which the process dies, twice, in real processes: it is set aside, and everything else arrives."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest

from tests.intake.harness import map_call, put, source
from tunerd.call import State
from tunerd.clock import SystemClock
from tunerd.intake.crash_journal import FILE, CrashJournal, Phase, Section, batch_at
from tunerd.intake.sources import Intake, IntakeOptions
from tunerd.ledger import Admission, Admitted, Filter, StoredCall
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.testing import MemoryLedger, Recorder

DIED = {9, -9}


async def die(directory: Path, **environ: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.intake.dying", str(directory), env={**os.environ, **environ}
    )
    async with asyncio.timeout(30):
        return await process.wait()


async def rows(directory: Path) -> list[StoredCall]:
    ledger = await SqliteLedger.open(directory / "ledger.db", now=time.time(), emit=Recorder())
    try:
        return list(await ledger.calls(Filter(dismissed=None), limit=1000))
    finally:
        await ledger.close()


@pytest.mark.parametrize(("shape", "deadly"), [("files", "kill"), ("list", "exit"), ("log", "exit")])
async def test_a_document_that_kills_twice_is_set_aside(tmp_path: Path, shape: str, deadly: str) -> None:
    """Alone, in the middle of a list, or of a log: the third start sets just it aside, and reads all the others."""
    root = tmp_path / "calls"
    root.mkdir()
    documents = [{"id": f"c{i}"} for i in range(40)]
    documents[17]["deadly"] = deadly
    if shape == "files":
        for i, document in enumerate(documents):
            put(root / f"{i:02}.json", document)
    elif shape == "list":
        put(root / "all.json", documents)
    else:
        put(root / "all.ndjson", "".join(json.dumps(document) + "\n" for document in documents))
    assert await die(tmp_path) in DIED
    assert await die(tmp_path) in DIED
    assert await die(tmp_path) == 0
    found = await rows(tmp_path)
    (failed,) = (row for row in found if row.state is State.FAILED)
    assert failed.reason == "crashed"
    assert "more than once" in failed.detail
    assert "while the rules mapped this document" in failed.detail
    assert {row.call_id for row in found if row.state is State.DUE} == {f"c{i}" for i in range(40) if i != 17}
    assert not (tmp_path / "ledger.db.in-hand").exists()


async def test_one_that_dies_while_it_is_admitted_goes_after_six_times(tmp_path: Path) -> None:
    """A commit takes long, so a SIGKILL often falls into one: it takes more deaths, and the others still arrive."""
    (tmp_path / "calls").mkdir()
    for name in ("a", "deadly-admit", "z"):
        put(tmp_path / f"calls/{name}.json", {"id": name})
    codes = [await die(tmp_path) for _ in range(7)]
    assert codes == [9] * 6 + [0]
    assert {(row.call_id, row.state) for row in await rows(tmp_path)} == {
        ("a", State.DUE), ("z", State.DUE), (None, State.FAILED),
    }  # fmt: skip


async def test_two_deaths_for_another_reason_accuse_nobody(tmp_path: Path) -> None:
    """Killed twice while it waits for its commit: it arrives the third time."""
    (tmp_path / "calls").mkdir()
    put(tmp_path / "calls/a.json", {"id": "a"})
    assert await die(tmp_path, DIE_ADMITTING="1") == 9
    assert await die(tmp_path, DIE_ADMITTING="1") == 9
    assert await die(tmp_path) == 0
    assert [(row.call_id, row.state) for row in await rows(tmp_path)] == [("a", State.DUE)]


async def test_a_log_that_was_in_hand_at_a_kill_is_read_in_batches(tmp_path: Path) -> None:
    """One document a commit would take minutes of a long log; the next kill would find it no further."""
    log, kept = tmp_path / "calls" / "all.ndjson", str(tmp_path / "in-hand")
    log.parent.mkdir()
    put(log, "".join(json.dumps({"id": f"c{i}"}) + "\n" for i in range(1000)))
    for phase, section in ((Phase.READING, FILE), (Phase.MAPPING, Section(offset=0, length=12)), (Phase.ADMITTING, batch_at(0))):
        CrashJournal(kept).begin("agent", str(log)).note(phase, section)
    ledger, commits = MemoryLedger(), list[int]()
    admit = ledger.admit

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(ledger, name)

        def admit(self, admission: Admission, now: float) -> "asyncio.Future[Admitted]":
            return asyncio.ensure_future(self._admit(admission, now))

        async def _admit(self, admission: Admission, now: float) -> Admitted:
            commits.append(len(admission.calls))
            return await admit(admission, now)

    chosen = source(log.parent)
    intake = Intake([chosen], Counting(), {"agent": map_call}, SystemClock(), Recorder(), IntakeOptions(crash_journal=kept))  # type: ignore[arg-type]
    await intake.sweep()
    intake.close()
    assert sum(commits) == 1000
    assert len([one for one in commits if one]) <= 20


def test_what_was_in_hand_is_known_to_the_next_process(tmp_path: Path) -> None:
    """Of a batch that is mapped the document counts; who ends cleanly is not suspected."""
    kept, exact = str(tmp_path / "in-hand"), Section(offset=5, length=9)
    first = CrashJournal(kept)
    first.begin("s", "/ended").end(cleared=True)
    first.begin("s", "/log").note(Phase.MAPPING, exact)
    second = CrashJournal(kept)
    assert second.suspects("s") == ["/log"]
    hold = second.begin("s", "/log")
    assert hold.is_suspect
    assert not hold.is_quarantined(exact)
    hold.note(Phase.MAPPING, exact)
    third = CrashJournal(kept)
    hold = third.begin("s", "/log")
    assert hold.is_quarantined(exact)
    assert not hold.is_quarantined(Section(offset=6, length=9))
    hold.end(cleared=False)
    fourth = CrashJournal(kept)
    assert fourth.begin("s", "/log").is_quarantined(exact)  # until it has been set aside
    fourth.begin("s", "/log").end(cleared=True)
    assert not fourth.suspects("s")


def test_what_is_durable_is_suspected_no_more(tmp_path: Path) -> None:
    """A log that is read a batch further at each of ten kills is never accused of them."""
    kept = str(tmp_path / "in-hand")
    for life in range(10):
        journal = CrashJournal(kept)
        hold = journal.begin("s", "/log")
        assert not hold.is_quarantined(FILE)
        assert not hold.is_taken_singly(batch_at(life * 100))
        hold.note(Phase.ADMITTING, batch_at(life * 100))
        hold.passed((life + 1) * 100)
        hold.note(Phase.READING, FILE)
    later = CrashJournal(kept)
    hold = later.begin("s", "/log")
    hold.note(Phase.MAPPING, Section(offset=1500, length=9))
    last = CrashJournal(kept)
    hold = last.begin("s", "/log")
    hold.passed(1200)
    hold.note(Phase.MAPPING, Section(offset=1500, length=9))
    assert CrashJournal(kept).begin("s", "/log").is_quarantined(Section(offset=1500, length=9))  # it stands behind that


def test_a_batch_that_is_being_admitted_at_three_deaths_is_taken_singly(tmp_path: Path) -> None:
    """And its documents start from there: the deadly one is set aside after six deaths in all."""
    kept, exact = str(tmp_path / "in-hand"), Section(offset=40, length=9)
    for _ in range(3):
        hold = CrashJournal(kept).begin("s", "/log")
        assert not hold.is_taken_singly(batch_at(30))
        hold.note(Phase.ADMITTING, batch_at(30))
    for _ in range(3):
        hold = CrashJournal(kept).begin("s", "/log")
        assert hold.is_taken_singly(batch_at(30))
        assert not hold.is_quarantined(exact)
        hold.note(Phase.ADMITTING, exact)
    assert CrashJournal(kept).begin("s", "/log").is_quarantined(exact)


def test_a_file_that_cannot_even_be_read_is_quarantined_as_a_whole(tmp_path: Path) -> None:
    """Six deaths while its bytes were read: fewer may be anybody's SIGKILL."""
    kept = str(tmp_path / "in-hand")
    for _ in range(6):
        assert not CrashJournal(kept).begin("s", "/large").is_quarantined(FILE)
    assert CrashJournal(kept).begin("s", "/large").is_quarantined(FILE)


@pytest.mark.parametrize("left", [b"", b"\0" * 20_000, b"garbage" * 5_000, b"9 9 9 9\0s\0p\0", b"1 1 1\0"])
def test_a_damaged_memory_accuses_nobody(tmp_path: Path, left: bytes) -> None:
    """Whatever stands in the file, intake goes on."""
    (tmp_path / "in-hand").write_bytes(left)
    in_hand = CrashJournal(str(tmp_path / "in-hand"))
    assert in_hand.suspects("s") == []
    in_hand.begin("s", "/a").end(cleared=True)
    in_hand.close()
