"""How a command gives orders: to the daemon that holds the ledger, or, when none runs, to a service of its own on that ledger."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from tunerd import __version__
from tunerd.admin.answer_types import CallRow, Report
from tunerd.admin.api import Admin, CallsOrder, DismissOrder, Order, OrderRefused, RemapOrder, RetryOrder
from tunerd.admin.call_orders import CallOrders, SourceRules
from tunerd.admin.client import TIMEOUT_S, AdminClient
from tunerd.admin.protocol import ControlError
from tunerd.admin.service import AdminService, LedgerPauses
from tunerd.admin.status_report import Facts, StatusReport, stored_destination
from tunerd.audio.spool import AudioSpool
from tunerd.call import Document, RefusedDocument
from tunerd.cli.options import exit_bad_config
from tunerd.cli.target import Known, Target, read_known, report_bad, running_daemon
from tunerd.cli.terminal import say
from tunerd.config import Config
from tunerd.ledger import LedgerRefused, LedgerUnavailable, StoredPauses
from tunerd.yaml_location import ConfigError

FAILURE: Final = 1
LOCKED: Final = 75
IDS_A_REQUEST: Final = 500

T = TypeVar("T")


def ask(target: Target, question: Order[T] | Callable[[Admin], Awaitable[T]], *, again: bool = False) -> T:
    """The answer to an order, or the result of several. Problems of the configuration on disk are reported (unless this
    command asks `again`), but do not prevent it. An error ends the command with one line and its exit code."""

    async def asked() -> T:
        async with open_admin(target, again=again) as admin:
            return await (admin.ask(question) if isinstance(question, Order) else question(admin))

    try:
        return asyncio.run(asked())
    except ConfigError as exc:
        exit_bad_config(exc)
    except (ControlError, OrderRefused, LedgerUnavailable) as exc:
        fail(str(exc))
    except LedgerRefused as exc:
        fail(str(exc), LOCKED if exc.locked else FAILURE)


def fail(message: str, code: int = FAILURE) -> NoReturn:
    say(f"tunerd: {message}", err=True)
    sys.exit(code)


def daemon_or_exit(target: Target, consequence: str, timeout_s: float = TIMEOUT_S) -> AdminClient:
    """The running daemon, for a command that is of no use without one; `consequence`: why, for the message."""
    known = read_known(target.config)
    try:
        daemon = running_daemon(target, known, timeout_s=timeout_s)
    except ControlError as exc:
        fail(str(exc))
    if daemon is not None:
        return daemon
    if known.ledger.path is None:
        exit_bad_config(known.error())
    fail(f"no tunerd runs with the ledger {known.ledger.path}: {consequence}")


@asynccontextmanager
async def open_admin(target: Target, *, again: bool = False) -> AsyncIterator[Admin]:
    """The daemon, or a service on its ledger. Never creates a ledger, nor rebuilds a damaged one: `tunerd run` does, and
    reports it; it also reports a ledger that lacks commits, although a command opened it first. Raises ControlError,
    LedgerRefused; and ConfigError where a valid configuration is needed."""
    known = await asyncio.to_thread(read_known, target.config, again)
    if daemon := await asyncio.to_thread(running_daemon, target, known):
        yield daemon
        return
    path = known.ledger.path
    if path is None or (known.is_bad and not await asyncio.to_thread(Path(path).exists)):
        raise known.error()
    if not await asyncio.to_thread(Path(path).exists):
        raise ControlError(f"there is no ledger at {path} yet: start tunerd with `tunerd run`, or name its configuration with -c")
    # Imported here: a command that asks a daemon does not need it.
    from tunerd.ledger.sqlite import SqliteLedger
    from tunerd.ledger.sqlite.errors import LedgerDamaged

    ledger = await SqliteLedger.open(
        Path(path), now=time.time(), wait_for_lock_s=0.0, create=False, reports=False, emit=lambda _: None
    )
    if known.is_bad:
        report_bad(known, "no daemon runs; this is the content of its ledger")
    try:
        pauses = await ledger.stored_pauses()
        configured = {destination.name for destination in known.config.destinations} if known.config is not None else set()
        stored = [stored_destination(name, pauses.get(name, StoredPauses())) for name in sorted(configured | set(pauses))]
        facts = Facts(version=__version__, config_file=str(target.config), ledger=path, running=False)
        if known.config is not None and not known.problems:
            found = await ledger.stranded(configured, [source.name for source in known.config.sources])
            facts.stranded = lambda: found
        yield AdminService(
            StatusReport(ledger, facts, time.time, destinations=lambda: stored),
            CallOrders(ledger, _Rules(known), _place_reader(known), time.time, lambda recording: _spool(known).keep(recording)),
            LedgerPauses(ledger, time.time),
        )
    except LedgerDamaged as exc:
        raise LedgerRefused(f"{path} is damaged; `tunerd run` rebuilds it") from exc
    finally:
        await ledger.close()


class _Rules:
    """Compiled when the first order needs them: `status` neither pays for it, nor needs valid rules."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._compiled: Mapping[str, SourceRules] | None = None

    def __call__(self) -> Mapping[str, SourceRules]:
        if self._compiled is None:
            from tunerd.mapping import compile_sources

            self._compiled = compile_sources(_usable(self._known), os.environ)
        return self._compiled


