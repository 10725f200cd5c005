"""Twelve canaries (secrets and transcripts) are in every kind of input of a real run with many failures, and Tuner's answers
repeat them. None of them reaches the log, metrics, status, page, socket or the output of a command."""

import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from yarl import URL

from tests.audio.made import wav
from tests.audio.s3_stub import BUCKET, KEY_ID, SECRET, S3Stub, s3_stub
from tests.e2e.harness import Daemon, call_document, command, config_text, manifest, put, running, until

CANARIES = {
    "key": "canary-first-key-a7f3",
    "next key": "tr_api_canary_second_key_b8e4",
    "key in a configuration": "canary-third-key-c9d5",
    "signature of a recording": "canarysignature01d6",
    "signature in a manifest": "canarysignature02e7",
    "password in a URL": "canarypassword03f8",
    "name": "Cana Ryson",
    "card": "4111 1111 1111 1111",
    "phone": "+41 44 668 18 00",
    "said": "my cat is called Zwingli",
    "tool argument": "iban CH93 0076 2011",
    "field without a rule": "canary of a field that no rule reads",
}


def leaks(text: str) -> list[str]:
    return [what for what, canary in CANARIES.items() if canary in text]


@asynccontextmanager
async def parrot() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A Tuner whose answers repeat everything that it was sent: headers, query, body. The call id decides about the form of
    the answer."""
    heard: list[dict[str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        told = {"headers": dict(request.headers), "query": str(request.url), "body": body, "key": list(CANARIES.values())[:3]}
        heard.append(body)
        kind = body["call_id"].partition("-")[0]
        key = request.headers.get("X-API-Key") or request.headers["Authorization"].removeprefix("Bearer ")
        if kind == "auth" and key == CANARIES["key"]:
            return web.json_response({"success": False, "error": told}, status=401)
        if kind == "rejected":
            detail = [
                {"loc": ["body", "transcript", 0, json.dumps(body)], "msg": json.dumps(told), "type": "enum", "input": body}
            ]
            return web.json_response({"detail": detail, "error": json.dumps(told)}, status=422, reason=CANARIES["key"])
        if kind == "error":
            return web.Response(text=json.dumps(told), status=500, headers={"Retry-After": CANARIES["key"]})
        if kind == "odd":
            return web.Response(text=f"<html>{json.dumps(told)}</html>", status=200, content_type="text/html")
        return web.json_response({"id": len(heard), "success": True, "echo": told}, status=201)

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", heard
    finally:
        await runner.cleanup()


def planted(call_id: str, **changes: Any) -> dict[str, Any]:
    """A call with a canary in every part."""
    document = call_document(call_id)
    document["audio"] = (
        f"https://user:{CANARIES['password in a URL']}@audio.example/1.wav?X-Sig={CANARIES['signature of a recording']}"
    )
    document["caller"] = {"name": CANARIES["name"], "note": CANARIES["field without a rule"]}
    document["messages"] = [
        {"role": "agent", "text": f"Is that {CANARIES['name']} at {CANARIES['phone']}?", "at": 0},
        {"role": "user", "text": f"Yes, {CANARIES['said']}, and my card is {CANARIES['card']}.", "at": 2400},
        {"role": "agent", "text": CANARIES["tool argument"], "at": 4000},
    ]
    return document | changes


async def test_no_canary_sings(tmp_path: Path) -> None:
    """The run has accepted, rejected, failing and refused calls, broken files, a rotated key and a refused configuration."""
    for name in ("calls", "recordings"):
        (tmp_path / name).mkdir()
    key_file = tmp_path / "key"
    key_file.write_text(CANARIES["key"] + "\n")
    async with parrot() as (url, heard):
        config = tmp_path / "tunerd.yaml"
        text = config_text(url, tmp_path, key_file=str(key_file), source="    settle_timeout: 1s")
        config.write_text(text.replace("format: json", "format: json\n  level: debug"))
        calls, everything = tmp_path / "calls", json.dumps(planted("x") | dict.fromkeys(CANARIES.values()))
        async with running(config) as daemon:
            for kind in ("auth", "ok", "rejected", "error"):
                put(calls / f"{kind}.json", planted(f"{kind}-1"))
            await until(lambda: daemon.told("paused"))
            draft = tmp_path / "key.new"
            draft.write_text(CANARIES["next key"])
            draft.rename(key_file)
            put(calls / "by-manifest.json", planted("ok-2", audio=None, room="room-1"))
            sung = manifest("room-1") | {"url": f"https://audio.example/2.ogg?token={CANARIES['signature in a manifest']}"}
            put(tmp_path / "recordings" / "EG_1.json", sung)
            put(tmp_path / "recordings" / "EG_2.json", sung | {"room": [CANARIES["name"]], "started": CANARIES["said"]})
            (calls / "half.json").write_text(everything[:-30])
            (calls / "lines.ndjson").write_text(f"{everything[:100]}\n{CANARIES['said']}\n[{everything}, 1\n")
            put(calls / "untimed.json", planted("bad-1", started=CANARIES["said"], ended=CANARIES["card"]))
            put(calls / "no-rows.json", planted("bad-2", messages=CANARIES["said"]))
            put(
                calls / "odd-role.json",
                planted("bad-3", messages=[{"role": CANARIES["name"], "text": CANARIES["said"], "at": 0}]),
            )
            put(calls / "odd-time.json", planted("bad-4", messages=[{"role": "user", "text": "x", "at": CANARIES["phone"]}]))
            put(calls / "odd-text.json", planted("bad-5", messages=[{"role": "user", "text": [CANARIES["said"]], "at": 0}]))
            put(calls / "odd-url.json", planted("bad-6", audio=f"not a url?{CANARIES['signature of a recording']}"))
            put(calls / "no-id.json", planted("", id=None))
            put(calls / "list-id.json", planted("", id=[CANARIES["name"]]))

            async def all_seen() -> bool:
                ids = {body["call_id"] for body in heard}
                return {"auth-1", "ok-1", "ok-2", "rejected-1", "error-1"} <= ids and (
                    (await daemon.states()).get("failed", 0) >= 10
                )

            await until(all_seen)
            put(calls / "odd.json", planted("odd-1"))  # last, because everything after an unconfirmed call waits for it
            await until(lambda: any(body["call_id"] == "odd-1" for body in heard))
            config.write_text(
                text.replace(f"api_key_file: {key_file}", f"api_key: {CANARIES['key in a configuration']}\n  api_kee: 1")
            )
            daemon.signal(1)
            await until(lambda: daemon.told("configuration refused; keeping the previous configuration"))
            config.write_text(text)
            told = await everything_told(daemon, config)
            assert await daemon.stop() == 0
        told["log"] = daemon.said
    assert leaks(json.dumps(heard)) == [name for name in CANARIES if "key" not in name and name != "field without a rule"], (
        "every canary of a call reached Tuner, where it belongs"
    )
    assert {where: found for where, text in told.items() if (found := leaks(text))} == {}
    assert len(told["failed --json"]) > 1000


PAGES = (
    "/", "/status.json", "/failed?reason=rejected", "/failed?reason=unmappable", "/failed?reason=unreadable", "/call?id=rejected-1",
    "/call?id=error-1", "/call?id=ok-2", "/call?id=odd-1", "/login",
)  # fmt: skip
"""Of the status page."""


async def everything_told(daemon: Daemon, config: Path) -> dict[str, str]:
    """Everything that a person or a program can see."""
    told = {path: await daemon.get(path) for path in ("/metrics", "/healthz", "/readyz", *PAGES)}
    for words in (
        ("status",), ("status", "--json"), ("failed",), ("failed", "--json"), ("status", "rejected-1"),
        ("status", "rejected-1", "--json"), ("status", "error-1"), ("status", "ok-2", "--json"), ("status", "odd-1", "--json"),
    ):  # fmt: skip
        name, *options = words
        code, said = await command(config, name, *options)
        assert code == 0, said
        told[" ".join(words)] = said
    told["lock"] = (config.parent / "ledger.db.lock").read_text()
    told["command line"] = Path(f"/proc/{daemon.pid}/cmdline").read_bytes().decode()
    assert os.path.samefile(config.parent, daemon.directory)
    return told


async def test_the_keys_are_masked_even_where_nothing_looks_for_them(tmp_path: Path) -> None:
    """Second safety net: a key without a known form, and the key that replaced it, are the names of broken files. The log
    masks both, from the first request on that used them."""
    for name in ("calls", "recordings"):
        (tmp_path / name).mkdir()
    keys, key_file = ("plain-words-for-a-key", "other-words-for-a-key"), tmp_path / "key"
    key_file.write_text(keys[0])
    async with parrot() as (url, heard):
        config = tmp_path / "tunerd.yaml"
        config.write_text(config_text(url, tmp_path, key_file=str(key_file), source="    settle_timeout: 1s"))
        async with running(config) as daemon:
            for number, key in enumerate(keys):
                if number:
                    draft = tmp_path / "key.new"
                    draft.write_text(key)
                    draft.rename(key_file)
                    await until(lambda: daemon.told("key changed"))
                put(tmp_path / "calls" / f"{number}.json", call_document(f"ok-{number}"))
                await until(lambda number=number: len(heard) == number + 1)
                (tmp_path / "calls" / f"{key}.json").write_text("no json")
                await until(lambda number=number: len(daemon.told("failed")) == number + 1)
            assert await daemon.stop() == 0
    assert [Path(line["path"]).name for line in daemon.told("failed")] == ["[redacted].json"] * 2
    assert not any(key in daemon.said for key in keys)


async def test_no_canary_of_an_upload_sings(tmp_path: Path) -> None:
    """The target of an upload has a canary in its URL, its key, a field and its type; the storage repeats them in its answers. The
    run has uploads that succeed, that are refused until their target expires, and a target that must not be used."""
    canaries = ("canaryurl11", "canaryfield22", "canarykey33", "canarytype44", "canaryanswer55")
    for name in ("calls", "recordings", "rec"):
        (tmp_path / name).mkdir()

    async def serve(request: web.Request) -> web.Response:
        if request.path.startswith("/storage"):
            form = await request.post()
            seen.append(str(form["x-secret"]))
            if "refused" in str(form["key"]):
                return web.Response(status=403, text=f"<Error>canaryanswer55 {form['x-secret']} {request.url}</Error>")
            return web.Response(status=204, headers={"Location": f"{request.url}canaryanswer55"})
        body = await request.json()
        kind = body["call_id"]
        host = "http://10.9.8.7" if kind == "elsewhere" else str(request.url.origin())
        policy = base64.b64encode(json.dumps({"expiration": "2020-01-01T00:00:00Z"}).encode()).decode()
        target = {
            "url": f"{host}/storage/canaryurl11?X-Amz-Signature=canaryurl11", "key": f"canarykey33/{kind}.wav", "max_bytes": 10**6,
            "fields": {"key": f"canarykey33/{kind}.wav", "x-secret": "canaryfield22", "policy": policy},
            "content_type": "audio/canarytype44",
        }  # fmt: skip
        return web.json_response({"id": 1, "provider_call_id": kind, "is_new": True, "recording_upload": target}, status=201)

    seen: list[str] = []
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/{path:.*}", serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        config = tmp_path / "tunerd.yaml"
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        text = config_text(url, tmp_path, source=f"    audio: {{publish: upload, files: [{tmp_path}/rec]}}")
        config.write_text(text.replace("format: json", "format: json\n  level: debug"))
        async with running(config) as daemon:
            for kind in ("good", "refused", "elsewhere"):
                path = tmp_path / "rec" / f"{kind}.wav"
                path.write_bytes(wav())
                os.utime(path, (1.7e9, 1.7e9))
                put(tmp_path / "calls" / f"{kind}.json", call_document(kind) | {"audio": str(path)})
            await until(lambda: daemon.told("audio uploaded") and daemon.told("upload of audio to be retried"))
            await until(lambda: daemon.told("the audio of a call does not reach Tuner"))
            pages = (
                "/metrics",
                "/",
                "/status.json",
                "/failed?reason=upload_not_offered",
                "/call?id=refused",
                "/call?id=elsewhere",
            )
            told = {page: await daemon.get(page) for page in pages}
            for call_id in ("good", "refused", "elsewhere"):
                told[f"status {call_id}"] = (await command(config, "status", call_id))[1]
                told[f"status {call_id} --json"] = (await command(config, "status", call_id, "--json"))[1]
            for words in (("failed",), ("failed", "--json"), ("status",), ("retry", "--audio"), ("retry", "--all", "--json")):
                told[" ".join(words)] = (await command(config, *words))[1]
            assert await daemon.stop() == 0
        told["log"] = daemon.said
    finally:
        await runner.cleanup()
    assert set(seen) == {"canaryfield22"}
    assert "being uploaded" in told["status refused"]
    assert {where: found for where, text in told.items() if (found := [one for one in canaries if one in text])} == {}
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*"))
    assert stored.count(b"canaryfield22") >= 1, "the target of the open upload is stored, and nothing else of it"
    good = [line for line in stored.split(b"canarykey33/") if line.startswith(b"good")]
    assert not good, "a target is erased when its upload ends"


async def test_no_canary_of_a_signed_url_sings(tmp_path: Path) -> None:
    """Recordings lie in a bucket, and Tuner gets signed URLs, which its answers repeat. Nothing that only a signed URL or the
    bucket's credentials have is seen: one call is taken, one refused, one tried again, and one names an object that is not there."""
    for name in ("calls", "recordings"):
        (tmp_path / name).mkdir()
    token = "canarysessiontoken66"
    bucket = S3Stub(tokens=(token,), objects={"canary/a.wav": wav()})
    async with parrot() as (url, heard), s3_stub(bucket):
        config = tmp_path / "tunerd.yaml"
        text = config_text(url, tmp_path, source="    audio: presign")
        config.write_text(text.replace("format: json", "format: json\n  level: debug"))
        kinds = ("ok", "rejected", "error", "missing")
        async with running(config, environ=bucket.environ(AWS_SESSION_TOKEN=token)) as daemon:
            for kind in kinds:
                audio = f"s3://{BUCKET}/canary/{'b' if kind == 'missing' else 'a'}.wav"
                put(tmp_path / "calls" / f"{kind}.json", call_document(f"{kind}-1") | {"audio": audio})
            await until(lambda: {"ok-1", "rejected-1", "error-1"} <= {body["call_id"] for body in heard})
            await until(lambda: {"error-1", "missing-1"} <= {line["call_id"] for line in daemon.told("to be retried")})
            told = {page: await daemon.get(page) for page in ("/metrics", "/", "/status.json", "/failed?reason=rejected")}
            for kind in kinds:
                told[f"page of {kind}"] = await daemon.get(f"/call?id={kind}-1")
                for option in ((), ("--json",)):
                    told[f"status {kind} {option}"] = (await command(config, "status", f"{kind}-1", *option))[1]
            for words in (("failed",), ("failed", "--json"), ("status",), ("retry", "--all", "--json")):
                told[" ".join(words)] = (await command(config, *words))[1]
            assert await daemon.stop() == 0
        told["log"] = daemon.said
    assert json.loads(told["retry --all --json"])["done"], "a call with a signed URL was sent again"
    sent = {query["X-Amz-Security-Token"] for body in heard for query in [URL(body["recording_url"]).query]}
    assert sent == {token}, "the canaries reached Tuner, where they belong"
    signatures = {URL(body["recording_url"]).query["X-Amz-Signature"] for body in heard}
    canaries = {SECRET, KEY_ID, token, "X-Amz-", *signatures}
    assert {where: found for where, said in told.items() if (found := [one for one in canaries if one in said])} == {}
