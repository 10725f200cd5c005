"""A source's rules at work: document in; call, recording, refusal or nothing out. Never raises for what a document holds.

The order of a document's way stands in SourceMapping: let, refuse, when, fields, strategies, timeline, payload. What the
rules are made of is building.py's matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tunerd.call import (
    KEPT_HEAD_BYTES,
    Call,
    Document,
    Form,
    IgnoredDocument,
    ManifestStrategy,
    Mapped,
    MappingNotes,
    Recording,
    Refusal,
    RefusedDocument,
    Strategy,
    UrlStrategy,
)
from tunerd.config import Destination, ManifestRule, Source, form_of_key
from tunerd.mapping import payload, timeline
from tunerd.mapping.building import REQUIRED, Builder, Compiled, StrategyRules
from tunerd.mapping.explanation import Explanation, explanation_of
from tunerd.mapping.functions import Run
from tunerd.mapping.origin import file_root, path_groups
from tunerd.mapping.rows import number_of, text_of
from tunerd.mapping.ruleset import RuleSet
from tunerd.mapping.trace import RECORDER_SLOT, Misfit, Recorder, Step
from tunerd.mapping.values import missing, true
from tunerd.outcome import FailReason

_DECISIVE: Final = frozenset({*REQUIRED, "start_timestamp", "end_timestamp", "key", "url", "absent_when", "started_at"})
"""An error in the rule of one of these fails the document; any other field is left out."""


def compile_source(
    source: Source,
    destination: Destination | None,
    *,
    sources_with_started_at: Mapping[str, bool],
    environ: Mapping[str, str],
    form: Form | None = None,
    path: str | None = None,
) -> "SourceMapping":
    """Compile a source's rules, its preset's included. Raises ConfigError with every problem.

    `sources_with_started_at`: name of each source that brings recordings -> whether they come with their start
    (building.manifest_sources makes it). `form`: the request form where the caller knows more than the configuration (it
    read a key file). `path`: how problems name the source; by default `sources.NAME`.
    """
    if form is None and destination is not None:
        form = destination.form
        if form is None and destination.api_key is not None:
            form = form_of_key(destination.api_key.get_secret_value())
    builder = Builder(source, destination, sources_with_started_at, environ, path or f"sources.{source.name}")
    return SourceMapping(builder, form)


class _Unfit(Exception):
    """A refusal on its way out."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.where)
        self.refusal = refusal


@dataclass(slots=True)
class _Run:
    """One document on its way."""

    document: Document
    compiled: Compiled
    slots: list[Any]
    recorder: Recorder | None
    """None in the bare run."""
    missing: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    repairs: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    """By field or strategy."""
    values: dict[str, Any] = field(default_factory=dict)
    strategies: tuple[Strategy, ...] = ()
    call_id: str | None = None
    agent: str = ""

    def notes(self) -> MappingNotes:
        left_out = self.left_out
        if self.recorder is not None and self.recorder.left_out:
            left_out = left_out + [misfit.step.path.removeprefix("call.") for misfit in self.recorder.left_out]
        return MappingNotes(missing=tuple(self.missing), left_out=tuple(dict.fromkeys(left_out)), repairs=self.repairs)


