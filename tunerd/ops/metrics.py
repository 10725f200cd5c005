"""The metrics that are counted: what each event adds, and the families that a scrape shows. gauges.py has what is read at a
scrape.

Every name and label is in docs/metrics.md; renaming one is a breaking change. Labels contain no call ids, URLs or agents. Every
reason and state is at zero from the start, and nothing here needs a query of the ledger.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tunerd import audio_events as ae
from tunerd import events as e
from tunerd.config.text_forms import REMOVED
from tunerd.ops.counting import ATTEMPT_BUCKETS, DestinationCounts, HistogramCounts, SourceCounts
from tunerd.ops.gauges import Gauged, gauge_families
from tunerd.outcome import AudioReason, RetryReason

OUTCOMES: Final = ("sent", "retry", "failed", "refused", "unconfirmed")
URL_FINDINGS: Final = ("there", "absent", "unreachable", "refused")
AUDIO_OUTCOMES: Final = ("uploaded", "retry", *(reason.value for reason in AudioReason))

_SOURCE_COUNTERS: Final = (
    ("calls_admitted", "Calls that entered the ledger.", "admitted"),
    ("calls_sent", "Calls that Tuner accepted.", "sent"),
    ("calls_duplicate", "Documents of a call that was already known.", "duplicate"),
    ("parts_late", "Documents of gathered calls that arrived after their call was sent.", "late"),
    ("documents_read", "Documents read from disk.", "read"),
    ("documents_ignored", "Documents that the rules ignore on purpose.", "ignored"),
    ("after_sent_failures", "Files that after_sent could not delete or move.", "after_sent_failures"),
    ("after_upload_failures", "Files of audio that after_upload could not delete or move.", "after_upload_failures"),
)
"""Name, help, field of SourceCounts."""
_SOURCE_COUNTERS_BY: Final = (
    ("calls_failed", "Calls that failed, and are not retried automatically.", "reason", "failed"),
    ("rows_dropped", "Rows of transcripts that were dropped, by reason.", "why", "rows_dropped"),
    ("rule_null", "Rules that gave no value.", "field", "rule_null"),
    ("rule_error", "Rules that failed; their optional field was omitted.", "field", "rule_error"),
    ("timeline_repairs", "Repairs made to the times of transcripts.", "repair", "repairs"),
    ("redactions", "Texts that redaction removed from calls.", "kind", "redactions"),
)
"""Name, help, second label, field."""
_SOURCE_HISTOGRAMS: Final = (
    ("call_delivery_seconds", "From file settled to accepted.", "delivery"),
    ("call_lag_seconds", "From the end of the call to accepted.", "lag"),
    ("recording_wait_seconds", "How long calls waited for their recording.", "wait"),
)


class Metrics:
    """Call it with each event, in the event loop; `render` gives a scrape. Built once, with a registry of its own."""

    def __init__(
        self,
        registry: CollectorRegistry,
        sources: Iterable[str],
        *,
        version: str,
        now: Callable[[], float],
        destinations: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`destinations`: the label of each, by its name."""
        self._registry = registry
        self._now = now
        self._sources: dict[str, SourceCounts] = {}
        self._labels: Mapping[str, str] = {}
        self._by_label: dict[str, DestinationCounts] = {}
        self._by_destination: dict[str, DestinationCounts] = {}
        self._already_there = 0
        self._retried = {reason.value: 0 for reason in RetryReason}
        self._audio = dict.fromkeys(AUDIO_OUTCOMES, 0)
        self._audio_bytes = 0
        self._url_checks = dict.fromkeys(URL_FINDINGS, 0)
        self._stuck = {kind.value: 0 for kind in e.StuckKind}
        self._upload = {outcome: HistogramCounts(ATTEMPT_BUCKETS) for outcome in OUTCOMES}
        self._reload_ok, self._reload_at = True, now()
        self._build = GaugeMetricFamily("tunerd_build_info", "The running version; always 1.", labels=("version", "python"))
        self._build.add_metric((version, platform.python_version()), 1)
        self._count: Mapping[type, Callable[[Any], None]] = self._counters()
        self.know(sources, destinations)
        registry.register(_Collector(self._counted))
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)

    def know(self, sources: Iterable[str], destinations: Mapping[str, str]) -> None:
        """Every series of these sources and destinations (label by name) exists from now on, at zero. Destinations that are no
        longer among them are counted as `removed`."""
        for source in sources:
            self._sources.setdefault(source, SourceCounts())
        for label in self._by_label.keys() - {*destinations.values(), REMOVED}:
            self._by_label.setdefault(REMOVED, DestinationCounts()).take_over(self._by_label.pop(label))
        self._labels = dict(destinations)
        self._by_destination = {
            name: self._by_label.setdefault(label, DestinationCounts()) for name, label in destinations.items()
        }

    def add_gauges(self, gauged: Gauged) -> None:
        """From now on each scrape shows states, ages, pauses, bytes and uploads in flight."""
        self._registry.register(_Collector(lambda: gauge_families(gauged, self._labels, self._now())))

    def render(self, accept: str = "") -> tuple[Callable[[], bytes], str]:
        """What a scrape shows as of now, and its content type: OpenMetrics where the asker wants it, else the text format. The
        function that writes the text takes most of the time, and may run in another thread."""
        encode, content_type = choose_encoder(accept)
        return partial(encode, _Collected(list(self._registry.collect()))), content_type

    def __call__(self, event: e.Event) -> None:
        count = self._count.get(type(event))
        if count is not None:
            count(event)

    # What each event adds. The first six come with every call.

    def _counters(self) -> Mapping[type, Callable[[Any], None]]:
        return {
            e.DocumentsRead: self._documents_read, e.DocumentMapped: self._document_mapped, e.CallAdmitted: self._call_admitted,
            e.AttemptEnded: self._attempt_ended, e.CallSent: self._call_sent, e.RecordingMatched: self._recording_matched,
            e.OnlyIgnored: self._only_ignored, e.CallRetried: self._call_retried, e.CallFailed: self._call_failed,
            e.CallDuplicate: self._call_duplicate, e.DocumentIgnored: self._document_ignored,
            e.LinesIgnored: self._lines_ignored, e.PartsLate: self._parts_late, e.FileDisposed: self._file_disposed,
            e.ConfigReloaded: self._config_reloaded, e.ConfigRefused: self._config_refused, e.Stuck: self._found_stuck,
            ae.AudioUploaded: self._audio_uploaded, ae.AudioRetried: self._audio_retried, ae.AudioFailed: self._audio_failed,
            ae.UrlChecked: self._url_checked, ae.AudioNotDisposed: self._not_disposed,
        }  # fmt: skip

    def _of(self, source: str) -> SourceCounts:
        counts = self._sources.get(source)
        return self._sources.setdefault(source, SourceCounts()) if counts is None else counts

    def _documents_read(self, event: e.DocumentsRead) -> None:
        self._of(event.source).read += event.count

    def _document_mapped(self, event: e.DocumentMapped) -> None:
        notes, counts = event.notes, self._of(event.source)
        for field in notes.missing:
            counts.rule_null.add(field)
        for field in notes.left_out:
            counts.rule_error.add(field)
        for repair, count in notes.repairs.items():
            counts.repairs.add(repair, count)
        for why, count in notes.rows_dropped.items():
            counts.rows_dropped[why] += count
        for kind, count in notes.redacted.items():
            counts.redactions.add(kind, count)

    def _call_admitted(self, event: e.CallAdmitted) -> None:
        self._of(event.source).admitted += 1

    def _attempt_ended(self, event: e.AttemptEnded) -> None:
        self._upload[event.outcome].observe(event.took_s)
        counts = self._by_destination.get(event.destination)
        if counts is None:
            counts = self._by_label.setdefault(REMOVED, DestinationCounts())
        counts.answered(event.status)

    def _call_sent(self, event: e.CallSent) -> None:
        counts = self._of(event.source)
        counts.sent += 1
        counts.delivery.observe(max(0.0, event.delivery_s))
        if event.lag_s is not None:
            counts.lag.observe(max(0.0, event.lag_s))
        if event.already_there and event.attempts <= 1:
            self._already_there += 1

    def _recording_matched(self, event: e.RecordingMatched) -> None:
        self._of(event.source).wait.observe(max(0.0, event.waited_s))

    def _only_ignored(self, event: e.OnlyIgnored) -> None:
        self._of(event.source).only_ignored = event.count

    def _call_retried(self, event: e.CallRetried) -> None:
        self._retried[event.reason.value] += 1

    def _call_failed(self, event: e.CallFailed) -> None:
        self._of(event.source).failed[event.reason.value] += 1

    def _call_duplicate(self, event: e.CallDuplicate) -> None:
        self._of(event.source).duplicate += 1

    def _document_ignored(self, event: e.DocumentIgnored) -> None:
        self._of(event.source).ignored += 1

    def _lines_ignored(self, event: e.LinesIgnored) -> None:
        self._of(event.source).ignored += event.count

    def _parts_late(self, event: e.PartsLate) -> None:
        self._of(event.source).late += event.count

    def _file_disposed(self, event: e.FileDisposed) -> None:
        self._of(event.source).after_sent_failures += event.how.startswith("failed")

    def _config_reloaded(self, _: e.ConfigReloaded) -> None:
        self._reload_ok, self._reload_at = True, self._now()

    def _config_refused(self, _: e.ConfigRefused) -> None:
        self._reload_ok = False

    def _found_stuck(self, event: e.Stuck) -> None:
        self._stuck[event.what.value] += event.count

    def _audio_uploaded(self, event: ae.AudioUploaded) -> None:
        self._audio["uploaded"] += 1
        self._audio_bytes += event.size

    def _audio_retried(self, _: ae.AudioRetried) -> None:
        self._audio["retry"] += 1

    def _audio_failed(self, event: ae.AudioFailed) -> None:
        self._audio[event.reason.value] += 1

    def _not_disposed(self, event: ae.AudioNotDisposed) -> None:
        self._of(event.source).after_upload_failures += 1

    def _url_checked(self, event: ae.UrlChecked) -> None:
        self._url_checks[event.found] += 1

    # The families.

    def _counted(self) -> Iterator[Metric]:
        of_sources = self._sources.items()
        for name, text, attribute in _SOURCE_COUNTERS:
            yield _counter(name, text, ("source",), [((source,), getattr(counts, attribute)) for source, counts in of_sources])
        for name, text, label, attribute in _SOURCE_COUNTERS_BY:
            values = [((source, key), n) for source, counts in of_sources for key, n in getattr(counts, attribute).items()]
            yield _counter(name, text, ("source", label), values)
        for name, text, attribute in _SOURCE_HISTOGRAMS:
            yield _histogram(name, text, "source", [(source, getattr(counts, attribute)) for source, counts in of_sources])
        yield _histogram("upload_duration_seconds", "One HTTP attempt.", "outcome", self._upload.items())
        retried = [((reason,), n) for reason, n in self._retried.items()]
        yield _counter("calls_retried", "Attempts that will be retried.", ("reason",), retried)
        stuck = [((what,), n) for what, n in self._stuck.items()]
        yield _counter("stuck", "What the self-check of delivery found stuck and repaired.", ("what",), stuck)
        text = "Attempts to upload audio, by what came of them: uploaded, retry, or why the audio does not reach Tuner."
        yield _counter("audio_uploads", text, ("outcome",), [((outcome,), n) for outcome, n in self._audio.items()])
        yield _counter("audio_upload_bytes", "Bytes of audio that were uploaded whole.", (), [((), self._audio_bytes)])
        text = "Questions for the first byte of a recording (verify: get), by what came of them."
        yield _counter("recording_url_checks", text, ("found",), [((found,), n) for found, n in self._url_checks.items()])
        yield _counter("calls_already_there", "First attempts that Tuner answered with 409.", (), [((), self._already_there)])
        text = "Uploads that ended, by the class of the answer's HTTP status; none: without an answer."
        answers = [((label, status), n) for label, counts in self._by_label.items() for status, n in counts.responses.items()]
        yield _counter("upload_responses", text, ("destination", "status"), answers)
        only = GaugeMetricFamily(
            "tunerd_source_only_ignored",
            "Documents in a row that were ignored while none became a call.",
            labels=("source",),
        )
        for source, counts in self._sources.items():
            only.add_metric((source,), counts.only_ignored)
        yield only
        yield GaugeMetricFamily("tunerd_config_last_reload_successful", "1: the last (re)load succeeded.", self._reload_ok)
        yield GaugeMetricFamily(
            "tunerd_config_last_reload_success_timestamp_seconds", "When a configuration was last loaded.", self._reload_at
        )
        yield self._build


def _counter(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], int]]) -> Metric:
    family = CounterMetricFamily(f"tunerd_{name}", text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def _histogram(name: str, text: str, label: str, counts: Iterable[tuple[str, HistogramCounts]]) -> Metric:
    family = HistogramMetricFamily(f"tunerd_{name}", text, labels=(label,))
    for value, histogram in counts:
        family.add_metric((value,), histogram.buckets(), histogram.total)
    return family


class _Collected(CollectorRegistry):
    """Families that nobody changes any more."""

    def __init__(self, families: Sequence[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


class _Collector(Collector):
    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        """Nothing: otherwise registering would already read."""
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._families()
