"""`verify: get` with a real daemon, a real host of recordings, and the sandbox as Tuner."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.e2e.harness import Daemon, call_document, command, put, running, until, world

VERIFY = "    verify: {request: get, allow: [127.0.0.1]}"


class RecordingHost:
    """Has the recordings in `there`; 404 for all others."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.asked: list[str] = []
        self.port = 0

    def put(self, directory: Path, call_id: str, host: str = "127.0.0.1") -> None:
        document = {**call_document(call_id), "audio": f"http://{host}:{self.port}/{call_id}.wav?signature=s3cret"}
        put(directory / "calls" / f"{call_id}.json", document)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        return web.Response(status=206, body=b"R") if request.path in self.there else web.Response(status=404)


@asynccontextmanager
async def recording_host() -> AsyncIterator[RecordingHost]:
    host = RecordingHost()
    runner = web.ServerRunner(web.Server(host.serve))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host.port = runner.addresses[0][1]
    try:
        yield host
    finally:
        await runner.cleanup()


async def test_a_call_waits_over_a_restart_until_its_recording_is_there(tmp_path: Path) -> None:
    """404: it waits, and others do not. After a kill it is asked for again, and sent with its URL as it is."""
    async with world(tmp_path, source=VERIFY) as (tuner, config), recording_host() as host:
        host.there.add("/b.wav")
        async with running(config) as daemon:
            host.put(tmp_path, "a")
            host.put(tmp_path, "b")
            await tuner.has("b")
            await until(lambda: daemon.told("a recording is not there yet; its call waits"))
            (line,) = daemon.told("a recording is not there yet; its call waits")
            assert (line["call_id"], line["url"]) == ("a", f"http://127.0.0.1:{host.port}/a.wav")
            assert await daemon.metric("tunerd_recording_url_checks_total", found="absent") == 1
            _, said = await command(config, "status", "a")
            assert "127.0.0.1 answered 404; asked for again at" in " ".join(said.split())
            await daemon.kill()
        host.there.add("/a.wav")
        async with running(config) as daemon:
            await tuner.has("a")
            assert (await tuner.bodies())["a"]["recording_url"].endswith("/a.wav?signature=s3cret")
            await until(daemon.states)
        assert "s3cret" not in daemon.said


async def test_a_host_of_this_machine_is_only_asked_if_it_is_allowed(tmp_path: Path) -> None:
    """`run --once` asks each URL once and ends; what to do is in the log and in `status`; a changed configuration heals it."""
    async with world(tmp_path, source="    verify: get") as (tuner, config), recording_host() as host:
        host.there.add("/a.wav")
        host.put(tmp_path, "a")
        daemon = await Daemon.start("run", "-c", str(config), "--once", output=tmp_path / "once.log")
        await daemon.ended()
        assert "name it under `verify.allow`" in daemon.said
        assert host.asked == []
        assert "verify.allow" in (await command(config, "status", "a"))[1]
        config.write_text(config.read_text().replace("verify: get", VERIFY.strip()))
        async with running(config):
            await tuner.has("a")


async def test_a_host_that_can_be_no_name_keeps_only_its_own_call_waiting(tmp_path: Path) -> None:
    """Neither the daemon nor another call ends because of one document."""
    async with world(tmp_path, source=VERIFY) as (tuner, config), recording_host() as host, running(config) as daemon:
        host.there.add("/b.wav")
        for odd in ("xn--.example", "bücher.invalid", "-.example"):
            host.put(tmp_path, odd[:2], host=odd)
        await until(lambda: len(daemon.told("a recording is not there yet; its call waits")) == 3)
        host.put(tmp_path, "b")
        await tuner.has("b")
