"""The whole ledger contract without a disk: for tests, and the oracle that the SQLite ledger is compared with.

Plain dictionaries and scans; what a command means stands in commands/, not here.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tunerd.call import Call, Form, Fragment, RefusedDocument, State
from tunerd.ledger import (
    Admission,
    Admitted,
    Claim,
    FailedCall,
    FileMark,
    Filter,
    Freeze,
    Gate,
    Gathered,
    Gauges,
    Group,
    Keep,
    Pick,
    Regrouped,
    Settlement,
    StoredCall,
    StoredEvent,
    Story,
)
from tunerd.ledger.commands import admit, desk, gather, send, upkeep
from tunerd.ledger.matching import Answer, Free
from tunerd.ledger.rows import EVENTS_KEPT, Body, KeptGroup, KeptRecording, Kind, PauseClock, Row, Want, shifted, waits_for
from tunerd.ledger.store import EXPIRING_WITHIN_S, NEAR, Store


@dataclass(slots=True)
class _File:
    mark: FileMark
    changed_at: float
    vanished_at: float | None = None
    is_disposed: bool = False
    is_held: bool = False


@dataclass(slots=True)
class _Part:
    fragment: Fragment
    digest: bytes
    whole: bool
    has_document: bool


class MemoryStore(Store):
    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, Row] = {}
        self.bodies: dict[int, Body] = {}
        self.whole: dict[int, bytes] = {}
        self.origins: dict[int, set[tuple[str, str, int]]] = {}
        self.events: dict[int, deque[StoredEvent]] = {}
        self.recordings: dict[int, KeptRecording] = {}
        self.want: dict[int, dict[int, Want]] = {}
        self.seeking: set[int] = set()
        self.gates: dict[str, tuple[Gate, PauseClock]] = {}
        self.files: dict[tuple[str, str], _File] = {}
        self.groups: dict[int, KeptGroup] = {}
        self.group_rows: dict[tuple[str, str], int] = {}
        self.parts: dict[int, list[_Part]] = {}
        self.retired: deque[int] = deque()
        self.bodies_kept = 200
        self._last_row = 0
        self._last_recording = 0

    def _insert(self, row: Row, body: Body) -> None:
        self._last_row += 1
        row.row = self._last_row
        self.rows[row.row] = row
        self.bodies[row.row] = body

    def _update(self, row: Row, columns: dict[str, object]) -> None:
        pass  # `row` is what is kept

    def _delete(self, row: Row) -> None:
        for kept in (self.rows, self.bodies, self.whole, self.origins, self.events, self.want):
            kept.pop(row.row, None)
        self.seeking.discard(row.row)
        self.parts.pop(row.row, None)
        if (group := self.groups.pop(row.row, None)) is not None:
            self.group_rows.pop((group.source, group.key), None)

    def _write_body(self, row: Row, body: Body) -> None:
        self.bodies[row.row] = body

    def get(self, row: int) -> Row | None:
        return self.rows.get(row)

    def expect(self, calls: Sequence[tuple[str, str, str]]) -> None:
        """Everything is at hand."""

    def with_id(self, workspace: str, agent: str, call_id: str) -> Sequence[Row]:
        wanted = (workspace, agent, call_id)
        found = [
            r for r in self.rows.values() if (r.workspace, r.agent, r.call_id) == wanted and r.kind in (Kind.CALL, Kind.CONFLICT)
        ]
        return sorted(found, key=lambda r: (r.kind is not Kind.CALL, r.row))

    def named(self, call_id: str) -> Sequence[Row]:
        return [r for r in self.rows.values() if r.call_id == call_id]

    def at_place(self, source: str, path: str, offset: int, kind: Kind) -> Sequence[Row]:
        place = (source, path, offset, kind)
        return [r for r in self.rows.values() if (r.source, r.path, r.offset, r.kind) == place]

    def refused_unnamed(self, source: str, path: str) -> Sequence[Row]:
        wanted = (source, path, Kind.REFUSED, None)
        return [r for r in self.rows.values() if (r.source, r.path, r.kind, r.call_id) == wanted]

    def body(self, row: int) -> Body | None:
        return self.bodies.get(row)

    def payload(self, row: int) -> tuple[bytes | None, Form | None]:
        body = self.bodies.get(row)
        return (None, None) if body is None else (body.payload, body.checked_for)

    def drop_body(self, row: int) -> None:
        self.bodies.pop(row, None)

    def retire_body(self, row: Row) -> None:
        self.want.pop(row.row, None)
        self.seeking.discard(row.row)
        self.retired.append(row.row)
        self._let_go()

    def keep_bodies(self, count: int) -> None:
        self.bodies_kept = count
        self._let_go()

    def _let_go(self) -> None:
        while len(self.retired) > self.bodies_kept:
            self.bodies.pop(self.retired.popleft(), None)

    def keep_frozen(self, row: int, body: bytes) -> None:
        self.whole[row] = body

    def kept_frozen(self, row: int) -> bytes | None:
        return self.whole.get(row)

    def drop_frozen(self, row: int) -> None:
        self.whole.pop(row, None)

    def note_origin(self, row: Row, source: str, path: str, offset: int) -> None:
        self.origins.setdefault(row.row, set()).add((source, path, offset))

    def places(self, row: Row) -> set[tuple[str, str, int]]:
        return self.origins.get(row.row, set()) | {(row.source, row.path, row.offset)}

    def tell(self, row: Row, at: float, what: str, status: int | None = None, detail: str = "") -> None:
        kept = self.events.setdefault(row.row, deque(maxlen=EVENTS_KEPT))
        kept.append(StoredEvent(at=at, what=what, status=status, detail=detail))

    # Claims and waits.

    def _due(self, destination: str, not_agents: frozenset[str]) -> Iterator[Row]:
        for r in self.rows.values():
            if r.state is State.DUE and r.destination == destination and r.agent not in not_agents:
                yield r

    def pick(self, destination: str, pick: Pick, due_by: float, now: float, not_agents: frozenset[str]) -> Row | None:
        due = [r for r in self._due(destination, not_agents) if (r.due_at or 0.0) <= due_by]
        if pick is Pick.NEWEST:
            return max(due, key=lambda r: r.row, default=None)
        if pick is Pick.EXPIRING:
            soon = [(r.recording_expires_at, r.row) for r in due if (r.recording_expires_at or 1e99) <= now + EXPIRING_WITHIN_S]
            if soon:
                return self.rows[min(soon, key=lambda pair: (pair[0] or 0.0, pair[1]))[1]]
        return min(due, key=lambda r: (r.due_at or 0.0, r.row), default=None)

    def next_due(self, destination: str, not_agents: frozenset[str]) -> float | None:
        return min((r.due_at or 0.0 for r in self._due(destination, not_agents)), default=None)

    def _waiting(self) -> list[Row]:
        return sorted((r for r in self.rows.values() if r.state is State.WAITING), key=lambda r: (r.due_at or 0.0, r.row))

    def undecided(self, now: float, limit: int) -> Sequence[Row]:
        return [r for r in self._waiting() if (r.due_at or 0.0) <= now][:limit]

    def next_undecided(self) -> float | None:
        return next((r.due_at for r in self._waiting()), None)

    # Recordings and wants.

    def add_recording(self, recording: KeptRecording) -> int:
        self._last_recording += 1
        self.recordings[self._last_recording] = replace(recording, row=self._last_recording)
        return self._last_recording

    def same_recording(self, source: str, key: str, url: str | None, started_at_ms: int | None) -> KeptRecording | None:
        wanted = (source, key, url, started_at_ms)
        return next((r for r in self.recordings.values() if (r.source, r.key, r.url, r.started_at_ms) == wanted), None)

    def recordings_at(self, source: str, path: str, offset: int) -> Sequence[KeptRecording]:
        return [r for r in self.recordings.values() if (r.origin_source, r.path, r.offset) == (source, path, offset)]

    def drop_recording(self, row: int) -> None:
        del self.recordings[row]

    def refresh_recording(self, row: int, expires_at: float | None) -> None:
        self.recordings[row] = replace(self.recordings[row], expires_at=expires_at)

    def take(self, recording: int, call: int) -> None:
        self.recordings[recording] = replace(self.recordings[recording], taken_by=call)

    def give_back(self, call: int) -> None:
        for r in [r for r in self.recordings.values() if r.taken_by == call]:
            self.recordings[r.row] = replace(r, taken_by=None)

    def drop_taken(self, call: int) -> None:
        for row in [r.row for r in self.recordings.values() if r.taken_by == call]:
            del self.recordings[row]

    def free_near(self, source: str, key: str, started_at_ms: int) -> Sequence[Free]:
        free = [r for r in self.recordings.values() if (r.source, r.key, r.taken_by) == (source, key, None)]
        after = sorted((r.started_at_ms, r.row) for r in free if r.started_at_ms is not None and r.started_at_ms >= started_at_ms)
        before = sorted(
            (-r.started_at_ms, -r.row) for r in free if r.started_at_ms is not None and r.started_at_ms < started_at_ms
        )
        unknown = sorted(r.row for r in free if r.started_at_ms is None)
        rows = [abs(row) for _, row in (*after[:NEAR], *before[:NEAR])] + unknown[:NEAR]
        near = [self.recordings[row] for row in rows]
        return [Free(row=r.row, url=r.url, started_at_ms=r.started_at_ms, expires_at=r.expires_at) for r in near]

    def seekers_near(self, source: str, key: str, started_at_ms: int | None) -> Sequence[Want]:
        wants = [
            want
            for call in self.seeking
            for want in self.want.get(call, {}).values()
            if (want.source, want.key) == (source, key) and (want.answer is None or want.answer.expired)
        ]
        if started_at_ms is None:
            return sorted((w for w in wants if w.within_ms is None), key=lambda w: (w.call, w.position))[:NEAR]
        after = sorted(
            (w for w in wants if w.started_at_ms >= started_at_ms), key=lambda w: (w.started_at_ms, w.call, w.position)
        )
        before = sorted(
            (w for w in wants if w.started_at_ms < started_at_ms), key=lambda w: (-w.started_at_ms, -w.call, -w.position)
        )
        return [*after[:NEAR], *before[:NEAR]]

    def wants(self, call: int) -> Sequence[Want]:
        return [want for _, want in sorted(self.want.get(call, {}).items())]

    def set_wants(self, call: int, wants: Sequence[Want]) -> None:
        self.want[call] = {want.position: want for want in wants}
        self.open_wants(call, bool(wants))

    def answer_want(self, call: int, position: int, answer: Answer | None) -> None:
        self.want[call][position] = replace(self.want[call][position], answer=answer)

    def open_wants(self, call: int, is_open: bool) -> None:
        if is_open:
            self.seeking.add(call)
        else:
            self.seeking.discard(call)

    # Destinations, files, fragments.

    def gate(self, destination: str) -> tuple[Gate, PauseClock] | None:
        return self.gates.get(destination)

    def set_gate(self, destination: str, gate: Gate, clock: PauseClock) -> None:
        self.gates[destination] = (gate, clock)

    def set_mark(self, mark: FileMark, now: float) -> None:
        self.files[(mark.source, mark.path)] = _File(mark, now)

    def hold_files(self, row: Row) -> None:
        for source, path, _ in self.places(row):
            if (file := self.files.get((source, path))) is not None:
                file.is_held = True

    def hold_file(self, source: str, path: str) -> None:
        if (file := self.files.get((source, path))) is not None:
            file.is_held = True

    # Groups and their fragments.

    def group(self, source: str, key: str) -> KeptGroup | None:
        return self.groups.get(self.group_rows.get((source, key), 0))

    def group_of(self, row: int) -> KeptGroup | None:
        return self.groups.get(row)

    def set_group(self, group: KeptGroup) -> None:
        self.groups[group.row] = group
        self.group_rows[group.source, group.key] = group.row

    def wanting(self, source: str, now: float, ended_by: float, limit: int) -> Sequence[KeptGroup]:
        found = [
            g
            for g in self.groups.values()
            if g.source == source
            and g.look_at is not None
            and g.look_at <= now
            and (g.look_at < g.wait_ends_at or g.wait_ends_at <= ended_by)
        ]
        return sorted(found, key=lambda g: (g.look_at or 0.0, g.row))[:limit]

    def next_look(self, source: str) -> float | None:
        return min((g.look_at for g in self.groups.values() if g.source == source and g.look_at is not None), default=None)

    def gathering_sources(self) -> Sequence[str]:
        return sorted({g.source for g in self.groups.values() if g.look_at is not None})

    def add_fragment(self, row: int, fragment: Fragment, digest: bytes, *, whole: bool, with_document: bool) -> None:
        self.parts.setdefault(row, []).append(_Part(fragment, digest, whole, with_document))

    def _at(self, row: int, path: str, offset: int) -> list[_Part]:
        place = (path, offset)
        return [p for p in self.parts.get(row, ()) if (p.fragment.origin.path, p.fragment.origin.offset) == place]

    def drop_fragments_at(self, row: int, path: str, offset: int) -> int:
        gone = self._at(row, path, offset)
        self.parts[row] = [p for p in self.parts.get(row, ()) if p not in gone]
        return sum(len(p.fragment.document) for p in gone if p.has_document)

    def digests(self, row: int, path: str, offset: int) -> Sequence[bytes]:
        return [part.digest for part in self._at(row, path, offset)]

    def last_log_offset(self, row: int, path: str) -> int | None:
        gone = [p.fragment.origin for p in self.parts.get(row, ()) if not p.whole and not p.has_document]
        return max((origin.offset for origin in gone if origin.path == path), default=None)

    def fragments(self, row: int) -> Sequence[Fragment]:
        return [part.fragment for part in self.parts.get(row, ()) if part.has_document]

    def empty_fragments(self, row: int) -> None:
        for part in self.parts.get(row, ()):
            part.has_document = False

    def thin_fragments(self, row: int) -> None:
        last: dict[str, int] = {}
        for part in self.parts.get(row, ()):
            if not part.whole and not part.has_document:
                origin = part.fragment.origin
                last[origin.path] = max(origin.offset, last.get(origin.path, 0))
        self.parts[row] = [
            part
            for part in self.parts.get(row, ())
            if part.whole or part.has_document or part.fragment.origin.offset == last[part.fragment.origin.path]
        ]

    # Retention.

    def stale(self, states: Sequence[State], before: float, limit: int) -> Sequence[Row]:
        found = [r for r in self.rows.values() if r.state in states and r.changed_at <= before]
        return sorted(found, key=lambda r: (r.changed_at, r.row))[:limit]

    def fattest_failed(self, limit: int) -> Sequence[Row]:
        found = [r for r in self.rows.values() if r.state is State.FAILED and r.size]
        return sorted(found, key=lambda r: (r.changed_at, r.row))[:limit]

    def drop_recordings(self, before: float, limit: int) -> int:
        gone = [r.row for r in self.recordings.values() if r.admitted_at <= before][:limit]
        for row in gone:
            del self.recordings[row]
        return len(gone)

    def drop_vanished(self, before: float, limit: int) -> int:
        gone = [key for key, file in self.files.items() if file.vanished_at is not None and file.vanished_at <= before][:limit]
        for key in gone:
            del self.files[key]
        return len(gone)

    def shift(self, seconds: float) -> None:
        for row in self.rows.values():
            if row.state.is_open:
                row.due_at = None if row.due_at is None else row.due_at + seconds
                row.waits_from += seconds
                row.first_attempt_at = None if row.first_attempt_at is None else row.first_attempt_at + seconds
        for wants in self.want.values():
            for position, want in wants.items():
                if want.answer is not None:
                    wants[position] = replace(want, answer=replace(want.answer, at=want.answer.at + seconds))
        for number, group in self.groups.items():
            look_at = None if group.look_at is None else group.look_at + seconds
            self.groups[number] = replace(group, look_at=look_at, last_at=group.last_at + seconds)
        for destination, (gate, clock) in self.gates.items():
            self.gates[destination] = (shifted(gate, seconds), replace(clock, at=clock.at + seconds))

    def oldest_at(self) -> Mapping[State, float]:
        oldest: dict[State, float] = {}
        for row in self.rows.values():
            if row.state.is_open:
                oldest.setdefault(row.state, row.admitted_at)
        return oldest


class _Done:
    def __await__(self) -> Generator[None, None, None]:
        yield from ()


class MemoryLedger:
    """A Ledger (tunerd/ledger/__init__.py) in this process' memory. Nothing in it ever waits or fails."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self._wakes: list[Callable[[str], None]] = []
        self._closed = False

    def _committed(self) -> None:
        woken, self._store.woken = self._store.woken, set()
        for destination in sorted(woken):
            for wake in self._wakes:
                wake(destination)

    # WritePath.

    async def admit(self, admission: Admission, now: float) -> Admitted:
        admitted = admit.admit(self._store, admission, now)
        self._committed()
        return admitted

    async def claim(
        self,
        destination: str,
        form: Form,
        freeze: Freeze,
        now: float,
        *,
        pick: Pick = Pick.OLDEST,
        not_agents: frozenset[str] = frozenset(),
        due_by: float | None = None,
    ) -> Claim:
        ask = send.Ask(
            destination=destination, form=form, freeze=freeze, now=now, pick=pick, not_agents=not_agents, due_by=due_by
        )
        (claimed,) = send.claim(self._store, [ask])
        self._committed()
        return claimed

    def settle(self, row: int, settlement: Settlement, now: float) -> Awaitable[None]:
        send.settle(self._store, row, settlement, now)
        self._committed()
        return _Done()

    async def release(self, row: int, now: float) -> None:
        send.release(self._store, row, now)
        self._committed()

    async def gates(self) -> Mapping[str, Gate]:
        return {destination: gate for destination, (gate, _) in sorted(self._store.gates.items())}

    async def set_gate(self, destination: str, gate: Gate, now: float) -> None:
        send.set_gate(self._store, destination, gate, now)

    def on_due(self, wake: Callable[[str], None]) -> None:
        self._wakes.append(wake)

    # GatherPath.

    async def groups(
        self, source: str, now: float, limit: int = 64, *, ended_by: float | None = None
    ) -> tuple[Sequence[Group], float | None]:
        return gather.wanting(self._store, source, now, limit, ended_by)

    async def gathering_sources(self) -> Sequence[str]:
        return self._store.gathering_sources()

    async def gather(self, results: Sequence[Regrouped], now: float) -> Gathered:
        gathered = gather.gather(self._store, results, now)
        self._committed()
        return gathered

    # Positions.

    async def mark(self, source: str, path: str) -> FileMark | None:
        file = self._store.files.get((source, path))
        if file is None:
            return None
        if file.vanished_at is not None and not file.is_disposed:
            file.vanished_at = None
        return file.mark

    async def marks(self, source: str, after_path: str = "", limit: int = 1000, *, vanished: bool = False) -> Sequence[FileMark]:
        files = [file for (of, _), file in sorted(self._store.files.items()) if of == source and not file.is_disposed]
        marks = [file.mark for file in files if (file.vanished_at is not None) == vanished]
        return [mark for mark in marks if mark.path > after_path][:limit]

    async def mark_like(self, source: str, marker: bytes, offset: int) -> FileMark | None:
        if not marker or not offset:
            return None
        return self._newest(lambda m: (m.source, m.marker, m.offset, m.whole) == (source, marker, offset, False))

    async def mark_by_inode(self, source: str, device: int, inode: int) -> FileMark | None:
        return self._newest(lambda m: (m.source, m.device, m.inode) == (source, device, inode))

    def _newest(self, fits: Callable[[FileMark], bool]) -> FileMark | None:
        found = [file for file in self._store.files.values() if fits(file.mark)]
        return max(found, key=lambda file: (file.changed_at, file.mark.path)).mark if found else None

    async def set_mark(self, mark: FileMark, now: float) -> None:
        self._store.set_mark(mark, now)

    async def vanished(self, source: str, paths: Sequence[str], now: float) -> None:
        for path in paths:
            file = self._store.files.get((source, path))
            if file is not None and file.vanished_at is None:
                file.vanished_at = now

    async def disposable(self, source: str, limit: int = 100, *, to_the_end: bool = False) -> Sequence[FileMark]:
        store, found = self._store, []
        for (of, path), file in sorted(store.files.items()):
            if of != source or not file.mark.whole or file.vanished_at is not None or file.is_held:
                continue
            rows = [row for row in store.rows.values() if any(place[:2] == (of, path) for place in store.places(row))]
            is_done = all(row.state is State.IGNORED or (row.state is State.SENT and not row.fragments_size) for row in rows)
            if is_done:
                found.append(file.mark)
        return found[:limit]

    async def disposed(self, source: str, path: str, now: float) -> None:
        file = self._store.files.get((source, path))
        if file is not None:
            file.is_disposed, file.vanished_at = True, now

    # Inspection.

    def gauges(self) -> Gauges:
        return self._store.tally.gauges(self._store.oldest_at())

    async def calls(self, where: Filter, *, after_row: int = 0, limit: int = 100, newest: bool = False) -> Sequence[StoredCall]:
        rows = sorted((r for r in self._store.rows.values() if _fits(r, where)), key=lambda r: -r.row if newest else r.row)
        rows = [r for r in rows if not after_row or (r.row < after_row if newest else r.row > after_row)]
        return [r.shown() for r in rows[: min(limit, 1000)]]

    async def story(self, call_id: str) -> Sequence[Story]:
        store = self._store
        return [
            Story(
                call=row.shown(),
                origins=sorted((path, offset) for _, path, offset in store.places(row)),
                events=row.story(list(store.events.get(row.row, ()))),
                waits_for=waits_for(row, store.bodies.get(row.row), store.wants(row.row)),
            )
            for row in store.named(call_id)
        ]

    async def document(self, row: int) -> bytes | None:
        body = self._store.bodies.get(row)
        return None if body is None else body.document

    async def head(self, row: int) -> bytes:
        body = self._store.bodies.get(row)
        return b"" if body is None else body.head

    async def alive(self) -> bool:
        return not self._closed

    # Desk.

    async def replace(self, row: int, mapped: Call | RefusedDocument, now: float) -> State:
        state = desk.replace(self._store, row, mapped, now)
        self._committed()
        return state

    async def requeue(self, row: int, now: float) -> State:
        state = desk.requeue(self._store, row, now)
        self._committed()
        return state

    async def dismiss(self, rows: Sequence[int], now: float) -> int:
        return desk.dismiss(self._store, rows, now)

    async def forget(self, call_id: str, now: float) -> int:
        return desk.forget(self._store, call_id)

    # Upkeep.

    async def tick(self, now: float) -> tuple[Sequence[FailedCall], float | None]:
        ticked = upkeep.tick(self._store, now)
        self._committed()
        return ticked

    async def trim(self, keep: Keep, now: float) -> int:
        return upkeep.trim(self._store, keep, now)

    async def shift(self, seconds: float) -> None:
        self._store.shift(seconds)
        self._store.woken.update(self._store.gates)
        self._committed()

    async def close(self) -> None:
        self._closed = True


def _fits(row: Row, where: Filter) -> bool:
    return (
        (not where.states or row.state in where.states)
        and (not where.reasons or row.reason in where.reasons)
        and (not where.sources or row.source in where.sources)
        and (not where.call_ids or row.call_id in where.call_ids)
        and (where.since is None or row.admitted_at >= where.since)
        and (where.dismissed is None or row.dismissed == where.dismissed)
    )
