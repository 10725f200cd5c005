"""One HTTP attempt against real sockets: what goes out, and what each way of failing comes to."""

import asyncio
import gzip
import socket
import ssl
import subprocess
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.delivery.made import claimed, destination
from tests.delivery.server import OK, Answer, Hang, Raw, Reply, Request, serving
from tests.descriptors import no_descriptors
from tunerd.call import Form
from tunerd.config import Delivery as Settings
from tunerd.config import Secret
from tunerd.delivery.decoding import ANSWER_BYTES, decode
from tunerd.delivery.key import Key
from tunerd.delivery.upload import Uploader, open_session
from tunerd.outcome import Failed, Outcome, PauseReason, Refused, Retry, RetryReason, Sent, Unconfirmed
from tunerd.testing import FakeClock

CANARY = "canary-key-4711"


@asynccontextmanager
async def uploading(url: str, environ: dict[str, str] | None = None, **changes: Any) -> AsyncIterator[Uploader]:
    settings = Settings(**{name: changes.pop(name) for name in ("timeout_s", "compress", "accept") if name in changes})
    there = destination(url, **{"api_key": Secret(CANARY), **changes})
    async with open_session() as session:
        yield Uploader(session, there, Key(there), settings, FakeClock(), environ or {})


async def outcome_of(*answers: Answer, body: bytes = b'{"call_id":"call-1"}', **changes: Any) -> Outcome:
    async with serving(*answers) as server, uploading(server.url, **changes) as upload:
        return await upload(claimed(body=body))


def shows_nothing(outcome: Outcome) -> bool:
    """No key, no query, no agent in what is kept and logged."""
    detail = "" if isinstance(outcome, Sent) else outcome.detail
    return not any(secret in detail for secret in (CANARY, "workspace_id", "support-bot", "call-1", "?"))


@pytest.mark.parametrize("form", Form)
async def test_the_request_is_exactly_the_forms(form: Form) -> None:
    """Path, query, the key in the form's header and in no other, and the frozen bytes as they are."""
    async with serving() as server, uploading(server.url + "/") as upload:
        outcome = await upload(claimed(form=form, agent="böt & co", body=b'{"call_id": "\xc3\xa9"}'))
    assert outcome == Sent(status=200, tuner_call_id="tc_1", already_there=False)
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/api/v1/public/call")
    assert request.query == {"workspace_id": ["42"], "agent_remote_identifier": ["böt & co"]}
    assert request.body == b'{"call_id": "\xc3\xa9"}'
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("tunerd/")
    if form is Form.SEND_CALLS:
        assert request.headers["x-api-key"] == CANARY
        assert "authorization" not in request.headers
    else:
        assert request.headers["authorization"] == f"Bearer {CANARY}"
        assert "x-api-key" not in request.headers


async def test_one_connection_serves_many_calls() -> None:
    """Keep-alive, whatever the answers were."""
    async with (
        serving(Reply(), Reply(422, b'{"detail": []}'), Reply(503, b""), Reply()) as server,
        uploading(server.url) as upload,
    ):
        for _ in range(4):
            await upload(claimed())
    assert {request.connection for request in server.requests} == {1}


async def test_nothing_is_sent_twice() -> None:
    """A kept connection that ends under a request is a retry: the server may have processed it."""
    async with serving(Reply(), Raw(b""), Reply()) as server, uploading(server.url) as upload:
        await upload(claimed())
        outcome = await upload(claimed())
        assert isinstance(outcome, Retry)
        assert (outcome.reason, outcome.surely_not_arrived) == (RetryReason.UNREACHABLE, False)
    assert len(server.requests) == 2


async def test_the_key_is_taken_at_each_attempt(tmp_path: Path) -> None:
    """A changed key file goes out with the next attempt; without one there is no request at all."""
    file = tmp_path / "key"
    file.write_text("first")
    there: dict[str, Any] = {"api_key": None, "api_key_file": str(file)}
    async with serving() as server, open_session() as session:
        key = Key(destination(server.url, **there))
        upload = Uploader(session, destination(server.url, **there), key, Settings(), FakeClock(), {})
        await upload(claimed())
        file.write_text("second")
        key.refresh()
        await upload(claimed())
        file.unlink()
        key.refresh()
        outcome = await upload(claimed())
    assert [request.headers["x-api-key"] for request in server.requests] == ["first", "second"]
    assert isinstance(outcome, Refused)
    assert outcome.reason is PauseReason.AUTH


