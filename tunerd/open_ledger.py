"""The ledger that a configuration names: a file, or a PostgreSQL server that several tunerds share."""

import asyncio
import os
from pathlib import Path
from typing import Final

from tunerd.clock import Clock
from tunerd.config import Config
from tunerd.events import Emit, LedgerHealed, LedgerTrouble
from tunerd.ledger import LedgerRefused
from tunerd.ledger.exceptions import MISCONFIGURED, UNREACHABLE
from tunerd.ledger.service.stored_ledger import StoredLedger
from tunerd.ledger.sqlite import SqliteLedger

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
            ledger = await open_server(config, clock.now(), emit, config.instance)
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


async def open_server(config: Config, now: float, emit: Emit, instance: str) -> StoredLedger:
    """Start as this instance in the ledger at the server that the configuration names. Raises LedgerRefused with one line."""
    settings = config.ledger
    assert settings.server is not None  # noqa: S101
    try:
        from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
        from tunerd.ledger.postgresql.postgresql_server import Server
    except ImportError as exc:
        raise LedgerRefused(
            "ledger.url names a PostgreSQL server, and the package psycopg that it needs cannot be imported; "
            "install it with: pip install 'tunerd[postgres]'", exit_code=MISCONFIGURED,
        ) from exc  # fmt: skip
    is_direct = settings.notify == "on"
    server = Server(
        url=settings.server.reveal(), password_file=settings.password_file, prepares=is_direct, notifies=is_direct
    )  # fmt: skip
    return await PostgresqlLedger.open(server, now=now, emit=emit, instance=instance)


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
