"""The composition root: configuration in, objects built, one task group, signals, reload, stop.

Only the wiring belongs here, and the order in which things open and end; what they do is theirs. commands reach it
through `run`.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry

from tunerd import __version__
from tunerd.admin.answer_types import ConfigurationDocument
from tunerd.admin.call_orders import CallOrders
from tunerd.admin.service import AdminService, DaemonOrders
from tunerd.admin.socket_server import serve_orders
from tunerd.admin.status_report import Facts, StatusReport
from tunerd.call import Document, Form, Mapped, RefusedDocument, State
from tunerd.clock import Clock, SteadyClock, SystemClock
from tunerd.config import Config, Destination, LedgerConfig, Source
from tunerd.config import Delivery as DeliveryConfig
from tunerd.delivery.contact_tracker import ContactTracker
from tunerd.delivery.destination_pool import Connect, Upload
from tunerd.delivery.key import Key
from tunerd.delivery.proxy import refuse_proxies
from tunerd.delivery.run import DeliveryService
from tunerd.delivery.upload import Uploader, open_session
from tunerd.events import ConfigRefused, ConfigReloaded, Emit, Event, Started, Stopped, Stopping
from tunerd.intake.admission_gate import Limits
from tunerd.intake.gather import Gather
from tunerd.intake.other_readers import OtherReaders, tell_other_readers
from tunerd.intake.read import read_documents, read_place
from tunerd.intake.sources import Intake, IntakeOptions
from tunerd.ledger import FAR_NOT_YET, Claimed, Filter, Gauges, LedgerUnavailable
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.lifecycle import Conductors, RunResult, Stop, on_signals, once, pause_due, serve
from tunerd.loading.config_file import load, refuse_changes, variables_of
from tunerd.maintenance import follow_clock, keep_from, take_far_ones, trim_forever, watch_content, watch_place
from tunerd.mapping import SourceMapping, compile_sources
from tunerd.mapping.forms import freeze_body
from tunerd.mapping.gathering import set_aside
from tunerd.ops.coverage import Coverage
from tunerd.ops.event_logger import EventLogger
from tunerd.ops.health import Health
from tunerd.ops.http import HttpServer
from tunerd.ops.log_writer import LogLevel, foreign_loggers, open_log
from tunerd.ops.mask import keep_out
from tunerd.ops.metrics import Metrics
from tunerd.ops.systemd import Notifier, feed_watchdog, watchdog_every_s
from tunerd.outcome import Outcome
from tunerd.places import ConfigError
from tunerd.post_recovery import quarantine_resends, release_resends
from tunerd.stranded import Strandings


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    config_file: Path
    once: bool = False
    """Read what is there, deliver, end."""
    wait_s: float | None = None
    """With `once`: how long open calls may still find their recording or be retried; None: until nothing is due."""
    watch_config: bool = False
    wait_for_lock_s: float = 0.0
    progress: Callable[[Gauges], None] = field(default=lambda _: None)
    """Told of the ledger's gauges a few times a second while `once` runs."""