def _usable(known: Known) -> Config:
    if known.config is None or known.problems:
        raise known.error()
    return known.config


def _place_reader(known: Known) -> Callable[[str, str, int], Document | RefusedDocument]:
    def read(source: str, path: str, offset: int) -> Document | RefusedDocument:
        from tunerd.intake.read_again import read_place

        settings = next(one for one in _usable(known).sources if one.name == source)
        limit, root = settings.max_document_bytes, settings.path
        spool = _spool(known) if settings.holds_audio else None
        found = read_place(path, offset, 0, limit, source=source, settled_at=time.time(), root=root, spool=spool)
        return found if settings.stores_documents or isinstance(found, Document) else found.without_text()

    return read


def _spool(known: Known) -> AudioSpool:
    ledger = _usable(known).ledger
    return AudioSpool(f"{ledger.path}.audio", ledger.max_spool_bytes)


# Orders over many calls.

O = TypeVar("O", RetryOrder, RemapOrder, DismissOrder)  # noqa: E741


async def all_pages(admin: Admin, order: O) -> Report:
    """Give an order page by page until all its calls are done."""
    total = Report()
    ids = sorted(order.call_ids)
    for start in range(0, max(1, len(ids)), IDS_A_REQUEST):
        part = replace(order, call_ids=frozenset(ids[start : start + IDS_A_REQUEST]))
        after_row: int | None = 0
        while after_row is not None:
            page = await admin.ask(replace(part, after_row=after_row))
            total.add(page)
            after_row = page.next_after_row
    return total


async def all_pages_of_ids(admin: Admin, order: O) -> tuple[Report, list[str]]:
    """As `all_pages`, and the ids of the order that are not in the ledger."""
    unknown = await _unknown_ids(admin, sorted(order.call_ids))
    return await all_pages(admin, order), unknown


async def every_call(admin: Admin, order: CallsOrder) -> AsyncIterator[CallRow]:
    """All calls of an order, a page of `limit` at a time."""
    after_row: int | None = 0
    while after_row is not None:
        page = await admin.ask(replace(order, after_row=after_row))
        for row in page.calls:
            yield row
        after_row = page.next_after_row


async def _unknown_ids(admin: Admin, call_ids: Sequence[str]) -> list[str]:
    """Those of these ids that are not in the ledger."""
    known: set[str | None] = set()
    for start in range(0, len(call_ids), IDS_A_REQUEST):
        some = frozenset(call_ids[start : start + IDS_A_REQUEST])
        async for row in every_call(admin, CallsOrder(call_ids=some, dismissed=None, limit=1000)):
            known.add(row.call_id)
    return [call_id for call_id in call_ids if call_id not in known]
