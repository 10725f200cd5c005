"""After base_url or workspace is corrected, calls move to the new destination if that is certainly right. Otherwise they are
stranded: tunerd reports them, and a command moves them. Restart and reload behave alike."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, call_document, command, put, running, until, world

WRONG = "http://127.0.0.1:9"


async def again(daemon: Daemon, config: Path, text: str, how: str) -> Daemon:
    """Load another configuration, by a restart or by a reload."""
    config.write_text(text)
    if how == "reload":
        before = len(daemon.told("configuration reloaded"))
        daemon.signal(signal.SIGHUP)
        await until(lambda: len(daemon.told("configuration reloaded")) > before)
        return daemon
    assert await daemon.stop() == 0
    return await Daemon.run(config)


@pytest.mark.parametrize("how", ["restart", "reload"])
async def test_a_backlog_follows_from_an_address_that_never_accepted_anything(tmp_path: Path, how: str) -> None:
    """Due calls and waiting ones move; the log says so once, and `status` shows nothing stranded."""
    async with world(tmp_path) as (tuner, config):
        good = config.read_text()
        config.write_text(good.replace(tuner.url, WRONG))
        async with running(config) as daemon:
            put(tmp_path / "calls" / "c-1.json", call_document("c-1"))
            put(tmp_path / "calls" / "c-2.json", call_document("c-2", room="r", audio=False))
            await until(lambda: _states(daemon, due=1, waiting=1))
            other = await again(daemon, config, good, how)
            try:
                await tuner.has("c-1")
                (line,) = other.told("calls were moved to the destination that replaces theirs")
                assert (line["count"], line["old"]) == (2, "127.0.0.1:9/42")
                assert not other.told("calls are stranded: their destination or manifest source is not configured")
                status = json.loads(await other.get("/status.json"))
                assert status["stranded"] == []
                assert [row["name"] for row in status["destinations"]] == [f"{tuner.url.removeprefix('http://')}/42"]
                code, out = await command(config, "status", "c-2")
                assert (code, f"{tuner.url.removeprefix('http://')}/42" in out) == (0, True)
            finally:
                await other.kill()


@pytest.mark.parametrize("how", ["restart", "reload"])
async def test_what_may_not_follow_is_stranded_and_moved_by_the_command_it_names(tmp_path: Path, how: str) -> None:
    """The workspace was corrected, and the old one is at an address that is still used: the calls are reported in the log, in
    `status`, in a metric and in the call's history; the command moves them."""
    async with world(tmp_path) as (tuner, config):
        good = config.read_text()
        config.write_text(
            good.replace("workspace_id: 42", "workspace_id: 41").replace("concurrency: 8", "concurrency: 8\n  dry_run: true")
        )
        async with running(config) as daemon:
            put(tmp_path / "calls" / "c-1.json", call_document("c-1"))
            await until(lambda: _states(daemon, due=1))
            other = await again(daemon, config, good, how)
            try:
                await until(lambda: other.told("calls are stranded: their destination or manifest source is not configured"))
                line = other.told("calls are stranded: their destination or manifest source is not configured")[0]
                name = f"{tuner.url.removeprefix('http://')}/41"
                assert (line["destination"], line["due"], line["waiting"]) == (name, 1, 0)
                assert "tunerd remap --state due" in line["hint"]
                assert await other.metric("tunerd_calls_stranded") == 1
                _, out = await command(config, "status")
                assert f"Stranded: 1 call: their destination {name} is not configured" in " ".join(out.split())
                assert "  tunerd remap --state due\n" in out
                _, out = await command(config, "status", "c-1")
                assert f"none: its destination {name} is not configured" in " ".join(out.split())
                assert await tuner.accepted() == {}
                code, out = await command(config, "drain", "--deadline", "9s")
                assert code == 0, out  # drain has nothing to wait for
                code, out = await command(config, "remap", "--state", "due")
                assert code == 0, out
                await tuner.has("c-1")
            finally:
                await other.kill()


async def test_a_backlog_of_an_address_that_accepted_calls_stays(tmp_path: Path) -> None:
    """A staging backlog does not reach production automatically."""
    (tmp_path / "two").mkdir()
    async with world(tmp_path) as (staging, config), world(tmp_path / "two") as (production, _):
        text = config.read_text()
        async with running(config) as daemon:
            put(tmp_path / "calls" / "c-1.json", call_document("c-1"))
            await staging.has("c-1")
            await until(lambda: _states(daemon, sent=1))
            await staging.plan({"fail": {"503": 1.0}})
            put(tmp_path / "calls" / "c-2.json", call_document("c-2"))
            await until(lambda: _states(daemon, due=1))
            assert await daemon.stop() == 0
        config.write_text(text.replace(staging.url, production.url))
        async with running(config) as daemon:
            await until(lambda: daemon.told("calls are stranded: their destination or manifest source is not configured"))
            code, _ = await command(config, "run", "--once")
            assert code == 75
            assert await production.accepted() == {}
            assert await daemon.stop() == 0
        code, out = await command(config, "status")
        assert "Stranded: 1 call" in out
        async with asyncio.timeout(30):  # calls that cannot be sent are not waited for
            code, out = await command(config, "run", "--once")
        assert code == 1


@pytest.mark.parametrize("how", ["restart", "reload"])
async def test_a_renamed_manifest_source_is_told(tmp_path: Path, how: str) -> None:
    """Waiting calls need a manifest source that no longer exists; the command makes them use the new one."""
    async with world(tmp_path) as (tuner, config):
        text = config.read_text()
        async with running(config) as daemon:
            put(tmp_path / "calls" / "c-1.json", call_document("c-1", room="room-1", audio=False))
            await until(lambda: _states(daemon, waiting=1))
            new = text.replace("manifest: recordings", "manifest: egress").replace("name: recordings", "name: egress")
            other = await again(daemon, config, new, how)
            try:
                await until(lambda: other.told("calls are stranded: their destination or manifest source is not configured"))
                line = other.told("calls are stranded: their destination or manifest source is not configured")[0]
                assert (line["manifest"], line["waiting"]) == ("recordings", 1)
                _, out = await command(config, "status")
                assert "they need recordings of the source recordings, which is not configured" in " ".join(out.split())
                code, out = await command(config, "remap", "--state", "waiting")
                assert code == 0, out
                manifest = {"room": "room-1", "url": "https://audio.example/1.wav", "started": 1_767_225_600_000}
                (tmp_path / "recordings" / "m.json").write_text(json.dumps(manifest))
                await tuner.has("c-1")
            finally:
                await other.kill()


async def _states(daemon: Daemon, **wanted: int) -> bool:
    states = await daemon.states()
    return all(states.get(name, 0) >= count for name, count in wanted.items())
