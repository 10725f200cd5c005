"""Recordings in a bucket with a real daemon: presigned or uploaded, over a restart, and with credentials that are wrong at first."""

import asyncio
import hashlib
import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import aiohttp
import pytest
from yarl import URL

from tests.audio.made import wav
from tests.audio.s3_stub import BUCKET, S3Stub, s3_stub
from tests.e2e.harness import call_document, command, config_text, put, running, until
from tunerd.sandbox.faults import HoldAnswer
from tunerd.sandbox.server import Sandbox

PRESIGN, UPLOAD = "    audio: presign", "    audio: upload"


@pytest.fixture(scope="module")
def moto() -> Iterator[dict[str, str]]:
    """The environment of a daemon whose storage is moto."""
    with Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], stdout=DEVNULL, stderr=PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            url = next(found[0] for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            yield {
                "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": url,
                "AWS_ALLOW_HTTP": "true",
            }  # fmt: skip
        finally:
            process.kill()


def store(moto: dict[str, str], key: str, content: bytes) -> None:
    for url, data in ((f"{moto['AWS_ENDPOINT_URL']}/{BUCKET}", None), (f"{moto['AWS_ENDPOINT_URL']}/{BUCKET}/{key}", content)):
        headers = {"Content-Type": "application/octet-stream"}
        urllib.request.urlopen(urllib.request.Request(url, data, headers, method="PUT"), timeout=20).close()


def prepare(directory: Path, url: str, source: str) -> Path:
    for name in ("calls", "recordings"):
        (directory / name).mkdir()
    config = directory / "tunerd.yaml"
    config.write_text(config_text(url, directory, source=source))
    return config


def place(directory: Path, call_id: str) -> None:
    document = {**call_document(call_id), "audio": f"s3://{BUCKET}/{call_id}.wav"}
    put(directory / "calls" / f"{call_id}.json", document)


async def test_presigned_urls_give_the_audio_also_after_a_restart(tmp_path: Path, moto: dict[str, str]) -> None:
    """Killed while Tuner holds its answer: the next start sends the very same URL, and it gives the audio."""
    content = wav(seconds=0.5)
    async with Sandbox() as tuner:
        config = prepare(tmp_path, tuner.url, PRESIGN)
        for call_id in ("a", "b"):
            store(moto, f"{call_id}.wav", content + call_id.encode())
        tuner.plan(hold := HoldAnswer(asyncio.Event()), call_id="a")
        async with running(config, environ=moto) as daemon:
            place(tmp_path, "a")
            await tuner.wait_for(lambda received: len(received) == 1)
            await daemon.kill()
        hold.release.set()
        async with running(config, environ=moto) as daemon:
            place(tmp_path, "b")
            await until(lambda: {"a", "b"} <= set(tuner.accepted))
            await tuner.wait_for(lambda received: len(received) == 3)
            assert "X-Amz" not in daemon.said
        assert len({arrival.body for arrival in tuner.received if arrival.call_id == "a"}) == 1
        for call_id in ("a", "b"):
            url = tuner.accepted[call_id][0].recording_url
            assert url is not None
            async with aiohttp.ClientSession() as session, session.get(URL(url, encoded=True)) as answer:
                assert await answer.read() == content + call_id.encode()


async def test_objects_are_uploaded_also_after_a_restart(tmp_path: Path, moto: dict[str, str]) -> None:
    """Killed during the upload: the next start reads the object again, and it arrives byte for byte."""
    content = wav(seconds=3.0, channels=2)
    async with Sandbox() as tuner:
        config = prepare(tmp_path, tuner.url, UPLOAD)
        store(moto, "up.wav", content)
        tuner.storage.plan(hold := HoldAnswer(asyncio.Event()), call_id="up")
        async with running(config, environ=moto) as daemon:
            place(tmp_path, "up")
            await tuner.wait_for(lambda _: tuner.storage.begun == 1)
            await daemon.kill()
        hold.release.set()
        async with running(config, environ=moto) as daemon:

            async def uploaded() -> bool:
                return await daemon.metric("tunerd_calls_audio", audio="uploaded") == 1

            await until(uploaded)
        assert {one.sha256 for one in tuner.storage.stored["up"]} == {hashlib.sha256(content).hexdigest()}
        assert len(tuner.received) == 1


@pytest.mark.parametrize("audio", [PRESIGN, UPLOAD])
async def test_wrong_credentials_are_one_clear_line_and_heal(tmp_path: Path, audio: str) -> None:
    """Ten calls, one line that says what to check, `status` says it too, and no secret. Corrected, all calls arrive."""
    ids = [f"c{number}" for number in range(10)]
    content = wav(seconds=0.5)
    async with Sandbox() as tuner, s3_stub(S3Stub(objects={f"{one}.wav": content for one in ids})) as stub:
        config = prepare(tmp_path, tuner.url, audio)
        wrong = stub.environ(AWS_SECRET_ACCESS_KEY="wrong-canary")
        async with running(config, environ=wrong) as daemon:
            for call_id in ids:
                place(tmp_path, call_id)
            await until(lambda: daemon.told("recordings of a bucket cannot be read or signed; their calls wait"))
            await until(lambda: _waits(config))
            (line,) = daemon.told("recordings of a bucket cannot be read or signed; their calls wait")
            assert "the secret key does not belong to the access key; check the credentials" in line["detail"]
            assert not tuner.received
            await daemon.stop()
        async with running(config, environ=stub.environ()):
            await until(lambda: set(ids) <= set(tuner.accepted))
            if audio == UPLOAD:
                await until(lambda: set(ids) <= set(tuner.storage.stored))
        assert "canary" not in daemon.said
        assert "Traceback" not in daemon.said


async def test_on_error_send_sends_a_call_whose_url_is_too_long(tmp_path: Path) -> None:
    """The bucket's credentials have a long session token, so no URL can be signed that Tuner takes: the call goes out at once with
    the placeholder, and log, `status`, `failed` and the metric say that its audio did not, why, and what to do."""
    token = "canary" + "t" * 1000
    async with Sandbox() as tuner, s3_stub(S3Stub(tokens=(token,), objects={"a.wav": wav(), "b.wav": wav()})) as stub:
        config = prepare(tmp_path, tuner.url, "    audio: {publish: presign, on_error: send, placeholder: no-recording}")
        async with running(config, environ=stub.environ(AWS_SESSION_TOKEN=token)) as daemon:
            place(tmp_path, "a")
            await until(lambda: "a" in tuner.accepted)
            assert tuner.accepted["a"][0].recording_url == "no-recording"
            (line,) = await until(lambda: daemon.told("the audio of a call does not reach Tuner"))
            assert (line["call_id"], line["reason"]) == ("a", "audio_unreadable")
            assert "its signed URL has" in line["what"]
            assert "write `audio: upload`" in line["what"]

            async def is_sent() -> bool:
                return (await daemon.states()) == {"sent": 1}

            await until(is_sent)
            assert await daemon.metric("tunerd_calls_audio", audio="failed") == 1
            for words in (("status", "a"), ("failed",)):
                _, said = await command(config, *words)
                assert "its signed URL has" in " ".join(said.split()), words
            _, said = await command(config, "status", "a", "--json")
            (story,) = json.loads(said)["stories"]
            assert (story["call"]["state"], story["call"]["audio"]) == ("sent", "failed")
            assert [one["what"] for one in story["events"] if one["what"] == "audio failed"] == ["audio failed"]
        assert "canary" not in daemon.said


async def _waits(config: Path) -> bool:
    _, said = await command(config, "status", "c0")
    return "does not belong to the access key" in " ".join(said.split())
