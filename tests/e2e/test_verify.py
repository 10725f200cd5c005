"""`verify: get` with a real daemon, a real host of recordings, and the sandbox as Tuner."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.e2e.harness import Daemon, call_document, command, config_text, put, running, until, world
from tests.e2e.test_canaries import parrot

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


CANARIES = ("canaryuser11", "canarypassword22", "canarysignature33", "canaryfragment44", "canaryanswer55")
ABSENT = {
    "ok-404": "answered 404", "ok-302": "answered 302", "ok-401": "answered 401", "ok-500": "answered 500", "ok-away": "cannot be reached",
}  # fmt: skip
"""Calls, and what is said of their host."""
KINDS = ("ok-there", "rejected-there", "error-there", *ABSENT)


async def _chatty(request: web.BaseRequest) -> web.StreamResponse:
    """A host that repeats all of a question in its answer."""
    asked = f"canaryanswer55 {request.raw_path} {dict(request.headers)}"
    kind = request.path.removeprefix("/").partition(".")[0].partition("-")[2]
    if kind == "there":
        return web.Response(status=206, body=asked.encode(), headers={"ETag": "canaryanswer55"})
    headers = {
        "Location": f"{request.url}&canaryanswer55",
        "WWW-Authenticate": "Basic realm=canaryanswer55",
        "Retry-After": "canaryanswer55",
    }
    return web.Response(status=int(kind), text=asked, headers=headers, reason="canaryanswer55")


@pytest.mark.parametrize("on_missing", ["fail", "{send: 'https://audio.example/silence.wav'}"])
async def test_no_canary_of_a_url_that_is_asked_for_sings(tmp_path: Path, on_missing: str) -> None:
    """Query, user, password and fragment of the URLs are canaries, and hosts and Tuner repeat them. Some recordings are there (and
    their calls taken, refused, tried again), others are not, each for another reason: their calls wait, and are failed or sent
    without them. All that is seen says which host had answered what, and no canary."""
    for name in ("calls", "recordings"):
        (tmp_path / name).mkdir()
    runner = web.ServerRunner(web.Server(_chatty))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        async with parrot() as (url, heard):
            config = tmp_path / "tunerd.yaml"
            source = f"    verify: {{request: get, wait: 1s, allow: [127.0.0.1]}}\n    on_missing: {on_missing}"
            config.write_text(config_text(url, tmp_path, source=source).replace("format: json", "format: json\n  level: debug"))
            async with running(config) as daemon:
                for kind in KINDS:
                    host = {"ok-500": f"localhost:{port}", "ok-away": "127.0.0.1:1"}.get(kind, f"127.0.0.1:{port}")
                    audio = f"http://canaryuser11:canarypassword22@{host}/{kind}.wav?sig=canarysignature33#canaryfragment44"
                    put(tmp_path / "calls" / f"{kind}.json", call_document(kind) | {"audio": audio})
                await until(lambda: len(daemon.told("a recording is not there yet; its call waits")) == len(ABSENT))
                told = {f"waiting {kind}": (await command(config, "status", kind))[1] for kind in ABSENT}

                async def ended() -> bool:
                    counts = await daemon.states()
                    is_failed = counts.get("failed", 0) == 1 + (len(ABSENT) if on_missing == "fail" else 0)
                    return is_failed and not counts.get("waiting") and "error-there" in {body["call_id"] for body in heard}

                await until(ended)
                for page in ("/metrics", "/", "/status.json", "/failed?reason=recording_missing", "/failed?reason=rejected"):
                    told[page] = await daemon.get(page)
                for kind in KINDS:
                    told[f"page of {kind}"] = await daemon.get(f"/call?id={kind}")
                    for option in ((), ("--json",)):
                        told[f"status {kind} {option}"] = (await command(config, "status", kind, *option))[1]
                by_hand = "http://canaryuser11:canarypassword22@audio.example/a.wav?canarysignature33"
                for words in (
                    ("failed",), ("failed", "--json"), ("status",), ("status", "--json"), ("retry", "ok-404", "--json"),
                    ("retry", "rejected-there", "--recording", by_hand, "--json"), ("retry", "--all", "--json"),
                ):  # fmt: skip
                    told[" ".join(words).replace(by_hand, "URL")] = (await command(config, *words))[1]
                assert await daemon.stop() == 0
            told["log"] = daemon.said
    finally:
        await runner.cleanup()
    sent = {body["recording_url"] for body in heard if body["call_id"] == "ok-there"}
    assert [one.partition("@")[2] for one in sent] == [f"127.0.0.1:{port}/ok-there.wav?sig=canarysignature33#canaryfragment44"]
    assert {where: found for where, text in told.items() if (found := [one for one in CANARIES if one in text])} == {}
    absent = {where: text for where, text in told.items() if any(kind in where for kind in ABSENT)}
    absent |= {f"log of {line['call_id']}": str(line) for line in daemon.lines() if line.get("call_id") in ABSENT}
    assert [where for where, text in absent.items() if "[redacted]" in text] == [], "nothing was left for the mask to find"
    for kind, said in ABSENT.items():
        ways = [where for where in told if where == f"waiting {kind}" or where.startswith(f"status {kind} ")]
        assert [where for where in ways if said not in told[where]] == []
