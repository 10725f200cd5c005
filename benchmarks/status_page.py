"""The status page with 100,000 rows in the ledger: how long each page takes, and how late the event loop is meanwhile."""

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Never

import aiohttp

from benchmarks.bars import at_most
from tests.ops.parts import destination, source
from tunerd.admin.call_orders import CallOrders
from tunerd.admin.service import AdminService, LedgerPauses
from tunerd.admin.status_report import Facts, StatusReport
from tunerd.ledger import Admission
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.ops.http import HttpServer
from tunerd.ops.last_hour import LastHour
from tunerd.page.doorkeeper import SiteSettings
from tunerd.page.site import Site
from tunerd.testing import make_call

ROWS = 100_000
_SHARES = {"sent": 60, "failed": 20, "due": 20}
"""Percent of the rows, in the order in which they were admitted: the open calls are last, the failed ones many."""
_TIMES = 60
_BATCH = 500


async def measure(rows: int = ROWS) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as place:
        path = Path(place) / "ledger.db"
        await _fill(path, rows)
        ledger = await SqliteLedger.open(path, now=time.time(), emit=lambda _: None)
        try:
            return await _ask(ledger, rows)
        finally:
            await ledger.close()


async def _fill(path: Path, rows: int) -> None:
    ledger = await SqliteLedger.open(path, now=time.time(), emit=lambda _: None)
    for first in range(0, rows, _BATCH):
        await ledger.admit(Admission(calls=[make_call(f"call-{number}") for number in range(first, first + _BATCH)]), time.time())
    await ledger.close()
    sent, failed = rows * _SHARES["sent"] // 100, rows * (_SHARES["sent"] + _SHARES["failed"]) // 100
    with sqlite3.connect(path) as db:
        db.execute("UPDATE call SET state = 'sent', changed_at = admitted_at WHERE row <= ?", (sent,))
        db.execute("UPDATE call SET state = 'failed', changed_at = admitted_at, reason = iif(row % 5, 'rejected', 'gave_up'), "
                   "detail = 'Tuner answered 422: transcript_with_tool_calls[3].role (enum)' WHERE row > ? AND row <= ?", (sent, failed))  # fmt: skip
    db.close()


async def _ask(ledger: SqliteLedger, rows: int) -> list[str]:
    facts = Facts(
        version="1", config_file="/etc/tunerd/config.yaml", started_at=time.time(), ready=True, last_hour=LastHour(time.time)
    )
    status = StatusReport(ledger, facts, time.time, destinations=lambda: [destination("tuner")], sources=lambda: [source()])
    calls = CallOrders(ledger, dict, _nothing, time.time, _nothing)
    admin = AdminService(status, calls, LedgerPauses(ledger, time.time))
    site = Site(admin, SiteSettings(version="1", hosts=tuple, token_file=lambda: None, is_on_loopback=lambda: True))
    server = HttpServer(site.routes(), middlewares=[site.middleware])
    host, port = await server.start("127.0.0.1:0")
    lines, ended = [], asyncio.Event()
    async with asyncio.TaskGroup() as group, aiohttp.ClientSession(f"http://{host}:{port}") as session:
        lag = group.create_task(_lag(ended))
        for what, page in (("first page", "/"), ("failed calls", "/failed?reason=rejected"), ("one call", "/call?id=call-70000"),
                           ("status.json", "/status.json")):  # fmt: skip
            took = sorted([await _once(session, page) for _ in range(_TIMES)])
            median, late = took[_TIMES // 2], took[_TIMES * 95 // 100]
            lines.append(
                f"| status page, {rows:,} rows, {what} | {median:.1f} ms, 95 % under {late:.1f} ms; {at_most(late, 50)} |"
            )
        ended.set()
        lines.append(f"| status page, event loop meanwhile | at most {await lag:.1f} ms late; {at_most(await lag, 50)} |")
    await server.close()
    return lines


async def _once(session: aiohttp.ClientSession, page: str) -> float:
    began = time.perf_counter()
    async with session.get(page) as answer:
        assert answer.status == 200
        await answer.read()
    return (time.perf_counter() - began) * 1000


async def _lag(ended: asyncio.Event) -> float:
    """The longest that a pause of 1 ms was late, in ms."""
    most = 0.0
    while not ended.is_set():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        most = max(most, time.perf_counter() - began - 0.001)
    return most * 1000


def _nothing(*_: object) -> Never:
    raise FileNotFoundError
