"""Takes over from the ledger what earlier processes read of a source."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from tunerd.intake.file_index import FileIndex
from tunerd.intake.source_runtime import SourceRuntime
from tunerd.ledger import FileMark

_AT_ONCE: Final = 200


async def restore_marks(runtime: SourceRuntime, index: FileIndex) -> None:
    """Load all marks of the source. Raises SourceEnded."""
    for vanished, load in ((True, index.load_vanished), (False, index.load)):
        after: str | None = ""
        while after is not None:
            after = await _load_page(runtime, after, vanished, load)
    moved, last_log = await runtime.ask(lambda: runtime.ledger.moved_logs(runtime.name))
    index.load_moved(moved)
    index.numbered(last_log)


async def restore_mark(runtime: SourceRuntime, index: FileIndex, relative: str) -> None:
    """More files vanished than the index remembers: ask the ledger before one that is back is read again. Raises SourceEnded."""
    if index.has_forgotten and relative not in index.signatures:
        path = index.absolute(relative)
        if (mark := await runtime.ask(lambda: runtime.ledger.mark(runtime.name, path))) is not None:
            index.remember(mark)


async def _load_page(
    runtime: SourceRuntime, after: str, vanished: bool, load: Callable[[Sequence[FileMark]], None]
) -> str | None:
    marks = await runtime.ask(lambda: runtime.ledger.marks(runtime.name, after, vanished=vanished))
    for i in range(0, len(marks), _AT_ONCE):
        load(marks[i : i + _AT_ONCE])
        await asyncio.sleep(0)  # others get their turn
    return marks[-1].path if marks else None
