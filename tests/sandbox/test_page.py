"""What people see of the sandbox: its page and the same as JSON."""

import aiohttp
import pytest

from tests.bodies import create_body
from tests.sandbox.conftest import QUERY, Client
from tunerd.sandbox.arrivals import in_short, without_query
from tunerd.sandbox.server import Sandbox

SECRET_URL = "https://audio.example/a.wav?token=secret"


async def test_the_page_shows_what_arrived_newest_first(client: Client) -> None:
    """Time, call id, agent, form, rows, recording and answer; the page loads itself anew."""
    await client.post(create_body(call_id="older"))
    await client.post(create_body(call_id="newer", call_type=""))
    page = (await client.get("/")).raw.decode()
    assert page.index("newer") < page.index("older")
    for told in (
        "support-bot",
        "create-call",
        "https://audio.example/call_12345.wav",
        "200 accepted",
        "422 refused",
        "call_type",
    ):
        assert told in page
    assert 'http-equiv="refresh"' in page


async def test_the_page_escapes_everything_and_loads_nothing(client: Client) -> None:
    """A call id, agent, URL or field name that is HTML is shown as text; no script and no foreign asset can run."""
    evil = "<script>alert(1)</script>"
    query = {**QUERY, "agent_remote_identifier": evil}
    await client.post(create_body(call_id=evil, recording_url="https://a.example/" + evil, **{evil: 1}), query=query)
    reply = await client.get("/")
    assert b"<script" not in reply.raw
    assert reply.raw.count(b"&lt;script&gt;") == 4
    assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'")


async def test_bodies_and_url_queries_are_shown_only_when_asked(session: aiohttp.ClientSession) -> None:
    """What was said and the token of a signed URL stay out of page and JSON, unless the sandbox runs with --show."""
    for show in (False, True):
        async with Sandbox(show=show) as sandbox:
            client = Client(session, sandbox)
            await client.post(create_body(recording_url=SECRET_URL))
            for path in ("/", "/arrivals.json"):
                raw = (await client.get(path)).raw
                assert (b"library" in raw, b"secret" in raw) == (show, show)


async def test_a_long_url_is_shown_short_and_told_whole(session: aiohttp.ClientSession) -> None:
    """The page has host and end of it; for programs, and where --show asks for it, all of it stands there."""
    url = f"https://bucket.example/{'a-long-directory/' * 50}the-call.wav"
    for show in (False, True):
        async with Sandbox(show=show) as sandbox:
            client = Client(session, sandbox)
            await client.post(create_body(recording_url=url))
            page = (await client.get("/")).raw.decode()
            assert (url in page) is show
            assert ("https://bucket.example/a-long-directory/" in page, "/the-call.wav" in page) == (True, True)
            assert url in (await client.get("/arrivals.json")).raw.decode()


@pytest.mark.parametrize("length", [80, 81, 1000])
def test_a_url_in_short(length: int) -> None:
    """At most eighty characters, whole where it fits."""
    url = "https://a.example/".ljust(length - 4, "x") + ".wav"
    shown = in_short(url + "?token=secret") or ""
    assert (len(shown) <= 80, "secret" in shown) == (True, False)
    assert (in_short(url) == url) is (length == 80)
    assert ("https://a.example/x" in shown, shown.endswith(("x.wav", "?..."))) == (True, True)


async def test_arrivals_as_json(client: Client) -> None:
    """The same facts for programs, from any number on; without an arrival the page works too."""
    assert b"nothing yet" in (await client.get("/")).raw
    for call_id in ("a", "b"):
        await client.post(create_body(call_id=call_id))
    told = (await client.get("/arrivals.json?since=1")).json
    arrivals = told["arrivals"]
    assert isinstance(arrivals, list)
    assert (told["total"], told["counts"], [each["call_id"] for each in arrivals]) == (2, {"accepted": 2}, ["b"])
    assert (await client.get("/arrivals.json?since=x")).status == 400
    assert (await client.get("/healthz")).json == {"ok": True}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (None, None),
        ("pending", "pending"),
        ("https://a.example/x.wav", "https://a.example/x.wav"),
        ("https://a.example/x.wav?sig=1#part", "https://a.example/x.wav?..."),
        ("https://me:word@a.example:8443/x.wav", "https://a.example:8443/x.wav"),
        ("https://[broken/x", "(not a URL)"),
    ],
)
def test_without_query(url: str | None, shown: str | None) -> None:
    """Query, fragment and user part of a URL are secrets; the rest tells people which recording it is."""
    assert without_query(url) == shown
