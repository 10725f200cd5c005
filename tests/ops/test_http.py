"""The scraped port, over real sockets: what each path answers, and that rude clients do no harm."""

import asyncio
import io
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.admin.benches import Bench
from tests.real_parts import needs_network_namespace
from tunerd.ops.connection_guard import MAX_CONNECTIONS
from tunerd.ops.http import HttpServer, ListenError, split_address
from tunerd.ops.log_writer import foreign_loggers, open_log
from tunerd.ops.scraped_pages import scraped_pages

TEXT = "text/plain; charset=utf-8"


class Page:
    """A server under test, and what its parts say."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.ill: str | None = None
        self.address = ("", 0)

    async def ailment(self) -> str | None:
        return self.ill

    def ready(self) -> bool:
        return self.bench.status.ready()

    def render(self, accept: str) -> tuple[Callable[[], bytes], str]:
        return f"accept={accept}".encode, "text/plain; version=0.0.4; charset=utf-8"

    async def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        host, port = self.address
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{'[::1]' if ':' in host else host}:{port}{path}", headers=headers) as answer,
        ):
            return answer.status, answer.headers.get("Content-Type", ""), await answer.text()


@asynccontextmanager
async def serving(
    bench: Bench | None = None, listen: str = "127.0.0.1:0", page_address: str = "127.0.0.1:9465", **limits: float
) -> AsyncIterator[Page]:
    page = Page(bench or Bench())
    server = HttpServer(scraped_pages(page.render, page.ailment, page.ready, "1.2.3", page_address), **limits)
    page.address = await server.start(listen)
    try:
        yield page
    finally:
        await server.close()


async def test_metrics_are_rendered_as_the_scraper_wants_them() -> None:
    """The Accept header decides the format, and its content type comes back as it is."""
    async with serving() as page:
        assert await page.get("/metrics", Accept="x/y") == (200, "text/plain; version=0.0.4; charset=utf-8", "accept=x/y")


async def test_healthz_is_about_progress() -> None:
    """200 while well; 503 with the reason when a restart would help."""
    async with serving() as page:
        assert (await page.get("/healthz"))[::2] == (200, "ok\n")
        page.ill = "the ledger's writer did not answer within 5 s"
        assert (await page.get("/healthz"))[::2] == (503, "the ledger's writer did not answer within 5 s\n")


async def test_readyz_is_about_being_up() -> None:
    """200 from ledger-open until stop."""
    async with serving() as page:
        facts = page.bench.facts
        facts.ready = False
        assert (await page.get("/readyz"))[0] == 503
        facts.ready = True
        assert (await page.get("/readyz"))[0] == 200
        facts.stopping = True
        assert (await page.get("/readyz"))[0] == 503


async def test_the_root_is_a_line_of_text_and_status_json_has_moved() -> None:
    """Both say where the status page is; nothing of a call is on this port."""
    async with serving() as page:
        await page.bench.fail("call-1")
        line = "The status page and /status.json are on the address of http.admin_listen, 127.0.0.1:9465.\n"
        assert await page.get("/") == (200, TEXT, f"tunerd 1.2.3: /metrics, /healthz and /readyz are here. {line}")
        assert await page.get("/status.json") == (404, TEXT, line)
        assert (await page.get("/nothing"))[0] == 404
    async with serving(page_address="") as page:
        assert (await page.get("/status.json"))[2].endswith("which is not open.\n")


async def test_wrong_methods_change_nothing() -> None:
    """The scraped port answers GET and HEAD."""
    async with serving() as page:
        for method in ("POST", "PUT", "DELETE"):
            for path in ("/", "/metrics", "/healthz", "/status.json"):
                assert await raw_status(page, path, "Host: x\r\nContent-Length: 0", method) == 405, (method, path)


def own_address() -> str:
    """An address of this machine that others reach, as a pod has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


