"""How the audio of each preset reaches Tuner: the configurations that its page shows, each run by a real tunerd over the preset's
own documents, with the audio where the platform leaves it."""

import asyncio
import base64
import hashlib
import os
import re
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any, Final

import aiohttp
import orjson
import pytest
from yarl import URL

from tests.bodies import create_body
from tests.docs.generate import PRESET_AUDIO, audio_configurations
from tests.e2e.harness import _plain_environment
from tests.mapping.presets.golden import FIXTURES
from tests.mapping.presets2.golden import FIXTURES as FIXTURES2
from tunerd.sandbox.samples import tone
from tunerd.sandbox.server import Sandbox

AUDIO: Final = tone(0.1)
MP3: Final = b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(range(256)) * 40
OGG: Final = b"OggS\x00\x02" + bytes(range(256)) * 40
BUCKET: Final = "acme-recordings"


@dataclass(frozen=True)
class Way:
    """One configuration of a page, and a call that needs it."""

    preset: str
    number: int
    """Of the configuration on the page, from 0."""
    call_id: str
    documents: dict[str, Any]
    """Path -> a document, or a list of documents for a file of lines."""
    audio: bytes = AUDIO
    file: str = ""
    """Where the audio is on this machine."""
    written_at: float | None = None
    object: str = ""
    """bucket/key of the audio."""
    signed: bool = False
    """Tuner gets a URL; else an upload."""
    placed: Callable[[Any, str], Any] = field(default=lambda document, root: document)
    """Puts paths of this test into a document."""

    def __str__(self) -> str:
        return f"{self.preset}-{self.number}"


def fixture(name: str) -> Any:
    return orjson.loads((FIXTURES / f"{name}.json").read_bytes())


def fixture2(name: str) -> Any:
    return orjson.loads((FIXTURES2 / f"{name}.json").read_bytes())


def agent_call(**metadata: str) -> dict[str, Any]:
    body = dict(create_body(call_id="agent-1", metadata=metadata))
    del body["recording_url"]
    return body


REPORT = fixture("livekit/report_python")
DUMP = {**fixture2("pipecat/dump")[0], "call_id": "7f3c0b7e"}
ULTRAVOX = fixture2("ultravox/call_then_messages")
CONNECT = fixture2("amazon-connect/record_delivered_three_times_and_lens")
ELEVEN = orjson.loads((FIXTURES.parent.parent / "fixtures/elevenlabs.json").read_bytes())
EGRESS = orjson.loads((FIXTURES.parent.parent / "fixtures/livekit-egress-manifest.json").read_bytes())
ELEVEN_AUDIO = {"type": "post_call_audio", "data": {"conversation_id": "conv-1", "full_audio": base64.b64encode(MP3).decode()}}
ENDED_AT: Final = 1_782_900_012.4
"""Of the Pipecat dump."""

WAYS: Final = (
    Way(
        "livekit", 0, "AJ_clinic", {"srv/agent/reports/1.json": REPORT}, OGG, file="srv/agent/sessions/AJ_clinic/audio.ogg",
        placed=lambda report, root: report | {"audio_recording_path": f"{root}/srv/agent/sessions/AJ_clinic/audio.ogg"},
    ),
    Way(
        "pipecat", 0, "7f3c0b7e", {"srv/bot/calls/1.json": DUMP | {"recording": "recordings/7f3c0b7e.wav"}},
        file="srv/bot/recordings/7f3c0b7e.wav",
    ),
    Way("pipecat", 1, "7f3c0b7e", {"srv/bot/calls/1.json": DUMP}, file="srv/bot/recordings/7f3c0b7e/merged.wav"),
    Way(
        "pipecat", 2, "7f3c0b7e", {"srv/bot/calls/1.json": DUMP}, file="srv/bot/recordings/merged_20260701_100012.wav",
        written_at=ENDED_AT + 0.6,
    ),
    Way("elevenlabs", 0, "conv-1", {"srv/elevenlabs/calls/1.json": ELEVEN, "srv/elevenlabs/audio/1.json": ELEVEN_AUDIO}, MP3),
    Way(
        "ultravox", 0, "one", {"srv/ultravox/one.json": ULTRAVOX[0], "srv/ultravox/one.messages.json": ULTRAVOX[1]},
        file="srv/ultravox/one.wav",
    ),
    Way(
        "freeswitch-cdr", 0, "agent-1",
        {
            "var/log/freeswitch/json_cdr/f-2.cdr.json": fixture("freeswitch-cdr/second_leg_plain_values"),
            "var/spool/calls/1.json": agent_call(call_uuid="f-1"),
        },
        file="var/lib/freeswitch/recordings/f-1.wav",
        placed=lambda document, root: (
            {"variables": document["variables"] | {"cc_record_filename": f"{root}/var/lib/freeswitch/recordings/f-1.wav"}}
            if "variables" in document else document
        ),
    ),
    Way(
        "livekit-egress", 0, "AJ_clinic",
        {
            "srv/egress/EG_one.json": EGRESS | {"room_name": REPORT["room"]},
            "srv/agent/reports/1.json": REPORT,
        },
        OGG, object=f"{BUCKET}/desk-1.ogg", signed=True,
    ),
    Way(
        "twilio-recording", 0, "agent-1",
        {"srv/twilio/1.json": fixture("twilio-recording/callback"), "var/spool/calls/1.json": agent_call(call_sid="CA1")},
        object=f"{BUCKET}/AC1/RE1", signed=True,
    ),
    Way(
        "asterisk-recording", 0, "agent-1",
        {
            "var/spool/ari-events/1.json": fixture("asterisk-recording/finished"),
            "var/spool/calls/1.json": agent_call(uniqueid="1782900000.7"),
        },
        file="var/spool/asterisk/recording/1782900000.7.wav",
    ),
    Way(
        "amazon-connect", 0, CONNECT[0]["ContactId"], {f"srv/connect/{n}.json": one for n, one in enumerate(CONNECT)},
        object=CONNECT[1]["Recordings"][0]["Location"],
    ),
)  # fmt: skip


