"""The real `tunerd run` process with the real sandbox process: the whole path of a call, and what can disturb it."""

import json
import signal
from pathlib import Path

import pytest

from tests.e2e.harness import KEY, Process, call_document, command, manifest, put, running, until, world
from tunerd.sandbox.faults import Faults


async def test_files_before_the_start_and_new_files_arrive_once(tmp_path: Path) -> None:
    """Files from before the start, and files that are renamed into place later, reach Tuner, each exactly once."""
    async with world(tmp_path) as (tuner, config):
        put(tmp_path / "calls" / "a.json", call_document("before-1"))
        put(tmp_path / "calls" / "many.json", [call_document("before-2"), call_document("before-3")])
        async with running(config) as daemon:
            await tuner.has("before-1", "before-2", "before-3")
            put(tmp_path / "calls" / "b.json", call_document("after-1"))
            await tuner.has("after-1")
            assert await daemon.stop() == 0
        assert set((await tuner.accepted()).values()) == {1}
        bodies = {arrival["call_id"]: arrival for arrival in await tuner.arrivals()}
        assert bodies["after-1"]["workspace"] in (42, "42")
        assert bodies["after-1"]["agent"] == "support-bot"


async def test_a_log_that_grows_and_rotates_is_read_once(tmp_path: Path) -> None:
    """NDJSON lines arrive as they are appended, across a rotation by rename, half-written lines included."""
    async with world(tmp_path) as (tuner, config):
        log = tmp_path / "calls" / "calls.ndjson"
        async with running(config) as daemon:
            with log.open("w") as out:
                for n in range(5):
                    out.write(json.dumps(call_document(f"line-{n}")) + "\n")
                out.flush()
                await tuner.has(*(f"line-{n}" for n in range(5)))
                half = json.dumps(call_document("line-5"))
                out.write(half[:40])
                out.flush()
                log.rename(log.with_suffix(".ndjson.1"))
                out.write(half[40:] + "\n")
            log.write_text(json.dumps(call_document("line-6")) + "\n")
            await tuner.has("line-5", "line-6")
            assert await daemon.stop() == 0
        assert await tuner.accepted() == {f"line-{n}": 1 for n in range(7)}


async def test_a_manifest_before_after_and_during(tmp_path: Path) -> None:
    """A call is sent with its recording whether the manifest was in the ledger before the call was written, came later, or
    came while the request of another call was open. In the last case the call is sent beside that request, not after it."""
    async with world(tmp_path, timeout="60s") as (tuner, config), running(config) as daemon:

        async def manifests_are(count: int) -> bool:
            return await daemon.metric("tunerd_documents_read_total", source="recordings") == count  # counted when it is durable

        async def stand(**states: int) -> None:
            async def do_they() -> bool:
                return await daemon.states() == states

            await until(do_they)

        put(tmp_path / "recordings" / "before.json", manifest("room-before"))
        await until(lambda: manifests_are(1))
        put(tmp_path / "calls" / "before.json", call_document("before", room="room-before"))
        await stand(sent=1)

        put(tmp_path / "calls" / "later.json", call_document("later", room="room-later"))
        await stand(sent=1, waiting=1)
        assert "later" not in await tuner.accepted()
        put(tmp_path / "recordings" / "later.json", manifest("room-later"))
        await stand(sent=2)

        put(tmp_path / "calls" / "during.json", call_document("during", room="room-during"))
        await stand(sent=2, waiting=1)
        await tuner.plan({"next": ["hold"], "call_id": "neighbour"})
        put(tmp_path / "calls" / "neighbour.json", call_document("neighbour"))
        await tuner.has("neighbour")  # the sandbox records it on arrival, and does not answer before `release`
        assert (await tuner.counts())["in_flight"] == 1
        assert await daemon.states() == {"sent": 2, "waiting": 1, "sending": 1}
        put(tmp_path / "recordings" / "during.json", manifest("room-during"))
        await stand(sent=3, sending=1)
        assert (await tuner.counts())["in_flight"] == 1
        await tuner.plan({"release": True})
        await stand(sent=4)
        assert await daemon.stop() == 0
        order = [arrival["call_id"] for arrival in await tuner.arrivals()]
        assert order == ["before", "later", "neighbour", "during"]  # each once: `neighbour` was open the whole time
        sent = await tuner.bodies()
        for name in ("before", "later", "during"):
            assert sent[name]["recording_url"] == f"https://audio.example/rooms/room-{name}.ogg"


