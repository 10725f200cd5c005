"""Presigned uploads: what the sandbox's storage takes, and what it refuses with S3's answers."""

import asyncio
import hashlib
import hmac
import io
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.bodies import create_body
from tests.sandbox.conftest import CEILING_S, Client
from tunerd.sandbox.arrivals import NOT_ANSWERED
from tunerd.sandbox.faults import DeclineTarget, Faults, FixedAnswer, Hang, HoldAnswer, LoseAnswer, LoseTarget, Redirect, Reset
from tunerd.sandbox.server import Sandbox

AUDIO = b"RIFF\x24\x00\x00\x00WAVE" + bytes(range(256)) * 40


@dataclass(frozen=True, slots=True)
class Target:
    url: str
    fields: dict[str, str]
    key: str
    max_bytes: int
    content_type: str


async def target_of(client: Client, call_id: str = "call_1", extension: str = "wav", **more: object) -> Target:
    """The upload target that the answer to a create-call carries."""
    reply = await client.post(create_body(call_id=call_id, recording_file_extension=extension, **more))  # type: ignore[arg-type]
    assert reply.status == 200
    return Target(**reply.json["recording_upload"])  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Stored:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def code(self) -> str:
        found = re.search("<Code>(.*)</Code>", self.text)
        return found[1] if found else ""


async def send(client: Client, url: str, parts: list[tuple[str, str | bytes]]) -> Stored:
    """A multipart POST with these parts in this order; bytes are a file."""
    form = aiohttp.FormData()
    for name, value in parts:
        if isinstance(value, bytes):
            form.add_field(name, io.BytesIO(value), filename="call.wav", content_type="audio/wav")
        else:
            form.add_field(name, value)
    payload = form()
    async with (
        asyncio.timeout(CEILING_S),
        client.session.post(url, data=payload, headers={"Content-Length": str(payload.size)}, allow_redirects=False) as answer,
    ):
        return Stored(answer.status, answer.headers, await answer.text())


async def upload(client: Client, target: Target, audio: bytes = AUDIO) -> Stored:
    return await send(client, target.url, [*target.fields.items(), ("file", audio)])


# --- the way it is meant --------------------------------------------------------------------------------------------


async def test_an_upload_arrives_byte_for_byte(client: Client, sandbox: Sandbox) -> None:
    """A call with recording_file_extension gets a target; the audio posted to it is kept with its hash and belongs to the call."""
    target = await target_of(client)
    assert target.url.startswith(sandbox.url)
    assert (target.content_type, target.max_bytes, target.key.endswith(".wav")) == ("audio/wav", 1024**3, True)
    answer = await upload(client, target)
    (stored,) = sandbox.storage.stored["call_1"]
    assert (answer.status, answer.text) == (204, "")
    assert (stored.size, stored.sha256) == (len(AUDIO), hashlib.sha256(AUDIO).hexdigest())
    assert (stored.key, stored.call) == (target.key, ("42", "support-bot", "call_1"))
    assert sandbox.received[0].upload_key == target.key
    assert stored.path is not None
    assert stored.path.read_bytes() == AUDIO


async def test_only_a_call_that_asks_and_is_new_gets_a_target(client: Client, sandbox: Sandbox) -> None:
    """Without the extension, and with the 409 of a known call, there is none; so a lost answer loses the target for good."""
    assert "recording_upload" not in (await client.post(create_body(call_id="plain"))).json
    await target_of(client, "asked")
    again = await client.post(create_body(call_id="asked", recording_file_extension="wav"))
    assert (again.status, "recording_upload" in again.json) == (409, False)


@pytest.mark.parametrize("extension", ["", ".wav", "w/v", "../x", "wav\n", "elevenlongxx"])
async def test_an_extension_is_letters_and_digits(client: Client, extension: str) -> None:
    """Anything else is refused as a field of the body."""
    reply = await client.post(create_body(recording_file_extension=extension))
    assert (reply.status, b"recording_file_extension" in reply.raw) == (422, True)


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_each_status_that_means_done(client: Client, sandbox: Sandbox, status: int) -> None:
    """The storage answers what its policy says: 204 and 200 with nothing, 201 with the place of the object."""
    sandbox.faults = Faults(upload_status=status)  # type: ignore[arg-type]
    target = await target_of(client)
    answer = await upload(client, target)
    assert answer.status == status
    assert (f"<Key>{target.key}</Key>" in answer.text) is (status == 201)


