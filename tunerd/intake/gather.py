"""Makes calls from the fragments that step 4 stored: for each group that is due, the call, or when to look again.

carry.py decides whose call a document is. The values are pure; Gatherer acts, for one source.
"""

import asyncio
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from tunerd.call import Call, Fragment, Mapped, Refusal, RefusedDocument, State
from tunerd.carried_key import incomplete
from tunerd.events import CallAdmitted, CallDuplicate, DocumentIgnored, DocumentMapped, Event, PartsLate
from tunerd.intake.admission import Made, failures_of, refused_event
from tunerd.intake.crash_journal import FILE, Phase
from tunerd.intake.inspection import LARGE_BYTES
from tunerd.intake.monitor import DirectoryMonitor
from tunerd.intake.quarantine import TWICE
from tunerd.intake.source_files import SourceFiles
from tunerd.intake.source_runtime import SourceEnded, SourceRuntime
from tunerd.ledger import AdmitVerdict, CheckAgain, Discard, Gathered, Group, GroupResult, TooLate
from tunerd.outcome import FailReason, IntakeReason

_LONGEST_S: Final = 3600.0
"""A look is due at some time: how long to wait for it before asking again."""
_POLLS_S: Final = 1.0
"""The same in a fleet, and where none is due."""
_BUSY_S: Final = 2.0
"""Until the next look at a call that is being sent, or may have arrived."""
_AGAIN_S: Final = 0.02
"""Between two rounds of looks: documents that come together are looked at together."""
_AT_MOST_S: Final = 1.0
"""How long ended waits may go unnoticed that were held back by files still to be read."""
_SIBLINGS_S: Final = 0.2
"""Until the next look at a complete call of whose folder there are files to be read."""
_GROUPS: Final = 64
_OPEN: Final = (State.GATHERING, State.IGNORED)
"""Nothing of such a group can be late."""


class Gather(Protocol):
    """What mapping/ makes of several documents: a SourceMapping."""

    def gather(self, kept: bytes | None, fragments: Sequence[Fragment], *, wait_is_over: bool = True) -> Mapped | None: ...
    def set_aside(self, kept: bytes | None, fragments: Sequence[Fragment], refusal: Refusal) -> RefusedDocument: ...


def with_waits_from_writing(made: Sequence[Made], now: float) -> list[Made]:
    """In a sweep all that is there is read at once: the wait of a document counts from when its file was written."""
    aged: list[Made] = []
    for document, mapped in made:
        if (fragment := mapped.fragment) is not None:
            age_s = max(0.0, now - fragment.origin.mtime_ns / 1e9)
            mapped = replace(mapped, fragment=replace(fragment, wait_s=max(0.0, fragment.wait_s - age_s)))
        aged.append((document, mapped))
    return aged


# What becomes of groups.


def events_of(source: str, looks: Sequence[tuple[Group, Mapped | None]], gathered: Gathered) -> Iterator[Event]:
    """The events to emit once the results are durable."""
    for (group, mapped), done in zip(looks, gathered.states, strict=True):
        if mapped is None or done is None:
            continue
        verdict, state = done
        if (
            group.reason == FailReason.INCOMPLETE
            and mapped.refused is not None
            and mapped.refused.refusal.reason is FailReason.INCOMPLETE
        ):
            continue  # told already; more of it came
        yield DocumentMapped(source=source, notes=mapped.notes)
        if mapped.refused is not None:
            yield replace(refused_event(source, mapped.refused), call_id=mapped.refused.call_id or group.key)
        elif mapped.call is None:
            yield DocumentIgnored(source=source, known=mapped.ignored is not None and mapped.ignored.known)
        elif verdict in (AdmitVerdict.NEW, AdmitVerdict.REVIVED):
            yield CallAdmitted(source=source, call_id=mapped.call.call_id, state=state)
        elif verdict is not AdmitVerdict.CONFLICT:  # a conflict is among the failures, in the ledger's words
            yield CallDuplicate(source=source, call_id=mapped.call.call_id, replaced=verdict is AdmitVerdict.REPLACED)
    yield from failures_of(gathered.failed, gathered.matched)
    if gathered.late:
        paths = (one.origin.path for group, _ in looks if group.state not in _OPEN for one in group.fragments)
        yield PartsLate(source=source, count=gathered.late, path=next(paths, ""))


