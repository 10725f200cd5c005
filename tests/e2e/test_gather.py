"""Calls of several documents, with the real daemon and the real sandbox: webhooks, a log across restarts, a folder per call."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.e2e.harness import CEILING_S, Daemon, command, put, running, until, world

_REST = """
      call_type: {const: phone_call}
      start_timestamp: 1767225600000
      end_timestamp: 1767225660000
    on_missing: {send: "https://audio.example/none.wav"}
"""


def webhooks(directory: Path, wait: str = "1h") -> str:
    return f"""
  - name: webhooks
    path: {directory}/webhooks
    rescan: 2s
    gather:
      key: doc.call.call_id
      parts: {{ended: doc.event == 'call_ended', analyzed: doc.event == 'call_analyzed'}}
      complete: ended && analyzed
      wait: {wait}
    call:
      call_id: ended.call.call_id
      user_sentiment: lower(analyzed.call.mood)
      transcript_with_tool_calls: {{for_each: {{m: ended.call.said}}, role: {{const: user}}, text: m, start_ms: 0}}{_REST}"""


def events(directory: Path) -> str:
    return f"""
  - name: events
    path: {directory}/events
    rescan: 2s
    gather: {{key: doc.call, parts: {{end: doc.type == 'end'}}, complete: end, wait: 1h}}
    call:
      call_id: docs[0].call
      transcript_with_tool_calls:
        {{for_each: {{m: "docs[?type == 'said']"}}, role: {{const: user}}, text: m.text, start_ms: m.at}}{_REST}"""


def folders(directory: Path) -> str:
    return f"""
  - name: folders
    path: {directory}/folders
    recursive: true
    rescan: 2s
    gather:
      key: file.dir
      parts: {{talk: file.name == 'talk.json', tools: file.name == 'tools.json', done: file.name == 'done.json'}}
      complete: talk && done != null
      wait: 1h
    call:
      call_id: file.dir
      transcript_with_tool_calls:
        rows:
          - {{for_each: {{m: talk.said}}, role: {{const: user}}, text: m, start_ms: 0}}
          - {{for_each: {{t: tools.calls}}, role: {{const: agent_function}}, start_ms: 1000, tool: {{name: t.name}}}}{_REST}"""


def ended(call: str = "r-1", *said: str) -> dict[str, Any]:
    return {"event": "call_ended", "call": {"call_id": call, "said": said or ["Hello?"]}}


def analyzed(call: str = "r-1", mood: str = "Positive") -> dict[str, Any]:
    return {"event": "call_analyzed", "call": {"call_id": call, "mood": mood}}


def line(**fields: Any) -> str:
    return json.dumps(fields) + "\n"


def texts(body: dict[str, Any]) -> list[str]:
    return [row["text"] for row in body["transcript_with_tool_calls"] if "text" in row]


async def gathering(daemon: Daemon, count: int) -> None:
    async def so_many() -> bool:
        return (await daemon.states()).get("gathering", 0) == count

    await until(so_many, CEILING_S)


async def test_two_webhooks_of_one_call_are_one_request(tmp_path: Path) -> None:
    """call_ended waits for call_analyzed, across a kill; a document that comes after the call was sent is counted and sends
    nothing."""
    (tmp_path / "webhooks").mkdir()
    async with world(tmp_path, source=webhooks(tmp_path)) as (tuner, config):
        async with running(config) as daemon:
            put(tmp_path / "webhooks" / "1.json", ended())
            await gathering(daemon, 1)
            assert await tuner.accepted() == {}
            await daemon.kill()
        async with running(config) as daemon:
            await gathering(daemon, 1)
            put(tmp_path / "webhooks" / "2.json", analyzed())
            await tuner.has("r-1")
            assert (await tuner.bodies())["r-1"]["user_sentiment"] == "positive"
            put(tmp_path / "webhooks" / "3.json", analyzed(mood="Negative"))

            async def late() -> bool:
                return await daemon.metric("tunerd_parts_late_total", source="webhooks") == 1.0

            await until(late)
            code, told = await command(config, "status", "r-1")
            assert code == 0
            assert "came after it was sent" in told
            assert await daemon.stop() == 0
        assert await tuner.accepted() == {"r-1": 1}


async def test_what_came_too_late_stays_on_disk(tmp_path: Path) -> None:
    """`after_sent: delete` deletes the files of a sent call, and of one that came again, but never a file whose content Tuner
    does not have."""
    calls = tmp_path / "webhooks"
    calls.mkdir()
    source = webhooks(tmp_path) + "\n    after_sent: delete"
    async with world(tmp_path, source=source) as (tuner, config), running(config) as daemon:
        put(calls / "1.json", ended())
        put(calls / "2.json", analyzed())
        await tuner.has("r-1")
        await until(lambda: not list(calls.iterdir()))
        late = put(calls / "3.json", analyzed(mood="Negative"))

        async def told() -> bool:
            return await daemon.metric("tunerd_parts_late_total", source="webhooks") == 1.0

        await until(told)
        again = put(calls / "4.json", analyzed())
        await until(lambda: not again.exists())
        assert late.exists()
        assert await daemon.metric("tunerd_parts_late_total", source="webhooks") == 1.0
        assert await daemon.stop() == 0


async def test_a_part_that_never_comes_is_named(tmp_path: Path) -> None:
    """After the wait a call is sent without an optional part, and fails naming a required one; after that part came, `retry`
    sends it."""
    (tmp_path / "webhooks").mkdir()
    async with world(tmp_path, source=webhooks(tmp_path, "300ms")) as (tuner, config), running(config) as daemon:
        put(tmp_path / "webhooks" / "1.json", ended("r-1"))
        await tuner.has("r-1")
        assert "user_sentiment" not in (await tuner.bodies())["r-1"]
        put(tmp_path / "webhooks" / "2.json", analyzed("r-2"))

        async def failed() -> bool:
            return (await daemon.states()).get("failed", 0) == 1

        await until(failed)
        _, told = await command(config, "failed")
        assert "its part `ended` never came" in " ".join(told.split())
        put(tmp_path / "webhooks" / "3.json", ended("r-2"))
        await tuner.has("r-2")
        assert (await tuner.bodies())["r-2"]["user_sentiment"] == "positive"
        assert await daemon.stop() == 0


async def test_a_log_whose_calls_grow_over_a_restart(tmp_path: Path) -> None:
    """Only the first line of a call has its id; the daemon is killed and stopped in between, and every line counts once."""
    (tmp_path / "events").mkdir()
    log = tmp_path / "events" / "live.ndjson"
    async with world(tmp_path, source=events(tmp_path)) as (tuner, config):
        with log.open("a") as out:

            def write(*lines: str) -> None:
                out.write("".join(lines))
                out.flush()

            async with running(config) as daemon:
                write(line(call="e-1"), line(type="said", text="one", at=0))
                await gathering(daemon, 1)
                await daemon.kill()
            write(line(type="said", text="two", at=1000))
            async with running(config) as daemon:
                write(line(type="said", text="three", at=2000))

                async def read() -> bool:
                    status = json.loads(await daemon.get("/status.json"))
                    return bool(status["pending_bytes"] >= 3 * len(line(type="said", text="one", at=0)))

                await until(read)
                assert await daemon.stop(signal.SIGTERM) == 0
            async with running(config) as daemon:
                write(line(type="end"), line(call="e-2"), line(type="said", text="other", at=0), line(type="end"))
                await tuner.has("e-1", "e-2")
                assert await daemon.stop() == 0
        bodies = await tuner.bodies()
        assert texts(bodies["e-1"]) == ["one", "two", "three"]
        assert texts(bodies["e-2"]) == ["other"]
        assert await tuner.accepted() == {"e-1": 1, "e-2": 1}


async def test_a_folder_a_call(tmp_path: Path) -> None:
    """Tool calls are in another file than speech, and a marker file says that the call is complete."""
    folder = tmp_path / "folders" / "f-1"
    folder.mkdir(parents=True)
    async with world(tmp_path, source=folders(tmp_path)) as (tuner, config), running(config) as daemon:
        put(folder / "talk.json", {"said": ["What is the weather?"]})
        put(folder / "tools.json", {"calls": [{"name": "weather"}]})
        await gathering(daemon, 1)
        assert await tuner.accepted() == {}
        put(folder / "done.json", {})
        await tuner.has("f-1")
        rows = (await tuner.bodies())["f-1"]["transcript_with_tool_calls"]
        assert [row["role"] for row in rows] == ["user", "agent_function"]
        assert await daemon.stop() == 0


async def test_once_sends_what_is_complete_or_old(tmp_path: Path) -> None:
    """`run --once` does not wait for parts of files that were written long ago; an incomplete new call is left, and the exit
    code says so."""
    (tmp_path / "webhooks").mkdir()
    async with world(tmp_path, source=webhooks(tmp_path)) as (tuner, config):
        put(tmp_path / "webhooks" / "1.json", ended("whole"))
        put(tmp_path / "webhooks" / "2.json", analyzed("whole"))
        old = put(tmp_path / "webhooks" / "3.json", ended("old"))
        put(tmp_path / "webhooks" / "4.json", ended("fresh"))
        at = old.stat().st_mtime - 7200
        os.utime(old, (at, at))
        code, told = await command(config, "run", "--once")
        assert code == 1, told
        assert await tuner.accepted() == {"whole": 1, "old": 1}


async def test_send_puts_the_documents_of_a_file_together(tmp_path: Path) -> None:
    """`tunerd send` of a file with all webhooks of two calls sends two calls, without the ledger."""
    (tmp_path / "webhooks").mkdir()
    async with world(tmp_path, source=webhooks(tmp_path)) as (tuner, config):
        several = [ended("s-1"), ended("s-2"), analyzed("s-2"), analyzed("s-1")]
        file = put(tmp_path / "webhooks" / "several.json", several)
        code, told = await command(config, "send", str(file), "--recording-url", "https://audio.example/x.wav")
        assert code == 0, told
        assert await tuner.accepted() == {"s-1": 1, "s-2": 1}
