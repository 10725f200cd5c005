"""Twelve canaries in everything that is handed to ops, and a search for them in everything that ops hands out."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from prometheus_client import CollectorRegistry

from tests.admin.benches import Bench, Rules, refused
from tests.ops.parts import NOW, destination, every_event, source
from tunerd.admin.api import CallsOrder, DismissOrder, ForgetOrder, RemapOrder, RetryOrder, StatusOrder, StoryOrder
from tunerd.admin.client import AdminClient
from tunerd.admin.socket_server import SocketPlaces, serve_orders
from tunerd.call import Call, Fail, Form, Mapped, State, UrlStrategy
from tunerd.ledger import Admission, Ended, Filter
from tunerd.ops.encoding import encoded
from tunerd.ops.event_logger import EventLogger
from tunerd.ops.http import HttpServer
from tunerd.ops.log_writer import LogLevel, open_log
from tunerd.ops.mask import keep_out
from tunerd.ops.metrics import Metrics
from tunerd.ops.scraped_pages import scraped_pages
from tunerd.outcome import FailReason, IntakeReason, PauseReason
from tunerd.testing import make_call

# What a document may hold: none of it may come out anywhere.
CONTENT = {
    "name": "Cana Ryson",
    "card": "4111 1111 1111 1111",
    "phone": "+41 44 668 18 00",
    "mail": "cana@ryson.example",
    "said": "my cat is called Zwingli",
    "iban": "CH93 0076 2011 6238 5295 7",
    "tool": "canary-tool-result",
}
# What may stand in free text (an error's detail) by mistake: the second net has to catch it.
SECRETS = {
    "key": "tr_api_canary0000000001",
    "own key": "canary-own-key-2",
    "bearer": "canarybearer03",
    "signature": "canarysignature04",
    "password": "canarypassword05",
}
LEAKY = (
    f"401 for {SECRETS['key']} and {SECRETS['own key']}, Authorization: Bearer {SECRETS['bearer']}, "
    f"https://user:{SECRETS['password']}@audio.example/1.wav?X-Signature={SECRETS['signature']}"
)


def leaks(text: str) -> list[str]:
    return [canary for canary in (*CONTENT.values(), *SECRETS.values()) if canary in text]


def call_of(call_id: str) -> Call:
    made = make_call(
        call_id,
        text=json.dumps(CONTENT),
        strategies=(UrlStrategy(location=f"https://audio.example/1.wav?X-Signature={SECRETS['signature']}"),),
        on_missing=Fail(),
    )
    return replace(made, document=orjson.dumps(CONTENT))


async def planted() -> Bench:
    """Canaries in documents, payloads, heads, recording URLs, details, pauses and reloads."""
    bench = Bench(
        destinations=[destination(pause=PauseReason.AUTH, detail=LEAKY)],
        sources=[source(paused=IntakeReason.DENIED)],
        rules={"agent": Rules(lambda d: Mapped(refused=refused(reason=FailReason.INVALID, document=d.raw, what=LEAKY)))},
    )
    bench.facts.problems, bench.facts.last_reload_successful = (LEAKY,), False
    await bench.ledger.admit(Admission(calls=[call_of("failed")]), NOW)
    await bench.end(Ended(reason=FailReason.REJECTED, status=422, detail=LEAKY))
    await bench.ledger.admit(Admission(calls=[call_of("due")]), NOW)
    await bench.refuse(replace(refused(what=LEAKY, document=orjson.dumps(CONTENT)), head=orjson.dumps(CONTENT)))
    return bench


def test_the_net_is_tried_on_all_twelve() -> None:
    """A canary that is not planted proves nothing."""
    assert len(CONTENT) + len(SECRETS) == 12
    assert leaks(LEAKY + json.dumps(CONTENT)) == [*CONTENT.values(), *SECRETS.values()]


def test_none_sings_in_the_log() -> None:
    """At debug, in both forms, for every kind of event."""
    keep_out(SECRETS["own key"])
    paper = io.StringIO()
    for log in (open_log("json", "debug", paper), open_log("text", "debug", paper)):
        logger = EventLogger(log, level=LogLevel("debug"))
        for event in every_event(LEAKY):
            logger(event)
        logger.flush()
    assert "[redacted]" in paper.getvalue()
    assert leaks(paper.getvalue()) == []


async def test_none_sings_on_http(tmp_path: Path) -> None:
    """The scraped port: /metrics, /healthz and a line of text. (tests/page/ has the status page.)"""
    keep_out(SECRETS["own key"])
    bench = await planted()
    metrics = Metrics(CollectorRegistry(), ["agent"], version="1", now=lambda: NOW)
    metrics.add_gauges(bench.status)
    for event in every_event(LEAKY):
        metrics(event)

    async def well() -> None:
        return None

    server = HttpServer(scraped_pages(metrics.render, well, bench.status.ready, "1", "127.0.0.1:9465"))
    host, port = await server.start("127.0.0.1:0")
    async with aiohttp.ClientSession() as session:
        for path in ("/", "/metrics", "/healthz", "/readyz"):
            async with session.get(f"http://{host}:{port}{path}") as answer:
                assert answer.status == 200
                assert leaks(await answer.text()) == [], path
    await server.close()


async def test_none_sings_on_the_control_socket(tmp_path: Path) -> None:
    """Lists, stories, reports."""
    keep_out(SECRETS["own key"])
    bench = await planted()
    everything: dict[str, Any] = {"dismissed": None}
    async with serve_orders(bench.admin, SocketPlaces(ledger=str(tmp_path / "ledger.db"), env={})) as path:
        client = AdminClient(path)
        rows = await client.ask(CallsOrder(**everything))
        told = [
            rows,
            *[
                await client.ask(order)
                for order in (
                    StatusOrder(),
                    StoryOrder(call_id="failed"),
                    StoryOrder(call_id="due"),
                    RetryOrder(states=frozenset({State.FAILED})),
                    RemapOrder(**everything),
                    CallsOrder(**everything),
                    DismissOrder(**everything),
                    ForgetOrder(call_id="due"),
                )
            ],
        ]
    assert len(rows.calls) == 3
    assert leaks(encoded(told).decode()) == []


async def test_the_canaries_are_really_there() -> None:
    """The ledger has them all: documents are kept for retry, bodies to be sent."""
    bench = await planted()
    rows = await bench.ledger.calls(Filter(dismissed=None))
    claim = await bench.ledger.claim("tuner", Form.SEND_CALLS, lambda unfrozen: unfrozen.payload, NOW)
    kept = b"".join([(await bench.ledger.document(row.row)) or b"" for row in rows])
    kept += claim.claimed.body if claim.claimed else b""
    assert set(CONTENT.values()) <= set(leaks(kept.decode()))
