"""Objects in buckets (s3://, gs://, az://): a signed URL for one, and its bytes. The only module that imports obstore.

Import it where it is used: obstore is the extra `tunerd[cloud]` and takes memory. Each operation raises ObjectFault; no text of
obstore, no URL and no credential leaves this module in a message (object_faults.py).
"""

import asyncio
import json
import math
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from tunerd.audio.audio_bytes import AudioChanged, AudioMissing, AudioUnreadable
from tunerd.audio.aws_credentials import AwsCredentialChain, AwsCredentials
from tunerd.audio.header import HEAD_BYTES, AudioHeader, read_header
from tunerd.audio.object_faults import FaultKind, ObjectFault, fault_of, settings_fault
from tunerd.audio.signed_url import SignedUrl
from tunerd.clock import Clock
from tunerd.location import MAX_URL_CHARS, bucket_of
from tunerd.record import positional_record, record

MAX_VALIDITY_S: Final = 7 * 86_400.0
"""No storage signs for longer."""
LEAST_VALIDITY_S: Final = 60.0
PIECE_BYTES: Final = 1024 * 1024
"""An object is read in requests of this size, one after the other, each for the same object: that bounds the memory."""

_ALLOW_HTTP: Final = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
"""The variable that allows a storage without TLS (its endpoint is a variable, too)."""
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
"""Where obstore looks for the address of a storage that speaks S3."""
_THREADS: Final = 8
_CONNECT_S: Final = timedelta(seconds=5)
_PIECE_S: Final = timedelta(seconds=15)
"""For a whole request, which is a piece at most."""
_GOOGLE_KEYS: Final = (
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
_GOOGLE_KEY_S: Final = 12 * 3600.0
"""Without a key of its own an identity has Google sign, with a key that Google keeps valid for at least 12 hours."""

T = TypeVar("T")
_Store: TypeAlias = S3Store | GCSStore | AzureStore


@record
class ObjectIdentity:
    """What tells this object from one that was put there later."""

    etag: str
    size: int

    @classmethod
    def parse(cls, text: str) -> "ObjectIdentity":
        """Of `str()`, as the ledger keeps it."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps({"etag": self.etag, "size": self.size}, separators=(",", ":"))


@positional_record
class _Address:
    scheme: str
    bucket: str
    key: str


class ObjectStores:
    """The buckets that locations name, each opened once, with the credentials of this process's environment."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, "buckets")
        self._aws = AwsCredentialChain(os.environ, clock)  # as obstore, which looks for endpoints and keys there
        self._opened: dict[tuple[str, str], tuple[AwsCredentials | None, _Store]] = {}
        """By scheme and bucket: with the AWS credentials that sign, so that the end of a URL is the end of exactly these."""
        self._region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"

    async def sign(self, location: str, expires_s: float) -> SignedUrl:
        """A URL with which the object can be read until `expires_at`: the earliest of `expires_s`, 7 days and the end of the
        credentials. Reads one byte of the object first, because a signature is only arithmetic: a wrong region, key or clock
        and a missing object would show only when Tuner asks."""
        await self._read(location, _address(location), 0, 1, None)
        return await self.sample(location, expires_s)

    async def sample(self, location: str, expires_s: float) -> SignedUrl:
        """The same without asking for the object, which need not be there."""
        address = _address(location)
        now, wanted_s = self._clock.now(), int(min(expires_s, MAX_VALIDITY_S))
        with _explained(location, self._region):
            store = await self._store(address)
            url = await self._in_thread(lambda: obstore.sign(store, "GET", address.key, timedelta(seconds=wanted_s)))
        path = urlsplit(url).path
        if not unquote(path).endswith(f"/{address.key}") or (address.scheme == "az" and "%" in path):
            # obstore 0.12 leaves a `?` as it is for GCS, and signs the escaped key for Azure, which compares the plain one
            say = "no URL can be signed for a key with such a character; write `audio: upload`"
            raise ObjectFault(FaultKind.ADDRESS, f"{location}: {say}")
        if len(url) > MAX_URL_CHARS:
            raise ObjectFault(FaultKind.TOO_LONG, f"{location}: {_too_long(url)}")
        expires_at = min(now + wanted_s, self._signature_ends_at(address))
        if expires_at - now < LEAST_VALIDITY_S:
            raise ObjectFault(FaultKind.CREDENTIALS, f"{location}: the credentials end within a minute, and no newer ones came")
        return SignedUrl(url=url, expires_at=expires_at)

    async def look(self, location: str, count: int) -> tuple[ObjectIdentity, bytes]:
        """Which object is there now, and its first `count` bytes."""
        return await self._read(location, _address(location), 0, count, None)

    async def pieces(self, location: str, identity: ObjectIdentity) -> AsyncIterator[bytes]:
        """All bytes of exactly this object, PIECE_BYTES at a time. Another one in its place ends it as CHANGED."""
        address, start = _address(location), 0
        while start < identity.size:
            now, piece = await self._read(location, address, start, min(start + PIECE_BYTES, identity.size), identity.etag)
            if now != identity or not piece:
                raise _changed(location)
            start += len(piece)
            yield piece

    async def _read(
        self, location: str, address: _Address, start: int, end: int, etag: str | None
    ) -> tuple[ObjectIdentity, bytes]:
        options: Any = {"range": (start, end)} | ({"if_match": etag} if etag else {})
        with _explained(location, self._region):
            store = await self._store(address)
            return await self._in_thread(lambda: _read(store, address.key, options))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """obstore's own coroutines are not used: its threads call back into Python, and abort the process when it ends then."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _store(self, address: _Address) -> _Store:
        credentials = await self._aws.get() if address.scheme == "s3" else None
        opened = self._opened.get((address.scheme, address.bucket))
        if opened is None or opened[0] != credentials:
            opened = credentials, _open(address, self._region, credentials)
            self._opened[address.scheme, address.bucket] = opened
        return opened[1]

    def _signature_ends_at(self, address: _Address) -> float:
        """When whatever signs stops being valid, which ends the URL."""
        opened = self._opened[address.scheme, address.bucket][0]
        if opened is not None and opened.expires_at is not None:
            return opened.expires_at
        if address.scheme == "gs" and not any(os.environ.get(name) for name in _GOOGLE_KEYS):
            return self._clock.now() + _GOOGLE_KEY_S
        return math.inf


class ObjectAudio:
    """One object as AudioBytes: exactly the one that it was when the call got it."""

    def __init__(self, stores: ObjectStores, location: str, identity: ObjectIdentity) -> None:
        self._stores, self._location, self._identity = stores, location, identity

    async def size(self) -> int:
        with _as_audio(self._location):
            now, _ = await self._stores.look(self._location, 1)
            if now != self._identity:
                raise _changed(self._location)
        return self._identity.size

    async def chunks(self) -> AsyncIterator[bytes]:
        with _as_audio(self._location):
            async for piece in self._stores.pieces(self._location, self._identity):
                yield piece


async def look_at(stores: ObjectStores, location: str) -> tuple[ObjectIdentity, AudioHeader]:
    """Which object is there now, and what kind of audio it is. Raises AudioUnreadable."""
    with _as_audio(location):
        identity, head = await stores.look(location, HEAD_BYTES)
    header = read_header(head)
    if header is None:
        what = "its first bytes are not those of WAV, Ogg, FLAC, MP3, M4A or WebM"
        raise AudioUnreadable(f"{location} is no audio: {what}; correct the rule that names it, or convert it")
    return identity, header


@contextmanager
def _explained(location: str, region: str) -> Iterator[None]:
    """What obstore raises, as a fault. Its Rust code may panic (of some settings): that is no Exception, and would end tunerd."""
    try:
        yield
    except (BaseError, OSError) as error:
        raise fault_of(error, location, region) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise settings_fault(location) from None


@contextmanager
def _as_audio(location: str) -> Iterator[None]:
    """Faults of objects in the words of audio: what all objects of a bucket have in common may pass."""
    try:
        yield
    except ObjectFault as fault:
        if fault.kind is FaultKind.CHANGED:
            raise AudioChanged(f"{fault}. Let each call record to an object of its own") from None
        if fault.kind is FaultKind.MISSING:
            raise AudioMissing(str(fault)) from None
        is_common = not fault.is_its_own and fault.kind is not FaultKind.DENIED  # S3 denies what is missing, too
        bucket = bucket_of(location) if is_common else ""
        raise AudioUnreadable(str(fault), may_pass=not fault.is_its_own, bucket=bucket) from None


def _changed(location: str) -> ObjectFault:
    return ObjectFault(FaultKind.CHANGED, f"{location}: the object was replaced after tunerd had seen it first")


def _read(store: _Store, key: str, options: Any) -> tuple[ObjectIdentity, bytes]:
    found = obstore.get(store, key, options=options)
    content = bytes(found.bytes())
    return ObjectIdentity(etag=found.meta["e_tag"] or "", size=found.meta["size"]), content


def _open(address: _Address, region: str, credentials: AwsCredentials | None) -> _Store:
    allow_http = os.environ.get(_ALLOW_HTTP[address.scheme], "").lower() in ("true", "1")
    client: Any = {"connect_timeout": _CONNECT_S, "timeout": _PIECE_S, "allow_http": allow_http}
    retry: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
    if credentials is not None:
        _refuse_settings(address, region, credentials)
        own: Any = {"access_key_id": credentials.key_id, "secret_access_key": credentials.secret}
        if credentials.token is not None:
            own["session_token"] = credentials.token
        return S3Store(address.bucket, config=own, region=region, client_options=client, retry_config=retry)
    kind = GCSStore if address.scheme == "gs" else AzureStore
    return kind(address.bucket, client_options=client, retry_config=retry)


def _refuse_settings(address: _Address, region: str, credentials: AwsCredentials) -> None:
    """Raises ObjectFault for what obstore panics of. The region and the endpoint are part of a URL, the keys of a header."""
    endpoints = {name: os.environ.get(name, "") for name in _ENDPOINTS}
    settings = {"AWS_REGION": region, "AWS_ACCESS_KEY_ID": credentials.key_id, "AWS_SECRET_ACCESS_KEY": credentials.secret}
    for name, value in (settings | {"AWS_SESSION_TOKEN": credentials.token or ""} | endpoints).items():
        if not value.isascii() or not value.isprintable() or " " in value:
            say = "has a blank, a line end or another character that cannot be in it; set it anew"
            raise ObjectFault(FaultKind.CREDENTIALS, f"s3://{address.bucket}: {name} {say}")
    for name, value in endpoints.items():
        if value and not _is_http(value):
            say = "is no URL; write it with its scheme, as https://storage.example:9000"
            raise ObjectFault(FaultKind.CREDENTIALS, f"s3://{address.bucket}: {name} {say}")


def _is_http(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def _address(location: str) -> _Address:
    """Raises ObjectFault for what obstore would change on the way: it would be another object."""
    scheme, _, rest = location.partition("://")
    bucket, _, key = rest.partition("/")
    parts = key.split("/")
    if scheme not in _ALLOW_HTTP or not bucket or any(part in ("", ".", "..") for part in parts) or not key.isprintable():
        say = "a bucket and a key without empty parts, `.`, `..` and control characters"
        raise ObjectFault(FaultKind.ADDRESS, f"{scheme}://{bucket}: an object in it cannot be asked for: it needs {say}")
    return _Address(scheme, bucket, key)


def _too_long(url: str) -> str:
    why = ", because the credentials have a session token" if "X-Amz-Security-Token=" in url else ""
    return f"its signed URL has {len(url):,} characters{why}, and Tuner takes {MAX_URL_CHARS:,}; write `audio: upload`"
