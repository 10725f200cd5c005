"""How a command gets at the ledger: through the daemon that holds it, or, when none runs, with its own hands."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn, Protocol, TypeVar

import click

from tunerd import __version__
from tunerd.call import Document, RefusedDocument
from tunerd.cli.daemon import Known, Target, read_known, running_daemon, tell_bad
from tunerd.cli.options import exit_bad_config
from tunerd.cli.terminal import say
from tunerd.config import Config
from tunerd.config.quantities import parse_duration
from tunerd.ledger import Filter, Gate, LedgerRefused, LedgerUnavailable
from tunerd.ops.answers import CallRow, Report, add_report, new_report
from tunerd.ops.desk import Choice, OperatorDesk, SourceRules
from tunerd.ops.office import Office, Operations, OrderRefused, StoredGates
from tunerd.ops.status import Facts, Status, stored_destination
from tunerd.ops.wire import ControlError
from tunerd.places import ConfigError

FAILURE: Final = 1
LOCKED: Final = 75
IDS_A_REQUEST: Final = 500

T = TypeVar("T")


def ask(target: Target, question: Callable[[Operations], Awaitable[T]], *, again: bool = False) -> T:
    """Ask the running daemon, or without one the ledger itself, and give the answer. What is wrong with the configuration
    on disk is told (unless this command asks `again`); it does not stand in the way. What goes wrong is one line, and the
    exit code."""

    async def asked() -> T:
        async with operations(target, again=again) as office:
            return await question(office)

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


@asynccontextmanager
async def operations(target: Target, *, again: bool = False) -> AsyncIterator[Operations]:
    """The daemon that is meant, or its ledger itself. Never makes a ledger, nor rebuilds a damaged one: that is `tunerd
    run`'s, which tells of it. Raises ControlError, LedgerRefused; and ConfigError where a configuration is needed."""
    known = await asyncio.to_thread(read_known, target.config, again)
    if daemon := await asyncio.to_thread(running_daemon, target, known):
        yield daemon
        return
    path = known.ledger.path
    if path is None or (known.is_bad and not await asyncio.to_thread(Path(path).exists)):
        raise known.error()
    if not await asyncio.to_thread(Path(path).exists):
        raise ControlError(f"there is no ledger at {path} yet: start tunerd with `tunerd run`, or name its configuration with -c")
    # Late: a command that talks to a daemon needs none of it.
    from tunerd.ledger.sqlite import SqliteLedger
    from tunerd.ledger.sqlite.errors import LedgerDamaged

    ledger = await SqliteLedger.open(
        Path(path), now=time.time(), wait_for_lock_s=0.0, create=False, may_rebuild=False, emit=lambda _: None
    )
    if known.is_bad:
        tell_bad(known, "no daemon runs; this is what its ledger says")
    try:
        gates = await ledger.gates()
        configured = {destination.name for destination in known.config.destinations} if known.config is not None else set()
        stored = [stored_destination(name, gates.get(name, Gate())) for name in sorted(configured | set(gates))]
        facts = Facts(version=__version__, config_file=str(target.config), ledger=path, running=False)
        if known.config is not None and not known.problems:
            found = await ledger.stranded(configured, [source.name for source in known.config.sources])
            facts.stranded = lambda: found
        yield Office(
            Status(ledger, facts, time.time, destinations=lambda: stored),
            OperatorDesk(ledger, _Rules(known), _place_reader(known), time.time),
            StoredGates(ledger, time.time),
        )
    except LedgerDamaged as exc:
        raise LedgerRefused(f"{path} is damaged; `tunerd run` rebuilds it") from exc
    finally:
        await ledger.close()


class _Rules:
    """Compiled when the first order needs them: `status` does not pay for it, and does not need them to be right."""

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
        from tunerd.intake.read import read_place

        settings = next(one for one in _usable(known).sources if one.name == source)
        limit, root = settings.max_document_bytes, settings.path
        found = read_place(path, offset, 0, limit, source=source, settled_at=time.time(), root=root)
        return found if settings.stores_documents or isinstance(found, Document) else found.without_text()

    return read


# What commands that give an order over many calls share.


class _Order(Protocol):
    async def __call__(self, choice: Choice, *, after_row: int = 0) -> Report: ...


async def order(do: _Order, choice: Choice) -> Report:
    """Give an order page by page until it is done."""
    total = new_report()
    ids = sorted(choice.where.call_ids)
    for start in range(0, max(1, len(ids)), IDS_A_REQUEST):
        some = frozenset(ids[start : start + IDS_A_REQUEST])
        part = replace(choice, where=replace(choice.where, call_ids=some))
        after_row: int | None = 0
        while after_row is not None:
            page = await do(part, after_row=after_row)
            add_report(total, page)
            after_row = page["next_after_row"]
    return total


async def every_call(
    office: Operations, choice: Choice, *, newest: bool = False, page_rows: int = 1000
) -> AsyncIterator[CallRow]:
    """All rows of a choice, in row order or the newest first, a page (of a thousand at most) at a time."""
    after_row: int | None = 0
    while after_row is not None:
        page = await office.calls(choice, after_row=after_row, limit=page_rows, newest=newest)
        for row in page["calls"]:
            yield row
        after_row = page["next_after_row"]


async def unknown_ids(office: Operations, call_ids: Sequence[str]) -> list[str]:
    """Which of these the ledger has no row of."""
    known: set[str | None] = set()
    for start in range(0, len(call_ids), IDS_A_REQUEST):
        some = frozenset(call_ids[start : start + IDS_A_REQUEST])
        async for row in every_call(office, Choice(where=Filter(call_ids=some, dismissed=None))):
            known.add(row["call_id"])
    return [call_id for call_id in call_ids if call_id not in known]


def since_option(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """`2h`, `7d`, `2026-11-22`, `2026-11-22T13:00Z`: the instant, in Unix seconds. A date without zone is local time."""
    if value is None:
        return None
    try:
        return time.time() - parse_duration(value)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(value).astimezone().timestamp()
    except ValueError as exc:
        raise click.BadParameter("write 2h, 7d, 2026-11-22 or 2026-11-22T13:00Z") from exc


def place_option(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, int | None] | None:
    """`PATH` or `PATH@OFFSET`, the path made absolute."""
    if value is None:
        return None
    path, at, offset = value.rpartition("@")
    if at and offset.isascii() and offset.isdigit() and path:
        return os.path.abspath(path), int(offset)
    return os.path.abspath(value), None