class SourceMapping:
    """The rules of one source. Safe to use from several threads at once."""

    def __init__(self, builder: Builder, form: Form | None) -> None:
        self._builder = builder
        self._source = builder.source
        self._destination = builder.destination
        self._form = form
        self._untimed = builder.rules.untimed
        self._bare = builder.compile(with_places=False)
        self._with_places: Compiled | None = None
        self.fields_with_rules: tuple[str, ...] = tuple(self._bare.call.steps) if self._bare.call else ()
        """Fields of the call that have a rule: their metrics start at zero."""

    def map(self, document: Document) -> Mapped:
        """What the document gives. Never raises for what stands in it."""
        try:
            return self._map(self._start(document, self._bare, None))
        except Exception:  # once more, with places: to say which rule it was, and to go on without an optional field
            return self._map_with_places(document)[1]

    def explain(self, document: Document) -> Explanation:
        """The same, with what every rule gave, and why not. Holds values of the document: for its owner's eyes."""
        run, mapped = self._map_with_places(document)
        compiled = run.compiled
        return explanation_of(
            mapped,
            steps=compiled.steps,
            fields={**(compiled.manifest.steps if compiled.manifest else {}), **(compiled.call.steps if compiled.call else {})},
            recorder=run.recorder or Recorder(),
            values=run.values,
            errors=run.errors,
            strategies=[(rules.path, rules.text) for rules in compiled.strategies],
            answers=run.strategies,
        )

    # One run

    def _map_with_places(self, document: Document) -> tuple[_Run, Mapped]:
        if self._with_places is None:
            self._with_places = self._builder.compile(with_places=True)
        run = self._start(document, self._with_places, Recorder())
        try:
            return run, self._map(run)
        except Misfit as misfit:
            refusal = Refusal(reason=FailReason.UNMAPPABLE, where=str(misfit.step), what=misfit.told)
        except RecursionError:
            refusal = Refusal(reason=FailReason.UNMAPPABLE, where="document", what="a value in it is nested too deep")
        except Exception as error:  # whatever a document breaks: it is refused, and seen
            what = f"the mapping can't work on it ({type(error).__name__}); please report this"
            refusal = Refusal(reason=FailReason.UNMAPPABLE, where="document", what=what)
        return run, self._refused(run, refusal, None)

    def _start(self, document: Document, compiled: Compiled, recorder: Recorder | None) -> _Run:
        slots: list[Any] = [None] * compiled.size
        slots[RECORDER_SLOT] = recorder
        groups: dict[str, Any] | None = None
        for name, index in compiled.roots.items():
            if name == "doc":
                slots[index] = document.value
            elif name == "file":
                slots[index] = file_root(document.origin, self._source.path)
            else:
                if groups is None:
                    groups = path_groups(self._builder.path_groups, document.origin, self._source.path)
                slots[index] = groups.get(name)
        return _Run(document, compiled, slots, recorder)

    def _map(self, run: _Run) -> Mapped:
        recording = None
        try:
            if run.compiled.manifest is not None:
                recording = self._recording(run, run.compiled.manifest)
            call = self._call(run, run.compiled.call) if run.compiled.call is not None else None
        except _Unfit as unfit:
            return self._refused(run, unfit.refusal, recording)
        if call is None and recording is None:
            return Mapped(ignored=IgnoredDocument(origin=run.document.origin), notes=run.notes())
        return Mapped(call=call, recording=recording, notes=run.notes())

    def _refused(self, run: _Run, refusal: Refusal, recording: Recording | None) -> Mapped:
        document = run.document
        refused = RefusedDocument(
            origin=document.origin,
            refusal=refusal,
            head=document.raw[:KEPT_HEAD_BYTES],
            document=document.raw,
            call_id=run.call_id,
            destination=self._destination.name if self._destination else "",
            agent=run.agent or self._source.agent_remote_identifier or "",
            settled_at=document.settled_at,
        )
        return Mapped(refused=refused, recording=recording, notes=run.notes())

    # A call

    def _call(self, run: _Run, rules: RuleSet) -> Call | None:
        if not _wanted(run, rules):
            return None
        fields = _fields(run, rules)
        run.call_id = text_of(fields.get("call_id"))
        for name in REQUIRED:
            if name not in fields:
                raise _Unfit(_gave_nothing(rules.steps[name], "call"))
        run.agent = self._agent(run)
        run.strategies = tuple([_strategy(run, strategy) for strategy in run.compiled.strategies])
        placed = timeline.place(fields, form=self._form, untimed=self._untimed)
        if isinstance(placed, Refusal):
            raise _Unfit(placed)
        run.repairs = dict(placed.repairs)
        built = payload.build(fields, placed, form=self._form)
        if isinstance(built, Refusal):
            raise _Unfit(built)
        run.repairs.update(built.repairs)
        run.left_out += built.left_out
        document, destination = run.document, self._destination
        return Call(
            origin=document.origin,
            document=document.raw,
            destination=destination.name if destination else "",
            workspace=destination.workspace if destination else "",
            agent=run.agent,
            call_id=built.call_id,
            started_at_ms=built.started_at_ms,
            payload=built.body_json,
            checked_for=built.checked_for,
            strategies=run.strategies,
            on_missing=self._source.on_missing,
            settled_at=document.settled_at,
        )

    def _agent(self, run: _Run) -> str:
        rule = run.compiled.agent
        agent = (text_of(rule(run.slots)) or "").strip() if rule is not None else ""
        agent = agent or self._source.agent_remote_identifier or ""
        if not agent and self._destination is not None:
            what = "the rule gave no text, and `tuner:` has no agent_remote_identifier to fall back to"
            raise _Unfit(Refusal(reason=FailReason.UNMAPPABLE, where="agent", what=what))
        return agent

    # A recording

    def _recording(self, run: _Run, rules: RuleSet) -> Recording | None:
        if not _wanted(run, rules):
            return None
        fields = _fields(run, rules)
        alone = run.compiled.call is None
        key = (text_of(fields.get("key")) or "").strip()
        url = (text_of(fields.get("url")) or "").strip() or None
        absent = true(fields.get("absent_when"))
        if not key or (url is None and not absent):
            if alone:
                raise _Unfit(_gave_nothing(rules.steps["url" if key else "key"], "recording"))
            return None  # of a source that has calls too: this document is only one of those
        started, expires, duration = fields.get("started_at"), fields.get("expires_at"), number_of(fields.get("duration_ms"))
        return Recording(
            origin=run.document.origin,
            source=self._source.name,
            key=key,
            url=None if absent else url,
            started_at=None if started is None else started / 1000,
            duration_s=None if duration is None else duration / 1000,
            expires_at=None if expires is None else expires / 1000,
        )


