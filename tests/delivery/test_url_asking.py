"""Asking the host of a recording for its first byte: real servers on this machine, and a look-up of names that tests pass in."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tunerd.config import AllowedHosts
from tunerd.delivery.url_asking import UrlAnswer, UrlAsker, UrlFinding
from tunerd.location import BadLocation, host_of, url_location

LOOPBACK = {"agent": ["127.0.0.1"]}


class Host:
    """A server of recordings that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[web.BaseRequest] = []
        self.answer = lambda: web.Response(status=206, body=b"R")
        self.port = 0

    def url(self, path: str = "/a.wav?sig=secret", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request)
        return self.answer()


@asynccontextmanager
async def serving() -> AsyncIterator[Host]:
    host = Host()
    runner = web.ServerRunner(web.Server(host._serve))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host.port = runner.addresses[0][1]
    try:
        yield host
    finally:
        await runner.cleanup()


def asker(lookup: dict[str, Sequence[str]] | None = None, **allow: Sequence[str]) -> UrlAsker:
    made = UrlAsker(None if lookup is None else lambda host, port: lookup[host], timeout_s=0.5)
    made.change(allow or LOOPBACK)
    return made


async def test_one_byte_is_asked_for_and_nothing_else_goes_out() -> None:
    """GET with a Range; the query as it is, and neither credentials nor cookies."""
    async with serving() as host:
        found = await asker()(host.url("/a%2Fb.wav?sig=a%2Bb").replace("127", "user:pw@127"), "agent")
        assert found == UrlFinding(UrlAnswer.THERE)
        (request,) = host.asked
        assert (request.method, request.raw_path) == ("GET", "/a%2Fb.wav?sig=a%2Bb")
        assert request.headers["Range"] == "bytes=0-0"
        assert not {"Authorization", "Cookie"} & request.headers.keys()


@pytest.mark.parametrize(
    ("status", "found", "said"),
    [
        (200, UrlAnswer.THERE, ""),
        (206, UrlAnswer.THERE, ""),
        (404, UrlAnswer.ABSENT, "answered 404"),
        (403, UrlAnswer.ABSENT, "answered 403"),
        (401, UrlAnswer.ABSENT, "credentials"),
        (410, UrlAnswer.ABSENT, "answered 410"),
        (416, UrlAnswer.ABSENT, "empty"),
        (302, UrlAnswer.ABSENT, "redirect"),
        (429, UrlAnswer.UNREACHABLE, "answered 429"),
        (503, UrlAnswer.UNREACHABLE, "answered 503"),
    ],
)
async def test_what_an_answer_means(status: int, found: UrlAnswer, said: str) -> None:
    """Only a byte counts; a redirect is not followed, and what the host says of itself is not the recording's fault."""
    async with serving() as host:
        target = {"Location": host.url("/elsewhere.wav")}
        host.answer = lambda: web.Response(status=status, body=b"R", headers=target if status == 302 else None)
        finding = await asker()(host.url(), "agent")
        assert finding.found is found
        assert said in finding.detail
        assert "sig" not in finding.detail
        assert len(host.asked) == 1


async def test_an_empty_file_is_not_there() -> None:
    """Who writes it may not be ready."""
    async with serving() as host:
        host.answer = lambda: web.Response(status=200)
        assert (await asker()(host.url(), "agent")).found is UrlAnswer.ABSENT


