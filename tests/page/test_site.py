"""The status page over a real socket: who gets an answer, under which host name, and which headers every answer has."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from tests.admin.benches import Bench
from tests.ops.test_canaries import SECRETS, leaks, planted
from tests.page.served import TOKEN, Served, broken, serving
from tunerd.admin.api import StatusOrder
from tunerd.ledger import LedgerUnavailable, StoredCall
from tunerd.ops.encoding import encoded
from tunerd.ops.mask import keep_out
from tunerd.page.access import WRONG_TOKENS
from tunerd.testing import MemoryLedger

PAGES = ("/", "/status.json", "/call?id=call-4712", "/failed?reason=rejected", "/login", "/page.css", "/page.js", "/icon.svg")

HOSTS = {
    "127.0.0.1": True, "127.0.0.1:9465": True, "10.1.2.3:80": True, "[::1]": True, "[::1]:9465": True, "[fe80::1%25eth0]:1": True,
    "localhost": True, "LOCALHOST:9465": True, "localhost.": True, "app.localhost": True, "tunerd.internal": True,
    "Tunerd.Internal.:9465": True,
    "attacker.example": False, "attacker.example:9465": False, "127.0.0.1.attacker.example": False, "localhost.attacker.example": False,
    "notlocalhost": False, "x@127.0.0.1": False, "127.0.0.1@x": False, "0x7f000001": False, "[attacker.example]": False,
    "127.0.0.1:1:2": False, "internal": False, "sub.tunerd.internal": False, "": False, "127.0.0.1 attacker.example": False,
}  # fmt: skip


async def raw(served: Served, request: str, header: str) -> tuple[int, str]:
    """Status and whole answer to a request that no client library would send."""
    reader, writer = await asyncio.open_connection(*served.address)
    try:
        writer.write(f"{request} HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n".encode())
        text = (await reader.read()).decode("utf-8", "replace")
        return int(text.split(" ")[1]), text
    finally:
        writer.close()


@pytest.mark.parametrize("host", HOSTS)
async def test_nothing_is_answered_under_a_foreign_name(host: str) -> None:
    """A page of the web that rebinds its own name to this address reads nothing, and cannot log in either."""
    async with serving(hosts=("tunerd.internal",)) as served:
        for path in ("/", "/status.json", "/call?id=x", "/login"):
            status, _ = await raw(served, f"GET {path}", f"Host: {host}")
            assert (status == 403) == (not HOSTS[host]), path


FORWARDED = ("X-Forwarded-For: 192.0.2.7", "X-Real-IP: 192.0.2.7", "Forwarded: for=192.0.2.7")


async def test_what_a_proxy_forwards_needs_the_token_on_loopback_too(tmp_path: Path) -> None:
    """A proxy on this machine listens for others: it keeps the Host header, or it names whom it forwards."""
    async with serving(token_file=tmp_path / "token", hosts=("tunerd.internal",)) as served:
        for path in ("/", "/status.json", "/call?id=x"):
            status, _ = await raw(served, f"GET {path}", "Host: localhost:9465")
            assert status == 200, path
            for header in ("Host: tunerd.internal", "Host: 10.1.2.3", *(f"Host: 127.0.0.1\r\n{one}" for one in FORWARDED)):
                status, _ = await raw(served, f"GET {path}", header)
                assert status == (401 if path == "/status.json" else 303), (path, header)
                status, _ = await raw(served, f"GET {path}", f"{header}\r\nAuthorization: Bearer {TOKEN}")
                assert status == 200, (path, header)


@pytest.mark.parametrize("header", ["Origin: http://[", "Content-Type: multipart/form-data", "Content-Type: text/plain"])
async def test_a_malformed_form_is_refused(header: str) -> None:
    """Without a login, too: with a status of its own and the strict headers, not as a defect of tunerd."""
    async with serving() as served:
        status, answer = await raw(served, "POST /login", f"Host: localhost\r\n{header}\r\nContent-Length: 0")
        assert status in (403, 415), answer
        assert "Content-Security-Policy" in answer


async def test_no_host_or_two_are_no_known_host() -> None:
    """Browsers send exactly one; anything else is refused."""
    async with serving() as served:
        assert (await raw(served, "GET /status.json", "X: y"))[0] in (400, 403)
        assert (await raw(served, "GET /status.json", "Host: 127.0.0.1\r\nHost: attacker.example"))[0] in (400, 403)


async def test_every_answer_has_the_strict_headers() -> None:
    """Also errors, redirects and files: no script or style of another origin, no frame, no cache, no inline code."""
    async with serving(await broken()) as served:
        for path in (*PAGES, "/nothing", "/done"):
            headers = await served.headers(path)
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy, path
            assert "unsafe" not in policy
            assert "http" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"


async def test_pages_name_nothing_outside() -> None:
    """No attribute loads from elsewhere, and no element has a style or a handler of its own, which the policy would refuse."""
    async with serving(await broken()) as served:
        for path in ("/", "/call?id=call-4712", "/failed?reason=rejected", "/login"):
            _, text = await served.get(path)
            assert re.findall(r'(?:src|href|action)="(?!/)[^"]*"', text) == []
            assert re.findall(r'\s(?:style|on\w+)="', text) == []


async def test_status_json_is_the_status_document() -> None:
    """The same document as on the control socket."""
    async with serving() as served:
        await served.bench.fail("call-1")
        status, text = await served.get("/status.json")
        assert status == 200
        assert json.loads(text) == json.loads(encoded(await served.bench.ask(StatusOrder())))


class Unreadable(MemoryLedger):
    async def calls(self, *_: object, **__: object) -> list[StoredCall]:
        raise LedgerUnavailable("the ledger cannot be read now (SQLITE_IOERR)")


async def test_while_the_ledger_cannot_be_read() -> None:
    """503: the page says why and keeps refreshing itself, and /status.json has one line of JSON."""
    async with serving(Bench(ledger=Unreadable())) as served:
        status, text = await served.get("/status.json")
        assert (status, json.loads(text)) == (503, {"error": "the ledger cannot be read now (SQLITE_IOERR)"})
        assert text.count("\n") == 1
        status, text = await served.get("/")
        assert status == 503
        assert "SQLITE_IOERR" in text
        assert "data-live" in text


async def test_a_call_that_is_not_there() -> None:
    """No empty page: what to do instead. Without an id it is a wrong request."""
    async with serving() as served:
        assert "tunerd explain FILE" in (await served.get("/call?id=nobody"))[1]
        assert (await served.get("/call"))[0] == 400


async def test_text_of_a_document_is_never_html() -> None:
    """Call ids, paths, details and names come from outside."""
    async with serving() as served:
        await served.bench.fail("<script>alert(1)</script>", detail='"><img src=x onerror=alert(2)>')
        for path in ("/", "/failed?reason=rejected", "/call?id=%3Cscript%3Ealert(1)%3C/script%3E", "/call?id=<b>"):
            _, text = await served.get(path)
            assert "<script>" not in text
            assert "<img" not in text
            assert "<b>" not in text


async def test_wrong_methods_paths_and_headers() -> None:
    """Each gets a plain refusal, and the next request an answer."""
    async with serving() as served:
        host = "Host: 127.0.0.1\r\nContent-Length: 0"
        for request, wanted in (("POST /", 405), ("DELETE /status.json", 405), ("GET /actions/retry", 405), ("GET /../x", 404)):
            assert (await raw(served, request, host))[0] == wanted, request
        assert (await raw(served, "GET /", f"Host: 127.0.0.1\r\nX: {'a' * 100_000}"))[0] == 400
        assert (await served.get("/"))[0] == 200


# An address that other machines reach.


async def test_elsewhere_the_token_is_needed_for_reading_too(tmp_path: Path) -> None:
    """A browser is sent to the login, a script gets an error that says what to send; style and login are answered."""
    async with serving(await broken(), tmp_path / "token") as served:
        served.is_on_loopback = False
        for path in ("/", "/call?id=call-4712", "/failed?reason=rejected", "/done"):
            assert (await served.get(path))[0] == 303, path
            assert (await served.headers(path))["Location"] == "/login"
        status, text = await served.get("/status.json")
        assert status == 401
        assert "call-4712" not in text
        assert (await served.get("/login"))[0] == 200
        assert (await served.get("/page.css"))[0] == 200
        assert (await served.get("/status.json", Authorization=f"Bearer {TOKEN}"))[0] == 200
        await served.log_in()
        assert "call-4712" in (await served.get("/"))[1]


async def test_elsewhere_without_a_token_nothing_is_shown(tmp_path: Path) -> None:
    """A token file that is gone opens nothing, and an old session does not outlive it."""
    async with serving(await broken(), tmp_path / "token") as served:
        served.is_on_loopback = False
        await served.log_in()
        (tmp_path / "token").unlink()
        assert (await served.get("/"))[0] == 303
        assert (await served.get("/status.json", Authorization=f"Bearer {TOKEN}"))[0] == 401
        assert "Nobody can log in" in (await served.post("/login", token=TOKEN))[1]


async def test_wrong_bearers_are_limited_like_wrong_logins(tmp_path: Path) -> None:
    """After five wrong ones from an address even the right one has to wait."""
    async with serving(await broken(), tmp_path / "token") as served:
        served.is_on_loopback = False
        for _ in range(WRONG_TOKENS):
            assert (await served.get("/status.json", Authorization="Bearer nope"))[0] == 401
        assert (await served.get("/status.json", Authorization=f"Bearer {TOKEN}"))[0] == 429
        served.monotonic = 61.0
        assert (await served.get("/status.json", Authorization=f"Bearer {TOKEN}"))[0] == 200


# What must not be seen.


async def test_no_canary_on_any_page(tmp_path: Path) -> None:
    """Transcripts, keys and queries of URLs are on no page, before and after a login, nor in what an action reports."""
    keep_out(SECRETS["own key"])
    bench = await planted()
    async with serving(bench, tmp_path / "token") as served:
        pages = (
            "/",
            "/status.json",
            "/call?id=failed",
            "/call?id=due",
            "/failed?reason=rejected",
            "/failed?reason=unreadable",
            "/login",
        )
        for path in pages:
            assert leaks((await served.get(path))[1]) == [], path
        csrf = await served.log_in()
        for reason in ("rejected", "unreadable", "invalid"):
            assert await served.post("/actions/retry", csrf=csrf, reason=reason) == (303, "/done")
            assert leaks((await served.get("/done"))[1]) == [], reason
        for path in pages:
            assert leaks((await served.get(path))[1]) == [], path
        assert TOKEN not in "".join([(await served.get(path))[1] for path in pages])