def _wanted(run: _Run, rules: RuleSet) -> bool:
    """let, refuse and when, in this order. False: the document is left out on purpose."""
    if run.recorder is None:
        rules.let(run.slots)
    else:
        rules.let_guarded(run.slots)
    for reason, refuse, step in rules.refuse:
        if true(refuse(run.slots)):
            what = f"the mapping refuses it: {reason.replace('_', ' ')}"
            raise _Unfit(Refusal(reason=FailReason.REFUSED, where=str(step), what=what))
    return rules.when is None or true(rules.when(run.slots))


def _fields(run: _Run, rules: RuleSet) -> dict[str, Any]:
    """Every field that its rule gave; what is missing or failed is noted."""
    fields: dict[str, Any] = {}
    slots = run.slots
    for name, rule in rules.fields:
        try:
            value = rule(slots)
        except Misfit as misfit:  # only the run with places raises it; an error in the bare run leads to that one
            if name in _DECISIVE:
                raise
            run.left_out.append(name)
            run.errors[name] = misfit.told
            continue
        if value or not missing(value):
            fields[name] = value
        else:
            run.missing.append(name)
    run.values.update(fields)
    return fields


def _strategy(run: _Run, rules: StrategyRules) -> Strategy:
    """A strategy decided for this call; one whose rule failed, or gave no text, answers "absent"."""
    wanted = _lenient(run, rules.wanted, rules.path)
    given = text_of(wanted)
    text = (given or "").strip() or None
    if given is None and not missing(wanted):
        run.left_out.append(rules.path)
        run.errors[rules.path] = "the rule gave no text"
    if isinstance(rules.rule, ManifestRule):
        return ManifestStrategy(source=rules.rule.manifest, key=text, within_s=rules.rule.within_s, wait_s=rules.rule.wait_s)
    expires = None if rules.expires_at is None else _lenient(run, rules.expires_at, rules.path)
    return UrlStrategy(url=text, expires_at=None if expires is None else expires / 1000)


def _lenient(run: _Run, rule: Run, path: str) -> Any:
    try:
        return rule(run.slots)
    except Misfit as misfit:
        run.left_out.append(path)
        run.errors[path] = misfit.told
        return None


def _gave_nothing(step: Step, of: str) -> Refusal:
    what = f"gave nothing, and every {of} needs it; `tunerd explain FILE` shows what each rule found"
    return Refusal(reason=FailReason.UNMAPPABLE, where=str(step), what=what)