async def test_a_host_that_is_silent_or_gone_is_unreachable() -> None:
    """No answer within the time, nobody at the port, or no such name."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    finding = await asker()(f"http://127.0.0.1:{port}/a.wav", "agent")
    assert (finding.found, finding.detail) == (UrlAnswer.UNREACHABLE, "127.0.0.1 did not answer within 0.5 s")
    server.close()
    assert (await asker()(f"http://127.0.0.1:{port}/a.wav", "agent")).found is UrlAnswer.UNREACHABLE
    assert (await asker()("http://no-such-name.invalid/a.wav", "agent")).found is UrlAnswer.UNREACHABLE


async def test_a_certificate_is_looked_at() -> None:
    """A host that does not speak TLS, or is not whom it says, has no recording for us."""
    async with serving() as host:
        assert (await asker()(host.url().replace("http:", "https:"), "agent")).found is UrlAnswer.UNREACHABLE
        assert host.asked == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1",
     "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::1", "ff02::1"],
)  # fmt: skip
async def test_no_address_of_a_private_network_is_asked(address: str) -> None:
    """Documents name the host: they must not make tunerd ask what only this machine can reach, in whatever way it is written."""
    async with serving() as host:
        ask = asker({"calls.example": [address]}, other=["calls.example"])
        finding = await ask(f"http://calls.example:{host.port}/a.wav", "agent")
        assert finding.found is UrlAnswer.REFUSED
        assert "verify.allow" in finding.detail
        literal = f"[{address}]" if ":" in address else address
        assert (await ask(f"http://{literal}:{host.port}/a.wav", "agent")).found is UrlAnswer.REFUSED
        assert host.asked == []


async def test_odd_spellings_of_an_address_are_looked_up() -> None:
    """A number, or digits in octal, mean what the system makes of them."""
    async with serving() as host:
        ask = UrlAsker(timeout_s=0.5)
        for spelling in ("2130706433", "0x7f.1", "127.1", "localhost"):
            assert (await ask(f"http://{spelling}:{host.port}/a.wav", "agent")).found is UrlAnswer.REFUSED
        assert host.asked == []


async def test_the_address_that_was_looked_at_is_connected_to() -> None:
    """A name that means a public address when it is looked up, and this machine a moment later (DNS rebinding): it is looked up
    once, and what was found is what is connected to."""
    async with serving() as host:
        answers = iter([["198.51.100.7"], ["127.0.0.1"], ["127.0.0.1"]])
        looked_up: list[str] = []

        def rebinding(name: str, port: int) -> Sequence[str]:
            looked_up.append(name)
            return next(answers)

        ask = UrlAsker(rebinding, timeout_s=0.2)
        ask.change({"agent": ["198.51.100.0/24"]})
        finding = await ask(f"http://rebind.example:{host.port}/a.wav", "agent")
        assert finding.found is UrlAnswer.UNREACHABLE
        assert looked_up == ["rebind.example"]
        assert host.asked == []
        assert (await ask(f"http://rebind.example:{host.port}/a.wav", "agent")).found is UrlAnswer.REFUSED
        assert host.asked == []


async def test_of_several_addresses_only_those_that_may_be_asked_are() -> None:
    """A private address among public ones is left out."""
    async with serving() as host:
        ask = asker({"calls.example": ["10.0.0.1", "127.0.0.1"]}, agent=["127.0.0.0/8"])
        assert (await ask(f"http://calls.example:{host.port}/a.wav", "agent")).found is UrlAnswer.THERE
        assert host.asked[0].headers["Host"] == f"calls.example:{host.port}"


@pytest.mark.parametrize("allow", [["media.internal"], ["127.0.0.1"], ["127.0.0.0/8"], ["MEDIA.internal."]])
async def test_what_is_allowed_by_name_is_asked(allow: list[str]) -> None:
    """By its name, its address or its network; of the source that says so alone, and from a reload on."""
    async with serving() as host:
        ask = asker({"media.internal": ["127.0.0.1"]}, agent=allow)
        url = f"http://media.internal:{host.port}/a.wav"
        assert (await ask(url, "agent")).found is UrlAnswer.THERE
        assert (await ask(url, "other")).found is UrlAnswer.REFUSED
        ask.change({"agent": []})
        assert (await ask(url, "agent")).found is UrlAnswer.REFUSED


def test_public_addresses_need_no_permission() -> None:
    """Both families."""
    assert AllowedHosts().permit("a.example", "93.184.215.14")
    assert AllowedHosts().permit("a.example", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")


ODD_URLS = (
    "https://xn--.example/a.wav",
    "https://xn--zzzzz/a.wav",
    "https://-a.b/a.wav",
    "https://\u0663.example/a.wav",
    "https://h:0/a.wav",
    "https://[fe80::1%25eth0]/a.wav",
    "https://[1:2:3:4:5:6:7:8]:/a.wav",
    "https://u:p@[::1]:99/a.wav",
    f"https://{'é' * 60}.x/a.wav",
    "https://h?%zz",
    "https://h/\u00e9%?\u00fc#t",
)


async def test_a_host_beyond_ascii_is_asked_by_its_name_in_the_dns() -> None:
    """Its name is in punycode there, and the path is escaped as all clients do it."""
    async with serving() as host:
        ask = asker({"xn--bcher-kva.example": ["127.0.0.1"]}, agent=["xn--bcher-kva.example"])
        assert await ask(host.url("//ü%2F.wav?sig=é", "BÜCHER.example"), "agent") == UrlFinding(UrlAnswer.THERE)
        assert host.asked[0].headers["Host"] == f"xn--bcher-kva.example:{host.port}"
        assert host.asked[0].raw_path == "//%C3%BC%2F.wav?sig=%C3%A9"


@pytest.mark.parametrize("url", ODD_URLS)
async def test_a_url_with_an_odd_host_is_not_asked_for_and_raises_nothing(url: str) -> None:
    """One document must not end the daemon: its recording is not there, whatever its host is."""
    url_location(url)
    assert host_of(url)
    assert (await UrlAsker(_no_such_name, timeout_s=0.5)(url, "agent")).found is not UrlAnswer.THERE


def _no_such_name(name: str, port: int) -> Sequence[str]:
    name.encode("ascii")
    raise socket.gaierror


HOSTS = st.text("ab.-_:/@[]%?#0159éß\u0661\u3002Üx", min_size=1, max_size=12)


@settings(max_examples=examples(150), deadline=None)
@given(st.sampled_from(["https://", "http://", "https://xn--", "https://[::1", "HTTP://u@"]), HOSTS)
def test_every_url_that_a_rule_may_give_can_be_asked_for(head: str, tail: str) -> None:
    """Nothing that passes as a location makes the asker raise, whether its name is known or not."""
    url = head + tail
    try:
        url_location(url)
    except BadLocation:
        return
    assert host_of(url)

    async def ask() -> None:
        for lookup in (_no_such_name, lambda name, port: [], lambda name, port: ["127.0.0.2"]):
            asking = UrlAsker(lookup, timeout_s=0.05)
            asking.change({"agent": ["127.0.0.2"]})
            await asking(url, "agent")
            asking.close()

    asyncio.run(ask())
