"""Which events become a line of the log, and its words. How a line looks is log_writer.py's.

Worth a line: pauses when they begin and end, each failed call (ten a minute, then only counted), one summary a minute of what
was sent and retried; single attempts only at debug. Never a transcript, a key or a URL's query.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tunerd import events as e
from tunerd.clock import Clock
from tunerd.ops.audio_lines import audio_detail, audio_line
from tunerd.ops.log_writer import LINES_A_MINUTE, Line, LogLevel, LogWriter
from tunerd.outcome import PauseReason

SUMMARY_S: Final = 60.0
_ON_ITS_OWN: Final = "no call is lost; tunerd probes every 30 s and resumes automatically"
_PAUSE_HINTS: Final[Mapping[PauseReason, str]] = {
    **dict.fromkeys(PauseReason, _ON_ITS_OWN),
    PauseReason.LOCAL: "no call is lost; tunerd tries again every second and resumes automatically",
    PauseReason.OPERATOR: "tunerd resume",
    PauseReason.REJECTING: "no call is lost; see tunerd failed --reason rejected, correct the cause, then: tunerd resume",
}
_STORM_HINTS: Final = {"failed": "tunerd failed", "file ignored": "tunerd check"}
_STUCK: Final = {
    e.StuckKind.CALL: "calls were marked as being sent, but nothing was sending them; they are due again and may arrive twice",
    e.StuckKind.WORKER: "uploads waited for a result that was never written; they continue",
    e.StuckKind.PERMIT: "uploads were counted that did not exist; the count is right again",
}
_SILENT: Final = frozenset({e.AttemptEnded, e.CallAdmitted, e.DocumentMapped, e.DocumentsRead})
"""Every call brings these, and they have no line: they skip the search for one."""


class EventLogger:
    """Turns events into lines. Call it with each event; `run` (or `flush`, in tests) writes the summaries."""

    def __init__(
        self, log: LogWriter, *, level: LogLevel | None = None, hints: Mapping[PauseReason, str] = MappingProxyType({})
    ) -> None:
        """`level`: the log's (info); unless it is debug, lines about single calls are not even built. `hints`: replaces what
        the line of a pause suggests."""
        self._log = log
        self._level = level or LogLevel("info")
        self._hints = {**_PAUSE_HINTS, **hints}
        self._sent = 0
        self._already_there = 0
        self._retried: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._storms: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event, clock: Clock) -> None:
        """Write a summary each minute until `stop`, and the last one then."""
        while not await clock.wait(stop, SUMMARY_S):
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Sum up what happened since the last time; writes nothing if nothing did."""
        if self._sent or self._retried or self._failed:
            fields: dict[str, object] = {"sent": self._sent, "retried": self._retried.total(), "failed": self._failed.total()}
            if self._already_there:
                fields["already_there"] = self._already_there
            if self._retried:
                fields["retried_by_reason"] = dict(self._retried)
            if self._failed:
                fields["failed_by_reason"] = dict(self._failed)
            self._log.write("warning" if self._retried else "info", "the last minute", fields)
        for kind, count in self._storms.items():
            if (more := count - LINES_A_MINUTE) > 0:
                hint = _STORM_HINTS.get(kind, "tunerd status")
                self._log.warning(f"{more} more lines of this kind were suppressed", kind=kind, hint=hint)
        self._sent = self._already_there = 0
        for counted in (self._retried, self._failed, self._storms):
            counted.clear()

    def __call__(self, event: e.Event) -> None:
        if self._level.is_debug and (detail := _detail(event)) is not None:
            self._log.write(*detail[:3])
        if type(event) in _SILENT:
            return
        match event:
            case e.CallSent():
                self._sent += 1
                self._already_there += event.already_there
                return
            case e.CallRetried():
                self._retried[event.reason.value] += 1
                return
            case e.CallFailed():
                self._failed[event.reason.value] += 1
            case _:
                pass
        line = _delivery_line(event, self._hints) or audio_line(event) or _intake_line(event) or _daemon_line(event)
        if line is not None and self._may_write(line.storm):
            self._log.write(line.level, line.event, line.fields)

    def _may_write(self, storm: str) -> bool:
        if not storm:
            return True
        self._storms[storm] += 1
        return self._storms[storm] <= LINES_A_MINUTE


