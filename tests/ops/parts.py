"""Parts for the tests of this folder: every event once, with canaries, and the smallest things that status asks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from tunerd import audio_events as ae
from tunerd import events as e
from tunerd.call import Form, MappingNotes, State
from tunerd.ledger import Gauges
from tunerd.ops.measures import LedgerLimits, LedgerMeasures
from tunerd.outcome import AudioReason, FailReason, IntakeReason, PauseReason, RetryReason
from tunerd.statuses import AgentStatus, DestinationStatus, PauseStatus, SourceStatus

NOW = 1_767_225_600.0


def destination(
    name: str = "tuner.example/42",
    pause: PauseReason | None = None,
    *,
    since: float | None = None,
    detail: str = "",
    next_probe_at: float | None = None,
    closed_until: float | None = None,
    agents: Mapping[str, tuple[PauseReason, float]] = MappingProxyType({}),
    in_flight: int = 0,
    limit: int = 8,
    dry_run: bool = False,
    last_accepted_at: float | None = None,
    label: str = "default",
) -> DestinationStatus:
    paused = None if pause is None else PauseStatus(reason=pause, since=since, detail=detail, next_probe_at=next_probe_at)
    return DestinationStatus(
        name=name, pause=paused, closed_until=closed_until,
        agents=[AgentStatus(agent=agent, reason=reason, since=at) for agent, (reason, at) in agents.items()],
        in_flight=in_flight, limit=limit, form=Form.SEND_CALLS, dry_run=dry_run, last_accepted_at=last_accepted_at,
        label=label,
    )  # fmt: skip


def source(name: str = "agent", **others: Any) -> SourceStatus:
    return SourceStatus(name=name, path="/var/spool/calls", **others)


@dataclass(kw_only=True)
class Reading:
    """What metrics read at scrape time."""

    calls: dict[State, int] = field(default_factory=dict)
    oldest_at: dict[State, float] = field(default_factory=dict)
    destination_list: list[DestinationStatus] = field(default_factory=list)
    source_list: list[SourceStatus] = field(default_factory=list)
    stranded_calls: int = 0
    fleet: bool = False
    due_since: dict[str, float] = field(default_factory=dict)
    measured: LedgerMeasures = field(default_factory=LedgerMeasures)

    def measures(self) -> LedgerMeasures:
        return self.measured

    def limits(self) -> LedgerLimits:
        return LedgerLimits(max_pending_bytes=5000, min_free_bytes=64)

    def is_fleet(self) -> bool:
        return self.fleet

    def stranded(self) -> int:
        return self.stranded_calls

    def gauges(self) -> Gauges:
        return Gauges(calls=self.calls, oldest_at=self.oldest_at, due_since=self.due_since, pending_bytes=1234, waiting_bytes=34)

    def destinations(self) -> list[DestinationStatus]:
        return self.destination_list

    def sources(self) -> list[SourceStatus]:
        return self.source_list


def failed(reason: FailReason = FailReason.INVALID, call_id: str | None = "call-1", what: str = "too long") -> e.CallFailed:
    return e.CallFailed(source="agent", reason=reason, call_id=call_id, path="/c/1.json", where="call.call_id", what=what)


def retried(reason: RetryReason = RetryReason.SERVER_ERROR) -> e.CallRetried:
    return e.CallRetried(
        source="agent", call_id="call-1", reason=reason, status=503, due_in_s=2.0, attempts=1, detail="503 Service Unavailable"
    )


def sent(call_id: str = "call-1", *, already_there: bool = False, attempts: int = 1) -> e.CallSent:
    return e.CallSent(
        source="agent",
        call_id=call_id,
        tuner_call_id="t-1",
        already_there=already_there,
        delivery_s=0.5,
        attempts=attempts,
        lag_s=90.0,
    )


def every_event(text: str = "") -> list[e.Event]:
    """One of each kind; `text` stands in every field that is free text."""
    return [
        ae.AudioUploaded(source="agent", call_id="c", size=10, attempts=1),
        ae.AudioRetried(source="agent", call_id="c", detail=f"the storage answered 503 {text}", attempts=1),
        ae.AudioFailed(
            source="agent", call_id="c", reason=AudioReason.UPLOAD_EXPIRED, what=f"it expired {text}", path="/c/1.json"
        ),
        ae.AudioNotDisposed(source="agent", why=f"no right to write {text}"),
        ae.DirectoryHangs(directory="/srv/rec", after_s=10.0),
        ae.DirectoryAnswers(directory="/srv/rec", lasted_s=90.0),
        ae.UrlChecked(
            source="agent",
            call_id="c",
            path="/c/1.json",
            url="https://a/1.wav",
            found="absent",
            detail=f"a answered 404 {text}",
            is_first=True,
        ),
        e.Started(version="1", sources=1, destinations=1, ledger="/l.db"),
        e.Stopping(signal="SIGTERM", drain_s=20),
        e.Stopped(left={}),
        e.DocumentsRead(source="agent", count=3),
        e.DocumentIgnored(source="agent"),
        e.OnlyIgnored(source="agent", count=20),
        e.RoleUnknown(source="agent", role="narrator", dropped=True),
        e.FileIgnored(source="agent", path="/c/fifo", why=f"a FIFO {text}"),
        e.LinesIgnored(source="agent", path="/calls/l.ndjson", count=3, is_first=True),
        e.LogLeft(source="agent", path="/c/calls.ndjson", offset=7, why=f"it was moved {text}"),
        e.DocumentMapped(source="agent", notes=MappingNotes(missing=("call_type",), left_out=("summary",), repairs={"swap": 2})),
        e.CallAdmitted(source="agent", call_id="call-1", state=State.DUE),
        e.CallDuplicate(source="agent", call_id="call-1", replaced=False),
        e.PartsLate(source="agent", count=2, path="/calls/late.json"),
        e.RecordingAdmitted(source="egress"),
        e.RecordingMatched(source="agent", call_id="call-1", waited_s=12.0),
        failed(what=f"too long {text}"),
        e.AttemptEnded(destination="d", outcome="sent", took_s=0.1, status=201),
        sent(),
        e.AlreadyThereStreak(source="agent", count=10),
        retried(),
        e.Unanswered(destination="d", base_url="https://tuner.example", detail=f"cannot be reached {text}"),
        e.PauseBegan(destination="d", agent=None, reason=PauseReason.AUTH, detail=f"401 {text}"),
        e.PauseEnded(destination="d", agent=None, reason=PauseReason.AUTH, lasted_s=3.0),
        e.BucketPaused(bucket="s3://calls", what="s3://calls/a.wav: the storage cannot be reached"),
        e.BucketResumed(bucket="s3://calls", lasted_s=12.0),
        e.ConcurrencyChanged(destination="d", limit=4),
        e.IntakePaused(source="agent", reason=IntakeReason.MISSING, detail=f"gone {text}"),
        e.IntakeResumed(source="agent", reason=IntakeReason.MISSING),
        *(e.ReaderChanged(source="agent", reader=reader) for reader in ("", "pod-1")),
        e.WatchDegraded(source="agent", detail=f"limit {text}"),
        e.FileDisposed(source="agent", path="/c/1.json", how=f"failed: read-only {text}"),
        e.ConfigReloaded(sources=1),
        e.ConfigRefused(problems=(f"config.yaml:1:1: {text}",)),
        e.KeyChanged(destination="d"),
        e.LedgerTrouble(detail=f"disk full {text}"),
        e.LedgerHealed(lasted_s=4.0),
        e.InstanceNameShared(name="pod-0", host="node-b"),
        e.LedgerRebuilt(kept_as="/l.db.corrupt", salvaged=7, documents_lost=2, unread=1),
        e.LedgerRolledBack(commits=3),
        *(e.Stuck(what=what, count=2) for what in e.StuckKind),
        e.ClockJumped(seconds=86_400.0),
        e.CallsFollowed(old="old.example/42", new="tuner.example/42", count=3),
        e.CallsStranded(destination="old.example/42", manifest="", waiting=1, due=2),
        e.ReadByAnother(source="agent", path="/c", who=f"another tunerd {text}"),
    ]