@pytest.mark.parametrize(
    ("answer", "reason", "sure"),
    [
        (Raw(b""), RetryReason.UNREACHABLE, False),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + OK), RetryReason.UNREACHABLE, False),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Ty"), RetryReason.UNREACHABLE, False),
        (Raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), RetryReason.BAD_ANSWER, False),
        (Reply(500, b"x" * 1_000_000), RetryReason.SERVER_ERROR, False),
        (Reply(429, b"", {"Retry-After": "9"}), RetryReason.THROTTLED, True),
    ],
)
async def test_answers_that_are_retried(answer: Answer, reason: RetryReason, sure: bool) -> None:
    """Reset, half an answer, no HTTP, trouble at the other end: due again, and nothing secret in the detail."""
    outcome = await outcome_of(answer)
    assert isinstance(outcome, Retry)
    assert (outcome.reason, outcome.surely_not_arrived) == (reason, sure)
    assert outcome.retry_after_s == (9.0 if reason is RetryReason.THROTTLED else None)
    assert shows_nothing(outcome)


def coded(body: bytes, *codings: str) -> Reply:
    """A 200 whose body went through these codings, in their order, as its header says."""
    for coding in codings:
        match coding:
            case "gzip" | "x-gzip":
                body = gzip.compress(body)
            case "deflate":
                body = zlib.compress(body)
            case "raw deflate":
                body = zlib.compress(body, wbits=-15)
    header = ", ".join(coding.removeprefix("raw ") for coding in codings)
    return Reply(200, body, {"Content-Encoding": header} if header else {})


LONG = b'{"success": true, "tunerCallId": "tc_1", "echo": "' + b"x" * 900_000 + b'"}'
BOMB = gzip.compress(b" " * 40_000_000, compresslevel=9)


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, LONG),
        coded(OK, "gzip"),
        coded(OK, "x-gzip"),
        coded(OK, "deflate"),
        coded(OK, "raw deflate"),
        coded(OK, "gzip", "deflate"),
        coded(LONG, "gzip"),
        Reply(200, gzip.compress(OK[:20]) + gzip.compress(OK[20:]), {"Content-Encoding": "GZip"}),
        Reply(200, gzip.compress(OK)),
        Reply(200, OK, {"Content-Encoding": "identity"}),
        Reply(203, OK),
    ],
)
async def test_a_long_or_compressed_confirmation_is_read(answer: Reply) -> None:
    """Up to 1 MiB, and decoded although nothing else than identity was asked for, with or without the header."""
    assert await outcome_of(answer) == Sent(status=answer.status, tuner_call_id="tc_1", already_there=False)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Reply(204, b"", {"Content-Length": "0"}), "not a JSON object"),
        (Reply(200, b"<html>Welcome to our hotel</html>"), "not a JSON object"),
        (Reply(200, LONG.replace(b"x" * 900_000, b"x" * 1_100_000)), "longer than 1,024 KiB"),
        (Reply(200, BOMB, {"Content-Encoding": "gzip"}), "longer than 1,024 KiB"),
        (Reply(200, gzip.compress(BOMB), {"Content-Encoding": "gzip, gzip"}), "longer than 1,024 KiB"),
        (Reply(200, OK, {"Content-Encoding": "gzip"}), "not compressed as its header says"),
        (Reply(200, gzip.compress(OK)[:-9], {"Content-Encoding": "gzip"}), "cut off"),
        (Reply(200, b"", {"Content-Encoding": "gzip"}), "not a JSON object"),
        (Reply(200, OK, {"Content-Encoding": "br"}), "does not know"),
        (Reply(200, OK, {"Content-Encoding": "gzip, gzip, gzip, gzip"}), "compressed too often"),
    ],
)
async def test_a_2xx_that_is_not_understood_is_unconfirmed(answer: Reply, why: str) -> None:
    """Whatever keeps it from being understood; it is no reason to send the next calls, nor this one again and again."""
    outcome = await outcome_of(answer)
    assert isinstance(outcome, Unconfirmed)
    assert why in outcome.detail
    assert shows_nothing(outcome)


