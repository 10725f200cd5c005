"""`tunerd run --once` (backfill) and `tunerd send`, as processes, with the sandbox."""

import asyncio
import json
import os
import pty
import re
import sys
import termios
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

import pytest
from aiohttp import web

from tests.audio.s3_stub import BUCKET, S3Stub, s3_stub
from tests.e2e.harness import _plain_environment, call_document, command, config_text, manifest, put, sandbox, until
from tunerd.sandbox.faults import Faults


async def tunerd(*arguments: str, environ: Mapping[str, str] = MappingProxyType({})) -> tuple[int, str]:
    """Run a command; return its exit code and all its output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunerd", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**_plain_environment(), **environ},
    )  # fmt: skip
    async with asyncio.timeout(90):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


def _prepare(directory: Path, url: str, **changes: str) -> str:
    for name in ("calls", "recordings"):
        (directory / name).mkdir()
    config = directory / "tunerd.yaml"
    config.write_text(config_text(url, directory, **changes))
    return str(config)


async def test_send_treats_audio_as_run_does(tmp_path: Path) -> None:
    """A `url:` rule of `audio:` is applied; what is uploaded is refused with what to do, and nothing is sent."""
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec" / "a.wav").write_bytes(b"RIFF")
    async with sandbox(tmp_path) as tuner:
        rule = "{publish: {url: \"concat('https://cdn.example/', location.name)\"}, files: [rec]}"
        config = _prepare(tmp_path, tuner.url, source=f"    audio: {rule}")
        file = put(tmp_path / "calls" / "a.json", {**call_document("a"), "audio": str(tmp_path / "rec" / "a.wav")})
        code, said = await tunerd("send", "-c", config, str(file))
        assert code == 0, said
        assert (await tuner.bodies())["a"]["recording_url"] == "https://cdn.example/a.wav"
        Path(config).write_text(config_text(tuner.url, tmp_path, source="    audio: {publish: upload, files: [rec]}"))
        code, said = await tunerd("send", "-c", config, str(file))
        assert code == 1
        assert "use `tunerd run --once`" in said
        assert len(await tuner.arrivals()) == 1


async def test_send_signs_objects(tmp_path: Path) -> None:
    """Presigned as `tunerd run` does it; without the object one line says so."""
    async with sandbox(tmp_path) as tuner, s3_stub(S3Stub(objects={"a.wav": b"RIFF"})) as stub:
        config = _prepare(tmp_path, tuner.url, source="    audio: presign")
        for name in ("a", "gone"):
            put(tmp_path / "calls" / f"{name}.json", {**call_document(name), "audio": f"s3://{BUCKET}/{name}.wav"})
        code, said = await tunerd("send", "-c", config, str(tmp_path / "calls" / "a.json"), environ=stub.environ())
        assert code == 0, said
        assert "X-Amz-Signature=" in (await tuner.bodies())["a"]["recording_url"]
        assert "X-Amz" not in said
        code, said = await tunerd("send", "-c", config, str(tmp_path / "calls" / "gone.json"), environ=stub.environ())
        assert code == 1
        assert f"gone: its recording cannot be signed: s3://{BUCKET}/gone.wav: there is no such object" in said


async def test_once_sends_what_is_there_and_ends_with_0(tmp_path: Path) -> None:
    """`run --once` reads, matches and sends the files, logs and recordings that exist, and then exits."""
    async with sandbox(tmp_path) as tuner:
        config = _prepare(tmp_path, tuner.url)
        for n in range(20):
            put(tmp_path / "calls" / f"{n}.json", call_document(f"file-{n}"))
        lines = "".join(json.dumps(call_document(f"line-{n}")) + "\n" for n in range(20))
        (tmp_path / "calls" / "log.ndjson").write_text(lines)
        put(tmp_path / "calls" / "room.json", call_document("by-room", room="lobby"))
        put(tmp_path / "recordings" / "lobby.json", manifest("lobby"))
        code, said = await tunerd("run", "-c", config, "--once")
        assert code == 0, said
        assert "41 sent, 0 failed" in said
        assert set((await tuner.accepted()).values()) == {1}


async def test_once_tells_what_failed_and_what_is_left_with_1(tmp_path: Path) -> None:
    """A broken document and a call without its recording are counted, and not waited for."""
    async with sandbox(tmp_path) as tuner:
        config = _prepare(tmp_path, tuner.url, source="    settle_timeout: 1s")
        put(tmp_path / "calls" / "good.json", call_document("good"))
        put(tmp_path / "calls" / "bad.json", {"id": "bad"})
        put(tmp_path / "calls" / "alone.json", call_document("alone", room="nobody"))
        code, said = await tunerd("run", "-c", config, "--once")
        assert code == 1, said
        assert "1 sent, 1 failed, 1 waiting for a recording" in said
        assert "Traceback" not in said


@pytest.mark.parametrize("after_sent", ["delete", "{move_to: done}"])
async def test_once_carries_out_after_sent(tmp_path: Path, after_sent: str) -> None:
    """Before `run --once` exits, it deletes files whose calls are all sent, also those of an earlier run; a failed call's file
    stays."""
    async with sandbox(tmp_path) as tuner:
        config = _prepare(tmp_path, tuner.url)
        put(tmp_path / "calls" / "early.json", call_document("early"))
        assert (await tunerd("run", "-c", config, "--once"))[0] == 0
        assert (tmp_path / "calls" / "early.json").exists()
        Path(config).write_text(config_text(tuner.url, tmp_path, source=f"    after_sent: {after_sent}"))
        put(tmp_path / "calls" / "good.json", call_document("good"))
        put(tmp_path / "calls" / "bad.json", {"id": "bad"})
        put(tmp_path / "calls" / "both.json", [call_document("one"), {"id": "two"}])
        code, said = await tunerd("run", "-c", config, "--once")
        assert (code, "3 sent, 2 failed" in said) == (1, True), said
        done = tmp_path / "calls" / "done"
        assert sorted(one.name for one in (tmp_path / "calls").iterdir() if one != done) == ["bad.json", "both.json"]
        moved = [] if after_sent == "delete" else ["early.json", "good.json"]
        assert sorted(one.name for one in done.glob("*")) == moved


async def test_once_carries_out_after_sent_when_wait_is_over(tmp_path: Path) -> None:
    """An open call does not keep the files of the other calls."""
    async with sandbox(tmp_path) as tuner:
        config = _prepare(tmp_path, tuner.url, source="    after_sent: delete")
        put(tmp_path / "calls" / "good.json", call_document("good"))
        put(tmp_path / "calls" / "alone.json", call_document("alone", room="nobody"))
        code, said = await tunerd("run", "-c", config, "--once", "--wait", "3s")
        assert (code, "1 sent, 0 failed, 1 waiting" in said) == (1, True), said
        assert [one.name for one in (tmp_path / "calls").iterdir()] == ["alone.json"]


async def test_once_takes_recordings_that_are_not_near_when_all_is_read(tmp_path: Path) -> None:
    """Each call of a room gets its own recording, whatever is read first; if nothing nearer exists, it gets the farther one,
    and never another call's."""
    began = 1_767_225_600_000
    async with sandbox(tmp_path) as tuner:
        config = _prepare(tmp_path, tuner.url)
        for number, (name, room, at_s) in enumerate([("a", "desk", 0), ("b", "desk", 300), ("c", "hall", 0)]):
            put(tmp_path / "calls" / f"{number}.json", call_document(name, room=room, started=began + at_s * 1000))
        for room, own, at_s in (("desk", "b", 301), ("hall", "c", 120)):
            told = {**manifest(room, started=began + at_s * 1000), "url": f"https://audio.example/{own}.ogg"}
            put(tmp_path / "recordings" / f"{own}.json", told)
        code, said = await tunerd("run", "-c", config, "--once")
        assert (code, "2 sent, 0 failed, 1 waiting" in said) == (1, True), said
        urls = {name: body["recording_url"] for name, body in (await tuner.bodies()).items()}
        assert urls == {"b": "https://audio.example/b.ogg", "c": "https://audio.example/c.ogg"}