async def test_a_storm_of_503_loses_nothing(tmp_path: Path) -> None:
    """If half of all requests are answered 503, nothing is lost: everything arrives once, with identical bytes."""
    async with world(tmp_path) as (tuner, config):
        await tuner.plan({"fail": {"503": 0.5}})
        async with running(config) as daemon:
            calls = [f"storm-{n}" for n in range(30)]
            for call_id in calls:
                put(tmp_path / "calls" / f"{call_id}.json", call_document(call_id))

            async def refused() -> bool:
                return sum(arrival["status"] == 503 for arrival in await tuner.arrivals()) >= 10

            await until(refused)
            await tuner.plan({"fail": {}})
            await tuner.has(*calls)
            assert await daemon.stop() == 0
        assert await tuner.accepted() == dict.fromkeys(calls, 1)
        bodies: dict[str, set[str]] = {}
        for arrival in await tuner.arrivals():
            bodies.setdefault(arrival["call_id"], set()).add(arrival["sha256"])
        assert all(len(digests) == 1 for digests in bodies.values())


async def test_retry_after_is_obeyed(tmp_path: Path) -> None:
    """After a 429 with Retry-After no request of any call is sent before that time."""
    async with world(tmp_path) as (tuner, config):
        await tuner.plan({"fail": {"429": 1.0}, "retry_after": 3})
        async with running(config) as daemon:
            put(tmp_path / "calls" / "one.json", call_document("one"))

            async def asked() -> bool:
                return bool(await tuner.arrivals())

            await until(asked)
            await tuner.plan({"fail": {}})
            put(tmp_path / "calls" / "two.json", call_document("two"))
            await tuner.has("one", "two")
            assert await daemon.stop() == 0
        first, *others = sorted(arrival["at"] for arrival in await tuner.arrivals())
        assert min(others) - first >= 2.95


async def test_a_401_is_mended_by_rewriting_the_key_file(tmp_path: Path) -> None:
    """With a wrong key all calls wait, and almost no requests are sent; the right key in the file starts delivery."""
    key_file = tmp_path / "key"
    key_file.write_text("tr_api_wrong\n")
    async with world(tmp_path, Faults(require_key=KEY), key_file=str(key_file)) as (tuner, config):
        async with running(config) as daemon:
            for n in range(10):
                put(tmp_path / "calls" / f"{n}.json", call_document(f"call-{n}"))
            await until(lambda: "paused" in daemon.said)
            before = len(await tuner.arrivals())
            assert before <= 10
            put_key = key_file.with_suffix(".new")
            put_key.write_text(KEY)
            put_key.rename(key_file)
            await tuner.has(*(f"call-{n}" for n in range(10)))
            assert await daemon.stop() == 0
            assert KEY not in daemon.said
            assert "tr_api_wrong" not in daemon.said
        assert set((await tuner.accepted()).values()) == {1}


async def test_sigterm_in_the_middle_and_a_restart(tmp_path: Path) -> None:
    """After SIGTERM with open requests the process ends within the drain; after the restart every call arrives exactly once."""
    async with world(tmp_path, Faults(latency_s=0.2)) as (tuner, config):
        async with running(config) as daemon:
            for n in range(60):
                put(tmp_path / "calls" / f"{n}.json", call_document(f"call-{n}"))

            async def some() -> bool:
                return len(await tuner.arrivals()) >= 10

            await until(some)
            assert await daemon.stop() == 0
            assert 0 < len(await tuner.accepted()) < 60
        async with running(config) as daemon:
            await tuner.has(*(f"call-{n}" for n in range(60)))
            assert await daemon.stop() == 0
        assert await tuner.accepted() == {f"call-{n}": 1 for n in range(60)}


