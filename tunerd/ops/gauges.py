"""The metrics that are read at a scrape: values that the other parts keep anyway. No query, no file and no lock is needed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from tunerd.call import AudioState, State
from tunerd.config.text_forms import REMOVED
from tunerd.ledger import Gauges
from tunerd.ops.measures import LedgerLimits, LedgerMeasures
from tunerd.outcome import IntakeReason, PauseReason
from tunerd.statuses import DestinationStatus, SourceStatus


class Gauged(Protocol):
    """What a scrape reads."""

    def gauges(self) -> Gauges: ...
    def destinations(self) -> Sequence[DestinationStatus]: ...
    def sources(self) -> Sequence[SourceStatus]: ...
    def stranded(self) -> int: ...
    def is_fleet(self) -> bool: ...
    def measures(self) -> LedgerMeasures: ...
    def limits(self) -> LedgerLimits: ...


def gauge_families(gauged: Gauged, labels: Mapping[str, str], now: float) -> Iterator[Metric]:
    """`labels`: of the configured destinations, by name."""
    gauges = gauged.gauges()
    yield from _of_states(gauges, now, is_fleet=gauged.is_fleet())
    yield from _of_destinations(gauged.destinations(), gauges.due_since, labels, now)
    yield from _of_sources(gauged.sources(), now)
    yield _plain("calls_stranded", "Open calls whose destination or manifest source is not configured.", gauged.stranded())
    yield from _of_ledger(gauges, gauged.measures(), gauged.limits())


def _of_states(gauges: Gauges, now: float, *, is_fleet: bool) -> Iterator[Metric]:
    """In a fleet each instance shows the same counts, under a name of their own: nobody adds them up by mistake."""
    if is_fleet:
        calls = _family("ledger_calls", "Calls in the ledger that the fleet shares; each instance shows the same.", "state")
    else:
        calls = _family("calls", "Calls in the ledger.", "state")
    for state in State:
        calls.add_metric((state.value,), gauges.calls.get(state, 0))
    yield calls
    audio = _family("calls_audio", "Calls whose audio tunerd uploads; failed: until it is dismissed.", "audio")
    for one in (one for one in AudioState if one is not AudioState.NONE):
        audio.add_metric((one.value,), gauges.audio.get(one, 0))
    yield audio
    oldest = _family("oldest_call_age_seconds", "Time since the oldest open call was admitted; 0: none.", "state")
    for state in (state for state in State if state.is_open):
        at = gauges.oldest_at.get(state)
        oldest.add_metric((state.value,), 0.0 if at is None else max(0.0, now - at))
    yield oldest


def _of_destinations(
    statuses: Sequence[DestinationStatus], due_since: Mapping[str, float], labels: Mapping[str, str], now: float
) -> Iterator[Metric]:
    """A destination that is gone is `removed`; that label has series only while there is one."""
    by_label: dict[str, list[DestinationStatus]] = {label: [] for label in labels.values()}
    for status in statuses:
        by_label.setdefault(labels.get(status.name, REMOVED), []).append(status)
    due: dict[str, float] = dict.fromkeys(by_label, 0.0)
    for name, at in due_since.items():
        label = labels.get(name, REMOVED)
        due[label] = max(due.get(label, 0.0), now - at)

    paused = _family("delivery_paused", "1: the destination is paused; its paused agents are added.", "destination", "reason")
    in_flight = _family("uploads_in_flight", "HTTP attempts in flight.", "destination")
    limit = _family("upload_concurrency_limit", "Attempts that may be in flight at once.", "destination")
    accepted = _family("last_success_timestamp_seconds", "When Tuner last accepted a call; 0: none since start.", "destination")
    for label, those in by_label.items():
        pauses = [one.reason for status in those for one in (status.pause, *status.agents) if one is not None]
        for reason in PauseReason:
            paused.add_metric((label, reason.value), pauses.count(reason))
        in_flight.add_metric((label,), sum(status.in_flight for status in those))
        limit.add_metric((label,), sum(status.limit or 0 for status in those))
        accepted.add_metric((label,), max((status.last_accepted_at or 0.0 for status in those), default=0.0))
    longest = _family("longest_due_seconds", "How long the call that has been due longest has been due; 0: none.", "destination")
    for label, seconds in due.items():
        longest.add_metric((label,), seconds)
    yield from (paused, in_flight, limit, accepted, longest)


def _of_sources(sources: Sequence[SourceStatus], now: float) -> Iterator[Metric]:
    paused = _family("intake_paused", "1: the source is not (fully) read.", "source", "reason")
    lag = _family("intake_lag_seconds", "How long the oldest file that was seen waits to be read; 0: none.", "source")
    unreadable = _family("files_unreadable", "Files, and directories below a source's, that cannot be read.", "source")
    fallback = _family("inotify_fallback", "1: inotify is unavailable, so that only scans find the files.", "source")
    for source in sources:
        for reason in IntakeReason:
            paused.add_metric((source.name, reason.value), source.paused is reason)
        lag.add_metric((source.name,), 0.0 if source.unread_since is None else max(0.0, now - source.unread_since))
        unreadable.add_metric((source.name,), source.unreadable)
        fallback.add_metric((source.name,), source.inotify_fallback)
    yield from (paused, lag, unreadable, fallback)


def _of_ledger(gauges: Gauges, measures: LedgerMeasures, limits: LedgerLimits) -> Iterator[Metric]:
    unmatched = _family("recordings_unmatched", "Recordings in the ledger that no call has taken.", "source")
    for source, count in measures.unmatched.items():
        unmatched.add_metric((source,), count)
    yield unmatched
    yield _plain("ledger_pending_bytes", "Documents and payloads of open calls.", gauges.pending_bytes)
    yield _plain("ledger_max_pending_bytes", "ledger.max_pending_bytes: no calls are read above this.", limits.max_pending_bytes)
    yield _plain("ledger_bytes", "Size of the ledger's file and its write-ahead log.", measures.file_bytes)
    yield _plain("ledger_disk_free_bytes", "Free space on the ledger's disk.", measures.disk_free_bytes)
    yield _plain("ledger_min_free_bytes", "ledger.min_free: no calls are read below this.", limits.min_free_bytes)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tunerd_{name}", text, labels=labels)


def _plain(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tunerd_{name}", text, value)