def test_every_configuration_of_a_page_is_run() -> None:
    """A configuration that is added to a page needs a call that proves it."""
    shown = {(file.stem, number) for file in PRESET_AUDIO.iterdir() for number in range(len(audio_configurations(file.stem)))}
    assert {(way.preset, way.number) for way in WAYS} == shown


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a stand-in for S3."""
    with Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], stdout=DEVNULL, stderr=PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            yield next(found[0] for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        finally:
            process.kill()


def put_object(s3: str, place: str, content: bytes) -> None:
    bucket = place.partition("/")[0]
    for url, data in ((f"{s3}/{bucket}", None), (f"{s3}/{place}", content)):
        # Without a type urllib says that it is a form, and moto reads one out of the bytes.
        headers = {"Content-Type": "application/octet-stream"}
        urllib.request.urlopen(urllib.request.Request(url, data, headers, method="PUT"), timeout=20).close()


def configured(way: Way, root: Path, tuner: str) -> Path:
    """The configuration as the page has it, with its directories below `root`."""
    text = re.sub(r"(?<=[\s\['])/(?=(srv|var)/)", f"{root}/", audio_configurations(way.preset)[way.number])
    if way.preset == "asterisk-recording":  # the preset itself names the PBX's directory
        folder = f"{root}/var/spool/asterisk/recording"
        text = text.replace(
            "preset: asterisk-recording", f"preset: asterisk-recording\n    manifest: {{let: {{folder: {{const: {folder}}}}}}}"
        )
    config = root / "tunerd.yaml"
    config.write_text(
        f"tuner: {{workspace_id: 42, agent_remote_identifier: bot, api_key: tr_api_1, base_url: '{tuner}'}}\n{text}\n"
        f"ledger: {{url: 'sqlite://{root}/ledger.db'}}\nhttp: {{listen: '127.0.0.1:0'}}\n"
    )
    return config


def lay_out(way: Way, root: Path) -> None:
    for name, document in way.documents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(way.placed(document, str(root))))
        if way.written_at is not None:  # `run --once` waits where only the wait tells whose a fresh file is
            os.utime(path, (way.written_at, way.written_at))
    if way.file:
        audio = root / way.file
        audio.parent.mkdir(parents=True, exist_ok=True)
        audio.write_bytes(way.audio)
        os.utime(audio, (way.written_at, way.written_at) if way.written_at is not None else None)


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_the_audio_arrives_as_the_page_says(way: Way, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """`run --once` over the documents: Tuner's storage has the audio byte for byte, or the body has a URL that gives it."""
    environ = _plain_environment()
    if way.object:
        s3: str = request.getfixturevalue("s3")
        put_object(s3, way.object, way.audio)
        environ |= {
            "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": s3,
            "AWS_ALLOW_HTTP": "true",
        }  # fmt: skip
    lay_out(way, tmp_path)
    async with Sandbox() as tuner:
        config = configured(way, tmp_path, tuner.url)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tunerd", "run", "-c", str(config), "--once", stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, env=environ,
        )  # fmt: skip
        async with asyncio.timeout(60):
            said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        (arrival,) = tuner.accepted[way.call_id]
        if way.signed:
            assert arrival.recording_url is not None
            async with aiohttp.ClientSession() as session, session.get(URL(arrival.recording_url, encoded=True)) as answer:
                assert await answer.read() == way.audio
        else:
            (stored,) = tuner.storage.stored[way.call_id]
            assert stored.sha256 == hashlib.sha256(way.audio).hexdigest()