async def _status(config: Path) -> tuple[int, str]:
    return await command(config, "status", "--json")


async def test_sighup_takes_new_rules_and_refuses_bad_ones(tmp_path: Path) -> None:
    """SIGHUP loads a good configuration; a bad one is refused as a whole, and the previous one kept."""
    async with world(tmp_path) as (tuner, config):
        async with running(config) as daemon:
            good = config.read_text()
            config.write_text(good.replace("{const: phone_call}", "{const: web_call}"))
            daemon.signal(signal.SIGHUP)
            await until(lambda: "reload" in daemon.said.lower())
            put(tmp_path / "calls" / "new.json", call_document("new-rules"))
            await tuner.has("new-rules")
            config.write_text(good.replace("call_id: doc.id", "call_id: dok.id"))
            daemon.signal(signal.SIGHUP)
            await until(lambda: "dok" in daemon.said)
            put(tmp_path / "calls" / "still.json", call_document("still-there"))
            await tuner.has("still-there")
            assert await daemon.stop() == 0
        types = {call_id: body["call_type"] for call_id, body in (await tuner.bodies()).items()}
        assert types == {"new-rules": "web_call", "still-there": "web_call"}


@pytest.mark.parametrize("content", [b"", b"{", b'{"id": ', b"\xff\xfe\x00", b"[1, 2]", b'"text"', b"[" * 100_000, b"NaN"])
async def test_bad_files_stay_visible_and_harm_nobody(tmp_path: Path, content: bytes) -> None:
    """A file that is not a call becomes a failed row with its path, and the other files' calls arrive."""
    async with world(tmp_path, source="    settle_timeout: 1s") as (tuner, config):
        (tmp_path / "calls" / "bad.json").write_bytes(content)
        async with running(config) as daemon:
            put(tmp_path / "calls" / "good.json", call_document("good"))
            await tuner.has("good")

            async def visible() -> bool:
                status = json.loads((await _status(config))[1])
                return bool(status["calls"]["failed"]["count"])

            await until(visible)
            assert "Traceback" not in daemon.said
            put(tmp_path / "calls" / "bad.json", call_document("repaired"))
            await tuner.has("repaired")

            async def healed() -> bool:
                status = json.loads((await _status(config))[1])
                return not status["calls"]["failed"]["count"]

            await until(healed)
            assert await daemon.stop() == 0


SOCKS = {"ALL_PROXY": "socks5h://user:canary@proxy.example:1080"}


@pytest.mark.parametrize("arguments", [("run",), ("send", "--source", "calls", "calls/1.json"), ("check",)])
async def test_a_socks_proxy_is_told_in_a_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The exit code is 78, with the variable that is set and what to do; there is no traceback, and the proxy's password is
    not shown."""
    async with world(tmp_path) as (_, config):
        file = str(put(tmp_path / "calls" / "1.json", call_document("call-1")))
        words = [file if word == "calls/1.json" else word for word in arguments]
        process = await Process.start(*words, "--config", str(config), output=tmp_path / "said", environ=SOCKS)
        assert await process.ended() == 78
        assert process.said.count("the proxy of ALL_PROXY in the environment") == 1, process.said
        assert "set HTTP_PROXY to an http:// proxy" in process.said
        assert not {word for word in ("Traceback", "defect", "canary") if word in process.said}


async def test_a_reload_to_a_destination_behind_a_socks_proxy_is_refused(tmp_path: Path) -> None:
    """Delivery to an address in NO_PROXY continues; a configuration whose address is not in NO_PROXY is refused as a whole."""
    async with world(tmp_path) as (tuner, config), running(config, environ={**SOCKS, "NO_PROXY": "127.0.0.1"}) as daemon:
        config.write_text(config.read_text().replace(tuner.url, "https://tuner.example"))
        daemon.signal(signal.SIGHUP)
        await until(lambda: "ALL_PROXY in the environment" in daemon.said)
        put(tmp_path / "calls" / "1.json", call_document("call-1"))
        await tuner.has("call-1")
        assert await daemon.stop() == 0
