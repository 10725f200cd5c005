"""`tunerd sandbox` as a real process: ready file, lines, journal, signals, summary, mistakes in its options."""

import asyncio
import hashlib
import io
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest
from click.testing import CliRunner

from tests.bodies import create_body
from tests.sandbox.conftest import CEILING_S, KEYS, QUERY
from tunerd.call import Form
from tunerd.cli.sandbox import command
from tunerd.sandbox.server import CALL_PATH


class _Process:
    """A sandbox process; `url` as its ready file said."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def post(self, body: bytes, *, form: Form = Form.CREATE_CALL) -> int:
        headers = {"Content-Type": "application/json", **KEYS[form]}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + CALL_PATH, params=QUERY, data=body, headers=headers) as answer,
        ):
            return answer.status

    async def line(self) -> str:
        """The next line it prints."""
        assert self.process.stdout is not None
        async with asyncio.timeout(CEILING_S):
            return (await self.process.stdout.readline()).decode()

    async def end(self, number: signal.Signals) -> tuple[int, str, str]:
        """Exit code and what was still printed after the signal."""
        self.process.send_signal(number)
        async with asyncio.timeout(CEILING_S):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def _running(tmp_path: Path, *options: str) -> AsyncIterator[_Process]:
    """A process that listens on a free port. Waiting for its first lines is waiting for it to be ready."""
    ready = tmp_path / "ready"
    arguments = ["-m", "tunerd", "sandbox", "--listen", "127.0.0.1:0", "--ready-file", str(ready), *options]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=pipe, stderr=pipe)
    running = _Process(process, "")
    try:
        while "api_key:" not in (line := await running.line()):
            assert line, (await process.communicate())[1].decode()
        await running.line()
        running.url = ready.read_text().strip()
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_and_ends_with_a_summary(tmp_path: Path, number: signal.Signals) -> None:
    """A line for each arrival, the journal, and on SIGTERM or SIGINT a summary and exit code 0."""
    journal = tmp_path / "journal.ndjson"
    async with _running(tmp_path, "--journal", str(journal)) as sandbox:
        assert await sandbox.post(orjson.dumps(create_body(recording_url="https://a.example/x.wav?token=secret"))) == 200
        first = await sandbox.line()
        assert await sandbox.post(orjson.dumps(create_body(call_id="c\n\x1b[2J", call_type=""))) == 422
        second = await sandbox.line()
        long = f"https://a.example/{'directory/' * 60}x.wav"
        assert await sandbox.post(orjson.dumps(create_body(call_id="long", recording_url=long))) == 200
        third = await sandbox.line()
        code, out, err = await sandbox.end(number)
    assert (long in third, third.endswith("directory/x.wav\n"), len(third) < 160) == (False, True, True)
    assert long in journal.read_text()
    assert first == "200 accepted  call call_12345  agent support-bot  2 rows  recording https://a.example/x.wav?...\n"
    assert "c\\n\\x1b[2J" in second
    assert "call_type" in second
    assert (code, out, err) == (0, "3 requests (accepted: 2, refused: 1)\n", "")
    assert [orjson.loads(line)["status"] for line in journal.read_bytes().splitlines()] == [200, 422, 200]
    assert journal.stat().st_mode & 0o077 == 0


async def test_a_request_that_hangs_does_not_keep_it_alive(tmp_path: Path) -> None:
    """SIGTERM ends it at once, whatever is open."""
    async with _running(tmp_path, "--fail", "timeout") as sandbox, asyncio.TaskGroup() as group:
        posting = group.create_task(_refused(sandbox))
        assert "hangs" in await sandbox.line()
        code, _, err = await sandbox.end(signal.SIGTERM)
        assert (code, err) == (0, "")
        assert await posting


async def _refused(sandbox: _Process) -> bool:
    try:
        await sandbox.post(orjson.dumps(create_body()))
    except aiohttp.ClientError:
        return True
    return False


async def test_options_are_faults(tmp_path: Path) -> None:
    """--require-key, --forbid-agent, --fail and --max-body do what they say; --show prints the body."""
    async with _running(tmp_path, "--require-key", "tr_api_1", "--max-body", "600", "--show") as sandbox:
        assert await sandbox.post(b"{}", form=Form.SEND_CALLS) == 401
        assert await sandbox.post(b" " * 601) == 413
        body = orjson.dumps(create_body())
        assert await sandbox.post(body) == 200
        lines = [await sandbox.line() for _ in range(3)]
        assert body.decode() in lines[2]


async def test_audio_is_kept_and_said(tmp_path: Path) -> None:
    """An upload is a line with its hash; --recordings keeps the file; --max-upload, --fail-upload and the others are options."""
    audio = tmp_path / "audio"
    async with (
        _running(tmp_path, "--recordings", str(audio), "--max-upload", "1000", "--target-expires", "1m") as sandbox,
        aiohttp.ClientSession() as session,
    ):
        url, headers = sandbox.url + CALL_PATH, {"Content-Type": "application/json", **KEYS[Form.CREATE_CALL]}
        body = orjson.dumps(create_body(recording_file_extension="wav"))
        async with session.post(url, params=QUERY, data=body, headers=headers) as answer:
            target = (await answer.json())["recording_upload"]
        form = aiohttp.FormData(target["fields"])
        form.add_field("file", io.BytesIO(b"RIFF"), filename="a.wav")
        async with session.post(target["url"], data=form) as answer:
            assert answer.status == 204
        await sandbox.line()
        line = await sandbox.line()
        _, out, _ = await sandbox.end(signal.SIGTERM)
    assert line == f"204 stored  audio of call call_12345  4 bytes  sha256 {hashlib.sha256(b'RIFF').hexdigest()}\n"
    assert out == "1 requests (accepted: 1), 1 uploads (stored: 1)\n"
    assert target["max_bytes"] == 1000
    assert [file.read_bytes() for file in audio.iterdir()] == [b"RIFF"]


async def test_retry_after_goes_with_failures(tmp_path: Path) -> None:
    """--fail with --retry-after is a throttling server."""
    async with _running(tmp_path, "--fail", "503", "--retry-after", "3", "--forbid-agent", "x", "--latency", "1ms") as sandbox:
        assert await sandbox.post(orjson.dumps(create_body())) == 503
        assert (await sandbox.line()).startswith("503 planned")


async def test_quiet_unchecked(tmp_path: Path) -> None:
    """The benchmark's way to start it: no lines, everything taken."""
    async with _running(tmp_path, "--no-check", "--quiet") as sandbox:
        assert await sandbox.post(b"anything") == 200
        assert await sandbox.end(signal.SIGTERM) == (0, "1 requests (accepted: 1)\n", "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--listen", "8099"], "write host:port"),
        (["--listen", "http://127.0.0.1:80"], "write host:port"),
        (["--fail", "often"], "write an HTTP status"),
        (["--fail", "503:0.7", "--fail", "reset:0.7"], "more than 1"),
        (["--latency", "soon"], "is not a duration; write 500ms"),
        (["--lose-answers", "2"], "0<=x<=1"),
        (["--fail-upload", "often"], "write an HTTP status"),
        (["--decline-targets", "2"], "0<=x<=1"),
        (["--no-check", "--journal", "arrivals.ndjson"], "only counts"),
    ],
)
def test_a_wrong_option_says_what_to_write(options: list[str], said: str) -> None:
    """Exit code 2 and the form to write, before anything listens."""
    result = CliRunner().invoke(command, options)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_help_has_an_example() -> None:
    """--help shows how to start it with faults, and how to change them later."""
    shown = CliRunner().invoke(command, ["--help"]).output
    assert "tunerd sandbox --fail 503:0.2" in shown
    assert "/_sandbox/plan" in shown


async def test_a_taken_port_is_said() -> None:
    """Exit code 1 and one line, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, err = await _ended("--listen", listen)
    assert code == 1
    assert listen in err
    assert "Traceback" not in err


async def _ended(*options: str) -> tuple[int | None, str, str]:
    """Exit code, stdout and stderr of a sandbox process that ends by itself."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tunerd", "sandbox", *options, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(CEILING_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()
