"""Copying a ledger between files and servers: opens both ends, and closes them whatever happens."""

import sqlite3
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tunerd.config import LedgerConfig, Secret
from tunerd.config.text_forms import bare_server
from tunerd.ledger import LedgerRefused, lock
from tunerd.ledger.copying import CopySource, CopyTarget, copy_ledger
from tunerd.ledger.postgresql import dialect
from tunerd.ledger.sqlite.connect import scripts
from tunerd.ledger.sqlite.directory import check_directory
from tunerd.ledger.sqlite.errors import words_for
from tunerd.ledger.sqlite.file_copy import FileSource, FileTarget
from tunerd.open_ledger import open_copy_source, open_copy_target


async def copy_to(source: str, target: str, instance: str) -> dict[str, int]:
    """`source` and `target` are absolute paths, or URLs of servers. Gives the rows of each table. Raises LedgerRefused."""
    columns = dialect.columns("".join(scripts()))
    shown = f"sqlite://{target}" if target.startswith("/") else bare_server(target)
    async with AsyncExitStack() as stack:
        try:
            ends = await _source(source, instance, stack), await _target(target, instance, stack)
        except sqlite3.Error as exc:
            raise LedgerRefused(f"a ledger in a file cannot be opened: {words_for(exc)}") from exc
        try:
            return copy_ledger(*ends, shown, {table: tuple(names) for table, names in columns.items()})
        except Exception as exc:
            words = next((said for end in ends if (said := end.words(exc))), None)
            if words is None:
                raise
            # A server's own message may quote rows.
            raise LedgerRefused(f"the copy was broken off: {words}; type the same command again") from None


async def _source(place: str, instance: str, stack: AsyncExitStack) -> CopySource:
    if not place.startswith("/"):
        opened = open_copy_source(LedgerConfig(server=Secret(place)), instance)
        stack.callback(opened.close)
        return opened
    await _hold(Path(place), stack, create=False)
    file = FileSource(Path(place), time.time())
    stack.callback(file.close)
    return file


async def _target(place: str, instance: str, stack: AsyncExitStack) -> CopyTarget:
    if not place.startswith("/"):
        opened = open_copy_target(LedgerConfig(server=Secret(place)), instance)
        stack.callback(opened.close)
        return opened
    await _hold(Path(place), stack, create=True)
    file = FileTarget(Path(place), time.time())
    stack.callback(file.close)
    return file


async def _hold(path: Path, stack: AsyncExitStack, *, create: bool) -> None:
    check_directory(path, create)
    stack.callback((await lock.hold(path, time.time())).release)
