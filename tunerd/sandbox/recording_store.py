"""Tuner's storage as the sandbox plays it: which targets it gave, and what was uploaded, streamed to files of one directory."""

import asyncio
import hashlib
import secrets
import tempfile
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tunerd.record import record
from tunerd.sandbox.accounts import AccountKey, Response
from tunerd.sandbox.faults import Faults, Planned, Plans
from tunerd.sandbox.upload_policy import PolicySigner

CONTENT_TYPES: Final = {
    "wav": "audio/wav",
    "ogg": "audio/ogg",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "webm": "audio/webm",
}
STORED: Final = "stored"
_OTHER: Final = "application/octet-stream"


@record
class UploadArrival:
    """One POST to the storage, recorded when its end was decided and before the answer goes out."""

    number: int
    """From 1, in the order in which they ended."""
    at: float
    """Unix seconds."""
    key: str
    """Of the object; empty: the form had none."""
    call: AccountKey | None
    """The call whose answer carried the target; None: no such target was given."""
    content_type: str
    size: int
    """Bytes of the file that were read."""
    sha256: str
    """Of these bytes."""
    status: int
    """What is answered (with a lost answer: would have been); NOT_ANSWERED for a reset or a request that hangs."""
    note: str
    """stored | planned | reset | hangs | ..., or S3's code of the refusal."""
    path: Path | None
    """Where the bytes are; None: they were not stored."""

    def facts(self) -> dict[str, object]:
        """The record as JSON values. Nothing of the target is in it but the object's key."""
        workspace, agent, call_id = self.call or (None, None, None)
        return {
            "upload": self.number,
            "at": self.at,
            "key": self.key,
            "workspace": workspace,
            "agent": agent,
            "call_id": call_id,
            "content_type": self.content_type,
            "bytes": self.size,
            "sha256": self.sha256,
            "status": self.status,
            "note": self.note,
            "stored": self.path is not None,
        }


class RecordingStore:
    """Targets and uploads. Without a directory of its own it makes one, which `close` removes. `keep` bounds what is remembered
    and the files."""

    def __init__(self, directory: Path | None, keep: int | None) -> None:
        self._directory = directory
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._keep = keep
        self._given: dict[str, AccountKey] = {}
        self._drafts = 0
        self.signer = PolicySigner(secrets.token_hex(20))
        self.received: deque[UploadArrival] = deque()
        """Every POST to the storage that ended, oldest first."""
        self.counts: Counter[str] = Counter()
        self.total = 0
        """All POSTs to the storage that ended, kept or not."""
        self.begun = 0
        """How many files were allowed to arrive, ever. Those that were cut off in the middle are not in `received`."""
        self.plans = Plans()
        self.on_upload: Callable[[UploadArrival], None] | None = None
        """Called with each UploadArrival as soon as it is recorded."""

    def plan(self, *answers: Planned, call_id: str | None = None) -> None:
        """The next uploads (of this call) end so. Hang and Reset act when the form was read and its file was not: the client is
        in the middle of sending it. A FixedAnswer without a body says what S3 says with its status."""
        self.plans.add(answers, call_id)

    @property
    def stored(self) -> dict[str, list[UploadArrival]]:
        """Call id -> the uploads of its audio that were stored."""
        found: dict[str, list[UploadArrival]] = {}
        for upload in self.received:
            if upload.path is not None and upload.call is not None:
                found.setdefault(upload.call[2], []).append(upload)
        return found

    def offer(self, call: AccountKey, extension: str, url: str, faults: Faults, now: float) -> dict[str, object]:
        """`recording_upload` of an answer: a target for the audio of this call."""
        content_type = CONTENT_TYPES.get(extension.lower(), _OTHER)
        key = f"workspace-{call[0]}/{secrets.token_hex(16)}.{extension}"
        self._given[key] = call
        fields = self.signer.fields(
            key=key,
            content_type=content_type,
            max_bytes=faults.max_upload_bytes,
            success_status=faults.upload_status,
            now=now,
            expires_at=now + faults.target_expires_s,
        )
        return {
            "url": url,
            "fields": fields,
            "key": key,
            "max_bytes": faults.max_upload_bytes,
            "content_type": content_type,
        }

    def call_of(self, key: str) -> AccountKey | None:
        return self._given.get(key)

    def draft(self) -> "Draft":
        """A new file to write to. Raises OSError."""
        if self._directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="tunerd-sandbox-")
            self._directory = Path(self._temporary.name)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._drafts += 1
        return Draft(self._directory / f"{self._drafts}.part")

    def record(self, end: Response, key: str, content_type: str, draft: "Draft | None", now: float) -> UploadArrival:
        """What became of an upload; a stored file gets its final name."""
        self.total += 1
        path = None
        if draft is not None and end.note == STORED:
            path = draft.finish(f"{self.total}-{key.rpartition('/')[2]}")
        arrival = UploadArrival(
            number=self.total,
            at=now,
            key=key,
            call=self.call_of(key),
            content_type=content_type,
            size=0 if draft is None else draft.size,
            sha256=(hashlib.sha256() if draft is None else draft).hexdigest(),
            status=end.status,
            note=end.note,
            path=path,
        )
        self.received.append(arrival)
        self.counts[end.note] += 1
        if self._keep is not None and len(self.received) > self._keep:
            forgotten = self.received.popleft()
            if forgotten.path is not None:
                forgotten.path.unlink(missing_ok=True)
        return arrival

    def find(self, number: str) -> UploadArrival | None:
        return next((each for each in self.received if str(each.number) == number), None)

    def facts(self) -> dict[str, object]:
        """All that is known of the uploads, as JSON values."""
        uploads = [each.facts() for each in self.received]
        return {"total": self.total, "begun": self.begun, "counts": self.counts, "uploads": uploads}

    def close(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary, self._directory = None, None


class Draft:
    """A file that is being received: in pieces, written and hashed in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._hash = hashlib.sha256()
        self.size = 0

    async def write(self, piece: bytes) -> None:
        self.size += len(piece)
        await asyncio.to_thread(self._write, piece)

    def _write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._hash.update(piece)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def finish(self, name: str) -> Path:
        """The whole file under its name."""
        self._file.close()
        return self._path.replace(self._path.with_name(name))

    def discard(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)
