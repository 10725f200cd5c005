"""The parts of a running daemon: built from the configuration, changed by a reload. app.py starts them and ends them."""

import asyncio
import hashlib
import os
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tunerd import __version__
from tunerd.admin.answer_types import ConfigurationDocument
from tunerd.admin.status_report import Facts
from tunerd.audio.audio_bytes import AudioPlace
from tunerd.audio.directory_threads import DirectoryThreads
from tunerd.audio.local_place import LocalPlace
from tunerd.audio.object_place import ObjectPlace
from tunerd.audio.spool import AudioSpool
from tunerd.audio.spool_place import SpoolPlace
from tunerd.call import Document, Form, Mapped, RefusedDocument
from tunerd.clock import Clock
from tunerd.config import Config, Destination, LedgerConfig, Source
from tunerd.config import Delivery as DeliveryConfig
from tunerd.delivery.audio_upload import StorageUploader
from tunerd.delivery.contact_tracker import ContactTracker
from tunerd.delivery.key import Key
from tunerd.delivery.ports import AudioTools, Connect, Ports, Upload
from tunerd.delivery.proxy import refuse_proxies
from tunerd.delivery.run import DeliveryService
from tunerd.delivery.signing import UrlSigner
from tunerd.delivery.upload import Uploader, open_session
from tunerd.delivery.url_asking import UrlAsker
from tunerd.events import ConfigRefused, ConfigReloaded, Emit, Stopping
from tunerd.intake.admission_gate import Limits
from tunerd.intake.gather import Gather
from tunerd.intake.other_readers import OtherReaders, tell_other_readers
from tunerd.intake.read_again import read_documents, read_place
from tunerd.intake.sources import Intake, IntakeOptions
from tunerd.ledger import Claimed, Fleet, LedgerUnavailable
from tunerd.ledger.service.stored_ledger import StoredLedger
from tunerd.lifecycle import Stop
from tunerd.loading.config_file import load, refuse_changes, variables_of
from tunerd.location import LocationKind
from tunerd.mapping import SourceMapping, compile_sources, manifest_sources
from tunerd.mapping.forms import freeze_body
from tunerd.mapping.gathering import set_aside
from tunerd.open_ledger import disks_of
from tunerd.ops.log_writer import LogLevel
from tunerd.ops.mask import keep_out
from tunerd.ops.measures import LedgerLimits, LedgerMeasures
from tunerd.ops.measuring import measure_forever
from tunerd.ops.metrics import Metrics
from tunerd.ops.systemd import Notifier
from tunerd.outcome import Outcome
from tunerd.reload_threads import ReloadThreads
from tunerd.yaml_location import ConfigError


