"""The API key as it is right now, and which proxy leads to a destination."""

import asyncio
from pathlib import Path

import pytest
from yarl import URL

from tests.delivery.made import destination
from tunerd.call import Form
from tunerd.delivery.key import Key, watch_keys
from tunerd.delivery.pauses import DeliveryPauses
from tunerd.delivery.proxy import proxy_for
from tunerd.events import Event, KeyChanged, PauseBegan
from tunerd.outcome import PauseReason
from tunerd.testing import FakeClock, Recorder


def test_the_keys_form_tells_the_request_form(tmp_path: Path) -> None:
    """`tr_api_` is create-call, anything else send-calls, unless the configuration says which; no key, no form."""
    file = tmp_path / "key"
    key = Key(destination(api_key=None, api_key_file=str(file)))
    assert (key.value, key.form) == (None, None)
    assert str(file) in key.missing
    for content, form in (("tr_api_1\n", Form.CREATE_CALL), ("bb7f64d7", Form.SEND_CALLS)):
        file.write_text(content)
        assert key.refresh()
        assert key.form is form
    assert key.follow(destination(api="create-call", api_key=None, api_key_file=str(file))) is False
    assert key.form is Form.CREATE_CALL


@pytest.mark.parametrize("content", [b"", b" \n\t", b"one\ntwo", b"a b", "schlüssel".encode(), b"\x00", b"k" * 9000])
def test_what_cannot_be_a_key_is_a_missing_one(content: bytes, tmp_path: Path) -> None:
    """It would break the header; the reason says so without showing it."""
    file = tmp_path / "key"
    file.write_bytes(content)
    key = Key(destination(api_key=None, api_key_file=str(file)))
    assert key.value is None
    assert key.missing
    assert "one" not in key.missing
    assert "schl" not in key.missing


async def test_key_files_are_compared_every_5_s(tmp_path: Path) -> None:
    """A rewritten file is noticed by its content, told once, and whoever listens is called."""
    file = tmp_path / "key"
    file.write_text("old")
    key = Key(destination(api_key=None, api_key_file=str(file)))
    changes: list[str | None] = []
    key.on_change(lambda: changes.append(key.value))
    clock, told, stop = FakeClock(), Recorder(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch_keys(lambda: [("tuner", key)], clock, told, stop))
        await clock.advance(20)
        assert not told.events
        file.write_text("new")
        await clock.advance(4.9)
        assert key.value == "old"
        await clock.advance(0.2)
        file.unlink()
        await clock.advance(5)
        stop.set()
    assert told.events == [KeyChanged(destination="tuner")] * 2
    assert changes == ["new", None]


async def test_another_reason_why_there_is_no_key_is_told_once(tmp_path: Path) -> None:
    """Empty, then gone, then a directory, then two lines: the pause says what is wrong now; the key itself did not change."""
    file = tmp_path / "key"
    file.write_text("")
    key = Key(destination(api_key=None, api_key_file=str(file)))
    clock, told, stop = FakeClock(), Recorder(), asyncio.Event()
    began_at, pauses = clock.now(), DeliveryPauses("tuner")
    events: list[Event] = []

    def changed() -> None:
        events.extend(pauses.key_changed(clock.now(), present=key.value is not None, missing=key.missing))

    def two_lines() -> None:
        file.rmdir()
        file.write_text("one\ntwo")

    changed()
    key.on_change(changed)
    reasons = [key.missing]
    async with asyncio.TaskGroup() as group:
        group.create_task(watch_keys(lambda: [("tuner", key)], clock, told, stop))
        for change in (file.unlink, file.mkdir, two_lines):
            change()
            await clock.advance(20)
            (pause,) = pauses.views()
            assert (pause.reason, pause.detail, pause.since) == (PauseReason.AUTH, key.missing, began_at)
            reasons.append(key.missing)
        stop.set()
    assert not told.events
    assert len(set(reasons)) == 4
    assert [event.detail for event in events if isinstance(event, PauseBegan)] == reasons
    assert len(events) == 4