async def test_a_scrape_by_pod_ip_and_by_service_name() -> None:
    """Prometheus scrapes an address of the pod; through a Service it sends a name of the cluster, which no setting lists."""
    async with serving(listen="0.0.0.0:0") as page:
        page.address = (own_address(), page.address[1])
        for host in (page.address[0], "tunerd-metrics.voice.svc.cluster.local:9464", "tunerd-metrics.voice"):
            assert (await page.get("/metrics", Host=host))[0] == 200
            assert (await page.get("/healthz", Host=host))[0] == 200


async def test_ipv6() -> None:
    """Brackets as in a URL."""
    async with serving(listen="[::1]:0") as page:
        assert page.address[0] == "::1"
        assert (await page.get("/healthz"))[0] == 200


async def test_every_address_is_ipv4_and_ipv6() -> None:
    """`:PORT` answers on both families, on one port, also where the port is a free one."""
    async with serving(listen=":0") as page:
        for host in ("127.0.0.1", "::1"):
            reader, writer = await asyncio.open_connection(host, page.address[1])
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert (await reader.readline()).split()[1] == b"200"
            writer.close()


@needs_network_namespace
def test_a_machine_without_ipv6() -> None:
    """In many containers `localhost` also names ::1 while IPv6 is switched off: then it is IPv4 alone, and no error."""
    code = """
import asyncio
from tunerd.ops.http import HttpServer

async def main():
    server = HttpServer([])
    print(*await server.start("localhost:0"))
    await server.close()

asyncio.run(main())
"""
    off = 'ip link set lo up; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && exec "$@"'
    ran = subprocess.run(
        ["unshare", "--net", "sh", "-c", off, "sh", sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ran.stdout.startswith("127.0.0.1 "), ran.stderr


async def test_an_address_in_use_is_one_line() -> None:
    """What is wrong, which setting, what to do."""
    async with serving() as page:
        with pytest.raises(ListenError, match=r"http.listen: 127.0.0.1:\d+ is in use by another process: choose another"):
            async with serving(listen=f"127.0.0.1:{page.address[1]}"):
                pass


@pytest.mark.parametrize("listen", ["9464", "localhost", "::1:9464", "1.2.3.4:99999", "h:-1", "h:x"])
def test_addresses_that_are_none(listen: str) -> None:
    """Each with the forms to write."""
    with pytest.raises(ListenError, match=r"write 127\.0\.0\.1:9464"):
        split_address(listen)


@pytest.mark.parametrize("listen", ["203.0.113.7:0", "no-such-host.invalid:0"])
async def test_addresses_of_other_machines(listen: str) -> None:
    """No traceback either."""
    with pytest.raises(ListenError, match=r"http\.listen"):
        async with serving(listen=listen):
            pass


RUDE = {
    "a wrong method": (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
    "a method that deletes": (b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "a method that nobody knows": (b"BREW /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "options": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "a wrong path": (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "a path with a slash at the end": (b"GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "a path that climbs": (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "a path with markup": (b"GET /<script>alert(1)</script> HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "a long request line": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a long header": (b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 20_000 + b"\r\n\r\n", 400),
    "many headers": (b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(5000)) + b"\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a wrong length": (b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    "no host": (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
}


@pytest.mark.parametrize("request_", RUDE)
async def test_rude_requests_get_a_status_of_their_own(request_: str) -> None:
    """Each gets a short answer in text that repeats nothing of markup; the log stays empty, and the next request is served."""
    sent, status = RUDE[request_]
    paper = io.StringIO()
    with foreign_loggers(open_log("json", "debug", paper)):
        async with serving() as page:
            reader, writer = await asyncio.open_connection(*page.address)
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: ([0-9]+)", head)
            assert length is not None
            body = await reader.readexactly(int(length[1]))
            writer.close()
            assert int(head.split(b" ")[1]) == status
            assert b"Content-Type: text/plain" in head
            assert len(body) < 1000
            assert b"<script>" not in body
            assert (await page.get("/healthz"))[0] == 200
    assert paper.getvalue() == ""


async def test_a_head_request_is_a_get_without_its_body() -> None:
    """Some probes use it."""
    async with serving() as page:
        reader, writer = await asyncio.open_connection(*page.address)
        writer.write(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
        writer.close()


async def test_headers_without_end_cost_a_400_and_not_memory() -> None:
    """The connection ends long before 10 MB were sent."""
    async with serving() as page:
        reader, writer = await asyncio.open_connection(*page.address)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
        sent = 0
        try:
            while sent < 10_000_000 and not reader.at_eof():
                line = b"X-%d: %s\r\n" % (sent, b"a" * 1000)
                writer.write(line)
                await writer.drain()
                sent += len(line)
        except ConnectionError:
            pass
        writer.close()
        assert sent < 10_000_000
        assert (await page.get("/healthz"))[0] == 200


async def test_the_connection_after_the_last_one_pushes_out_the_quietest() -> None:
    """With as many open as may be, another scraper still gets through; the one that has said nothing for longest is closed."""
    async with serving(first_request_s=1000.0) as page:
        idle = [await asyncio.open_connection(*page.address) for _ in range(MAX_CONNECTIONS)]
        assert (await page.get("/healthz"))[0] == 200
        async with asyncio.timeout(10):
            assert await idle[0][0].read() == b""
        idle[-1][1].write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await idle[-1][0].read()).startswith(b"HTTP/1.1 200")
        for _, writer in idle:
            writer.close()


def test_there_are_64_connections() -> None:
    """The 65th is one too many, where the process may open enough files."""
    assert MAX_CONNECTIONS == 64


async def test_a_connection_that_only_sits_there_is_closed() -> None:
    """aiohttp waits for headers as long as it takes; we don't."""
    async with serving(first_request_s=0.05, sweep_s=0.02) as page:
        reader, writer = await asyncio.open_connection(*page.address)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost:")
        async with asyncio.timeout(10):
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()
        assert (await page.get("/healthz"))[0] == 200


async def test_headers_that_drip_in_do_not_keep_a_connection_open() -> None:
    """One byte after the other: each is progress for the parser, and no request for us. Others are served meanwhile."""
    async with serving(first_request_s=0.3, sweep_s=0.05) as page:
        reader, writer = await asyncio.open_connection(*page.address)
        slow, served = 0, 0
        async with asyncio.timeout(20):
            try:
                while not reader.at_eof():
                    writer.write(b"G" if slow == 0 else b"E" if slow == 1 else b"T /metrics HTTP/1.1"[(slow - 2) % 19 :][:1])
                    await writer.drain()
                    slow += 1
                    served += (await page.get("/healthz"))[0] == 200
            except ConnectionError:
                pass
        writer.close()
        assert slow == served or slow == served + 1
        assert served > 3


@pytest.mark.parametrize("header", ["Host: attacker.example", "Host: 127.0.0.1", "Host: "])
async def test_scrapers_and_kubelets_are_answered_under_any_name(header: str) -> None:
    """Nothing on this port is worth a check."""
    async with serving() as page:
        for path in ("/", "/metrics", "/healthz", "/readyz"):
            assert await raw_status(page, path, header) in (200, 503), path


async def raw_status(page: Page, path: str, header: str, method: str = "GET") -> int:
    reader, writer = await asyncio.open_connection(*page.address)
    try:
        writer.write(f"{method} {path} HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n".encode())
        return int((await reader.read()).split(b" ")[1])
    finally:
        writer.close()


async def test_a_port_that_is_being_closed_is_not_taken_for_this_machines_own() -> None:
    """Requests that have already arrived are still answered then, and what is on loopback needs no token."""
    server = HttpServer([], key="http.admin_listen")
    await server.start("127.0.0.1:0")
    assert server.is_on_loopback
    await server.close()
    assert not server.is_on_loopback