@dataclass(slots=True, kw_only=True)
class Runtime:
    """The parts of a running daemon, of which a reload changes some."""

    config: Config
    mappings: Mapping[str, SourceMapping]
    ledger: StoredLedger
    intake: Intake
    delivery: DeliveryService
    spool: AudioSpool
    ask_url: UrlAsker
    facts: Facts
    emit: Emit
    now: Callable[[], float]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One reload at a time: a signal and an order over the control socket may come together."""
    threads: ReloadThreads = field(default_factory=ReloadThreads)

    def read_again(self, source: str, path: str, offset: int) -> Document | RefusedDocument:
        """One place on disk, as it is now (blocking)."""
        settings = next((s for s in self.config.sources if s.name == source), None)
        limit = settings.max_document_bytes if settings is not None else 4 * 1024 * 1024
        if settings is not None and settings.documents is not None:
            return self._element(settings, path, offset)
        root = settings.path if settings is not None else None
        spool = self.spool if settings is not None and settings.holds_audio else None
        found = read_place(path, offset, 0, limit, source=source, settled_at=self.now(), root=root, spool=spool)
        self._let_go(found)
        stores = settings is None or settings.stores_documents
        return found if stores or isinstance(found, Document) else found.without_text()

    def _element(self, source: Source, path: str, offset: int) -> Document | RefusedDocument:
        """A document that stands in the list of another one, as it is now. Raises OSError, and ValueError where it is gone."""
        mapping = self.mappings[source.name]
        limit, now = source.max_document_bytes, self.now()
        spool = self.spool if source.holds_audio else None
        reads = read_documents(path, source.format, limit, source=source.name, settled_at=now, root=source.path, spool=spool)
        found = (each for one in reads for each in (mapping.elements(one) if isinstance(one, Document) else [one]))
        element = next((one for one in found if one.origin.offset == offset), None)
        if element is None:
            raise ValueError("it holds no such document any more")
        self._let_go(element)
        return element if source.stores_documents or isinstance(element, Document) else element.without_text()

    def _let_go(self, found: Document | RefusedDocument) -> None:
        """Audio of a place that was read again stays in the spool if the order brings it into the ledger within a minute."""
        for one in found.spooled.values() if isinstance(found, Document) else ():
            self.spool.answered(one.location)


async def build_runtime(
    config: Config,
    environ: Mapping[str, str],
    ledger: StoredLedger,
    clock: Clock,
    emit: Emit,
    stack: AsyncExitStack,
    contacts: ContactTracker | None,
) -> Runtime:
    mappings = compile_sources(config, environ, forms_of(config.destinations))
    session = await stack.enter_async_context(open_session(asks=ledger.fleet.is_shared))
    storage = await stack.enter_async_context(open_session())  # of its own: an upload takes no connection from the calls
    spool = AudioSpool(f"{config.ledger.path}.audio", config.ledger.max_spool_bytes)
    ask_url = UrlAsker()
    stack.callback(ask_url.close)
    ask_url.change({one.name: one.verify.allow for one in config.sources})
    audio_threads = DirectoryThreads(clock, emit)
    places: Mapping[LocationKind, AudioPlace] = {
        LocationKind.FILE: LocalPlace(audio_threads), LocationKind.OBJECT: ObjectPlace(clock),
        LocationKind.EMBEDDED: SpoolPlace(spool, audio_threads),
    }  # fmt: skip
    audio = AudioTools(places=places, upload=StorageUploader(storage, environ, clock))
    delivery = DeliveryService(
        config.destinations, config.delivery, Ports(ledger=ledger, freeze=freeze_body, clock=clock, emit=emit,
        connect=_connect(session, clock, environ, contacts, ledger.fleet), signer=UrlSigner(clock, emit), fleet=ledger.fleet,
        chance=random.random, audio=audio, ask_url=ask_url))  # fmt: skip
    options = IntakeOptions(
        limits=limits_of(config.ledger), crash_journal=f"{config.ledger.path}.in-hand", spool=spool,
        audio_threads=audio_threads, set_aside=set_aside,
    )  # fmt: skip
    intake = Intake(config.sources, ledger, _mappers(mappings), clock, emit, options, _gathers(mappings))
    stack.callback(intake.close)
    return Runtime(config=config, mappings=mappings, ledger=ledger, intake=intake, delivery=delivery, spool=spool,
                   ask_url=ask_url, facts=_facts(config, clock.now()), emit=emit, now=clock.now)  # fmt: skip


def _facts(config: Config, now: float) -> Facts:
    """The file's path is absolute: commands that look for the daemon of a file compare it."""
    path = os.path.abspath(config.file)
    return Facts(version=__version__, config_file=path, fingerprint=fingerprint_of(config), ledger=config.ledger.shown,
                 instance=config.instance, is_fleet=config.ledger.server is not None, last_reload_at=now)  # fmt: skip


def fingerprint_of(config: Config) -> str:
    """The first digits of the SHA-256 of the file's text. Keys that are written in it are left out, so that it says nothing about
    them."""
    text = config.text.reveal()
    keys = [destination.api_key.reveal() for destination in config.destinations if destination.api_key is not None]
    for secret in filter(None, [*keys, config.ledger.password]):
        text = text.replace(secret, "")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def configuration_document(runtime: Runtime, environ: Mapping[str, str]) -> ConfigurationDocument:
    config = runtime.config
    return ConfigurationDocument(file=runtime.facts.config_file, text=config.text.reveal(),
                                 environment=variables_of(config, environ))  # fmt: skip


def _connect(
    session: aiohttp.ClientSession,
    clock: Clock,
    environ: Mapping[str, str],
    contacts: ContactTracker | None,
    fleet: Fleet,
) -> Connect:
    def connect(destination: Destination, key: Key, settings: DeliveryConfig) -> Upload:
        uploader = Uploader(session, destination, key, settings, clock, environ, fleet)

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
        max_spool_bytes=ledger.max_spool_bytes,
    )


def labels_of(config: Config) -> dict[str, str]:
    """What metrics call each destination, by its name."""
    return {destination.name: destination.label for destination in config.destinations}