HTTPS, HTTP = "https://api.tuner.example/x", "http://10.1.2.3:8080/x"


@pytest.mark.parametrize(
    ("target", "environ", "expected"),
    [
        (HTTPS, {}, None),
        (HTTPS, {"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        (HTTPS, {"https_proxy": "http://low:1", "HTTPS_PROXY": "http://high:1"}, "http://low:1"),
        (HTTPS, {"HTTP_PROXY": "http://proxy:3128"}, None),
        (HTTP, {"HTTP_PROXY": "proxy:3128"}, "http://proxy:3128"),
        (HTTPS, {"ALL_PROXY": "http://all:1"}, "http://all:1"),
        (HTTPS, {"HTTPS_PROXY": ""}, None),
        *[
            (HTTPS, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": entry}, None)
            for entry in (
                "*",
                "tuner.example",
                ".tuner.example",
                "other, API.tuner.example",
                "*.tuner.example",
                "tuner.example:443",
            )
        ],
        *[
            (HTTPS, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": entry}, "http://p:1")
            for entry in ("uner.example", "tuner.example:8443", "api.tuner.example.org", ",", "10.0.0.0/8")
        ],
        *[(HTTP, {"HTTP_PROXY": "http://p:1", "NO_PROXY": entry}, None) for entry in ("10.1.2.3", "10.0.0.0/8", "10.1.2.3:8080")],
        *[(HTTP, {"HTTP_PROXY": "http://p:1", "NO_PROXY": entry}, "http://p:1") for entry in ("10.1.2.30", "11.0.0.0/8", "2.3")],
        ("http://[::1]:80/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "::1"}, None),
        ("http://[::1]:80/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "[::1]:80"}, None),
    ],
)
def test_proxy_for(target: str, environ: dict[str, str], expected: str | None) -> None:
    """The environment's rules, as curl and others read them."""
    proxy = proxy_for(URL(target), environ)
    assert (proxy and str(proxy.url)) == expected


def test_a_proxys_password_is_apart() -> None:
    """User and password go into a header, not into a URL that something could show."""
    proxy = proxy_for(URL(HTTPS), {"HTTPS_PROXY": "http://user:p%40ss@proxy:3128"})
    assert proxy is not None
    assert (str(proxy.url), proxy.authorization) == ("http://proxy:3128", "Basic dXNlcjpwQHNz")
    assert "dXNl" not in repr(proxy)


@pytest.mark.parametrize(
    ("target", "environ", "named", "instead"),
    [
        (HTTPS, {"HTTPS_PROXY": "socks5h://user:canary@proxy:1080"}, "of HTTPS_PROXY in", "set HTTPS_PROXY to"),
        (HTTPS, {"https_proxy": "socks5://canary:1080"}, "of https_proxy in", "set HTTPS_PROXY to"),
        (HTTPS, {"ALL_PROXY": "socks5://canary:1080"}, "of ALL_PROXY in", "NO_PROXY=api.tuner.example to"),
        (HTTPS, {"all_proxy": "http://[canary"}, "of all_proxy in", "NO_PROXY=api.tuner.example to"),
        (HTTP, {"HTTP_PROXY": "http://"}, "of HTTP_PROXY in", "set HTTP_PROXY to"),
        (HTTP, {"http_proxy": "http://canary:99999999"}, "of http_proxy in", "set HTTP_PROXY to"),
    ],
)
def test_a_proxy_that_is_none(target: str, environ: dict[str, str], named: str, instead: str) -> None:
    """SOCKS is not spoken; the message names the variable that is set and what to do, and does not show the value."""
    with pytest.raises(ValueError, match=named) as error:
        proxy_for(URL(target), environ)
    assert instead in str(error.value)
    assert "canary" not in str(error.value)
