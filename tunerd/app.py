"""The composition root: configuration in, objects built (runtime.py), one task group, signals, stop.

Only the wiring belongs here, and the order in which things open and end; what they do is theirs. commands reach it
through `run`.
"""

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from aiohttp.web import RouteDef
from prometheus_client import CollectorRegistry

from tunerd import __version__
from tunerd.admin.activity_report import ActivityReport
from tunerd.admin.call_orders import CallOrders
from tunerd.admin.protocol import ControlError
from tunerd.admin.service import AdminService, DaemonOrders
from tunerd.admin.socket_server import SocketPlaces, serve_orders
from tunerd.admin.status_report import StatusReport
from tunerd.call import State
from tunerd.clock import Clock, SteadyClock, SystemClock
from tunerd.config import Config
from tunerd.delivery.contact_tracker import ContactTracker
from tunerd.delivery.proxy import refuse_proxies
from tunerd.events import Emit, Event, Started, Stopped
from tunerd.ledger import FAR_NOT_YET, Filter, Gauges, LedgerUnavailable
from tunerd.ledger.service.stored_ledger import StoredLedger
from tunerd.lifecycle import Conductors, RunResult, Stop, on_signals, once, pause_due, serve
from tunerd.loading.config_file import load
from tunerd.maintenance import follow_clock, keep_from, take_far_ones, trim_forever, watch_content, watch_place
from tunerd.open_ledger import open_ledger
from tunerd.ops.activity import Activity
from tunerd.ops.coverage import Coverage
from tunerd.ops.event_logger import EventLogger
from tunerd.ops.health import Health
from tunerd.ops.http import HttpServer
from tunerd.ops.last_hour import LastHour
from tunerd.ops.log_writer import LogLevel, LogWriter, foreign_loggers, open_log
from tunerd.ops.metrics import Metrics
from tunerd.ops.probe_pages import probe_pages
from tunerd.ops.scraped_pages import scraped_pages
from tunerd.ops.systemd import Notifier, feed_watchdog, watchdog_every_s
from tunerd.post_recovery import quarantine_resends, release_resends
from tunerd.record import record
from tunerd.runtime import (
    Runtime,
    build_runtime,
    configuration_document,
    is_all_read,
    labels_of,
    look_for_others,
    measure_ledger,
    note_stopping,
    reload,
)
from tunerd.stranded import Strandings

Reload: TypeAlias = Callable[[], Awaitable[Sequence[str]]]
"""Gives what is wrong with the configuration on disk."""