async def run(options: Options, environ: Mapping[str, str] = os.environ) -> RunResult:
    """Run until a signal (or, with `once`, until done); gives what is left at the end.

    Raises ConfigError, LedgerRefused, ListenError, ControlError: each with its line for an operator.
    """
    clock, stop = SteadyClock(SystemClock()), Stop()
    config = load(options.config_file, environ)
    refuse_proxies(config, environ)
    level = LogLevel(config.log.level)
    log = open_log(config.log.format, level)
    hints = pause_due(options.wait_s) if options.once else {}
    event_logger = EventLogger(log, level=level, hints=hints)
    metrics = Metrics(CollectorRegistry(), [s.name for s in config.sources], version=__version__, now=clock.now)
    told = _each(metrics, event_logger)
    coverage = Coverage(told)
    emit = _each(metrics, event_logger, coverage)
    notifier = Notifier.from_environment(environ)
    async with AsyncExitStack() as stack:
        stack.enter_context(foreign_loggers(log))
        ledger = await SqliteLedger.open(
            Path(config.ledger.path), now=clock.now(), wait_for_lock_s=options.wait_for_lock_s, emit=emit,
            min_free_bytes=config.ledger.min_free_bytes, keep_sent_s=config.ledger.keep_sent_s,
        )  # fmt: skip
        stack.push_async_callback(ledger.close)
        contacts = ContactTracker(clock, emit) if options.once else None
        wiring = await _wire(config, environ, ledger, clock, emit, stack, contacts)
        facts, intake, delivery = wiring.facts, wiring.intake, wiring.delivery
        facts.coverage = coverage
        coverage.has_admitted(await _had_calls(ledger, [source.name for source in config.sources]))
        forms = {status.name: status.form for status in delivery.statuses()}
        held = await quarantine_resends(ledger, forms, now=clock.now())
        strandings = Strandings(ledger, lambda: wiring.config, emit, clock)
        facts.stranded = lambda: strandings.found
        await _settle_stranded(strandings)
        status = StatusReport(ledger, facts, clock.now, destinations=delivery.statuses, sources=intake.statuses,
                        intake_busy=intake.busy, looked=intake.looked)  # fmt: skip
        metrics.add_gauges(status)
        calls = CallOrders(ledger, lambda: wiring.mappings, wiring.read_again, clock.now)
        reload = _then(partial(_reload, wiring, options.config_file, environ, notifier, metrics, level), strandings.look_again)
        health = Health(ledger, delivery.oldest_attempt_age, lambda: wiring.config.delivery.timeout_s)
        daemon = DaemonOrders(reload=reload, rescan=intake.look, configuration=lambda: _configuration(wiring, environ))
        admin = AdminService(status, calls, delivery, daemon)
        await stack.enter_async_context(serve_orders(admin, config.ledger.path, environ))
        if config.http.listen:
            http = HttpServer(status, health.ailment, metrics.render, __version__, hosts=lambda: wiring.config.http.hosts)
            host, port = await http.start(config.http.listen)
            stack.push_async_callback(http.close)
            log.info("listening", address=f"{host}:{port}")
        hangup = asyncio.Event()
        on_signals(stop, hangup, stack)
        facts.ready, facts.started_at = True, clock.now()
        emit(Started(version=__version__, sources=len(config.sources), destinations=len(config.destinations),
                     ledger=config.ledger.path))  # fmt: skip
        notifier.ready(status.in_short())
        conductors = Conductors(intake=intake, delivery=delivery, gauges=ledger.gauges,
                                drain_s=lambda: wiring.config.delivery.drain_s,
                                stopping=partial(_stopping, wiring, notifier, stop),
                                stranded=lambda: sum(one.due for one in strandings.found),
                                without_contact=contacts.without_contact if contacts is not None else tuple)  # fmt: skip
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as beside:
            beside.create_task(event_logger.run(ended, clock))
            beside.create_task(trim_forever(ledger, lambda: keep_from(wiring.config.ledger), clock, ended))
            beside.create_task(watch_place(ledger, clock, ended))
            await delivery.set_far_rule(FAR_NOT_YET)
            if not options.once:
                beside.create_task(take_far_ones(delivery, lambda: _all_read(wiring.intake), clock, ended))
            if held:
                beside.create_task(release_resends(held, ledger, delivery, lambda: _all_read(wiring.intake), clock, ended))
            following = beside.create_task(follow_clock(ledger, delivery, clock, emit, ended))
            if every_s := watchdog_every_s(environ, os.getpid()):
                beside.create_task(feed_watchdog(notifier, health, every_s, clock, ended, status.in_short))
            if options.watch_config:
                beside.create_task(watch_content(options.config_file, config.text.reveal(), hangup.set, clock, ended))
            stranding = beside.create_task(strandings.run(ended))
            others = beside.create_task(_look_for_others(wiring, clock, emit, ended))
            reloads = beside.create_task(_reload_at(hangup, reload))
            left = RunResult(gauges=ledger.gauges())
            if options.once:
                left = await once(conductors, stop, clock, wait_s=options.wait_s, progress=options.progress)
            else:
                await serve(conductors, stop, clock)
            for task in (reloads, following, others, stranding):  # the ledger may never again do what they ask of it
                task.cancel()
            ended.set()
        left = replace(left, gauges=ledger.gauges(), all_left_out=_all_left_out(ledger.gauges(), coverage))
        emit(Stopped(left=sum(count for state, count in left.gauges.calls.items() if state.is_open)))
    return left


async def _had_calls(ledger: SqliteLedger, sources: Sequence[str]) -> list[str]:
    """Sources of which the ledger has a call that is or was on its way."""
    states = frozenset(State) - {State.IGNORED, State.FAILED}
    found = [await ledger.calls(Filter(states=states, sources=frozenset({one}), dismissed=None), limit=1) for one in sources]
    return [name for name, calls in zip(sources, found, strict=True) if calls]


