"""Whether the path still names the file that is open."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.descriptors import no_descriptors
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.ledger.sqlite.errors import LedgerGone
from tunerd.ledger.sqlite.inode_watch import InodeWatch


def removed(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def replaced(path: Path) -> None:
    copy = path.with_name("copy.db")
    shutil.copyfile(path, copy)
    copy.rename(path)


def moved_and_copied_back(path: Path) -> None:
    moved(path)
    shutil.copyfile(path.with_name("elsewhere.db"), path)


def gone_with_its_directory(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("harm", [removed, moved, replaced, moved_and_copied_back, gone_with_its_directory])
async def test_a_file_that_is_not_the_open_one_is_told(sqlite: SqliteLedger, harm: Callable[[Path], None]) -> None:
    """However it went: in words that name the file. An untouched one is not told."""
    await sqlite.check_place()
    harm(sqlite.path)
    with pytest.raises(LedgerGone, match=f"{sqlite.path} was removed or replaced while tunerd ran"):
        await sqlite.check_place()


def test_a_directory_that_is_away_or_a_lack_of_descriptors_is_no_removal(tmp_path: Path) -> None:
    """Only what is certain counts: whatever may pass ends no process."""
    path = tmp_path / "state" / "ledger.db"
    path.parent.mkdir()
    path.touch()
    watch = InodeWatch(path)
    with no_descriptors():
        watch.remember()
    assert not watch.is_replaced()
    watch.remember()
    path.parent.rename(tmp_path / "away")
    assert not watch.is_replaced()
    watch.forget()
    assert not watch.is_replaced()


def test_a_file_that_was_opened_anew_is_the_one_that_counts(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    watch = InodeWatch(path)
    watch.remember()
    replaced(path)
    assert watch.is_replaced()
    watch.remember()
    assert not watch.is_replaced()
    watch.forget()
