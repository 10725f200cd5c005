"""What came in: the record of one request, and the journal that a process beside the sandbox can read."""

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import orjson

from tunerd.call import Form
from tunerd.record import record
from tunerd.sandbox.body_check import FieldProblem

NOT_ANSWERED: Final = 0
URL_SHOWN: Final = 80
"""Characters of a URL where people read it."""


@record
class Arrival:
    """One POST to the call endpoint, recorded when its end was decided: before any latency, and before the answer goes out."""

    number: int
    """From 1, in the order of arrival."""
    at: float
    """Unix seconds."""
    form: Form | None
    """None: neither or both of the two key headers."""
    workspace: str
    """`workspace_id` as it stood in the query; empty: none."""
    agent: str
    call_id: str | None
    """None: there was none to be read."""
    body: bytes
    """Not compressed, whatever came over the wire."""
    compressed: bool
    status: int
    """What is answered (with LoseAnswer: would have been); NOT_ANSWERED for a reset or a request that hangs."""
    accepted: bool
    """A stand-in for "Tuner has it now": true for each repeat that send-calls takes, false for a 409."""
    attempt: int
    """How often this call id of this workspace and agent has come, this one included."""
    note: str
    """accepted | accepted again | known | refused | lost | planned | reset | hangs | throttled | ..., for people."""
    rows: int | None = None
    recording_url: str | None = None
    problems: tuple[FieldProblem, ...] = ()
    upload_key: str | None = None
    """The object's key in the upload target that was given with the answer."""

    @property
    def sha256(self) -> str:
        return sha256(self.body).hexdigest()

    def facts(self, *, show: bool = False) -> dict[str, object]:
        """The record as JSON values; only with `show` with the body and with the query of the recording's URL."""
        facts: dict[str, object] = {
            "number": self.number,
            "at": self.at,
            "form": self.form,
            "workspace": self.workspace,
            "agent": self.agent,
            "call_id": self.call_id,
            "bytes": len(self.body),
            "sha256": self.sha256,
            "status": self.status,
            "accepted": self.accepted,
            "attempt": self.attempt,
            "note": self.note,
            "rows": self.rows,
            "recording_url": self.recording_url if show else without_query(self.recording_url),
            "problems": [{"field": each.field, "problem": each.problem} for each in self.problems],
            "upload_key": self.upload_key,
        }
        if show:
            facts["body"] = self.body.decode("utf-8", "replace")
        return facts


def without_query(url: str | None) -> str | None:
    """Signed URLs carry their secret in the query (and some in the user part)."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="..." if parts.query else "", fragment="")
    return urlunsplit(bare)


def in_short(url: str | None) -> str | None:
    """For a line or a page: without its query, and of a long one host and end, which tell people which recording it is."""
    bare = without_query(url)
    if bare is None or len(bare) <= URL_SHOWN:
        return bare
    return f"{bare[: URL_SHOWN // 2]}...{bare[-(URL_SHOWN // 2 - 3) :]}"


class Journal:
    """An append-only NDJSON file: a line for each Arrival and each upload, without bodies. A line is with the kernel before its
    answer goes out, so a killed client was never told more than this file records."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, facts: Mapping[str, object]) -> None:
        line = orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE)
        while line:
            line = line[os.write(self._fd, line) :]

    def close(self) -> None:
        os.close(self._fd)
