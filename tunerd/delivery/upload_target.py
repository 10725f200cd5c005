"""Where Tuner wants a call's audio: the `recording_upload` of an answer, read and checked. Pure.

All of a target is a secret: whoever has it may upload. No message here repeats anything of it.
"""

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from tunerd.record import record

UNKNOWN_LIFE_S: Final = 3600.0
"""Of a target whose policy does not say when it expires."""
LEAST_LIFE_S: Final = 300.0
"""A target that was just named is valid, whatever the two clocks say: the storage decides."""
_NOT_USABLE: Final = "Tuner's answer names a place for the audio that cannot be used"


class BadTarget(ValueError):
    """Why nothing is uploaded there."""


@record
class PresignedPost:
    """One form that may be posted."""

    url: str = field(repr=False)
    fields: tuple[tuple[str, str], ...] = field(repr=False)
    """In the order of the answer; each goes into the form as it is."""
    file_name: str = field(repr=False)
    content_type: str
    expires_at: float
    max_bytes: int | None


def read_target(offer: bytes, *, now: float) -> PresignedPost:
    """Of the JSON of `recording_upload`. Raises BadTarget."""
    try:
        value = orjson.loads(offer)
    except orjson.JSONDecodeError:
        raise BadTarget(f"{_NOT_USABLE}: it is no JSON") from None
    if not isinstance(value, dict):
        raise BadTarget(f"{_NOT_USABLE}: it is no object")
    url, fields = value.get("url"), value.get("fields") or {}
    if not isinstance(url, str) or not isinstance(fields, dict):
        raise BadTarget(f"{_NOT_USABLE}: it has no url, or no form fields")
    key, limit, kind = value.get("key"), value.get("max_bytes"), value.get("content_type")
    return PresignedPost(
        url=url,
        fields=tuple((str(name), _text(given)) for name, given in fields.items()),
        file_name=_name(key if isinstance(key, str) else ""),
        content_type=kind if isinstance(kind, str) and kind.isprintable() and kind.isascii() else "application/octet-stream",
        expires_at=_expires_at(fields, now),
        max_bytes=limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None,
    )


def refuse_target(target: PresignedPost, base_url: str) -> None:
    """Raises BadTarget for one that the destination at `base_url` must not name."""
    if not _is_allowed(target.url, base_url):
        raise BadTarget(f"{_NOT_USABLE}: its URL is not https, and this is refused; report it to Tuner")


def _is_allowed(url: str, base_url: str) -> bool:
    """https; or this machine, where Tuner itself is played by a sandbox on it."""
    try:
        target, tuner = urlsplit(url), urlsplit(base_url)
        if not target.hostname or not url.isprintable() or " " in url:
            return False
        if target.scheme == "https":
            return True
        return target.scheme == "http" and _is_loopback(target.hostname) and _is_loopback(tuner.hostname or "")
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _name(key: str) -> str:
    name = "".join(char for char in key.rpartition("/")[2] if char.isascii() and (char.isalnum() or char in "._-"))
    return name or "recording"


def _expires_at(fields: Mapping[str, Any], now: float) -> float:
    policy = next((value for name, value in fields.items() if name.lower() == "policy" and isinstance(value, str)), "")
    try:
        text = orjson.loads(base64.b64decode(policy, validate=False))["expiration"]
        at = datetime.fromisoformat(text)
    except (binascii.Error, ValueError, KeyError, TypeError):
        return now + UNKNOWN_LIFE_S
    return max((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp(), now + LEAST_LIFE_S)
