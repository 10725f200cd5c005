"""Everything that outlives a tunerd, and all that it talks to: the ledger, files, and a Tuner, a storage, buckets and hosts that are
played. No time passes unless a step says so; at each question to one of these, before it and after it, the process may be killed.
"""

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from tunerd.audio.audio_bytes import AudioBytes, AudioChanged, AudioMissing, AudioUnreadable, NotDisposed, Settled
from tunerd.audio.object_faults import FaultKind, ObjectFault
from tunerd.audio.signed_url import SignedUrl
from tunerd.call import AudioPlan, Call
from tunerd.delivery.audio_upload import NotStored, Stored
from tunerd.delivery.upload_target import PresignedPost
from tunerd.delivery.url_asking import UrlAnswer, UrlFinding
from tunerd.ledger import Claimed, Delivered, UploadTarget
from tunerd.location import bucket_of
from tunerd.outcome import Outcome, Retry, RetryReason, Sent
from tunerd.testing import MemoryLedger

ENDLESS: Final = "eyJleHBpcmF0aW9uIjogIjIwOTktMDEtMDFUMDA6MDA6MDBaIn0="
"""The policy of a target that expires in 2099."""


class Killed(BaseException):
    """SIGKILL: nothing of the process has any effect after this."""


def audio_of(name: str, written: float = 1.0) -> bytes:
    """A WAV in which its name is said. `written`: less than 1, and its writer is still at work."""
    data = name.encode().ljust(400, b"\0")
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", len(data) + 36, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
    return (head + struct.pack("<4sI", b"data", len(data)) + data)[: int(444 * written)]


class StepClock:
    """Nobody waits: whoever wants to is at the end of its step."""

    def __init__(self, now: float) -> None:
        self.time = now
        self.over = asyncio.Event()

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        self.over.set()
        return True