async def test_a_second_upload_to_a_target_is_stored_too(client: Client, sandbox: Sandbox) -> None:
    """A client whose answer was lost sends the file again, and S3 takes it."""
    target = await target_of(client)
    assert [(await upload(client, target)).status for _ in range(2)] == [204, 204]
    assert len(sandbox.storage.stored["call_1"]) == 2


async def test_a_large_file_is_streamed_to_disk(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """The directory that was asked for has the file, also after the sandbox ended; an unfinished one is removed."""
    audio = bytes(range(256)) * 4096 * 8
    async with Sandbox(recordings=tmp_path / "audio") as sandbox:
        await upload(Client(session, sandbox), await target_of(Client(session, sandbox)), audio)
    (file,) = (tmp_path / "audio").iterdir()
    assert file.read_bytes() == audio


async def test_without_a_directory_nothing_is_left(session: aiohttp.ClientSession) -> None:
    """Audio is kept in a temporary directory, which goes with the sandbox."""
    async with Sandbox() as sandbox:
        await upload(Client(session, sandbox), await target_of(Client(session, sandbox)))
        path = sandbox.storage.received[0].path
        assert path is not None
        assert path.exists()
    assert not path.parent.exists()


async def test_only_the_newest_files_are_kept(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """`keep` bounds the disk as it bounds the memory."""
    async with Sandbox(keep=2, recordings=tmp_path) as sandbox:
        client = Client(session, sandbox)
        for call_id in "abc":
            await upload(client, await target_of(client, call_id))
        assert list(sandbox.storage.stored) == ["b", "c"]
        assert len(list(tmp_path.iterdir())) == 2


# --- refusals -------------------------------------------------------------------------------------------------------


async def test_the_file_comes_last(client: Client) -> None:
    """S3 ignores what stands after the file: a field there is missing."""
    target = await target_of(client)
    fields = list(target.fields.items())
    for moved in fields:
        if moved[0] == "Content-Type":
            continue
        answer = await send(client, target.url, [*(each for each in fields if each != moved), ("file", AUDIO), moved])
        assert (answer.status, answer.code) == (400, "InvalidArgument"), moved
        assert f"<ArgumentName>{moved[0]}</ArgumentName>" in answer.text
    late = await send(client, target.url, [*fields, ("file", AUDIO), ("anything", "else")])
    assert late.status == 204


@pytest.mark.parametrize(
    ("name", "value", "status", "code"),
    [
        ("key", "workspace-42/other.wav", 403, "AccessDenied"),
        ("Content-Type", "audio/mpeg", 403, "AccessDenied"),
        ("x-amz-algorithm", "AWS4-HMAC-SHA1", 400, "InvalidArgument"),
        ("x-amz-credential", "OTHER/20260101/us-east-1/s3/aws4_request", 400, "InvalidArgument"),
        ("x-amz-credential", "nothing", 400, "InvalidArgument"),
        ("x-amz-date", "20260101T000000Z", 400, "InvalidArgument"),
        ("x-amz-signature", "0" * 64, 403, "SignatureDoesNotMatch"),
        ("x-amz-signature", "ä", 403, "SignatureDoesNotMatch"),
        ("policy", b64encode(b'{"expiration": "2099-01-01T00:00:00Z", "conditions": []}').decode(), 403, "SignatureDoesNotMatch"),
        ("x-amz-meta-more", "1", 403, "AccessDenied"),
        ("success_action_status", "200", 403, "AccessDenied"),
    ],
)
async def test_a_field_that_is_not_verbatim_is_refused(
    client: Client, sandbox: Sandbox, name: str, value: str, status: int, code: str
) -> None:
    """The signature covers the policy, and the policy every other field."""
    target = await target_of(client)
    answer = await send(client, target.url, [*(target.fields | {name: value}).items(), ("file", AUDIO)])
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["Content-Type"] == "application/xml"
    assert not sandbox.storage.stored
    assert sandbox.storage.counts == {code: 1}


async def test_another_access_key_is_refused(client: Client) -> None:
    """A target that a sandbox of another life signed, or somebody else, is no target of this one."""
    target = await target_of(client)
    _, rest = target.fields["x-amz-credential"].split("/", 1)
    answer = await send(client, target.url, [*(target.fields | {"x-amz-credential": f"OTHER/{rest}"}).items(), ("file", AUDIO)])
    assert (answer.status, answer.code) == (403, "InvalidAccessKeyId")


async def test_a_policy_that_somebody_else_signed_is_refused(client: Client) -> None:
    """A policy with a later expiry needs the secret, which no answer contains."""
    target = await target_of(client)
    policy = orjson.loads(b64decode(target.fields["policy"])) | {"expiration": "2099-01-01T00:00:00.000Z"}
    text = b64encode(orjson.dumps(policy)).decode()
    forged = target.fields | {"policy": text, "x-amz-signature": hmac.digest(b"guess", text.encode(), "sha256").hex()}
    assert (await send(client, target.url, [*forged.items(), ("file", AUDIO)])).code == "SignatureDoesNotMatch"


async def test_after_its_expiry_a_target_is_403(client: Client, sandbox: Sandbox) -> None:
    """AccessDenied, Policy expired; the time stands in the policy, where a client can read it."""
    sandbox.faults.target_expires_s = 0
    target = await target_of(client)
    answer = await upload(client, target)
    assert (answer.status, answer.code, "Policy expired" in answer.text) == (403, "AccessDenied", True)
    assert orjson.loads(b64decode(target.fields["policy"]))["expiration"].endswith("Z")


@pytest.mark.parametrize(("size", "code"), [(0, "EntityTooSmall"), (1, ""), (1000, ""), (1001, "EntityTooLarge")])
async def test_sizes(client: Client, sandbox: Sandbox, size: int, code: str) -> None:
    """Between 1 byte and max_bytes; the refusal says what was proposed and what is allowed, and no file is left."""
    sandbox.faults.max_upload_bytes = 1000
    target = await target_of(client)
    answer = await upload(client, target, b"x" * size)
    assert (answer.status, answer.code) == (400 if code else 204, code)
    assert target.max_bytes == 1000
    if code:
        assert f"<ProposedSize>{size}</ProposedSize>" in answer.text
        assert not sandbox.storage.stored


async def test_a_far_too_large_file_is_refused_early(client: Client, sandbox: Sandbox) -> None:
    """It is not read to its end: the disk is safe from it."""
    sandbox.faults.max_upload_bytes = 1000
    target = await target_of(client)
    with suppress(aiohttp.ClientError):  # the connection may end before the client looks for an answer
        assert (await upload(client, target, b"x" * 64 * 1024 * 1024)).code == "EntityTooLarge"
    await sandbox.wait_for(lambda _: bool(sandbox.storage.received))
    assert sandbox.storage.received[0].note == "EntityTooLarge"
    assert sandbox.storage.received[0].size < 1024 * 1024


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{}", 412, "PreconditionFailed"),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 400, "InvalidArgument"),
        ("multipart/form-data; boundary=x", b"no parts at all", 400, "MalformedPOSTRequest"),
        ("multipart/form-data", b"--x--\r\n", 400, "MalformedPOSTRequest"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\n' + b"k" * 21_000 + b"\r\n--x--\r\n",
            400,
            "MaxPostPreDataLengthExceeded",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\na\r\n' * 2 + b"--x--\r\n",
            400,
            "MalformedPOSTRequest",
        ),
    ],
)
async def test_what_is_no_form(client: Client, sandbox: Sandbox, content_type: str, body: bytes, status: int, code: str) -> None:
    """Another type, no parts, no file, fields without end or twice: S3's codes for them."""
    url = (await target_of(client)).url
    async with client.session.post(url, data=body, headers={"Content-Type": content_type}) as answer:
        got = Stored(answer.status, answer.headers, await answer.text())
    assert (got.status, got.code) == (status, code)


