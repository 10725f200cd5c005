"""Which log is which: by content, by inode only while a descriptor on it is open, never by its ends."""

import json
from pathlib import Path

from tests.intake.harness import source, swept
from tunerd.ledger import FileMark
from tunerd.testing import MemoryLedger


def line(one: str, size: int = 1500) -> str:
    """A line over 1 KiB whose beginning, end and length are those of every other."""
    return json.dumps({"prompt": "p" * size, "id": f"{one:>8}".replace(" ", "-"), "config": "c" * size}) + "\n"


def names(count: int, prefix: str = "c") -> list[str]:
    return [f"{prefix}{number}".rjust(8, "-") for number in range(count)]


async def marks(ledger: MemoryLedger) -> list[FileMark]:
    return list(await ledger.marks("agent"))


async def test_logs_with_equal_ends_and_length_are_all_read(tmp_path: Path) -> None:
    """A hundred logs of one line, a prompt in front and a configuration behind, are a hundred logs."""
    for number in range(100):
        (tmp_path / f"call-{number}.jsonl").write_text(line(f"c{number}"))
    done, left = await swept(source(tmp_path, include=("*",)))
    assert (sorted(done.ids()), left) == (sorted(names(100)), 0)


async def test_logs_are_numbered_as_they_were_written_and_keep_their_numbers(tmp_path: Path) -> None:
    """In the order of their last change where one scan finds several; renamed and compressed logs keep the number."""
    import gzip
    import os

    for age, name in enumerate(("new.jsonl", "mid.jsonl", "old.jsonl")):
        path = tmp_path / name
        path.write_text(line(name[:3]))
        at = path.stat().st_mtime - 100 * age
        os.utime(path, (at, at))
    chosen = source(tmp_path, include=("*.jsonl",))
    first, _ = await swept(chosen)
    logs = {Path(mark.path).name: mark.log for mark in await marks(first.ledger)}
    assert logs["old.jsonl"] < logs["mid.jsonl"] < logs["new.jsonl"]
    (tmp_path / "mid.jsonl").rename(tmp_path / "mid.jsonl.1")
    (tmp_path / "old.jsonl.1.gz").write_bytes(gzip.compress((tmp_path / "old.jsonl").read_bytes()))
    (tmp_path / "old.jsonl").unlink()
    (tmp_path / "mid.jsonl").write_text(line("mid-2"))
    again, _ = await swept(chosen, ledger=first.ledger)
    assert again.ids() == ["---mid-2"]
    moved = {Path(mark.path).name: mark.log for mark in await marks(first.ledger)}
    assert moved["mid.jsonl.1"] == logs["mid.jsonl"]
    assert moved["old.jsonl.1.gz"] == logs["old.jsonl"]
    assert moved["mid.jsonl"] > max(logs.values())