class Outside:
    """What is named `steady` is never in trouble."""

    def __init__(self, directory: Path, now: float) -> None:
        self.directory = directory
        self.rec = directory / "rec"
        self.rec.mkdir(parents=True)
        self.clock = StepClock(now)
        self.ledger = MemoryLedger()
        self.documents: dict[str, Call] = {}
        """Call id -> what the rules make of its document."""
        self.there: dict[str, bytes] = {}
        """Path -> content, of every file that nobody has overwritten."""
        self.moved: list[bytes] = []
        """Files that were moved away before another one was written to their place."""
        self.objects: dict[str, bytes] = {}
        """Location -> content."""
        self.published: set[str] = set()
        """URLs at which a host has a recording."""
        self.answers: dict[str, list[tuple[float, UrlAnswer]]] = {}
        """URL -> when its host was asked for it, and what the answer was."""
        self.taken: dict[str, dict[str, Any]] = {}
        """Call id -> the body that Tuner has taken."""
        self.fetched: dict[str, bytes] = {}
        """Call id -> the object that Tuner has by a signed URL."""
        self.unanswered: set[str] = set()
        """Calls that may be at Tuner by an attempt that had no good answer."""
        self.lost: set[str] = set()
        """Calls whose target Tuner named, and nobody wrote it down."""
        self.stored: dict[str, list[bytes]] = {}
        """Call id -> what the storage has got for it, whole."""
        self.tuner = self.storage = "well"
        """Or "busy" (nothing is taken), or "mute" (taken, and the answer is lost); Tuner also "away" (nobody is there)."""
        self.buckets = self.hosts = "well"
        """Or "busy" (they fail); hosts also "mute" (no answer comes)."""
        self.steps_left: int | None = None
        """Until the process is killed."""
        self.is_dead = self.was_killed = False
        self._signed: dict[str, tuple[str, float]] = {}
        """URL -> its location, and until when it is valid."""
        self._growing: set[Path] = set()
        self._named: dict[int, str] = {}
        """Row -> call id, of targets that are not written down yet."""

    # Killing.

    def point(self) -> None:
        """Here the process may end."""
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left <= 0:
                self.steps_left, self.is_dead, self.was_killed = None, True, True
                raise Killed

    def settled(self, row: int, settlement: object) -> None:
        if isinstance(settlement, Delivered) and isinstance(settlement.audio, UploadTarget):
            self._named.pop(row, None)

    def ended(self) -> None:
        """No process is there that could still write down a target."""
        self.lost |= set(self._named.values())
        self._named.clear()

    # Files.

    def write(self, name: str, content: bytes, *, age_s: float, is_whole: bool) -> None:
        """A file, in place of what has the name. Not whole: its writer writes on until it is."""
        path = self.rec / name
        known = self.there.pop(str(path), None)
        if known is not None and not path.exists():
            self.moved.append(known)
        path.write_bytes(content)
        self.there[str(path)] = content
        self._growing.discard(path)
        if not is_whole:
            self._growing.add(path)
        os.utime(path, (self.clock.time - (age_s if is_whole else 0.0),) * 2)

    def elapse(self, seconds: float) -> None:
        self.clock.time += seconds
        for path in self._growing:
            os.utime(path, (self.clock.time,) * 2)

    # Tuner and its storage.

    async def post(self, claimed: Claimed) -> Outcome:
        self.point()
        if self.tuner == "away":
            return Retry(reason=RetryReason.UNREACHABLE, status=None, detail="refused", surely_not_arrived=True)
        if self.tuner == "busy":
            self.unanswered.add(claimed.call_id)
            return Retry(reason=RetryReason.SERVER_ERROR, status=503, detail="answered 503")
        if claimed.call_id in self.taken:
            return Sent(status=409, tuner_call_id=None, already_there=True)
        body = self.taken[claimed.call_id] = orjson.loads(claimed.body)
        self._fetch(claimed.call_id, body["recording_url"])
        offer = None
        if "recording_file_extension" in body:
            self._named[claimed.row] = claimed.call_id
            target = {"url": "https://storage.example/", "fields": {"key": claimed.call_id, "policy": ENDLESS}}
            offer = orjson.dumps(target)
        self.point()
        if self.tuner == "mute":
            self.unanswered.add(claimed.call_id)
            self.lost |= {self._named.pop(claimed.row, "")} - {""}
            return Retry(reason=RetryReason.TIMEOUT, status=None, detail="no answer")
        return Sent(status=201, tuner_call_id=None, already_there=False, offer=offer)

    def _fetch(self, call_id: str, url: str) -> None:
        """Tuner reads an object by its signed URL, once."""
        if url in self._signed:
            location, until = self._signed[url]
            assert self.clock.time < until, "the signature is over"
            self.fetched[call_id] = self.objects[location]

    async def store(self, target: PresignedPost, audio: AudioBytes) -> Stored | NotStored:
        self.point()
        size, got = await audio.size(), b""
        async for chunk in audio.chunks():
            got += chunk
        assert len(got) == size
        if self.storage == "busy":
            return NotStored("the storage answered 503")
        self.stored.setdefault(dict(target.fields)["key"], []).append(got)
        self.point()
        return NotStored("no answer") if self.storage == "mute" else Stored()

    # Hosts of recordings.

    async def ask(self, url: str, source: str) -> UrlFinding:
        """`verify: get`."""
        self.point()
        mood = "well" if "//steady" in url else self.hosts
        if mood == "mute":
            await asyncio.Event().wait()
        found = UrlAnswer.UNREACHABLE if mood == "busy" else UrlAnswer.THERE if url in self.published else UrlAnswer.ABSENT
        self.answers.setdefault(url, []).append((self.clock.time, found))
        self.point()
        return UrlFinding(found, "" if found is UrlAnswer.THERE else "the host gave no recording")

    def was_absent(self, url: str, wait_s: float) -> bool:
        """Whether its host may be taken to have no recording: two answers say so, at least the wait apart."""
        times = [at for at, found in self.answers.get(url, ()) if found is not UrlAnswer.THERE]
        return bool(times) and times[-1] - times[0] >= wait_s

    # Buckets.

    async def sign(self, location: str, expires_s: float) -> SignedUrl:
        self.point()
        if self.is_out_of_reach(location):
            raise ObjectFault(FaultKind.NETWORK, f"{location}: the storage answered 503")
        if location not in self.objects:
            raise ObjectFault(FaultKind.MISSING, f"{location}: there is no such object")
        url, until = f"https://signed.example/{len(self._signed)}?sig=1", self.clock.time + expires_s
        self._signed[url] = location, until
        self.point()
        return SignedUrl(url=url, expires_at=until)

    def is_out_of_reach(self, location: str) -> bool:
        return self.buckets != "well" and "//steady" not in location


class PlayedBuckets:
    """As tunerd.audio.object_place.ObjectPlace, with the objects of an Outside."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def look(self, location: str, plan: AudioPlan, identity: str, now: float) -> Settled:
        content = self.read(location, identity)
        return Settled(identity=_etag(content), extension="wav", size=len(content), channels=1)

    def bytes_of(self, location: str, plan: AudioPlan, identity: str) -> AudioBytes:
        return _ObjectBytes(self, location, identity)

    async def dispose(self, location: str, plan: AudioPlan, identity: str) -> NotDisposed | None:
        return None

    def read(self, location: str, identity: str) -> bytes:
        self._outside.point()
        if self._outside.is_out_of_reach(location):
            raise AudioUnreadable(f"{location}: the storage answered 503", may_pass=True, bucket=bucket_of(location))
        content = self._outside.objects.get(location)
        if content is None:
            raise AudioMissing(f"{location}: there is no such object")
        if identity not in ("", _etag(content)):
            raise AudioChanged(f"{location}: the object was replaced")
        return content


class _ObjectBytes:
    """One object, in two pieces."""

    def __init__(self, buckets: PlayedBuckets, location: str, identity: str) -> None:
        self._ask = lambda: buckets.read(location, identity)

    async def size(self) -> int:
        return len(self._ask())

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._ask()[:100]
        yield self._ask()[100:]


def _etag(content: bytes) -> str:
    return sha256(content).hexdigest()