async def test_once_with_wait_stays_for_a_late_recording(tmp_path: Path) -> None:
    """With --wait the process keeps looking for recordings, and ends as soon as the last call is sent."""
    async with sandbox(tmp_path) as tuner:
        config = _prepare(tmp_path, tuner.url)
        put(tmp_path / "calls" / "late.json", call_document("late", room="lobby"))
        running = asyncio.create_task(tunerd("run", "-c", config, "--once", "--wait", "60s"))
        ledger = tmp_path / "ledger.db"

        async def admitted() -> bool:
            code, said = await command(Path(config), "status", "--json") if ledger.exists() else (1, "")
            return code == 0 and json.loads(said)["calls"]["waiting"]["count"] == 1

        await until(admitted)
        put(tmp_path / "recordings" / "lobby.json", manifest("lobby"))
        code, said = await running
        assert (code, "1 sent, 0 failed" in said) == (0, True), said


async def test_send_shows_what_tuner_answers(tmp_path: Path) -> None:
    """`send` posts one file without the ledger: it shows the answer, reports a repeat as 409, and a rejection with its reason."""
    async with sandbox(tmp_path) as tuner:
        config = _prepare(tmp_path, tuner.url)
        good = str(put(tmp_path / "good.json", call_document("one")))
        code, said = await tunerd("send", "-c", config, "--source", "calls", good)
        assert code == 0, said
        assert '"is_new":true' in said
        assert "1 of 1 sent" in said
        assert "tr_api_" not in said
        code, said = await tunerd("send", "-c", config, "--source", "calls", good)
        assert (code, " 409 " in said) == (0, True), said
        room = str(put(tmp_path / "room.json", call_document("two", room="lobby")))
        code, said = await tunerd("send", "-c", config, "--source", "calls", room)
        assert (code, "--recording-url" in said) == (1, True), said
        code, said = await tunerd("send", "-c", config, "--source", "calls", room, "--recording-url", "https://a.example/x.wav")
        assert code == 0, said
        bad = str(put(tmp_path / "bad.json", {"id": "three"}))
        code, said = await tunerd("send", "-c", config, "--source", "calls", bad)
        assert (code, "unmappable" in said, "Traceback" in said) == (1, True, False), said
        assert not (tmp_path / "ledger.db").exists()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"fail": {"garbage": 1.0}}, "the call may have arrived; check base_url and proxy"),
        ({"fail": {"200": 1.0}}, "not sent: Tuner answered 200 with success: false"),
    ],
)
async def test_send_does_not_take_every_200_for_yes(tmp_path: Path, fault: dict[str, object], why: str) -> None:
    """A page that is not Tuner's, and `success: false`, are judged as in the daemon; the exit code is 1, with the reason."""
    async with sandbox(tmp_path) as tuner:
        config = _prepare(tmp_path, tuner.url)
        await tuner.plan(fault)
        file = str(put(tmp_path / "good.json", call_document("one")))
        code, said = await tunerd("send", "-c", config, "--source", "calls", file)
        assert (code, "0 of 1 sent" in said) == (1, True), said
        assert why in said