@record
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
    clock, stop, hangup, ended = SteadyClock(SystemClock()), Stop(), asyncio.Event(), asyncio.Event()
    config = load(options.config_file, environ)
    refuse_proxies(config, environ)
    observers = _observers(config, options, clock)
    emit, notifier = observers.emit, Notifier.from_environment(environ)
    async with AsyncExitStack() as stack:
        stack.enter_context(foreign_loggers(observers.log))
        ledger = await open_ledger(config, clock, emit, wait_for_lock_s=options.wait_for_lock_s)
        stack.push_async_callback(ledger.close)
        contacts = ContactTracker(clock, emit) if options.once else None
        runtime = await build_runtime(config, environ, ledger, clock, emit, stack, contacts)
        facts, intake, delivery = runtime.facts, runtime.intake, runtime.delivery
        facts.coverage, facts.last_hour = observers.coverage, observers.last_hour
        observers.coverage.has_admitted(await _had_calls(ledger, [source.name for source in config.sources]))
        held = await quarantine_resends(ledger, {one.name: one.form for one in delivery.statuses()}, now=clock.now())
        strandings = Strandings(ledger, lambda: runtime.config, emit, clock)
        facts.stranded = lambda: strandings.found
        await _settle_stranded(strandings)
        reload_now = _then(partial(reload, runtime, options.config_file, environ, notifier, observers.metrics, observers.level),
                           strandings.look_again)  # fmt: skip
        status = StatusReport(ledger, facts, clock.now, destinations=delivery.statuses, sources=intake.statuses,
                              intake_busy=intake.busy, looked=intake.looked)  # fmt: skip
        health = Health(ledger, delivery.oldest_attempt_age, lambda: runtime.config.delivery.timeout_s)
        await _serve_operators(runtime, status, health, observers, reload_now, environ, stack)
        on_signals(stop, hangup, stack)
        ledger.fleet.on_superseded(stop.superseded)
        facts.ready, facts.started_at = True, clock.now()
        emit(Started(version=__version__, sources=len(config.sources), destinations=len(config.destinations),
                     ledger=config.ledger.shown))  # fmt: skip
        notifier.ready(status.in_short())
        conductors = Conductors(intake=intake, delivery=delivery, gauges=ledger.gauges,
                                drain_s=lambda: runtime.config.delivery.drain_s,
                                stopping=partial(note_stopping, runtime, notifier, stop),
                                stranded=lambda: sum(one.due for one in strandings.found),
                                without_contact=contacts.without_contact if contacts is not None else tuple)  # fmt: skip
        async with asyncio.TaskGroup() as beside:
            beside.create_task(observers.event_logger.run(ended, clock))
            if every_s := watchdog_every_s(environ, os.getpid()):
                beside.create_task(feed_watchdog(notifier, health, every_s, clock, ended, status.in_short))
            await delivery.set_far_rule(FAR_NOT_YET)
            cancelled = _start_beside(beside, runtime, options, held, clock, hangup, ended)
            cancelled += [beside.create_task(strandings.run(ended)), beside.create_task(_reload_at(hangup, reload_now))]
            left = RunResult(gauges=ledger.gauges())
            if options.once:
                left = await once(conductors, stop, clock, wait_s=options.wait_s, progress=options.progress)
            else:
                await serve(conductors, stop, clock)
            for task in cancelled:
                task.cancel()
            ended.set()
        left = replace(left, gauges=ledger.gauges(), is_superseded=stop.is_superseded,
                       all_left_out=_all_left_out(ledger.gauges(), observers.coverage))  # fmt: skip
        emit(_stopped(left.gauges, runtime.config))
    return left


@record
class _Observers:
    """The listeners that every event is passed to."""

    level: LogLevel
    log: LogWriter
    event_logger: EventLogger
    metrics: Metrics
    coverage: Coverage
    last_hour: LastHour
    activity: Activity
    emit: Emit


def _observers(config: Config, options: Options, clock: Clock) -> _Observers:
    level = LogLevel(config.log.level)
    log = open_log(config.log.format, level)
    hints = pause_due(options.wait_s) if options.once else {}
    event_logger = EventLogger(log, level=level, hints=hints)
    metrics = Metrics(CollectorRegistry(), [s.name for s in config.sources], version=__version__, now=clock.now,
                      destinations=labels_of(config))  # fmt: skip
    coverage, last_hour = Coverage(_each(metrics, event_logger)), LastHour(clock.now)
    activity = Activity(clock.now, secrets.token_hex(4))
    return _Observers(level=level, log=log, event_logger=event_logger, metrics=metrics, coverage=coverage, last_hour=last_hour,
                      activity=activity, emit=_each(metrics, event_logger, coverage, last_hour, activity))  # fmt: skip


