"""The target that Tuner's answer names: what is read of it, what is refused, and that nothing of it is shown."""

import base64
from typing import Any

import orjson
import pytest

from tunerd.delivery.upload_target import LEAST_LIFE_S, UNKNOWN_LIFE_S, BadTarget, read_target, refuse_target

NOW = 1_767_225_600.0


def policy(expiration: object) -> str:
    return base64.b64encode(orjson.dumps({"expiration": expiration, "conditions": []})).decode()


def offer(**changes: Any) -> bytes:
    fields = {"key": "rec/secret-key.wav", "policy": policy("2026-01-01T01:00:00Z"), "x-amz-signature": "canary-signature"}
    given = {
        "url": "https://s3.example/bucket?canary", "fields": fields, "key": "rec/secret-key.wav", "max_bytes": 1000,
        "content_type": "audio/wav",
    }  # fmt: skip
    return orjson.dumps({**given, **changes})


def test_a_target_is_read_whole_and_shown_nowhere() -> None:
    """Fields keep their order and their text; the expiry is the policy's; a repr holds nothing of it."""
    target = read_target(offer(), now=NOW)
    assert [name for name, _ in target.fields] == ["key", "policy", "x-amz-signature"]
    assert dict(target.fields)["x-amz-signature"] == "canary-signature"
    assert (target.expires_at, target.max_bytes, target.content_type) == (NOW + 3600, 1000, "audio/wav")
    assert target.file_name == "secret-key.wav"
    assert "canary" not in repr(target)
    assert "secret" not in repr(target)


@pytest.mark.parametrize(
    ("given", "expires_at"),
    [
        (policy("2026-01-01T00:10:00.000Z"), NOW + 600),
        (policy("2026-01-01T00:10:00"), NOW + 600),
        (policy("2025-12-31T23:00:00Z"), NOW + LEAST_LIFE_S),
        (policy(7), NOW + UNKNOWN_LIFE_S),
        ("not base64 !", NOW + UNKNOWN_LIFE_S),
        (base64.b64encode(b"[]").decode(), NOW + UNKNOWN_LIFE_S),
    ],
)
def test_when_a_target_expires(given: str, expires_at: float) -> None:
    """From the policy; one that our clock calls expired was just given, so the clocks differ; an unreadable one counts as an hour."""
    assert read_target(offer(fields={"Policy": given}), now=NOW).expires_at == expires_at


@pytest.mark.parametrize("wrong", [b"nope", b"[]", b'{"url": 5}', b'{"url": "https://a", "fields": [1]}'])
def test_what_is_no_target(wrong: bytes) -> None:
    """Anything but an object with a URL and fields."""
    with pytest.raises(BadTarget):
        read_target(wrong, now=NOW)


@pytest.mark.parametrize(
    ("url", "base_url", "is_allowed"),
    [
        ("https://s3.example/b", "https://api.usetuner.ai", True),
        ("http://s3.example/b", "https://api.usetuner.ai", False),
        ("http://127.0.0.1:9/b", "https://api.usetuner.ai", False),
        ("http://127.0.0.1:9/b", "http://127.0.0.1:8/tuner", True),
        ("http://[::1]:9/b", "http://localhost:8", True),
        ("http://10.0.0.1/b", "http://127.0.0.1:8", False),
        ("http://127.0.0.1.evil.example/b", "http://127.0.0.1:8", False),
        ("ftp://s3.example/b", "https://api.usetuner.ai", False),
        ("https:///b", "https://api.usetuner.ai", False),
        ("https://a b/", "https://api.usetuner.ai", False),
        ("https://[::1/b", "https://api.usetuner.ai", False),
    ],
)
def test_only_https_or_the_sandbox_on_this_machine(url: str, base_url: str, *, is_allowed: bool) -> None:
    """A target elsewhere without TLS is refused, and the message does not repeat it."""
    target = read_target(offer(url=url), now=NOW)
    if is_allowed:
        refuse_target(target, base_url)
        return
    with pytest.raises(BadTarget) as caught:
        refuse_target(target, base_url)
    assert url not in str(caught.value)


@pytest.mark.parametrize("limit", [None, True, 0, -5, "1000", 1.5])
def test_a_limit_that_is_none(limit: object) -> None:
    """Only a positive whole number limits the size."""
    assert read_target(offer(max_bytes=limit), now=NOW).max_bytes is None


@pytest.mark.parametrize(
    ("key", "name"), [(None, "recording"), ("a/b/", "recording"), ('x/a"b\r\n.wav', "ab.wav"), ("c.ogg", "c.ogg")]
)
def test_the_name_of_the_file_in_the_form_is_harmless(key: object, name: str) -> None:
    """It goes into a header of the form."""
    assert read_target(offer(key=key), now=NOW).file_name == name
