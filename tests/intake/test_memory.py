"""Nothing of a document is kept once it is in the ledger."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.intake.harness import source, swept
from tunerd.call import Document
from tunerd.intake.file_index import FileIndex
from tunerd.ledger import FileMark


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Python looks for cycles so seldom in the daemon that what only a cycle holds counts as kept."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("name", ["calls.ndjson", "call.json"])
async def test_documents_that_were_admitted_are_freed_without_the_collector_of_cycles(
    tmp_path: Path, name: str, without_collector: None
) -> None:
    """The inspection of a file and the generator that reads it referred to each other, and kept the last batch of documents."""
    before = {id(one) for one in gc.get_objects() if isinstance(one, Document)}  # of other tests
    lines = [json.dumps({"id": f"call-{number}"}) for number in range(3 if name.endswith("ndjson") else 1)]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    run, _ = await swept(source(tmp_path, settle_s=0.0))
    assert len(run.ids()) == len(lines)
    assert [one for one in gc.get_objects() if isinstance(one, Document) and id(one) not in before] == []


def test_a_file_that_after_sent_took_leaves_no_note_that_it_was_closed() -> None:
    """The kernel may tell of the deletion when the file is forgotten already, and nothing would take the note away."""
    index = FileIndex("/calls")
    mark = FileMark(
        source="agent", path="/calls/a.json", device=1, inode=2, size=3, mtime_ns=4, ctime_ns=5, offset=3, content=b"", whole=True
    )
    index.remember(mark)
    index.note_closed("a.json", closed=True)
    assert index.closed == {"a.json"}
    index.disposed("a.json")
    index.note_closed("a.json", closed=True)
    assert index.closed == set()
