"""The port of the status page in a real daemon: which address, what if it is taken, and the page of what really happened."""

import json
import socket
from pathlib import Path

import aiohttp

from tests.e2e.harness import Process, call_document, put, running, until, world

OWN_ADDRESS = "  admin_listen: 127.0.0.1:0\n"


async def test_a_configured_address_that_is_taken_is_one_line_and_exit_1(tmp_path: Path) -> None:
    """The line names the setting, the address and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with world(tmp_path) as (_, config):
            config.write_text(config.read_text().replace(OWN_ADDRESS, f"  admin_listen: {address}\n"))
            process = await Process.start("run", "--config", str(config), output=tmp_path / "log")
            assert await process.ended() == 1
            assert f"http.admin_listen: {address} is in use by another process: choose another port" in process.said
            assert "Traceback" not in process.said


async def test_the_default_address_that_is_taken_costs_only_the_page(tmp_path: Path) -> None:
    """A second daemon on one machine starts as it did before there was this port, and says what to set."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 9465))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which is as good
        async with world(tmp_path) as (tuner, config):
            config.write_text(config.read_text().replace(OWN_ADDRESS, ""))
            async with running(config) as daemon:
                (line,) = daemon.told("running without the status page")
                assert "127.0.0.1:9465 is in use" in line["detail"]
                put(tmp_path / "calls" / "a.json", call_document("a"))
                await tuner.has("a")
                address = daemon.told("listening")[-1]["address"]
                async with aiohttp.ClientSession() as session, session.get(f"http://{address}/status.json") as answer:
                    assert (answer.status, "which is not open" in await answer.text()) == (404, True)


async def test_without_a_port_there_is_none_for_the_page_either(tmp_path: Path) -> None:
    """Who has turned HTTP off gets no port by an upgrade."""
    async with world(tmp_path) as (_, config):
        config.write_text(config.read_text().replace(OWN_ADDRESS, "").replace("listen: 127.0.0.1:0", "listen: null"))
        async with running(config) as daemon:
            assert daemon.told("status page") == daemon.told("listening") == []


async def test_the_page_of_what_really_happened(tmp_path: Path) -> None:
    """A delivered call and a rejected one are counted in the last hour; a token that a reload brings allows a retry."""
    async with world(tmp_path) as (tuner, config), running(config) as daemon:
        put(tmp_path / "calls" / "good.json", call_document("good"))
        await tuner.has("good")
        put(tmp_path / "calls" / "bad.json", call_document("bad") | {"started": "yesterday"})

        async def counted() -> bool:
            hour = json.loads(await daemon.get("/status.json"))["last_hour"]
            return (sum(hour["admitted"]), sum(hour["sent"]), sum(hour["failed"])) == (1, 1, 1)

        await until(counted)
        text = await daemon.get("/")
        assert "1 arrived" in text
        assert "1 call failed and will not be sent" in text
        fingerprint = json.loads(await daemon.get("/status.json"))["config"]["fingerprint"]
        (tmp_path / "token").write_text("the-token-of-this-daemon")
        config.write_text(config.read_text().replace(OWN_ADDRESS, f"{OWN_ADDRESS}  admin_token_file: {tmp_path}/token\n"))
        daemon.signal(1)
        await until(lambda: daemon.told("configuration reloaded"))
        assert json.loads(await daemon.get("/status.json"))["config"]["fingerprint"] != fingerprint
        url = f"http://{daemon.told('status page')[-1]['address']}"
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            async with session.post(f"{url}/login", data={"token": "the-token-of-this-daemon"}) as answer:
                csrf = (await answer.text()).partition('name="csrf" value="')[2].partition('"')[0]
            async with session.post(f"{url}/actions/dismiss", data={"csrf": csrf, "reason": "unmappable"}) as answer:
                assert "1 call: dismissed" in await answer.text()
        assert "Nothing needs attention." in await daemon.get("/")
