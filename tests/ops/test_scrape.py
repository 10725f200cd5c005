"""A scrape costs little, and waits for nobody."""

import asyncio
import threading
import time
from collections.abc import Awaitable
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry

from tests.ops.parts import NOW, Reading, destination, source
from tunerd.admin.status_report import Facts, StatusReport
from tunerd.call import Form, MappingNotes
from tunerd.events import DocumentMapped
from tunerd.ledger import Admission, Unfrozen
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.ops.http import HttpServer
from tunerd.ops.metrics import Metrics
from tunerd.ops.scraped_pages import scraped_pages
from tunerd.testing import Recorder, make_call

MOST_S = 0.020


def test_the_largest_scrape_takes_little_processor_time() -> None:
    """Five sources with every series that there can be: under 20 ms, of which the event loop does the smaller part."""
    names = [f"source-{number}" for number in range(5)]
    metrics = Metrics(CollectorRegistry(), names, version="1", now=lambda: NOW, destinations={"tuner.example/42": "default"})
    metrics.add_gauges(Reading(source_list=[source(name=name) for name in names], destination_list=[destination()]))
    fields = tuple(f"field_{number}" for number in range(50))
    for name in names:
        notes = MappingNotes(missing=fields, left_out=fields, repairs=dict.fromkeys(fields, 1), redacted=dict.fromkeys(fields, 1))
        metrics(DocumentMapped(source=name, notes=notes))
    took, in_loop = [], []
    for _ in range(7):
        began = time.thread_time()
        write, _ = metrics.render()
        collected = time.thread_time()
        assert write().count(b"\n") > 700
        took.append(time.thread_time() - began)
        in_loop.append(collected - began)
    assert min(took) < MOST_S
    assert min(in_loop) < min(took) / 2


async def test_a_scrape_does_not_wait_for_the_ledger(tmp_path: Path) -> None:
    """The ledger's writer is held up in the middle of a transaction: what the last commit left is shown at once."""
    ledger = await SqliteLedger.open(tmp_path / "ledger.db", now=NOW, emit=Recorder())
    await ledger.admit(Admission(calls=[make_call()]), NOW)
    metrics = Metrics(CollectorRegistry(), ["agent"], version="1", now=lambda: NOW)
    status = StatusReport(ledger, Facts(version="1", config_file="/c.yaml"), lambda: NOW)
    metrics.add_gauges(status)

    async def well() -> None:
        return None

    is_held, go = threading.Event(), threading.Event()

    def freeze(unfrozen: Unfrozen) -> bytes:
        is_held.set()
        go.wait(30)
        return unfrozen.payload

    server = HttpServer(scraped_pages(metrics.render, well, status.ready, "1", ""))
    host, port = await server.start("127.0.0.1:0")
    try:
        async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as session:
            claim = ledger.claim("tuner", Form.CREATE_CALL, freeze, NOW)
            group.create_task(_ended(claim))
            await asyncio.to_thread(is_held.wait, 30)
            async with asyncio.timeout(5), session.get(f"http://{host}:{port}/metrics") as answer:
                assert 'tunerd_calls{state="due"} 1.0' in await answer.text()
            go.set()
    finally:
        go.set()
        await server.close()
        await ledger.close()


async def _ended(claim: Awaitable[object]) -> None:
    await claim