async def _serve_operators(
    runtime: Runtime,
    status: StatusReport,
    health: Health,
    observers: _Observers,
    reload_now: Reload,
    environ: Mapping[str, str],
    stack: AsyncExitStack,
) -> None:
    """The control socket, and where they are configured HTTP with metrics and probes, and the status page."""
    config = runtime.config
    observers.metrics.add_gauges(status)
    calls = CallOrders(runtime.ledger, lambda: runtime.mappings, runtime.read_again, runtime.now, runtime.spool.keep)
    daemon = DaemonOrders(reload=reload_now, rescan=runtime.intake.look,
                          configuration=lambda: configuration_document(runtime, environ),
                          activity=ActivityReport(observers.activity))  # fmt: skip
    admin = AdminService(status, calls, runtime.delivery, daemon)
    await _serve_orders(admin, config, environ, probe_pages(health.ailment, status.ready), observers.log, stack)
    page_address = ""
    if config.http.admin_listen:
        from tunerd.page.serving import serve_page  # a daemon without the page does without its modules

        page_address = await serve_page(admin, lambda: runtime.config, observers.log, stack)
    if config.http.listen:
        pages = scraped_pages(observers.metrics.render, health.ailment, status.ready, __version__, page_address)
        http = HttpServer(pages)
        host, port = await http.start(config.http.listen)
        stack.push_async_callback(http.close)
        observers.log.info("listening", address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


async def _serve_orders(
    admin: AdminService,
    config: Config,
    environ: Mapping[str, str],
    pages: Sequence[RouteDef],
    log: LogWriter,
    stack: AsyncExitStack,
) -> None:
    """The control socket; tunerd runs without one where no place can be used, unless the configuration names the place."""

    def refused(why: str) -> None:
        log.warning("the control socket is not in the runtime directory", detail=why)

    places = SocketPlaces(ledger=config.ledger.path, env=environ, configured=config.control_socket, refused=refused)
    try:
        await stack.enter_async_context(serve_orders(admin, places, pages))
    except ControlError as exc:
        if config.control_socket is not None:
            raise
        log.warning("running without a control socket, so commands cannot reach this daemon", detail=str(exc),
                    hint="set control_socket: to a path in a directory where this user may create sockets")  # fmt: skip


def _start_beside(
    group: asyncio.TaskGroup,
    runtime: Runtime,
    options: Options,
    held: Mapping[str, float],
    clock: SteadyClock,
    hangup: asyncio.Event,
    ended: asyncio.Event,
) -> list[asyncio.Task[None]]:
    """The small tasks beside intake and delivery, until `ended`. Gives those that have to be cancelled then: the ledger may
    never again do what they ask."""
    ledger, delivery = runtime.ledger, runtime.delivery
    group.create_task(trim_forever(ledger, lambda: keep_from(runtime.config.ledger), clock, ended))
    group.create_task(watch_place(ledger, clock, ended))
    group.create_task(measure_ledger(runtime, clock, ended))
    if not options.once:
        group.create_task(take_far_ones(delivery, lambda: is_all_read(runtime.intake), clock, ended))
    if held:
        group.create_task(release_resends(held, ledger, delivery, lambda: is_all_read(runtime.intake), clock, ended))
    if options.watch_config:
        group.create_task(watch_content(options.config_file, runtime.config.text.reveal(), hangup.set, clock, ended))
    return [
        group.create_task(follow_clock(ledger, delivery, clock, runtime.emit, ended)),
        group.create_task(look_for_others(runtime, clock, runtime.emit, ended)),
    ]


async def _had_calls(ledger: StoredLedger, sources: Sequence[str]) -> list[str]:
    """Sources of which the ledger has a call that is or was on its way."""
    states = frozenset(State) - {State.IGNORED, State.FAILED}
    found = [await ledger.calls(Filter(states=states, sources=frozenset({one}), dismissed=None), limit=1) for one in sources]
    return [name for name, calls in zip(sources, found, strict=True) if calls]


def _stopped(gauges: Gauges, config: Config) -> Stopped:
    left = {state: count for state, count in gauges.calls.items() if state.is_open and count}
    return Stopped(left=left, was_to_empty=config.delivery.on_stop == "empty")


def _all_left_out(gauges: Gauges, coverage: Coverage) -> int:
    others = sum(count for state, count in gauges.calls.items() if state is not State.IGNORED)
    return 0 if others or coverage.admitted else gauges.calls.get(State.IGNORED, 0)


def _each(*listeners: Emit) -> Emit:
    def emit(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return emit


async def _reload_at(hangup: asyncio.Event, reload: Reload) -> None:
    """One reload at a time; hangups that come meanwhile are one more."""
    while True:
        await hangup.wait()
        hangup.clear()
        await reload()


def _then(reload: Reload, after: Callable[[], None]) -> Reload:
    async def both() -> Sequence[str]:
        problems = await reload()
        after()
        return problems

    return both


async def _settle_stranded(strandings: Strandings) -> None:
    """Before delivery begins: calls whose destination was corrected go to the new one at once."""
    with suppress(LedgerUnavailable):  # a full disk: `Strandings.run` tries again
        await strandings.look(tell=False)