async def test_a_bomb_takes_no_memory() -> None:
    """40 MB of blanks in 40 kB: decoded no further than 1 MiB."""
    tracemalloc.start()
    try:
        decode(BOMB, "gzip")
        assert tracemalloc.get_traced_memory()[1] < 8 * ANSWER_BYTES
    finally:
        tracemalloc.stop()


async def test_a_compressed_rejection_is_a_rejection() -> None:
    """A 422 in gzip is about its call, and not taken for a wrong URL."""
    body = b'{"detail": [{"loc": ["body", "role"], "type": "enum"}]}'
    outcome = await outcome_of(Reply(422, gzip.compress(body), {"Content-Encoding": "gzip"}))
    assert isinstance(outcome, Failed)
    assert outcome.detail == "Tuner answered 422: role (enum)"


async def test_accept_any_takes_every_2xx() -> None:
    """The setting reaches the judge."""
    assert isinstance(await outcome_of(Reply(204, b""), accept="any"), Sent)


async def test_of_two_retry_after_headers_the_longer_counts() -> None:
    """Two proxies that both added one."""
    raw = b"HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n"
    outcome = await outcome_of(Raw(raw))
    assert isinstance(outcome, Retry)
    assert outcome.retry_after_s == 9.0


@pytest.mark.parametrize("answer", [Hang(), Raw(b"")])
async def test_a_stalled_answer_times_out(answer: Answer) -> None:
    """A server that takes the request and says nothing, or that stalls in the middle of its answer."""

    async def stall(request: Request) -> Answer:
        if isinstance(answer, Raw):
            await asyncio.Event().wait()
        return answer

    async with serving(behave=stall) as server, uploading(server.url, timeout_s=0.2) as upload:
        outcome = await upload(claimed())
    assert isinstance(outcome, Retry)
    assert (outcome.reason, outcome.surely_not_arrived) == (RetryReason.TIMEOUT, False)
    assert shows_nothing(outcome)


async def test_refused_and_unknown_names_surely_did_not_arrive() -> None:
    """Nothing was sent: a newer document may still replace the call."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed_port = free.getsockname()[1]
    for url in (f"http://127.0.0.1:{closed_port}", "http://nowhere.invalid"):
        async with uploading(url, timeout_s=5.0) as upload:
            outcome = await upload(claimed())
        assert isinstance(outcome, Retry)
        assert (outcome.reason, outcome.surely_not_arrived) == (RetryReason.UNREACHABLE, True), url
        assert shows_nothing(outcome)


async def test_a_redirect_is_never_followed() -> None:
    """The key stays with its host."""
    async with serving() as other, serving(Reply(307, b"", {"Location": f"{other.url}/steal"})) as server:
        async with uploading(server.url) as upload:
            outcome = await upload(claimed())
        assert isinstance(outcome, Refused)
        assert outcome.reason is PauseReason.ENDPOINT
        assert not other.requests


async def test_a_long_rejection_is_read_no_further_than_needed() -> None:
    """An error that repeats a large call is a rejection; its connection is given up, the next call goes on."""
    long = Reply(422, b'{"detail": "' + b"x" * (ANSWER_BYTES * 3) + b'"}')
    async with serving(long, Reply()) as server, uploading(server.url) as upload:
        assert isinstance(await upload(claimed()), Failed)
        assert isinstance(await upload(claimed()), Sent)


@pytest.mark.parametrize("size", [10, 3 * 1024 * 1024])
@pytest.mark.parametrize("compress", [False, True])
async def test_small_and_large_bodies_arrive_whole(size: int, compress: bool) -> None:
    """With `compress: true` as gzip with the same bytes each time, else as they are; always with their length."""
    body = b'{"call_id":"' + b"x" * size + b'"}'
    async with serving() as server, uploading(server.url, compress=compress) as upload:
        await upload(claimed(body=body))
        await upload(claimed(body=body))
    first, second = server.requests
    assert first.body == second.body
    assert (gzip.decompress(first.body) if compress else first.body) == body
    assert first.headers.get("content-encoding") == ("gzip" if compress else None)


async def test_cookies_are_not_kept() -> None:
    """No server may mark us (a jar would keep those of a name, not of an address)."""
    async with (
        serving(Reply(headers={"Set-Cookie": "a=b"})) as server,
        uploading(server.url.replace("127.0.0.1", "localhost")) as upload,
    ):
        await upload(claimed())
        await upload(claimed())
    assert "cookie" not in server.requests[1].headers


async def test_through_a_proxy() -> None:
    """Plain http goes through the proxy with the whole URL and the proxy's own password; NO_PROXY goes past it."""
    environ = {"HTTP_PROXY": "", "http_proxy": ""}
    async with serving() as proxy:
        environ["http_proxy"] = proxy.url.replace("http://", "http://user:pass@")
        async with uploading("http://tuner.example:81", environ) as upload:
            assert isinstance(await upload(claimed()), Sent)
        (request,) = proxy.requests
        assert request.headers["host"] == "tuner.example:81"
        assert request.headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
        async with serving() as server, uploading(server.url, {**environ, "NO_PROXY": "127.0.0.1"}) as upload:
            assert isinstance(await upload(claimed()), Sent)
        assert len(proxy.requests) == 1


