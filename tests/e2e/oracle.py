"""The oracle of the kill -9 tests: a process that writes calls, and records each one durably *before* the daemon can see it;
and the comparison of these records with what the sandbox's journal says arrived.

    python -m tests.e2e.oracle --calls DIR --recordings DIR --obligations FILE --rate 200 --count 1000 --seed 7

Each call is one JSON file, written under a hidden name and renamed into place:

    {"id", "agent", "room", "started", "ended" (epoch ms), "messages": [{"role": user|agent, "content", "start_ms", "end_ms"}],
     "recording_url" (null if a manifest has it)}

A manifest is {"room_name", "started_at" (epoch s), "location"}; it is written before its call or up to a few calls after it.
The process prints a line for every 100 calls and one at its end. After SIGTERM it finishes the current call and writes every
manifest that is still missing, then ends.
"""

import argparse
import os
import random
import signal
import sys
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

AGENT: Final = "support-bot"
_MAX_MANIFEST_LAG: Final = 20
_TOLD_EACH: Final = 100
_BASE_MS: Final = 1_767_225_600_000
_WORDS: Final = (
    "is",
    "the",
    "library",
    "open",
    "today",
    "at",
    "nine",
    "or",
    "ten",
    "thank",
    "you",
    "very",
    "much",
    "for",
    "calling",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligation:
    """A call that has to arrive, with this recording. It is recorded before its document can be seen."""

    call_id: str
    recording_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """The relevant part of one line of the sandbox's journal."""

    call_id: str
    sha256: str
    status: int
    accepted: bool
    recording_url: str | None
    number: int = 0
    """Numbered from 1, in the order of arrival."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A request for a call that Tuner already had, and the request for the same call before it. A life is the time of the
    daemon between two kills, numbered from 0."""

    call_id: str
    life: int
    """The life in which the earlier request came."""
    followed_by: int
    """How many requests came after the earlier one in its life."""
    again: int
    """The life in which the call was repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The differences between both sides; each member lists call ids."""

    lost: tuple[str, ...]
    """Calls that had to arrive and were never accepted."""
    repeats: dict[str, int]
    """How often calls were sent again after they were accepted (accepted again by send-calls, or answered 409)."""
    differing_bytes: tuple[str, ...]
    """Calls of which two attempts had different bodies."""
    wrong_recording: tuple[str, ...]
    """Calls that were accepted with a recording that is not theirs."""
    unknown: tuple[str, ...]
    """Calls that arrived, but were never written."""

    @property
    def repeated(self) -> int:
        """The number of all repeats."""
        return sum(self.repeats.values())

    @property
    def is_clean(self) -> bool:
        """Whether nothing but repeats was found."""
        return not (self.lost or self.differing_bytes or self.wrong_recording or self.unknown)

    def __str__(self) -> str:
        told = [f"{name} {_some(getattr(self, name))}" for name in ("lost", "differing_bytes", "wrong_recording", "unknown")]
        return ", ".join([*told, f"repeats {self.repeated}"])


def _some(ids: Sequence[str]) -> str:
    return f"{len(ids)}" + (f" ({', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''})" if ids else "")


def compare(obligations: Iterable[Obligation], journal: Iterable[Landed]) -> Report:
    """Pure. `journal` is in the order of arrival. An attempt that was not accepted counts only for its bytes, because the body
    is frozen from the first attempt on."""
    owed = {each.call_id: each.recording_url for each in obligations}
    accepted: set[str] = set()
    bodies: dict[str, str] = {}
    repeats: Counter[str] = Counter()
    differing: dict[str, None] = {}
    wrong: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for each in journal:
        if each.call_id not in owed:
            unknown[each.call_id] = None
            continue
        if bodies.setdefault(each.call_id, each.sha256) != each.sha256:
            differing[each.call_id] = None
        if each.call_id in accepted and (each.accepted or each.status == 409):
            repeats[each.call_id] += 1
        if each.accepted:
            accepted.add(each.call_id)
            if each.recording_url != owed[each.call_id]:
                wrong[each.call_id] = None
    lost = tuple(call_id for call_id in owed if call_id not in accepted)
    return Report(
        lost=lost, repeats=dict(repeats), differing_bytes=tuple(differing), wrong_recording=tuple(wrong), unknown=tuple(unknown)
    )


def find_repeats(journal: Iterable[Landed], ends: Sequence[int]) -> list[Repeat]:
    """Pure. `ends` has the number of the last request of each life that ended by a kill."""
    before: dict[str, Landed] = {}
    accepted: set[str] = set()
    found = []
    rows = list(journal)
    last = [*ends, max((each.number for each in rows), default=0)]
    for each in rows:
        if each.call_id in accepted and (each.accepted or each.status == 409):
            earlier = before[each.call_id].number
            life, again = bisect_left(ends, earlier), bisect_left(ends, each.number)
            found.append(Repeat(call_id=each.call_id, life=life, followed_by=last[life] - earlier, again=again))
        before[each.call_id] = each
        if each.accepted:
            accepted.add(each.call_id)
    return found


def read_obligations(path: Path) -> list[Obligation]:
    """Read a file that may still be written to: a last line without its newline does not count yet."""
    return [Obligation(call_id=line["call_id"], recording_url=line["recording_url"]) for line in _lines(path)]


def read_journal(path: Path) -> list[Landed]:
    """Read the journal of `tunerd sandbox --journal`; requests without a readable call id are left out."""
    return [
        Landed(
            call_id=line["call_id"],
            sha256=line["sha256"],
            status=line["status"],
            accepted=line["accepted"],
            recording_url=line["recording_url"],
            number=line["number"],
        )
        for line in _lines(path)
        if line["call_id"] is not None
    ]


def _lines(path: Path) -> list[dict[str, Any]]:
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [orjson.loads(line) for line in whole.splitlines()]


# --- the process --------------------------------------------------------------------------------------------------


def make_document(chance: random.Random, number: int, prefix: str, *, by_manifest: bool) -> dict[str, object]:
    """A generated call; its recording's URL follows from its id."""
    call_id = f"{prefix}-{number:06}"
    at = 0
    messages = []
    for turn in range(chance.randint(1, 12)):
        content = " ".join(chance.choices(_WORDS, k=chance.randint(1, 12)))
        length = 80 * len(content)
        messages.append({"role": ("agent", "user")[turn % 2], "content": content, "start_ms": at, "end_ms": at + length})
        at += length + chance.randint(0, 800)
    started = _BASE_MS + number * 60_000
    return {
        "id": call_id,
        "agent": AGENT,
        "room": f"room-{call_id}",
        "started": started,
        "ended": started + at,
        "messages": messages,
        "recording_url": None if by_manifest else recording_url(call_id),
    }


def recording_url(call_id: str) -> str:
    return f"https://audio.example/{call_id}.wav"


class Oracle:
    """Writes obligations, calls and manifests. Each process needs its own object; two must not write to the same files."""

    def __init__(self, *, calls: Path, recordings: Path | None, obligations: Path, seed: int, prefix: str) -> None:
        self._calls = calls
        self._recordings = recordings
        self._chance = random.Random(seed)
        self._prefix = prefix
        self._owed_manifests: list[tuple[int, str, int]] = []
        self._fd = os.open(obligations, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def call(self, number: int) -> None:
        """Write one call: first its obligation, synced to disk, then its document under its name. Manifests come before or
        later."""
        by_manifest = self._recordings is not None and self._chance.random() < 0.5
        document = make_document(self._chance, number, self._prefix, by_manifest=by_manifest)
        call_id, started = str(document["id"]), _BASE_MS + number * 60_000
        if by_manifest:
            self._owed_manifests.append((number + self._chance.randint(-1, _MAX_MANIFEST_LAG), call_id, started))
        self._note(Obligation(call_id=call_id, recording_url=recording_url(call_id)))
        self._manifests(until=number - 1)
        _put(self._calls / f"{call_id}.json", document)
        self._manifests(until=number)

    def close(self) -> None:
        """Write the manifests that are still missing."""
        self._manifests(until=None)
        os.close(self._fd)

    def _note(self, obligation: Obligation) -> None:
        line = orjson.dumps({"call_id": obligation.call_id, "recording_url": obligation.recording_url, "at": time.time()})
        os.write(self._fd, line + b"\n")
        os.fsync(self._fd)

    def _manifests(self, until: int | None) -> None:
        due = [each for each in self._owed_manifests if until is None or each[0] <= until]
        self._owed_manifests = [each for each in self._owed_manifests if each not in due]
        for _, call_id, started in due:
            assert self._recordings is not None
            manifest = {"room_name": f"room-{call_id}", "started_at": started / 1000, "location": recording_url(call_id)}
            _put(self._recordings / f"EG_{call_id}.json", manifest)


def _put(path: Path, document: dict[str, object]) -> None:
    """Write the file atomically: under a hidden name first, then renamed."""
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_bytes(orjson.dumps(document))
    draft.rename(path)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="oracle", description="Write calls and note each one before it can be seen.")
    parser.add_argument("--calls", type=Path, required=True)
    parser.add_argument("--recordings", type=Path, help="write manifests here, for half of the calls")
    parser.add_argument("--obligations", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second, at random moments; 0: as fast as it goes")
    parser.add_argument("--count", type=int, default=0, help="0: until SIGTERM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prefix", default="chaos")
    told = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pace = random.Random(told.seed + 1)
    oracle = Oracle(
        calls=told.calls, recordings=told.recordings, obligations=told.obligations, seed=told.seed, prefix=told.prefix
    )
    due = time.monotonic()
    written = 0
    while not stop.is_set() and (not told.count or written < told.count):
        oracle.call(written)
        written += 1
        if written % _TOLD_EACH == 0:
            print(f"{written} calls", flush=True)
        due += pace.expovariate(told.rate) if told.rate else 0.0
        stop.wait(max(0.0, due - time.monotonic()))
    oracle.close()
    print(f"ended after {written} calls", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