async def test_a_form_without_a_length_is_411(client: Client) -> None:
    """S3 takes no chunked form."""
    target = await target_of(client)
    form = aiohttp.FormData(target.fields)
    form.add_field("file", io.BytesIO(AUDIO), filename="a.wav")
    async with client.session.post(target.url, data=form(), chunked=True) as answer:
        got = Stored(answer.status, answer.headers, await answer.text())
    assert (got.status, got.code) == (411, "MissingContentLength")


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Half a file is no recording: it is counted as begun, and removed."""
    async with Sandbox(recordings=tmp_path) as sandbox:
        target = await target_of(Client(session, sandbox))
        head = b"".join(
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in target.fields.items()
        )
        head += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + b"R" * 100_000
        host, port = sandbox.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /tuner-recordings HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 1000000\r\n\r\n" + head
        )
        await sandbox.wait_for(lambda _: sandbox.storage.begun == 1)
        writer.transport.abort()
        async with asyncio.timeout(CEILING_S):
            while list(tmp_path.iterdir()):  # noqa: ASYNC110 - the handler is cancelled in one of the next turns of the loop
                await asyncio.sleep(0)
        assert (len(sandbox.storage.received), sandbox.storage.total) == (0, 0)


# --- what goes wrong on purpose -------------------------------------------------------------------------------------


async def test_exactly_the_answer_with_the_target_is_lost(client: Client, sandbox: Sandbox) -> None:
    """LoseTarget accepts the call and drops the answer; one that carries no target is sent; the retry is 409 without a target."""
    sandbox.plan(LoseTarget(), call_id="asked")
    sandbox.plan(LoseTarget(), call_id="plain")
    assert (await client.post(create_body(call_id="plain"))).status == 200
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await target_of(client, "asked")
    again = await client.post(create_body(call_id="asked", recording_file_extension="wav"))
    assert (again.status, "recording_upload" in again.json) == (409, False)
    assert sandbox.counts == {"accepted": 1, "accepted, answer lost": 1, "known": 1}


async def test_a_share_of_the_targets_is_lost_or_declined(client: Client, sandbox: Sandbox) -> None:
    """The settings lose_targets and decline_targets touch only answers that would carry one."""
    sandbox.faults.lose_targets = 1.0
    assert (await client.post(create_body(call_id="plain"))).status == 200
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await target_of(client, "a")
    sandbox.faults.decline_targets = 1.0
    reply = await client.post(create_body(call_id="b", recording_file_extension="wav"))
    assert (reply.status, "recording_upload" in reply.json, sandbox.received[-1].upload_key) == (200, False, None)


async def test_a_target_may_be_declined(client: Client, sandbox: Sandbox) -> None:
    """DeclineTarget accepts this call alone without a target."""
    sandbox.plan(DeclineTarget(), call_id="b")
    reply = await client.post(create_body(call_id="b", recording_file_extension="wav"))
    assert (reply.status, "recording_upload" in reply.json) == (200, False)
    await target_of(client, "c")


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (403, "AccessDenied")])
async def test_a_planned_status_is_said_in_the_words_of_s3(client: Client, sandbox: Sandbox, status: int, code: str) -> None:
    """The file is not stored; the next upload is ordinary."""
    target = await target_of(client)
    sandbox.storage.plan(FixedAnswer(status))
    answer = await upload(client, target)
    assert (answer.status, answer.code) == (status, code)
    assert not sandbox.storage.stored
    assert (await upload(client, target)).status == 204


async def test_planned_ends_of_uploads(client: Client, sandbox: Sandbox) -> None:
    """A redirect, a reset in the middle of the file, and an answer that is lost after the file was stored."""
    target = await target_of(client)
    sandbox.storage.plan(Redirect("https://elsewhere.example/"), Reset(), LoseAnswer(), call_id="call_1")
    moved = await upload(client, target)
    assert (moved.status, moved.headers["Location"]) == (307, "https://elsewhere.example/")
    for stored in (0, 1):
        with pytest.raises(aiohttp.ClientError):
            await upload(client, target, b"RIFF" * 1_000_000)
        assert len(sandbox.storage.stored.get("call_1", ())) == stored
    assert [each.status for each in sandbox.storage.received] == [307, NOT_ANSWERED, 204]


async def test_an_upload_that_hangs_or_is_held(client: Client, sandbox: Sandbox) -> None:
    """Hang reads nothing of the file until it is let go; HoldAnswer stores it and answers when it is released."""
    target = await target_of(client)
    until, release = asyncio.Event(), asyncio.Event()
    sandbox.storage.plan(Hang(until), HoldAnswer(release))
    async with asyncio.TaskGroup() as group:
        hanging = group.create_task(_failing(client, target))
        await sandbox.wait_for(lambda _: sandbox.storage.begun == 1)
        until.set()
        assert await hanging
        held = group.create_task(upload(client, target))
        await sandbox.wait_for(lambda _: bool(sandbox.storage.stored))
        assert not held.done()
        release.set()
        assert (await held).status == 204


async def _failing(client: Client, target: Target) -> bool:
    try:
        await upload(client, target, b"RIFF" * 4_000_000)
    except aiohttp.ClientError:
        return True
    return False


async def test_faults_of_uploads_are_changed_from_outside(client: Client, sandbox: Sandbox) -> None:
    """The control endpoint has a setting for each, and next_upload plans single ones; clear forgets them."""
    target = await target_of(client)
    told = await client.control({"next_upload": [503, {"status": 500, "body": "<p>"}], "call_id": "call_1"})
    assert (told.status, told.json["planned"]) == (200, 2)
    assert [(await upload(client, target)).status for _ in range(3)] == [503, 500, 204]
    await client.control({"fail_uploads": {"503": 1.0}})
    assert (await upload(client, target)).status == 503
    await client.control({"fail_uploads": {}, "lose_upload_answers": 1.0})
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await upload(client, target)
    assert (await client.control({"next_upload": ["hang"], "clear": True, "lose_upload_answers": 0})).json["planned"] == 1
    assert (await client.control({"clear": True, "next": ["lose_target", "decline_target"]})).json["planned"] == 2
    assert (await client.control({"upload_status": 418})).status == 422


# --- what people see ------------------------------------------------------------------------------------------------


async def test_the_page_plays_what_was_uploaded(client: Client, sandbox: Sandbox) -> None:
    """A player for each stored file, on a page that does not load itself anew; its policy lets in audio of this server only."""
    target = await target_of(client, "<b>call")
    await upload(client, target)
    sandbox.faults.max_upload_bytes = 1
    await upload(client, await target_of(client, "larger"))
    page = await client.get("/recordings")
    text = page.raw.decode()
    assert text.count("<audio ") == 1
    assert ('src="/recordings/1"' in text, "&lt;b&gt;call" in text, "EntityTooLarge" in text) == (True, True, True)
    assert hashlib.sha256(AUDIO).hexdigest() in text
    assert ("refresh" in text, "<script" in text) == (False, False)
    assert page.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; media-src 'self'"
    assert 'href="/recordings"' in (await client.get("/")).raw.decode()


async def test_stored_audio_is_served(client: Client, sandbox: Sandbox) -> None:
    """Whole and in ranges, with its type, and so that a browser runs nothing in it; what is not stored is 404."""
    await upload(client, await target_of(client))
    whole = await client.get("/recordings/1")
    assert (whole.status, whole.raw, whole.headers["Content-Type"]) == (200, AUDIO, "audio/wav")
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    async with client.session.get(sandbox.url + "/recordings/1", headers={"Range": "bytes=4-7"}) as part:
        assert (part.status, await part.read()) == (206, AUDIO[4:8])
    for path in ("/recordings/2", "/recordings/x", "/recordings/../journal", "/recordings/"):
        assert (await client.get(path)).status == 404


async def test_uploads_as_json_and_in_the_journal(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """The same facts for programs: hash and length, call and key; nothing of the target that would let somebody upload."""
    journal = tmp_path / "journal.ndjson"
    async with Sandbox(journal=journal) as sandbox:
        client = Client(session, sandbox)
        target = await target_of(client)
        await upload(client, target)
        told = await client.get("/uploads.json")
        (fact,) = told.json["uploads"]  # type: ignore[misc]
        assert (told.json["total"], told.json["begun"], told.json["counts"]) == (1, 1, {"stored": 1})
        assert (fact["call_id"], fact["bytes"], fact["stored"]) == ("call_1", len(AUDIO), True)
        assert fact["sha256"] == hashlib.sha256(AUDIO).hexdigest()
        call, line = map(orjson.loads, journal.read_bytes().splitlines())
        assert (call["upload_key"], line) == (target.key, fact)
        seen = b"".join([journal.read_bytes(), *[(await client.get(path)).raw for path in ("/", "/recordings", "/uploads.json")]])
        for secret in ("policy", "x-amz-signature", "x-amz-credential"):
            assert target.fields[secret].encode() not in seen
