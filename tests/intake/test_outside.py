"""A source's directory is written to by others: whatever they link and exchange, nothing outside is read, moved or deleted."""

import os
import threading
from pathlib import Path

import pytest

from tests.intake.harness import put, running, source
from tests.intake.test_run import send, until, until_scanned
from tests.test_source_tree import busy, exchange
from tunerd.events import FileDisposed, FileIgnored
from tunerd.intake.read_again import read_place
from tunerd.source_tree import LeavesSource


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A source, and beside it a directory that is none of it."""
    (tmp_path / "private").mkdir()
    put(tmp_path / "private" / "a.json", {"id": "outside"})
    root = tmp_path / "calls"
    (root / "day").mkdir(parents=True)
    return root


@pytest.mark.parametrize("watch", ["events", "poll"])
async def test_a_directory_that_becomes_a_link_while_its_file_settles(root: Path, watch: str) -> None:
    """The file that was seen is not there any more, and what the link leads to is not read."""
    async with running(source(root, recursive=True, watch=watch, rescan_s=0.05, settle_s=0.3)) as run:
        await until_scanned(run)
        writer = (root / "day" / "a.json").open("w")
        writer.write('{"id": "inside"}')
        writer.flush()
        put(root / "b.json", {"id": "b"})
        await until(run, "b")
        (root / "day").rename(root.parent / "moved")
        (root / "day").symlink_to(root.parent / "private")
        put(root / "c.json", {"id": "c"})
        if watch == "events":
            await run.told.until(FileIgnored)
        put(root / "d.json", {"id": "d"})
        await until(run, "c", "d")
        writer.close()
    assert "outside" not in run.ids()


async def test_after_sent_deletes_nothing_outside(root: Path) -> None:
    """The directory of a file that was sent is a link when its turn comes: the file of that name behind it stays, though its
    content is what was read."""
    put(root / "day" / "a.json", {"id": "outside"})
    async with running(source(root, recursive=True, after_sent="delete", rescan_s=3600.0)) as run:
        await until(run, "outside")
        (root / "day").rename(root.parent / "moved")
        (root / "day").symlink_to(root.parent / "private")
        await send(run.ledger, "outside")
        put(root / "b.json", {"id": "b"})
        await until(run, "b")
        await send(run.ledger, "b")
        await run.told.until(FileDisposed)
    assert (root.parent / "private" / "a.json").exists()
    assert (root.parent / "moved" / "a.json").exists()


async def test_names_that_change_places_all_the_time(root: Path) -> None:
    """A directory and a file, with links to the outside, thousands of times while tunerd reads: what is inside is read, what
    is outside is not."""
    put(root / "day" / "a.json", {"id": "inside"})
    put(root / "b.json", {"id": "b"})
    (root / "trap").symlink_to(root.parent / "private")
    (root / "trap.json").symlink_to(root.parent / "private" / "a.json")
    pause = threading.Event()

    def swap() -> None:
        exchange(root / "day", root / "trap")
        exchange(root / "b.json", root / "trap.json")
        pause.wait(0.001)  # each exchange is an event: tunerd gets to read between them

    async with running(source(root, recursive=True, rescan_s=0.01, settle_s=0.0)) as run:
        with busy(swap):
            for number in range(20):
                put(root / f"c{number}.json", {"id": f"c{number}"})
                await until(run, f"c{number}")
        await until(run, "inside", "b")
    assert "outside" not in run.ids()


def test_a_failed_document_is_not_read_again_from_outside(root: Path) -> None:
    """`retry` reads the place again at which it was, and follows no link out of the source either."""
    (root / "link").symlink_to(root.parent / "private")
    (root / "a.json").symlink_to(root.parent / "private" / "a.json")
    for name in ("link/a.json", "a.json"):
        with pytest.raises(LeavesSource):
            read_place(str(root / name), 0, 0, root=str(root))
    os.link(root.parent / "private" / "a.json", root / "day" / "own.json")
    assert b"outside" in read_place(str(root / "day" / "own.json"), 0, 0, root=str(root)).raw  # type: ignore[union-attr]