def _delivery_line(event: e.Event, hints: Mapping[PauseReason, str]) -> Line | None:
    match event:
        case e.CallFailed():
            return Line("warning", "failed", {
                "source": event.source, "call_id": event.call_id, "reason": event.reason.value, "where": event.where,
                "what": event.what, "path": event.path, "status": event.status}, "failed")  # fmt: skip
        case e.PauseBegan():
            return Line("warning", "paused", {
                "destination": event.destination, "agent": event.agent, "reason": event.reason.value, "detail": event.detail,
                "hint": hints[event.reason]}, _storm_of(event.reason))  # fmt: skip
        case e.PauseEnded():
            return Line("info", "resumed", {
                "destination": event.destination, "agent": event.agent, "reason": event.reason.value,
                "lasted_s": round(event.lasted_s, 1)}, _storm_of(event.reason))  # fmt: skip
        case e.Unanswered():
            return Line("warning", "no answer from Tuner yet", {
                "destination": event.destination, "base_url": event.base_url, "detail": event.detail,
                "hint": hints[PauseReason.UNREACHABLE]})  # fmt: skip
        case e.AlreadyThereStreak():
            return Line("warning", "Tuner already had all of the last calls: does the call_id rule give many calls one id?", {
                "source": event.source, "count": event.count,
                "hint": "tunerd explain FILE FILE... reports equal call ids"})  # fmt: skip
        case e.CallsFollowed():
            return Line("warning", "calls were moved to the destination that replaces theirs", {
                "old": event.old, "new": event.new, "count": event.count})  # fmt: skip
        case e.CallsStranded():
            kind, name = ("destination", event.destination) if event.destination else ("manifest", event.manifest)
            states = ",".join(state for state, count in (("waiting", event.waiting), ("due", event.due)) if count)
            return Line("warning", "calls are stranded: their destination or manifest source is not configured", {
                "waiting": event.waiting, "due": event.due, kind: name,
                "hint": f"restore it, or map them again with the current rules: tunerd remap --state {states}"})  # fmt: skip
        case e.BucketPaused():
            return Line("warning", "recordings of a bucket cannot be read or signed; their calls wait", {
                "bucket": event.bucket, "detail": event.what})  # fmt: skip
        case e.BucketResumed():
            return Line("info", "recordings of a bucket can be read and signed again", {
                "bucket": event.bucket, "after_s": round(event.lasted_s)})  # fmt: skip
        case e.KeyChanged():
            return Line("info", "key changed", {"destination": event.destination})
        case _:
            return None


def _storm_of(reason: PauseReason) -> str:
    """With one descriptor too few, a local pause comes and goes each second."""
    return "paused (local)" if reason is PauseReason.LOCAL else ""


def _intake_line(event: e.Event) -> Line | None:
    match event:
        case e.IntakePaused():
            return Line("warning", "source paused", {
                "source": event.source, "reason": event.reason.value, "detail": event.detail})  # fmt: skip
        case e.IntakeResumed():
            return Line("info", "source resumed", {"source": event.source, "reason": event.reason.value})
        case e.PartsLate():
            return Line("warning", "documents arrived after their call was sent, and do not reach Tuner", {
                "source": event.source, "count": event.count, "path": event.path, "hint": "is gather.wait long enough?"},
                "late parts")  # fmt: skip
        case e.FileIgnored():
            return Line("warning", "file ignored", {
                "source": event.source, "path": event.path, "why": event.why}, "file ignored")  # fmt: skip
        case e.LinesIgnored() if event.is_first:
            return Line("warning", "lines that are not JSON are ignored", {
                "source": event.source, "path": event.path, "count": event.count, "hint": "not_json: fail lists each of them"},
                "lines ignored")  # fmt: skip
        case e.LogLeft():
            return Line("warning", "log no longer read", {
                "source": event.source, "path": event.path, "offset": event.offset, "why": event.why}, "log left")  # fmt: skip
        case e.OnlyIgnored() if event.count:
            return Line("warning", "the rules ignore every document, and none has become a call", {
                "source": event.source, "count": event.count,
                "hint": "check `when:` with: tunerd explain FILE"})  # fmt: skip
        case e.RoleUnknown():
            return Line("warning", "unknown role; its rows are dropped" if event.dropped else "unknown role", {
                "source": event.source, "role": event.role,
                "hint": "add it to the table of roles, or set unknown_roles on the source"}, "unknown role")  # fmt: skip
        case e.FileDisposed() if event.how.startswith("failed"):
            return Line("warning", "after_sent failed", {
                "source": event.source, "path": event.path, "how": event.how}, "after_sent failed")  # fmt: skip
        case e.ReaderChanged(reader=""):
            return Line("info", "this instance reads the shared source", {"source": event.source})
        case e.ReaderChanged():
            return Line("info", "another instance reads the shared source", {"source": event.source, "reader": event.reader})
        case e.InstanceNameShared():
            return Line("warning", "two hosts have the same instance name, and end each other again and again", {
                "instance": event.name, "other_host": event.host, "hint": "give each host its own `instance:`"})  # fmt: skip
        case e.WatchDegraded():
            return Line("warning", "inotify is unavailable; falling back to periodic scans", {
                "source": event.source, "detail": event.detail}, "watch degraded")  # fmt: skip
        case e.ReadByAnother():
            return Line("warning", "another tunerd reads this directory", {
                "source": event.source, "path": event.path, "who": event.who,
                "hint": "with two ledgers each call is sent twice: stop one, or give it another directory"})  # fmt: skip
        case _:
            return None