def forms_of(destinations: Sequence[Destination]) -> dict[str, Form]:
    """The request form of each destination where configuration and key tell it now."""
    forms = {destination.name: Key(destination).form for destination in destinations}
    return {name: form for name, form in forms.items() if form is not None}


def _gathers(mappings: Mapping[str, SourceMapping]) -> dict[str, Gather]:
    return {name: mapping for name, mapping in mappings.items() if mapping.gathers}


def _mappers(mappings: Mapping[str, SourceMapping]) -> dict[str, Callable[[Document], Mapped]]:
    return {name: mapping.map_read for name, mapping in mappings.items()}


async def reload(
    runtime: Runtime, file: Path, environ: Mapping[str, str], notifier: Notifier, metrics: Metrics, level: LogLevel
) -> Sequence[str]:
    """Take the configuration as it is on disk now, or refuse it as a whole; gives what is wrong with it."""
    async with runtime.turn:
        return await _reload_now(runtime, file, environ, notifier, metrics, level)


async def _reload_now(
    runtime: Runtime, file: Path, environ: Mapping[str, str], notifier: Notifier, metrics: Metrics, level: LogLevel
) -> Sequence[str]:
    notifier.reloading()
    facts = runtime.facts
    try:
        config = await runtime.threads.run(file, lambda: load(file, environ))
        refuse_changes(runtime.config, config)
        refuse_proxies(config, environ)
        mappings = await asyncio.to_thread(compile_sources, config, environ, forms_of(config.destinations))
        disks = await runtime.threads.run(file, lambda: disks_of(config))
    except ConfigError as exc:
        facts.problems = tuple(map(str, exc.problems))
        facts.last_reload_successful = False
        runtime.emit(ConfigRefused(problems=facts.problems))
        return facts.problems
    else:
        metrics.know([source.name for source in config.sources], labels_of(config))
        level.set(config.log.level)
        runtime.config, runtime.mappings = config, mappings
        runtime.ask_url.change({one.name: one.verify.allow for one in config.sources})
        runtime.ledger.keep_free(config.ledger.min_free_bytes)
        with suppress(LedgerUnavailable):  # it is asked again for each source, once the server answers
            await runtime.ledger.set_disks(disks)
        await runtime.delivery.update(config.destinations, config.delivery)
        await runtime.intake.update(config.sources, _mappers(mappings), limits_of(config.ledger), _gathers(mappings))
        facts.problems, facts.last_reload_successful, facts.last_reload_at = (), True, runtime.now()
        facts.fingerprint = fingerprint_of(config)
        runtime.emit(ConfigReloaded(sources=len(config.sources)))
        return ()
    finally:
        notifier.ready()


async def look_for_others(runtime: Runtime, clock: Clock, emit: Emit, ended: asyncio.Event) -> None:
    def roots() -> Mapping[str, str]:
        alone = runtime.config.ledger.server is None
        return {source.name: source.path for source in runtime.config.sources if alone or not source.shared}

    def seen(others: Mapping[str, str]) -> None:
        runtime.facts.other_readers = others

    await tell_other_readers(OtherReaders(runtime.config.ledger.shown), roots, seen, clock, emit, ended)


async def measure_ledger(runtime: Runtime, clock: Clock, ended: asyncio.Event) -> None:
    """For the metrics."""
    facts = runtime.facts

    def manifests() -> Collection[str]:
        return manifest_sources(runtime.config.sources)

    def limits() -> LedgerLimits:
        ledger = runtime.config.ledger
        return LedgerLimits(max_pending_bytes=ledger.max_pending_bytes, min_free_bytes=ledger.min_free_bytes)

    def measured(measures: LedgerMeasures) -> None:
        facts.measures = measures

    facts.limits = limits
    await measure_forever(runtime.ledger, manifests, measured, clock, ended)


def note_stopping(runtime: Runtime, notifier: Notifier, stop: Stop) -> None:
    drain_s = runtime.config.delivery.drain_s
    runtime.facts.stopping = True
    notifier.stopping()
    notifier.extend_timeout(drain_s + 5)
    runtime.emit(Stopping(signal=stop.by or "done", drain_s=drain_s))


def is_all_read(intake: Intake) -> bool:
    """Every source was listed, and of what it held nothing waits to be read; or another instance reads it."""
    return not intake.busy() and all(status.last_scan_at is not None or status.read_by for status in intake.statuses())
