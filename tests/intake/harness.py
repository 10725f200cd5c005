"""A running intake over a temporary directory, with a mapper that takes the id and nothing else."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunerd.audio.spool import AudioSpool
from tunerd.call import Document, IgnoredDocument, Mapped, Recording
from tunerd.clock import Clock, SystemClock
from tunerd.config import Source
from tunerd.events import Emit
from tunerd.intake.admission_gate import AdmissionGate, Limits
from tunerd.intake.admitter import Mapper
from tunerd.intake.crash_journal import CrashJournal
from tunerd.intake.descriptors import DescriptorLimit
from tunerd.intake.inotify import Watcher
from tunerd.intake.scan import Listing, scan
from tunerd.intake.source_files import SourceFiles
from tunerd.intake.source_runtime import Shared, SourceRuntime
from tunerd.intake.sources import Intake, IntakeOptions
from tunerd.source_tree import SourceTree
from tunerd.statuses import UnreadFile
from tunerd.testing import MemoryLedger, Recorder, make_call


def map_call(document: Document) -> Mapped:
    """`id` is the call id; `ignore` leaves the document out; `boom` is a defect of the mapping."""
    value = document.value
    assert isinstance(value, Mapping)
    if value.get("boom"):
        raise KeyError("a defect")
    if value.get("ignore"):
        return Mapped(ignored=IgnoredDocument(origin=document.origin))
    call = make_call(str(value["id"]), source=document.origin.source)
    return Mapped(call=replace(call, origin=document.origin, document=document.raw, settled_at=document.settled_at))


def map_manifest(document: Document) -> Mapped:
    value = document.value
    assert isinstance(value, Mapping)
    recording = Recording(
        origin=document.origin, source=document.origin.source, key=str(value["room"]), location="https://a.example/r.wav"
    )
    return Mapped(recording=recording)


def source(root: Path, **fields: Any) -> Source:
    values: dict[str, Any] = {"name": "agent", "path": str(root), "destination": "tuner", "settle_s": 0.05}
    return Source(**{**values, **fields})


def put(path: Path, value: object) -> Path:
    """Write a document beside its place and rename it into it."""
    hidden = path.with_name(f".{path.name}")
    hidden.write_text(value if isinstance(value, str) else json.dumps(value))
    hidden.rename(path)
    return path


@dataclass
class Running:
    intake: Intake
    ledger: MemoryLedger
    told: Recorder
    stop: asyncio.Event
    unread: Sequence[UnreadFile] = ()
    """Of a sweep."""

    def ids(self) -> list[str]:
        from tunerd.events import CallAdmitted

        return [event.call_id for event in self.told.seen(CallAdmitted)]


@asynccontextmanager
async def running(
    *sources: Source,
    ledger: MemoryLedger | None = None,
    clock: Clock | None = None,
    limits: Limits | None = None,
    mapper: Mapper = map_call,
    mappings: Mapping[str, Mapper] | None = None,
    watcher: Watcher | None = None,
) -> AsyncIterator[Running]:
    ledger, told, stop = ledger or MemoryLedger(), Recorder(), asyncio.Event()
    every = {one.name: mapper if one.destination else map_manifest for one in sources}
    options = IntakeOptions(limits=limits or Limits(), watcher=watcher)
    intake = Intake(sources, ledger, {**every, **(mappings or {})}, clock or SystemClock(), told, options)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(intake.run(stop))
        try:
            yield Running(intake, ledger, told, stop)
        finally:
            stop.set()


async def swept(
    *sources: Source, ledger: MemoryLedger | None = None, mapper: Mapper = map_call, options: IntakeOptions | None = None
) -> tuple[Running, int]:
    """Read what is there now; gives what was told, and how many files were left incomplete."""
    ledger, told = ledger or MemoryLedger(), Recorder()
    mappings = {one.name: mapper if one.destination else map_manifest for one in sources}
    intake = Intake(sources, ledger, mappings, SystemClock(), told, options)
    try:
        left = await intake.sweep()
        unread = intake.unread()
    finally:
        intake.close()
    return Running(intake, ledger, told, asyncio.Event(), unread), left


def files_of(settings: Source, **parts: Any) -> SourceFiles:
    """What is known of a source's files; `parts` replace some of it."""
    return replace(SourceFiles.of(settings, DescriptorLimit()), **parts)


def runtime_of(settings: Source, clock: Clock, emit: Emit, kind: type[SourceRuntime] = SourceRuntime) -> SourceRuntime:
    """A source's runtime over a ledger in memory."""
    ledger = MemoryLedger()
    gate = AdmissionGate(ledger.gauges, Limits(), clock)
    shared = Shared(
        spool=AudioSpool("", 0),
        ledger=ledger,
        clock=clock,
        emit=emit,
        gate=gate,
        watcher=Watcher(),
        descriptors=DescriptorLimit(),
        journal=CrashJournal(None),
    )
    return kind(settings, shared)


def age(path: Path, seconds: float) -> None:
    """Make a file look as if it was last written `seconds` ago (its ctime stays)."""
    at = path.stat().st_mtime - seconds
    os.utime(path, (at, at))


def listed(root: Path, *arguments: Any, **options: Any) -> Listing:
    """A scan of a directory."""
    with SourceTree(str(root)).opened() as inside:
        return scan(inside, *arguments, **options)