def _all_left_out(gauges: Gauges, coverage: Coverage) -> int:
    others = sum(count for state, count in gauges.calls.items() if state is not State.IGNORED)
    return 0 if others or coverage.admitted else gauges.calls.get(State.IGNORED, 0)


@dataclass(slots=True, kw_only=True)
class _Wiring:
    """What a reload changes."""

    config: Config
    mappings: Mapping[str, SourceMapping]
    ledger: SqliteLedger
    intake: Intake
    delivery: DeliveryService
    facts: Facts
    emit: Emit
    now: Callable[[], float]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One reload at a time: a signal and an order over the control socket may come together."""

    def read_again(self, source: str, path: str, offset: int) -> Document | RefusedDocument:
        """One place on disk, as it is now (blocking)."""
        settings = next((s for s in self.config.sources if s.name == source), None)
        limit = settings.max_document_bytes if settings is not None else 4 * 1024 * 1024
        if settings is not None and settings.documents is not None:
            return self._element(settings, path, offset)
        root = settings.path if settings is not None else None
        found = read_place(path, offset, 0, limit, source=source, settled_at=self.now(), root=root)
        stores = settings is None or settings.stores_documents
        return found if stores or isinstance(found, Document) else found.without_text()

    def _element(self, source: Source, path: str, offset: int) -> Document | RefusedDocument:
        """A document that stands in the list of another one, as it is now. Raises OSError, and ValueError where it is gone."""
        mapping = self.mappings[source.name]
        limit, now = source.max_document_bytes, self.now()
        reads = read_documents(path, source.format, limit, source=source.name, settled_at=now, root=source.path)
        found = (each for one in reads for each in (mapping.elements(one) if isinstance(one, Document) else [one]))
        element = next((one for one in found if one.origin.offset == offset), None)
        if element is None:
            raise ValueError("it holds no such document any more")
        return element if source.stores_documents or isinstance(element, Document) else element.without_text()


async def _wire(
    config: Config,
    environ: Mapping[str, str],
    ledger: SqliteLedger,
    clock: Clock,
    emit: Emit,
    stack: AsyncExitStack,
    contacts: ContactTracker | None,
) -> _Wiring:
    mappings = compile_sources(config, environ, forms_of(config.destinations))
    session = await stack.enter_async_context(open_session())
    delivery = DeliveryService(
        config.destinations, config.delivery, ledger=ledger, connect=_connect(session, clock, environ, contacts),
        freeze=freeze_body, clock=clock, emit=emit, chance=random.random,
    )  # fmt: skip
    options = IntakeOptions(limits=limits_of(config.ledger), in_hand=f"{config.ledger.path}.in-hand", set_aside=set_aside)
    intake = Intake(config.sources, ledger, _mappers(mappings), clock, emit, options, _gathers(mappings))
    stack.callback(intake.close)
    facts = _facts(config, clock.now())
    return _Wiring(config=config, mappings=mappings, ledger=ledger, intake=intake, delivery=delivery, facts=facts, emit=emit,
                   now=clock.now)  # fmt: skip


def _facts(config: Config, now: float) -> Facts:
    """The file's path is absolute: commands that look for the daemon of a file compare it."""
    path = os.path.abspath(config.file)
    return Facts(version=__version__, config_file=path, ledger=config.ledger.path, last_reload_at=now)


def _configuration(wiring: _Wiring, environ: Mapping[str, str]) -> ConfigurationDocument:
    config = wiring.config
    return ConfigurationDocument(file=wiring.facts.config_file, text=config.text.reveal(),
                                 environment=variables_of(config, environ))  # fmt: skip


def _connect(
    session: aiohttp.ClientSession, clock: Clock, environ: Mapping[str, str], contacts: ContactTracker | None
) -> Connect:
    def connect(destination: Destination, key: Key, settings: DeliveryConfig) -> Upload:
        uploader = Uploader(session, destination, key, settings, clock, environ)

        def upload(claimed: Claimed) -> Awaitable[Outcome]:
            if key.value is not None:  # from now on an answer may repeat it, and it may have changed since
                keep_out(key.value)
            return uploader(claimed)

        return upload if contacts is None else contacts.listen(destination, upload)

    return connect