async def test_send_does_not_show_where_audio_is_uploaded(tmp_path: Path) -> None:
    """An answer with an upload target, which is a secret, is shown without it, whatever else it holds, also when it is long."""

    async def serve(request: web.Request) -> web.Response:
        target = {"url": "http://127.0.0.1:9/canaryurl11", "fields": {"x-secret": "canaryfield22"}, "key": "canarykey33"}
        answer = {"id": 17, "is_new": True, "recording_upload": target, "more": "x" * 3000}
        return web.json_response(answer, status=201)

    app = web.Application()
    app.router.add_post("/{path:.*}", serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        config = _prepare(tmp_path, f"http://127.0.0.1:{runner.addresses[0][1]}")
        file = str(put(tmp_path / "good.json", call_document("one")))
        code, said = await tunerd("send", "-c", config, "--source", "calls", file)
    finally:
        await runner.cleanup()
    assert (code, '"id":17' in said, '"recording_upload":"[redacted]"' in said) == (0, True, True), said
    assert "canary" not in said


async def test_once_retries_until_it_is_through(tmp_path: Path) -> None:
    """Calls that wait for a retry are due later, not left over: a backfill continues until Tuner has accepted them."""
    async with sandbox(tmp_path) as tuner:
        config = _prepare(tmp_path, tuner.url)
        for n in range(6):
            put(tmp_path / "calls" / f"{n}.json", call_document(f"file-{n}"))
        await tuner.plan({"next": [503, 503, 503]})
        code, said = await tunerd("run", "-c", config, "--once")
        assert code == 0, said
        assert "6 sent, 0 failed" in said


async def test_once_does_not_sit_out_a_wrong_key(tmp_path: Path) -> None:
    """A pause that needs a person ends a backfill, and the counts show what is left."""
    async with sandbox(tmp_path, Faults(require_key="tr_api_another")) as tuner:
        config = _prepare(tmp_path, tuner.url)
        put(tmp_path / "calls" / "one.json", call_document("one"))
        code, said = await tunerd("run", "-c", config, "--once")
        assert code == 1, said
        assert "0 sent, 0 failed, 1 still due" in said


async def on_a_terminal(*arguments: str) -> tuple[int, str]:
    """Like `tunerd`, but with a terminal of 100 columns for the output."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 100))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunerd", *arguments, stdout=its, stderr=asyncio.subprocess.DEVNULL,
        env={**_plain_environment(), "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(its)

    def read() -> bytes:
        said = b""
        with suppress(OSError):  # EIO: the process has closed its side
            while part := os.read(ours, 65536):
                said += part
        return said

    try:
        async with asyncio.timeout(90):
            said = await asyncio.to_thread(read)
            return await process.wait(), said.decode()
    finally:
        os.close(ours)


async def test_once_draws_a_bar_on_a_terminal(tmp_path: Path) -> None:
    """The progress bar counts finished calls of all calls, says how many wait for a recording and how many end per second, and leaves
    only the last line; in a pipe or a file there is no bar."""
    async with sandbox(tmp_path, Faults(latency_s=0.7)) as tuner:
        config = _prepare(tmp_path, tuner.url)
        for n in range(3):
            put(tmp_path / "calls" / f"{n}.json", call_document(f"file-{n}"))
        put(tmp_path / "calls" / "room.json", call_document("room", room="lobby"))
        code, said = await on_a_terminal("run", "-c", config, "--once")
        assert code == 1
        assert "calls (1 wait for a recording) ━" in said
        assert re.search(r" [0-3]/4 0:00:\d\d", said)
        assert re.search(r" \d+\.\d/s", said)
        bar, _, after = said.rpartition("\x1b[2K")
        assert "━" in bar
        assert after == "3 sent, 0 failed, 1 waiting for a recording\r\n"
        _, piped = await tunerd("run", "-c", config, "--once")
        assert "━" not in piped


async def test_once_names_what_it_could_not_read_and_ends_with_1(tmp_path: Path) -> None:
    """A link to itself is not waited for: the other files are sent, and the link is named."""
    async with sandbox(tmp_path) as tuner:
        config = _prepare(tmp_path, tuner.url)
        put(tmp_path / "calls" / "good.json", call_document("good"))
        loop = tmp_path / "calls" / "loop.json"
        loop.symlink_to(loop.name)
        code, said = await tunerd("run", "-c", config, "--once")
        assert code == 1, said
        assert "1 sent, 0 failed" in said
        assert f"not read: {loop} (source calls): cannot be read (Too many levels of symbolic links)" in said


async def test_once_with_a_directory_that_is_not_there_ends_with_1(tmp_path: Path) -> None:
    """A mistyped `path:` is reported, not treated as an empty directory; the other source is still read."""
    async with sandbox(tmp_path) as tuner:
        config = _prepare(tmp_path, tuner.url)
        put(tmp_path / "calls" / "one.json", call_document("one"))
        (tmp_path / "recordings").rename(tmp_path / "recording")
        code, said = await tunerd("run", "-c", config, "--once")
        assert code == 1, said
        assert "1 sent, 0 failed" in said
        assert f"not read: {tmp_path}/recordings (source recordings): it is not there; check `path`" in said


async def test_once_says_at_once_that_nobody_answers(tmp_path: Path) -> None:
    """With a wrong port one line appears after the first failed attempt, saying what limits the wait, and one at the end."""
    config = _prepare(tmp_path, "http://127.0.0.1:9")
    put(tmp_path / "calls" / "one.json", call_document("one"))
    code, said = await tunerd("run", "-c", config, "--once", "--wait", "1s")
    assert code == 1, said
    (line,) = [json.loads(line) for line in said.splitlines() if "no answer from Tuner yet" in line]
    assert (line["base_url"], "--wait" in line["hint"]) == ("http://127.0.0.1:9", True)
    assert "http://127.0.0.1:9 has never answered (127.0.0.1:9 cannot be reached" in said
    assert "0 sent, 0 failed, 1 still due" in said