@pytest.mark.parametrize(("status", "kind"), [(407, Refused), (403, Refused), (502, Retry)])
async def test_a_proxy_that_does_not_connect(status: int, kind: type) -> None:
    """A proxy that refuses is a wrong setting, not an outage; its password and the key do not show."""
    async with serving(Reply(status, b"")) as proxy:
        environ = {"https_proxy": proxy.url.replace("http://", "http://user:pass@")}
        async with uploading("https://tuner.example", environ) as upload:
            outcome = await upload(claimed())
    assert isinstance(outcome, kind)
    assert shows_nothing(outcome)
    (request,) = proxy.requests
    assert request.method == "CONNECT"
    assert request.headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    assert "x-api-key" not in request.headers


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a self-signed certificate for 127.0.0.1, made with openssl."""
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1 " \
              f"-addext subjectAltName=IP:127.0.0.1 -keyout {file} -out {file}.crt"  # fmt: skip
    subprocess.run(command.split(), check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


async def test_tls_with_an_unknown_and_with_a_custom_ca(certificate: Path, tmp_path: Path) -> None:
    """An untrusted certificate is never spoken to; the configured CA file is what makes it trusted."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with serving(tls=context) as server:
        url = server.url.replace("http:", "https:")
        async with uploading(url) as upload:
            outcome = await upload(claimed())
        assert isinstance(outcome, Retry)
        assert (outcome.reason, outcome.surely_not_arrived) == (RetryReason.TLS, True)
        assert not server.requests
        async with uploading(url, ca_file=f"{certificate}.crt") as upload:
            assert isinstance(await upload(claimed()), Sent)
        async with uploading(url, ca_file=str(tmp_path / "gone.pem")) as upload:
            outcome = await upload(claimed())
        assert isinstance(outcome, Retry)
        assert outcome.reason is RetryReason.TLS
        assert "gone.pem" in outcome.detail


async def test_plain_http_where_tls_is_expected() -> None:
    """A base_url with https for a port that speaks http: no TLS, nothing arrived."""

    async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(speak_plainly, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with uploading(f"https://127.0.0.1:{port}") as upload:
            outcome = await upload(claimed())
    assert isinstance(outcome, Retry)
    assert (outcome.reason, outcome.surely_not_arrived) == (RetryReason.TLS, True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "tuner.invalid"])
@pytest.mark.parametrize("proxied", [False, True])
async def test_no_descriptor_is_our_single_call_faults(host: str, proxied: bool) -> None:
    """EMFILE while connecting, or while the name is looked up: the pause `local`, no attempt, nothing said about Tuner."""
    environ = {"HTTP_PROXY": f"http://{host}:9"} if proxied else {}
    async with uploading(f"http://{host}:9", environ) as upload:
        with no_descriptors():
            outcome = await upload(claimed())
    assert isinstance(outcome, Refused)
    assert outcome.reason is PauseReason.LOCAL
    assert "LimitNOFILE" in outcome.detail
    assert shows_nothing(outcome)


async def test_with_descriptors_a_name_that_is_not_known_is_unreachable() -> None:
    """The look at the descriptor table tells the two apart."""
    async with uploading("http://tuner.invalid:9") as upload:
        outcome = await upload(claimed())
    assert isinstance(outcome, Retry)
    assert outcome.reason is RetryReason.UNREACHABLE