def limits_of(ledger: LedgerConfig) -> Limits:
    return Limits(
        max_pending_bytes=ledger.max_pending_bytes,
        min_free_bytes=ledger.min_free_bytes,
        ledger_directory=str(Path(ledger.path).parent),
    )


def forms_of(destinations: Sequence[Destination]) -> dict[str, Form]:
    """The request form of each destination where configuration and key tell it now."""
    forms = {destination.name: Key(destination).form for destination in destinations}
    return {name: form for name, form in forms.items() if form is not None}


def _gathers(mappings: Mapping[str, SourceMapping]) -> dict[str, Gather]:
    return {name: mapping for name, mapping in mappings.items() if mapping.gathers}


def _mappers(mappings: Mapping[str, SourceMapping]) -> dict[str, Callable[[Document], Mapped]]:
    return {name: mapping.map_read for name, mapping in mappings.items()}


def _each(*listeners: Emit) -> Emit:
    def emit(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return emit


# Reload.


async def _reload_at(hangup: asyncio.Event, reload: Callable[[], Awaitable[object]]) -> None:
    """One reload at a time; hangups that come meanwhile are one more."""
    while True:
        await hangup.wait()
        hangup.clear()
        await reload()


async def _reload(
    wiring: _Wiring, file: Path, environ: Mapping[str, str], notifier: Notifier, metrics: Metrics, level: LogLevel
) -> Sequence[str]:
    """Take the configuration as it is on disk now, or refuse it as a whole; gives what is wrong with it."""
    async with wiring.turn:
        return await _reload_now(wiring, file, environ, notifier, metrics, level)


async def _reload_now(
    wiring: _Wiring, file: Path, environ: Mapping[str, str], notifier: Notifier, metrics: Metrics, level: LogLevel
) -> Sequence[str]:
    notifier.reloading()
    facts = wiring.facts
    try:
        config = await asyncio.to_thread(load, file, environ)
        refuse_changes(wiring.config, config)
        refuse_proxies(config, environ)
        mappings = await asyncio.to_thread(compile_sources, config, environ, forms_of(config.destinations))
    except ConfigError as exc:
        facts.problems = tuple(map(str, exc.problems))
        facts.last_reload_successful = False
        wiring.emit(ConfigRefused(problems=facts.problems))
        return facts.problems
    else:
        metrics.know(source.name for source in config.sources)
        level.set(config.log.level)
        wiring.config, wiring.mappings = config, mappings
        wiring.ledger.keep_free(config.ledger.min_free_bytes)
        await wiring.delivery.update(config.destinations, config.delivery)
        await wiring.intake.update(config.sources, _mappers(mappings), limits_of(config.ledger), _gathers(mappings))
        facts.problems, facts.last_reload_successful, facts.last_reload_at = (), True, wiring.now()
        wiring.emit(ConfigReloaded(sources=len(config.sources)))
        return ()
    finally:
        notifier.ready()


async def _look_for_others(wiring: _Wiring, clock: Clock, emit: Emit, ended: asyncio.Event) -> None:
    def roots() -> Mapping[str, str]:
        return {source.name: source.path for source in wiring.config.sources}

    def seen(others: Mapping[str, str]) -> None:
        wiring.facts.other_readers = others

    await tell_other_readers(OtherReaders(wiring.config.ledger.path), roots, seen, clock, emit, ended)


def _then(reload: Callable[[], Awaitable[Sequence[str]]], after: Callable[[], None]) -> Callable[[], Awaitable[Sequence[str]]]:
    async def both() -> Sequence[str]:
        problems = await reload()
        after()
        return problems

    return both


async def _settle_stranded(strandings: Strandings) -> None:
    """Before delivery begins: calls whose destination was corrected go to the new one at once."""
    with suppress(LedgerUnavailable):  # a full disk: `Strandings.run` tries again
        await strandings.look(tell=False)


# Stopping.


def _stopping(wiring: _Wiring, notifier: Notifier, stop: Stop) -> None:
    drain_s = wiring.config.delivery.drain_s
    wiring.facts.stopping = True
    notifier.stopping()
    notifier.extend_timeout(drain_s + 5)
    wiring.emit(Stopping(signal=stop.by or "done", drain_s=drain_s))


def _all_read(intake: Intake) -> bool:
    """Every source was listed, and of what it held nothing waits to be read."""
    return not intake.busy() and all(status.last_scan_at is not None for status in intake.statuses())
