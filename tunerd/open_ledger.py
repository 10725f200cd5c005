"""The ledger that a configuration names: a file, or a PostgreSQL server that several tunerds share."""

import asyncio
import os
from pathlib import Path
from typing import Final

from tunerd.clock import Clock
from tunerd.config import Config, LedgerConfig
from tunerd.events import Emit, LedgerHealed, LedgerTrouble
from tunerd.ledger import LedgerRefused
from tunerd.ledger.copying import CopySource, CopyTarget
from tunerd.ledger.disks import Disks
from tunerd.ledger.exceptions import MISCONFIGURED, UNREACHABLE
from tunerd.ledger.server_findings import ServerFindings
from tunerd.ledger.service.stored_ledger import StoredLedger
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.volume import volume_of

WAIT_FOR_SERVER_S: Final = 60.0
"""A server that restarts, or that starts beside tunerd, is back in this time; after it the supervisor decides."""
_AGAIN_S: Final = 1.0


async def open_ledger(config: Config, clock: Clock, emit: Emit, *, wait_for_lock_s: float = 0.0) -> StoredLedger:
    """Raises LedgerRefused with one line."""
    if config.ledger.server is not None:
        return await _open_at_server(config, clock, emit)
    return await SqliteLedger.open(
        Path(config.ledger.path), now=clock.now(), wait_for_lock_s=wait_for_lock_s, emit=emit,
        min_free_bytes=config.ledger.min_free_bytes, keep_sent_s=config.ledger.keep_sent_s,
    )  # fmt: skip


async def _open_at_server(config: Config, clock: Clock, emit: Emit) -> StoredLedger:
    """While the server does not answer it is tried again, for a minute at most."""
    _make_directory(config.ledger.directory)
    began, was_told = clock.monotonic(), False
    while True:
        try:
            disks = await asyncio.to_thread(disks_of, config)
            ledger = await open_server(config.ledger, clock.now(), emit, config.instance, disks=disks)
        except LedgerRefused as exc:
            if exc.exit_code != UNREACHABLE or clock.monotonic() - began >= WAIT_FOR_SERVER_S:
                raise
            if not was_told:
                emit(LedgerTrouble(detail=str(exc)))
                was_told = True
            await clock.wait(asyncio.Event(), _AGAIN_S)
            continue
        if was_told:
            emit(LedgerHealed(lasted_s=clock.monotonic() - began))
        return ledger


async def open_server(
    settings: LedgerConfig, now: float, emit: Emit, instance: str, *, disks: Disks | None = None, create: bool = True
) -> StoredLedger:
    """Start as this instance in the ledger at the server that `ledger.url` names. `create=False`: its tables have to be there.
    Raises LedgerRefused with one line."""
    try:
        from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
        from tunerd.ledger.postgresql.server_settings import server_of
    except ImportError as exc:
        raise _without_psycopg() from exc
    return await PostgresqlLedger.open(server_of(settings), now=now, emit=emit, instance=instance, disks=disks, create=create)


def disks_of(config: Config) -> Disks:
    """What tells the directories of the sources from those of other instances. Blocking."""
    own = [source for source in config.sources if not source.shared]
    shared = frozenset(source.name for source in config.sources if source.shared)
    return Disks(volumes={source.name: volume_of(Path(source.path)) for source in own}, shared=shared)


def inspect_server(settings: LedgerConfig) -> ServerFindings:
    """What `tunerd check` says about the server that `ledger.url` names; nothing is changed there. Blocking. Raises LedgerRefused
    where `tunerd run` would."""
    try:
        from tunerd.ledger.postgresql.server_inspection import inspect
        from tunerd.ledger.postgresql.server_settings import server_of
    except ImportError as exc:
        raise _without_psycopg() from exc
    return inspect(server_of(settings))


def open_copy_source(settings: LedgerConfig, instance: str) -> CopySource:
    """The ledger at a server, to be copied from. Raises LedgerRefused."""
    try:
        from tunerd.ledger.postgresql.server_copy import ServerSource
        from tunerd.ledger.postgresql.server_settings import server_of
    except ImportError as exc:
        raise _without_psycopg() from exc
    return ServerSource(server_of(settings), instance, create=False)


def open_copy_target(settings: LedgerConfig, instance: str) -> CopyTarget:
    """A place for a ledger at a server. Raises LedgerRefused."""
    try:
        from tunerd.ledger.postgresql.server_copy import ServerTarget
        from tunerd.ledger.postgresql.server_settings import server_of
    except ImportError as exc:
        raise _without_psycopg() from exc
    return ServerTarget(server_of(settings), instance, create=True)


def _without_psycopg() -> LedgerRefused:
    return LedgerRefused(
        "ledger.url names a PostgreSQL server, and the package psycopg that it needs cannot be imported; "
        "install it with: pip install 'tunerd[postgres]'", exit_code=MISCONFIGURED,
    )  # fmt: skip


def _make_directory(directory: str) -> None:
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        is_ours = os.access(directory, os.W_OK | os.X_OK)
    except OSError:
        is_ours = False
    if not is_ours:
        raise LedgerRefused(
            f"the directory {directory} for this machine's part of the ledger cannot be made or written; set ledger.directory",
            exit_code=MISCONFIGURED,
        )