def _result_of(group: Group, mapped: Mapped | None, now: float) -> GroupResult:
    result: Call | RefusedDocument | CheckAgain
    if mapped is None:
        at = group.wait_ends_at if now < group.wait_ends_at else now + _AT_MOST_S
        result = CheckAgain(at=at)
    elif mapped.call is not None:
        result = mapped.call
    elif mapped.refused is not None:
        result = mapped.refused
    elif mapped.ignored is not None:
        return GroupResult(row=group.row, version=group.version, result=mapped.ignored)
    else:
        result = CheckAgain(at=now + _AT_MOST_S)
    return GroupResult(row=group.row, version=group.version, result=result)


def _has_siblings(group: Group, unread: Mapping[str, float]) -> bool:
    """Files that were there no later than the newest document that came since, in a folder of those, and are not read."""
    if not unread or not group.fragments:
        return False
    seen_at = max(one.settled_at for one in group.fragments)
    folders = {os.path.dirname(one.origin.path) for one in group.fragments}
    return any(unread.get(folder, math.inf) <= seen_at for folder in folders)


def _size_of(group: Group) -> int:
    return len(group.kept or b"") + sum(len(one.document) for one in group.fragments)


class Gatherer:
    """Looks at the groups of one source whenever one of them wants it."""

    def __init__(self, runtime: SourceRuntime, files: SourceFiles, monitor: DirectoryMonitor, gather: Gather) -> None:
        self.rules = gather
        self.changed = asyncio.Event()
        """Documents were admitted."""
        self._runtime, self._files, self._monitor = runtime, files, monitor
        self._source, self._ledger, self._clock = runtime.name, runtime.ledger, runtime.clock

    async def run(self) -> None:
        """Look until the source ends, which has to come with `changed`."""
        stop = self._runtime.ending
        with suppress(SourceEnded):
            while not stop.is_set():
                self.changed.clear()
                next_at = await self.look()
                if await self._clock.wait(stop, _AGAIN_S):
                    return
                await self._clock.wait(self.changed, self._rest_s(next_at))

    def _rest_s(self, next_at: float | None) -> float | None:
        """In a fleet groups come up of which nothing is told here: documents of ours that others read, and instances that are
        gone."""
        most_s = _POLLS_S if self._ledger.fleet.is_shared else _LONGEST_S
        if next_at is None:
            return most_s if self._ledger.fleet.is_shared else None
        return max(_AGAIN_S, min(next_at - self._clock.now(), most_s))

    def _unread_since(self) -> float | None:
        """Since when (Unix seconds) there may be files that are not read; None: everything is read. Waits that ended later are
        not over: the missing part may be in such a file. While the directory is gone, or was not listed in full yet, that is
        long ago: no wait ends then. While the ledger is full of calls that gather, nothing can be read before some of them
        end."""
        if not self._monitor.knows_all:
            return 0.0
        gauges = self._ledger.gauges()
        if self._runtime.pauses.reason is IntakeReason.FULL and gauges.gathering_bytes * 2 > gauges.pending_bytes:
            return None
        return self._files.due.unread_since()

    def _unread_in_folders(self) -> dict[str, float]:
        """The same for each folder below the source's directory, by absolute path. Files of a folder are read in no certain
        order: one that says "done" must not be taken at its word before those that were there with it."""
        folders = self._files.due.unread_in_folders()
        return {self._files.index.absolute(folder): seen_at for folder, seen_at in folders.items()}

    async def look(self) -> float | None:
        """Look at every group that wants it now; gives when the next one does."""
        while True:
            now = self._clock.now()
            unread = self._unread_since()
            ended_by = now if unread is None else unread
            groups, next_at = await self._runtime.ask(
                lambda now=now, ended_by=ended_by: self._ledger.groups(self._source, now, _GROUPS, ended_by=ended_by)  # type: ignore[misc]
            )
            if not groups:
                return next_at if next_at is None or next_at > now else now + _AT_MOST_S
            await self._settle(groups, ended_by, now)

    async def _settle(self, groups: Sequence[Group], ended_by: float, now: float) -> None:
        looks: list[tuple[Group, Mapped | None]] = []
        results: list[GroupResult] = []
        unread = self._unread_in_folders()
        for group in groups:
            mapped: Mapped | None = None
            if group.state is State.IGNORED:
                result = GroupResult(row=group.row, version=group.version, result=Discard())
            elif not group.is_replaceable and group.state is not State.SENT:
                result = GroupResult(row=group.row, version=group.version, result=CheckAgain(at=now + _BUSY_S))
            elif group.state is not State.GATHERING and group.kept is None:
                result = GroupResult(row=group.row, version=group.version, result=TooLate())
            elif group.state is State.SENT:
                result = _result_of(group, await self._map(group, wait_is_over=True), now)
            elif group.cut is not None and (group.cut.is_sure or group.wait_ends_at <= ended_by):
                mapped = await self._incomplete(group, incomplete(group.cut.by, group.cut.place, sure=group.cut.is_sure))
                result = _result_of(group, mapped, now)
            else:
                mapped = await self._map(group, wait_is_over=group.wait_ends_at <= ended_by)
                if mapped is not None and group.wait_ends_at > ended_by and _has_siblings(group, unread):
                    mapped = None
                    result = GroupResult(row=group.row, version=group.version, result=CheckAgain(at=now + _SIBLINGS_S))
                else:
                    result = _result_of(group, mapped, now)
            looks.append((group, mapped))
            results.append(result)
        gathered = await self._runtime.ask(lambda: self._ledger.gather(results, self._clock.now()))
        self._runtime.late_parts += gathered.late
        for event in events_of(self._source, looks, gathered):
            self._runtime.emit(event)

    async def _incomplete(self, group: Group, refusal: Refusal) -> Mapped:
        """It may lack a part: with all its documents it waits for a person."""
        if _size_of(group) > LARGE_BYTES:
            return Mapped(
                refused=await self._runtime.in_thread(lambda: self.rules.set_aside(group.kept, group.fragments, refusal))
            )
        return Mapped(refused=self.rules.set_aside(group.kept, group.fragments, refusal))

    async def _map(self, group: Group, *, wait_is_over: bool) -> Mapped | None:
        """As for a document alone: neither a defect of ours nor the death of the process over it stops all others."""
        journal_entry = self._runtime.journal.begin(self._source, f"gather:{group.row}")
        if journal_entry.is_quarantined(FILE):
            journal_entry.end(cleared=True)
            return self._set_aside(group, TWICE)
        journal_entry.note(Phase.MAPPING, FILE)
        try:
            if _size_of(group) > LARGE_BYTES:
                mapped = await self._runtime.in_thread(lambda: self._map_one(group, wait_is_over))
            else:
                await asyncio.sleep(0)
                mapped = self._map_one(group, wait_is_over)
        except asyncio.CancelledError:
            journal_entry.end(cleared=False)
            raise
        journal_entry.end(cleared=True)
        return mapped

    def _map_one(self, group: Group, is_over: bool) -> Mapped | None:
        try:
            return self.rules.gather(group.kept, group.fragments, wait_is_over=is_over)
        except Exception as exc:
            what = f"the mapping failed on these documents ({type(exc).__name__}), a defect in tunerd: please report it"
            return self._set_aside(group, what)

    def _set_aside(self, group: Group, what: str) -> Mapped:
        refusal = Refusal(reason=FailReason.CRASHED, where="mapping", what=what)
        return Mapped(refused=self.rules.set_aside(group.kept, group.fragments, refusal))
