"""The status report, for /status.json, `tunerd status`, the page and systemd. It reads; it changes nothing."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tunerd.admin.answer_types import (
    ConfigRow,
    DaemonRow,
    IdleDocument,
    LastHourRow,
    StateRow,
    StatusDocument,
    StrandedRow,
    call_row,
)
from tunerd.call import State
from tunerd.ledger import Filter, Gauges, Inspection, StoredPauses, Stranded
from tunerd.ops.coverage import Coverage, SourceCoverage
from tunerd.ops.last_hour import LastHour
from tunerd.ops.mask import redact
from tunerd.ops.measures import LedgerLimits, LedgerMeasures
from tunerd.statuses import AgentStatus, DestinationStatus, PauseStatus, SourceStatus

LAST_FAILURES: Final = 5
IN_SHORT: Final = 3
"""Destinations, and sources, that the line for systemd names."""


@dataclass(slots=True, kw_only=True)
class Facts:
    """What app.py knows about the process, and keeps up to date here."""

    version: str
    config_file: str
    fingerprint: str = ""
    """Of the configuration in force, without its secrets."""
    ledger: str = ""
    """The path of its file, or the URL of its PostgreSQL database without user, password and options."""
    instance: str = ""
    is_fleet: bool = False
    """Several instances may share the ledger."""
    running: bool = True
    """False: a command reads the ledger without a daemon."""
    started_at: float | None = None
    ready: bool = False
    stopping: bool = False
    last_reload_successful: bool = True
    last_reload_at: float | None = None
    problems: tuple[str, ...] = ()
    coverage: Coverage | None = None
    """What the rules ignore; None: no daemon runs."""
    last_hour: LastHour | None = None
    other_readers: Mapping[str, str] = field(default_factory=dict)
    """Source -> another tunerd that reads its directory with a ledger of its own."""
    stranded: Callable[[], Sequence[Stranded]] = tuple
    measures: LedgerMeasures = field(default_factory=LedgerMeasures)
    limits: Callable[[], LedgerLimits] = LedgerLimits


class StatusReport:
    """Built from values that are kept anyway, and one small query for the last failures."""

    def __init__(
        self,
        ledger: Inspection,
        facts: Facts,
        now: Callable[[], float],
        *,
        destinations: Callable[[], Sequence[DestinationStatus]] = tuple,
        sources: Callable[[], Sequence[SourceStatus]] = tuple,
        intake_busy: Callable[[], bool] = lambda: False,
        looked: Callable[[], int] = lambda: 0,
    ) -> None:
        self._ledger = ledger
        self._facts = facts
        self._now = now
        self._destinations = destinations
        self._sources = sources
        self._intake_busy = intake_busy
        self._looked = looked

    def gauges(self) -> Gauges:
        return self._ledger.gauges()

    def destinations(self) -> Sequence[DestinationStatus]:
        return self._destinations()

    def sources(self) -> Sequence[SourceStatus]:
        return self._sources()

    def is_fleet(self) -> bool:
        """Several instances may share the ledger: its counts are those of all."""
        return self._facts.is_fleet

    def stranded(self) -> int:
        """Calls whose destination or manifest source is not configured."""
        return sum(one.waiting + one.due for one in self._facts.stranded())

    def measures(self) -> LedgerMeasures:
        return self._facts.measures

    def limits(self) -> LedgerLimits:
        return self._facts.limits()

    def ready(self) -> bool:
        """True from the opening of the ledger until the stop, whatever Tuner, the disk or the sources do."""
        return self._facts.ready and not self._facts.stopping

    def in_short(self) -> str:
        """One line for systemd: `12 due, 1 failed; paused: tuner.example/42 (auth); not read: agent (denied)`."""
        calls = self._ledger.gauges().calls
        counts = [f"{calls[state]} {state.value}" for state in State if calls.get(state) and state is not State.IGNORED]
        paused = [f"{one.name} ({one.pause.reason.value})" for one in self._destinations() if one.pause]
        unread = [f"{one.name} ({one.paused.value})" for one in self._sources() if one.paused]
        return (", ".join(counts) or "no calls yet") + _some("paused", paused) + _some("not read", unread)

    async def document(self) -> StatusDocument:
        gauges, now, facts = self._ledger.gauges(), self._now(), self._facts
        failures = await self._ledger.calls(Filter(states=frozenset({State.FAILED})), limit=LAST_FAILURES, newest=True)
        return StatusDocument(
            generated_at=now,
            daemon=DaemonRow(
                running=facts.running,
                version=facts.version,
                pid=os.getpid() if facts.running else None,
                ledger=facts.ledger,
                instance=facts.instance,
                started_at=facts.started_at,
                ready=self.ready(),
                stopping=facts.stopping,
            ),
            config=ConfigRow(
                file=facts.config_file,
                fingerprint=facts.fingerprint,
                last_reload_successful=facts.last_reload_successful,
                last_reload_at=facts.last_reload_at,
                problems=[redact(problem) for problem in facts.problems],
            ),
            calls={state.value: _state_row(gauges, state, now) for state in State},
            audio={state.value: count for state, count in gauges.audio.items()},
            pending_bytes=gauges.pending_bytes,
            waiting_bytes=gauges.waiting_bytes,
            destinations=[_without_secrets(status) for status in self._destinations()],
            sources=[self._with_coverage(status) for status in self._sources()],
            stranded=[_stranded_row(one) for one in facts.stranded() if one.waiting or one.due],
            last_failures=[call_row(call) for call in failures],
            instances=list(await self._ledger.instances()),
            last_hour=None if facts.last_hour is None else _last_hour_row(facts.last_hour),
        )

    def _with_coverage(self, status: SourceStatus) -> SourceStatus:
        """With what the daemon knows about the source that intake does not."""
        coverage = self._facts.coverage.of(status.name) if self._facts.coverage is not None else SourceCoverage()
        return replace(
            status,
            detail=redact(status.detail),
            only_ignored=coverage.only_ignored,
            rows_dropped=dict(coverage.rows_dropped),
            unknown_roles=list(coverage.unknown_roles),
            also_read_by=self._facts.other_readers.get(status.name),
        )

    def idle(self) -> IdleDocument:
        """Whether everything that can be sent has been sent: `tunerd drain` asks until this is true for a while."""
        calls = self._ledger.gauges().calls
        left = {state.value: calls.get(state, 0) for state in State if state.is_open}
        due = max(0, left[State.DUE.value] - sum(one.due for one in self._facts.stranded()))
        moving = due + left[State.SENDING.value] + left[State.GATHERING.value]
        return IdleDocument(left=left, idle=moving == 0 and not self._intake_busy(), looked=self._looked())


def stored_destination(name: str, pauses: StoredPauses) -> DestinationStatus:
    """A destination as the ledger remembers it: what a command shows when no daemon runs."""
    return DestinationStatus(
        name=name,
        pause=None if pauses.pause is None else PauseStatus(reason=pauses.pause, since=pauses.paused_since, detail=pauses.detail),
        closed_until=pauses.closed_until,
        agents=[AgentStatus(agent=agent, reason=reason, since=since) for agent, (reason, since) in sorted(pauses.agents.items())],
    )


def _some(title: str, names: Sequence[str]) -> str:
    """`; title: first, second, third and 2 more`; nothing without names."""
    more = f" and {len(names) - IN_SHORT} more" if len(names) > IN_SHORT else ""
    return f"; {title}: {', '.join(names[:IN_SHORT])}{more}" if names else ""


def _stranded_row(one: Stranded) -> StrandedRow:
    states = ",".join(name for name, count in (("waiting", one.waiting), ("due", one.due)) if count)
    return StrandedRow(destination=one.destination, manifest=one.manifest, waiting=one.waiting, due=one.due,
                       may_have_arrived=one.may_have_arrived, command=f"tunerd remap --state {states}")  # fmt: skip


def _state_row(gauges: Gauges, state: State, now: float) -> StateRow:
    at = gauges.oldest_at.get(state)
    return StateRow(
        count=gauges.calls.get(state, 0), oldest_admitted_at=at, oldest_age_s=None if at is None else max(0.0, now - at)
    )


def _last_hour_row(hour: LastHour) -> LastHourRow:
    admitted, sent, failed = hour.series()
    return LastHourRow(began_at=hour.began_at(), admitted=admitted, sent=sent, failed=failed)


def _without_secrets(status: DestinationStatus) -> DestinationStatus:
    if status.pause is None:
        return status
    return replace(status, pause=replace(status.pause, detail=redact(status.pause.detail)))