def _daemon_line(event: e.Event) -> Line | None:
    match event:
        case e.Started():
            return Line("info", "started", {
                "version": event.version, "sources": event.sources, "destinations": event.destinations,
                "ledger": event.ledger})  # fmt: skip
        case e.Stopping():
            return Line("info", "stopping", {"signal": event.signal, "drain_s": event.drain_s})
        case e.Stopped():
            left = sum(event.left.values())
            fields: dict[str, object] = {"left": left}
            if left:
                fields["left_by_state"] = {state.value: count for state, count in event.left.items()}
            if left and event.was_to_empty:
                fields["hint"] = "if the ledger is deleted with its pod, these calls are lost; else the next start sends them"
            return Line("warning" if "hint" in fields else "info", "stopped", fields)
        case e.ConfigReloaded():
            return Line("info", "configuration reloaded", {"sources": event.sources})
        case e.ConfigRefused():
            return Line("error", "configuration refused; keeping the previous configuration", {
                "problems": list(event.problems[:20]), "count": len(event.problems), "hint": "tunerd check"})  # fmt: skip
        case e.LedgerTrouble():
            return Line("error", "the ledger cannot be written; reading is paused until it can", {"detail": event.detail})
        case e.LedgerHealed():
            return Line("info", "the ledger can be written again", {"lasted_s": round(event.lasted_s, 1)})
        case e.LedgerRebuilt():
            lost = {"hint": "tunerd failed --reason document_lost"} if event.documents_lost else {}
            return Line("error", "the ledger file was damaged; it was set aside and rebuilt", {
                "kept_as": event.kept_as, "salvaged": event.salvaged, "documents_lost": event.documents_lost,
                "unread": event.unread if event.is_readable else "unknown", **lost})  # fmt: skip
        case e.LedgerRolledBack():
            return Line("error", "the ledger lacks changes that were committed", {
                "missing_commits": event.commits, "hint": "its -wal file is missing or damaged, or an older copy replaced it: "
                "calls may be sent again"})  # fmt: skip
        case e.Stuck():
            text = f"{_STUCK[event.what]}. This is a defect of tunerd: please report it"
            return Line("error", text, {"count": event.count, "what": event.what.value})
        case e.ClockJumped():
            return Line("warning", "the clock jumped; due times were adjusted", {"seconds": round(event.seconds, 1)})
        case _:
            return None


def _detail(event: e.Event) -> Line | None:
    """What only `log: {level: debug}` shows: single calls and single attempts."""
    if (line := audio_detail(event)) is not None:
        return line
    match event:
        case e.CallSent():
            return Line("debug", "sent", {
                "source": event.source, "call_id": event.call_id, "tuner_call_id": event.tuner_call_id,
                "already_there": event.already_there, "delivery_s": round(event.delivery_s, 3),
                "attempts": event.attempts})  # fmt: skip
        case e.AttemptEnded():
            return Line("debug", "attempt", {
                "destination": event.destination, "outcome": event.outcome, "took_s": round(event.took_s, 3)})  # fmt: skip
        case e.CallAdmitted():
            return Line("debug", "admitted", {"source": event.source, "call_id": event.call_id, "state": event.state.value})
        case e.CallDuplicate():
            return Line("debug", "duplicate", {
                "source": event.source, "call_id": event.call_id, "replaced": event.replaced})  # fmt: skip
        case e.RecordingMatched():
            return Line(
                "debug",
                "recording found",
                {"source": event.source, "call_id": event.call_id, "waited_s": round(event.waited_s, 1)},
            )
        case e.DocumentIgnored():
            return Line("debug", "document ignored by the rules", {"source": event.source})
        case e.CallRetried():
            return Line("debug", "to be retried", {
                "source": event.source, "call_id": event.call_id, "reason": event.reason.value, "status": event.status,
                "due_in_s": round(event.due_in_s, 1), "attempts": event.attempts, "detail": event.detail})  # fmt: skip
        case e.ConcurrencyChanged():
            return Line("debug", "concurrency", {"destination": event.destination, "limit": event.limit})
        case e.FileDisposed():
            return Line("debug", "after_sent", {"source": event.source, "path": event.path, "how": event.how})
        case _:
            return None
