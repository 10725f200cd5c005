"""A status page under test, over a real socket, and three states of a daemon to look at: empty, busy, broken."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from tests.admin.benches import Bench, refused
from tests.ops.parts import NOW, destination, failed, sent, source
from tunerd import events as e
from tunerd.call import ManifestStrategy, State
from tunerd.ledger import Admission, Stranded
from tunerd.ops.http import HttpServer
from tunerd.ops.last_hour import LastHour
from tunerd.outcome import FailReason, IntakeReason, PauseReason
from tunerd.page.doorkeeper import SiteSettings
from tunerd.page.site import Site
from tunerd.statuses import UnreadFile
from tunerd.testing import make_call

TOKEN = "a-token-of-this-test-7f21"


@dataclass
class Served:
    bench: Bench
    address: tuple[str, int]
    gone: Callable[[], Awaitable[None]]
    """Closes the port before the end of the block."""
    token_file: Path | None
    monotonic: float = 0.0
    hosts: tuple[str, ...] = ()
    is_on_loopback: bool = True
    """Whether the page believes that only this machine reaches it: a test has no address that other machines reach."""
    session: aiohttp.ClientSession = field(
        default_factory=lambda: aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
    )

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    async def get(self, path: str, /, **headers: str) -> tuple[int, str]:
        async with self.session.get(self.url + path, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def headers(self, path: str) -> dict[str, str]:
        async with self.session.get(self.url + path, allow_redirects=False) as answer:
            return dict(answer.headers)

    async def post(self, path: str, headers: dict[str, str] | None = None, /, **fields: str) -> tuple[int, str]:
        async with self.session.post(self.url + path, data=fields, headers=headers, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location", "") or await answer.text()

    async def log_in(self, token: str = TOKEN) -> str:
        """The CSRF token of the session."""
        assert await self.post("/login", token=token) == (303, "/")
        return await self.csrf()

    async def csrf(self) -> str:
        _, text = await self.get("/")
        return text.partition('name="csrf" value="')[2].partition('"')[0]


@asynccontextmanager
async def serving(
    bench: Bench | None = None, token_file: Path | None = None, hosts: tuple[str, ...] = (), token: str = TOKEN
) -> AsyncIterator[Served]:
    """`token_file`: it is written with `token`; None: the page has no token."""
    if token_file is not None:
        token_file.write_text(f"{token}\n")

    async def gone() -> None:
        await server.close()

    served = Served(bench=bench or Bench(), address=("", 0), gone=gone, token_file=token_file, hosts=hosts)
    settings = SiteSettings(
        version="1.2.3", hosts=lambda: served.hosts, token_file=lambda: served.token_file and str(served.token_file),
        is_on_loopback=lambda: served.is_on_loopback,
    )  # fmt: skip
    site = Site(served.bench.admin, settings, lambda: served.monotonic)
    server = HttpServer(site.routes(), key="http.admin_listen", middlewares=[site.middleware])
    served.address = await server.start("127.0.0.1:0")
    try:
        yield served
    finally:
        await served.session.close()
        await server.close()


# States of a daemon.


def _hour(bench: Bench, arrivals: int, *, stops_after: int = 60) -> LastHour:
    at = NOW - 3540
    hour = LastHour(lambda: at)
    for minute in range(60):
        at = NOW - 3540 + minute * 60
        for number in range(arrivals + (minute * 7) % 11):
            hour(e.CallAdmitted(source="agent", call_id="c", state=State.DUE))
            if minute < stops_after and number:
                hour(sent())
        if minute % 20 == 13:
            hour(failed())
    at = NOW
    bench.facts.last_hour = hour
    return hour


def empty() -> Bench:
    """A daemon that has just been started."""
    bench = Bench(sources=[source()], destinations=[destination("api.usetuner.ai/42")])
    bench.facts.started_at, bench.facts.last_hour = NOW - 4, LastHour(lambda: NOW)
    bench.facts.ledger, bench.facts.fingerprint = "/var/lib/tunerd/ledger.db", "3f1c9a20be77"
    bench.facts.last_reload_at = NOW - 4
    return bench


async def busy() -> Bench:
    """Calls arrive and are delivered; one waits for its recording."""
    bench = Bench(
        sources=[source(files=48_211, settling=3, last_scan_at=NOW - 12),
                 replace(source("egress", files=47_990, last_scan_at=NOW - 9), path="/var/spool/egress")],
        destinations=[destination("tuner", in_flight=5)],
    )  # fmt: skip
    _hour(bench, 9)
    bench.facts.started_at = NOW - 6 * 86_400 - 4000
    bench.facts.ledger, bench.facts.fingerprint = "/var/lib/tunerd/ledger.db", "3f1c9a20be77"
    bench.facts.last_reload_at = NOW - 86_400
    bench.now = NOW - 31
    await bench.admit(*(f"call-{number}" for number in range(47)))
    for _ in range(41):
        await bench.deliver()
    wants = (ManifestStrategy(source="egress", key="room-81", within_s=600.0, wait_s=1800.0),)
    await bench.ledger.admit(Admission(calls=[make_call("call-waiting", strategies=wants)]), NOW - 420)
    bench.now = NOW
    return bench


async def broken() -> Bench:
    """The key is refused, a directory may not be read, a reload was refused, calls failed, calls are stranded."""
    unread = UnreadFile(source="egress", path="/var/spool/egress/EG_77.json", why="cannot be read (Permission denied)")
    bench = Bench(
        sources=[source(paused=IntakeReason.DENIED, paused_since=NOW - 900, detail="/var/spool/calls: Permission denied"),
                 source("egress", files=310, last_scan_at=NOW - 9, unreadable=2, unreadable_example=unread)],
        destinations=[
            destination("tuner", PauseReason.AUTH, since=NOW - 840, detail="Tuner answered 401: the key is not valid",
                        next_probe_at=NOW + 17),
            destination("eu.usetuner.ai/7", agents={"night-bot": (PauseReason.AUTH, NOW - 60)}, closed_until=NOW + 45),
        ],
    )  # fmt: skip
    _hour(bench, 5, stops_after=46)
    facts = bench.facts
    facts.started_at, facts.ledger, facts.fingerprint = NOW - 7300, "/var/lib/tunerd/ledger.db", "3f1c9a20be77"
    facts.last_reload_at, facts.last_reload_successful = NOW - 7300, False
    facts.problems = ("/etc/tunerd/config.yaml:14:3: sources[0].include: unknown key `inclde`; did you mean `include`?",)
    facts.stranded = lambda: [Stranded(destination="old.usetuner.ai/3", workspace="https://old.usetuner.ai/3", due=4)]
    what = "Tuner answered 422: transcript_with_tool_calls[3].role (enum)"
    bench.now = NOW - 5400
    await bench.fail("call-4712", "call-4713", "call-4719", detail=what)
    await bench.fail("call-4650", reason=FailReason.GAVE_UP, detail="answered 503 for 7 d", status=503)
    await bench.refuse(refused("/var/spool/calls/4713.json", what="the JSON ends before it is complete"))
    bench.now = NOW - 830
    await bench.admit(*(f"call-{number}" for number in range(4800, 4812)))
    bench.now = NOW
    return bench
