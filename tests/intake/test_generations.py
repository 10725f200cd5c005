"""Which logs are cut off, where the order in which they are read does not show it."""

import os
from pathlib import Path

import pytest

from tunerd.intake.file_index import FileIndex
from tunerd.intake.generations import Begins, Generations
from tunerd.intake.looks import Batch
from tunerd.intake.succession import UnknownPredecessor
from tunerd.ledger import FileMark


def _log(number: int, path: Path, home: Path, *, offset: int = 100) -> FileMark:
    at = path.stat()
    return FileMark(
        source="agent", path=str(path), device=at.st_dev, inode=at.st_ino, size=at.st_size, mtime_ns=at.st_mtime_ns, offset=offset,
        whole=False, log=number, carry=f"k{number}", home=str(home), home_inode=home.stat().st_ino,
    )  # fmt: skip


@pytest.mark.parametrize("later", [False, True])
def test_a_copy_ends_where_nobody_saw(tmp_path: Path, later: bool) -> None:
    """The file that it is named after was copied and truncated, twice between two looks: what came behind its last line was in
    that file, also if what is there now was read before the copy."""
    home, copy, first = tmp_path / "web.ndjson", tmp_path / "web.ndjson.6", tmp_path / "web.ndjson.5"
    for path in (first, copy, home):
        path.write_bytes(b"x" * 100)
    os.utime(home, (2e9, 2e9))
    index = FileIndex(str(tmp_path))
    index.remember(_log(5, first, home))
    if later:
        index.remember(_log(9, home, home))
    mark = _log(8, copy, copy)
    found = Generations(index).beginning(Batch([], mark, first=True, last=True), mark, Begins.KEYED, postponed=0)
    assert found == UnknownPredecessor([mark])
