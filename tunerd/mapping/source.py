"""A source's rules at work: document in; call, recording, refusal or nothing out. Never raises for what a document holds.

The order of a document's way stands in SourceMapping: let, refuse, when, fields, strategies, timeline, payload. What the
rules are made of is building.py's matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from tunerd.call import (
    KEPT_HEAD_BYTES,
    Call,
    Document,
    Form,
    Fragment,
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
from tunerd.location import url_problem
from tunerd.mapping import payload, timeline
from tunerd.mapping.building import REQUIRED, Builder, Compiled, StrategyRules
from tunerd.mapping.elements import elements_of
from tunerd.mapping.envelopes import inside
from tunerd.mapping.explanation import Explanation, explanation_of, reports
from tunerd.mapping.functions import Run
from tunerd.mapping.gathering import (
    MOST_BYTES,
    DocumentRules,
    Piece,
    document_of,
    merged,
    newest_parts,
    pack,
    unpack,
)
from tunerd.mapping.origin import file_root, path_groups
from tunerd.mapping.recognition import Judgement, judge, unrecognised
from tunerd.mapping.redaction import Redaction
from tunerd.mapping.roles import DROPS_SLOT, Dropped, counted, names_of, rejected
from tunerd.mapping.row_values import number_of, text_of
from tunerd.mapping.ruleset import RuleSet
from tunerd.mapping.trace import TRACE_SLOT, Misfit, RuleRef, Trace
from tunerd.mapping.values import RuleError, missing, true
from tunerd.outcome import FailReason
from tunerd.tuner_fields import ROWS

_DECISIVE: Final = frozenset({*REQUIRED, "start_timestamp", "end_timestamp", "key", "id", "url", "absent_when", "started_at"})
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
            form = form_of_key(destination.api_key.reveal())
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
    trace: Trace | None
    """None in the bare run."""
    missing: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    repairs: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    """By field or strategy."""
    redacted: Mapping[str, int] = field(default_factory=dict)
    redactions: Sequence[tuple[str, str]] = ()
    values: dict[str, Any] = field(default_factory=dict)
    strategies: tuple[Strategy, ...] = ()
    call_id: str | None = None
    agent: str = ""
    judged: dict[str, Judgement] = field(default_factory=dict)
    """Of `call` and `manifest`: what was said of the document."""
    broken: bool = False
    """A `let` failed, which is an error only of the rules that read it. In the run with places."""

    @property
    def is_known(self) -> bool:
        """Whether the rules know the document, as what it wants to be or as something else."""
        return any(one.is_final for one in self.judged.values())

    @property
    def failed(self) -> bool:
        """A rule failed, and it is known which. In the run with places."""
        return bool(self.broken or self.errors or self.left_out or (self.trace is not None and self.trace.left_out))

    def notes(self) -> MappingNotes:
        left_out = self.left_out
        if self.trace is not None and self.trace.left_out:
            left_out = left_out + [misfit.step.path.removeprefix("call.") for misfit in self.trace.left_out]
        return MappingNotes(
            missing=tuple(self.missing),
            left_out=tuple(dict.fromkeys(left_out)),
            repairs=self.repairs,
            redacted=self.redacted,
            rows_dropped=counted(self.dropped) if self.dropped else {},
            unknown_roles=names_of(self.dropped) if self.dropped else (),
        )

    @property
    def dropped(self) -> list[Dropped]:
        """Rows that say something and have no role."""
        dropped: list[Dropped] = self.slots[DROPS_SLOT]
        return dropped


class SourceMapping:
    """The rules of one source. Safe to use from several threads at once."""

    def __init__(self, builder: Builder, form: Form | None) -> None:
        self._builder = builder
        self._source = builder.source
        self._destination = builder.destination
        self._form = form
        self._untimed = builder.rules.untimed
        self._redaction = Redaction(self._source.redact) if self._source.redact is not None else None
        self._bare = builder.compile(with_places=False)
        self._with_places: Compiled | None = None
        call = (self._bare.group or self._bare).call
        self.fields_with_rules: tuple[str, ...] = tuple(call.steps) if call else ()
        """Fields of the call that have a rule: their metrics start at zero."""
        self._alone = builder.rules.alone
        self._unwraps = builder.rules.unwraps
        self.gathers = self._bare.gather is not None and not self._alone
        """Its calls come of several documents: `map` gives fragments, `gather` the call."""

    def elements(self, document: Document) -> list[Document | RefusedDocument]:
        """The documents in what was read: itself, or with `documents:` those of its list. Never raises."""
        if self._bare.documents is None or document.is_element:
            return [document]
        try:
            return self._kept(elements_of(document, self._bare.documents(self._start(document, self._bare, None).slots)))
        except Exception as error:
            refusal = replace(_refusal_of(error), where="documents")
            if isinstance(error, RuleError):
                refusal = replace(refusal, what=str(error))
            return self._kept([self._refusal(self._start(replace(document, raw=document.raw), self._bare, None), refusal)])

    def _kept(self, found: list[Document | RefusedDocument]) -> list[Document | RefusedDocument]:
        stores = self._source.stores_documents
        return [one if isinstance(one, Document) or stores else one.without_text() for one in found]

    def map_read(self, document: Document) -> Mapped:
        """`map`, of each of its elements."""
        found = self.elements(document)
        if len(found) == 1 and found[0] is document:
            return self.map(document)
        if not found:  # an empty page
            return Mapped(ignored=IgnoredDocument(origin=document.origin, known=True))
        each = [(one, self.map(one) if isinstance(one, Document) else Mapped(refused=one)) for one in found]
        return Mapped(each=each)

    def map(self, document: Document) -> Mapped:
        """What the document gives. Never raises for what stands in it. Of a source that gathers it may also be what the
        ledger kept of a gathered call (Call.document)."""
        if self._bare.gather is not None and (documents := unpack(document.value, self._source.name)) is not None:
            return self._gather(documents) or Mapped()
        if self._alone:
            return self._no_part(document) or self._gather([document]) or Mapped()
        try:
            return self._map_or_unwrapped(document, self._bare)[1]
        except Exception as error:  # once more, with places: names the rule, and leaves out an optional field
            run, mapped = self._map_with_places(document)
            return mapped if run.failed or mapped.refused is not None else self._refused(run, _refusal_of(error), None)

    def explain(self, document: Document) -> Explanation:
        """The same, with what every rule gave, and why not. Holds values of the document: for its owner's eyes."""
        if self._alone:
            run, mapped, _ = self._gather_with_places([document], True)
            return self._explanation(run, self._no_part(document) or mapped or Mapped())
        return self._explanation(*self._map_with_places(document))

    @staticmethod
    def _explanation(run: _Run, mapped: Mapped) -> Explanation:
        compiled = run.compiled
        return explanation_of(
            mapped,
            steps=compiled.steps,
            fields={**(compiled.manifest.steps if compiled.manifest else {}), **(compiled.call.steps if compiled.call else {})},
            trace=run.trace or Trace(),
            values=run.values,
            errors=run.errors,
            strategies=[(rules.path, rules.text) for rules in compiled.strategies],
            answers=run.strategies,
            redactions=run.redactions,
        )

    # A call of several documents

    def gather(self, kept: bytes | None, fragments: Sequence[Fragment], *, wait_is_over: bool = True) -> Mapped | None:
        """The call that documents of one key make: those that the ledger `kept` with it (Call.document), and new ones.
        None: it is not complete, and its wait is not over. Never raises for what stands in them."""
        known = unpack(orjson.loads(kept), self._source.name) if kept is not None else None
        return self._gather(merged(known or (), [document_of(one) for one in fragments]), wait_is_over=wait_is_over)

    def set_aside(self, kept: bytes | None, fragments: Sequence[Fragment], refusal: Refusal) -> RefusedDocument:
        """The same documents as a refusal, none of them mapped: what killed the process is not tried again."""
        known = unpack(orjson.loads(kept), self._source.name) if kept is not None else None
        documents = merged(known or (), [document_of(one) for one in fragments])
        run = self._start(replace(documents[-1], raw=pack(documents)), self._bare, None)
        return self._refusal(run, refusal)

    def explain_gathered(self, fragments: Sequence[Fragment]) -> Explanation:
        """`explain`, over all documents of a call."""
        run, mapped, trace = self._gather_with_places(merged((), [document_of(one) for one in fragments]), True)
        explanation = self._explanation(run, mapped or Mapped())
        of_documents = reports(self._compiled_with_places().steps, trace)
        return replace(explanation, rules=[*of_documents, *explanation.rules])

    def _gather(self, documents: Sequence[Document], *, wait_is_over: bool = True) -> Mapped | None:
        try:
            run, parts = self._start_group(documents, self._bare, None, None)
            return self._map_group(run, documents, parts, wait_is_over=wait_is_over)
        except Exception as error:  # as in `map`
            run, mapped, _ = self._gather_with_places(documents, wait_is_over)
            if mapped is None or mapped.refused is not None or run.failed:
                return mapped
            return self._refused(run, _refusal_of(error), None)

    def _gather_with_places(self, documents: Sequence[Document], wait_is_over: bool) -> tuple[_Run, Mapped | None, Trace]:
        compiled, trace = self._compiled_with_places(), Trace()
        whole = replace(documents[-1], raw=pack(documents))
        run, parts = self._start(whole, compiled.group or compiled, Trace()), frozenset[str]()
        try:
            run, parts = self._start_group(documents, compiled, Trace(), trace)
            return run, self._map_group(run, documents, parts, wait_is_over=wait_is_over), trace
        except Exception as error:
            run.document = replace(run.document, raw=whole.raw)
            return run, self._refused(run, self._with_absent(_refusal_of(error), parts), None), trace

    def _start_group(
        self, documents: Sequence[Document], compiled: Compiled, trace: Trace | None, of_documents: Trace | None
    ) -> tuple[_Run, frozenset[str]]:
        """A run over all documents, and the parts that are there. What part each is, is told by today's rules."""
        rules, group = compiled.gather, compiled.group
        if rules is None or group is None:
            raise TypeError(f"source {self._source.name} does not gather")
        pieces: list[Piece] = []
        documents = [self._unwrapped(document) for document in documents]
        for document in documents:
            slots = self._start(document, compiled, of_documents).slots
            pieces.append(Piece(document, rules.part_of(slots), rules.newest_of(slots)))
        parts = newest_parts(pieces)
        settled_at = max(document.settled_at for document in documents)
        whole = Document(origin=documents[-1].origin, raw=b"", value=documents[0].value, settled_at=settled_at)
        run = self._start(whole, group, trace)
        for name, index in group.roots.items():
            if name == "docs":
                run.slots[index] = [document.value for document in documents]
            elif (part := parts.get(name)) is not None:
                run.slots[index] = part.value
        return run, frozenset(parts)

    def _map_group(self, run: _Run, documents: Sequence[Document], parts: frozenset[str], *, wait_is_over: bool) -> Mapped | None:
        if not wait_is_over and not self._is_complete(run):
            return None
        run.document = replace(run.document, raw=pack(documents))
        if len(run.document.raw) > MOST_BYTES:
            what = f"its documents are more than {MOST_BYTES:,} bytes together: is `gather.key` the same for many calls?"
            return self._refused(run, Refusal(reason=FailReason.TOO_LARGE, where="gather", what=what), None)
        mapped = self._map(run)
        if mapped.refused is None:
            return mapped
        return replace(mapped, refused=replace(mapped.refused, refusal=self._with_absent(mapped.refused.refusal, parts)))

    def _is_complete(self, run: _Run) -> bool:
        complete = run.compiled.complete
        try:
            return complete is not None and true(complete(run.slots))
        except Misfit as misfit:  # it waits then, and is mapped with what is there
            run.left_out.append("gather.complete")
            run.errors["gather.complete"] = misfit.told
            return False

    def _with_absent(self, refusal: Refusal, there: frozenset[str]) -> Refusal:
        """What is missing often stands in a part that never came; where each document is a call, in another document."""
        rules = self._bare.gather
        absent = [name for name, _ in rules.parts if name not in there] if rules is not None else []
        if not absent or refusal.reason not in (FailReason.UNMAPPABLE, FailReason.INVALID):
            return refusal
        never = f"part `{absent[0]}`" if len(absent) == 1 else f"parts {', '.join(f'`{name}`' for name in absent)}"
        why = (
            f"with `gather: null` each document is a whole call, and this one has no {never}"
            if self._alone
            else (f"its {never} never came")
        )
        return replace(refusal, what=f"{refusal.what}; {why}")

    # One run

    def _compiled_with_places(self) -> Compiled:
        if self._with_places is None:
            self._with_places = self._builder.compile(with_places=True)
        return self._with_places

    def _map_with_places(self, document: Document) -> tuple[_Run, Mapped]:
        return self._map_or_unwrapped(document, self._compiled_with_places(), with_places=True)

    def _map_or_unwrapped(self, document: Document, compiled: Compiled, *, with_places: bool = False) -> tuple[_Run, Mapped]:
        """The document as it stands or, where the rules do not know that, as what they know of the values inside it. Without
        places it raises what a rule raised."""
        run = self._start(self._unwrapped(document), compiled, Trace() if with_places else None)
        mapped, error = self._map_or_error(run)
        if self._unwraps and not _is_settled(run, mapped):
            for value in inside(document.value):
                inner = self._start(replace(document, value=value), compiled, Trace() if with_places else None)
                found, problem = self._map_or_error(inner)
                if _is_settled(inner, found):
                    run, mapped, error = inner, found, problem
                    break
        if mapped is not None:
            return run, mapped
        if not with_places and error is not None:
            raise error
        return run, self._refused(run, _refusal_of(error or RuntimeError()), None)

    def _map_or_error(self, run: _Run) -> tuple[Mapped | None, Exception | None]:
        try:
            return self._map(run), None
        except Exception as error:
            return None, error

    def _no_part(self, document: Document) -> Mapped | None:
        """Of a source that takes each document of its preset for a call: one that is no part of any."""
        rules, run = self._bare.gather, self._start(self._unwrapped(document), self._bare, None)
        try:
            if rules is None or not rules.is_no_part(run.slots):
                return None
        except Exception:  # the rules of the call tell more
            return None
        return Mapped(ignored=IgnoredDocument(origin=document.origin, known=True))

    def _unwrapped(self, document: Document) -> Document:
        """Of a source that gathers: the document that its `known:` rule means, the given one or one inside it."""
        rules = self._bare.gather
        if rules is None or rules.known is None or not self._unwraps:
            return document
        for value in (document.value, *inside(document.value)):
            candidate = document if value is document.value else replace(document, value=value)
            try:
                if rules.is_known(self._start(candidate, self._bare, None).slots):
                    return candidate
            except Exception:  # noqa: S112 - a value that the rule can't work on is not the one
                continue
        return document

    def _start(self, document: Document, compiled: Compiled, trace: Trace | None) -> _Run:
        slots: list[Any] = [None] * compiled.size
        slots[TRACE_SLOT] = trace
        slots[DROPS_SLOT] = []
        groups: Mapping[str, Any] | None = None
        for name, index in compiled.roots.items():
            if name == "doc":
                slots[index] = document.value
            elif name == "file":
                slots[index] = file_root(document.origin, self._source.path)
            else:  # a group of the path; documents of a gathered call are filled in later
                if groups is None:
                    groups = path_groups(self._builder.path_groups, document.origin, self._source.path)
                slots[index] = groups.get(name)
        return _Run(document, compiled, slots, trace)

    def _map(self, run: _Run) -> Mapped:
        recording = fragment = None
        try:
            if run.compiled.manifest is not None:
                recording = self._recording(run, run.compiled.manifest)
            if run.compiled.gather is not None:
                fragment = self._fragment(run, run.compiled.gather)
            call = self._call(run, run.compiled.call) if run.compiled.call is not None else None
        except _Unfit as unfit:
            return self._refused(run, unfit.refusal, recording)
        if call is None and recording is None and fragment is None:
            return self._nothing_of(run)
        return Mapped(call=call, recording=recording, fragment=fragment, notes=run.notes())

    def _nothing_of(self, run: _Run) -> Mapped:
        """Left out on purpose, or refused because nothing says so."""
        judged = run.judged
        known = Judgement.NO_CALL in judged.values()
        kind = next((kind for kind, one in judged.items() if one is Judgement.UNKNOWN), None)
        if known or kind is None:
            return Mapped(ignored=IgnoredDocument(origin=run.document.origin, known=known), notes=run.notes())
        rules = run.compiled.call if kind == "call" else run.compiled.manifest
        if rules is None:
            raise TypeError(f"no rules of {kind}")
        return self._refused(run, unrecognised(rules, kind, self._source.preset, run.document.value), None)

    def _fragment(self, run: _Run, rules: DocumentRules) -> Fragment | None:
        document, group = run.document, self._bare.group
        if rules.is_no_part(run.slots):
            run.judged["call"] = Judgement.NO_CALL
            return None
        part = rules.part_of(run.slots)
        is_part = part is not None
        return Fragment(
            origin=document.origin,
            source=self._source.name,
            key=rules.key_of(run.slots),
            part=part,
            newest=rules.newest_of(run.slots),
            document=document.raw,
            settled_at=document.settled_at,
            wait_s=rules.wait_s,
            decides=group is not None and group.complete is not None and (is_part or group.complete_reads_docs),
            matters=is_part or group is None or "docs" in group.roots,
        )

    def _refused(self, run: _Run, refusal: Refusal, recording: Recording | None) -> Mapped:
        return Mapped(refused=self._refusal(run, refusal), recording=recording, notes=run.notes())

    def _refusal(self, run: _Run, refusal: Refusal) -> RefusedDocument:
        document = run.document
        return RefusedDocument(
            origin=document.origin,
            refusal=refusal,
            head=document.raw[:KEPT_HEAD_BYTES] if self._source.stores_documents else b"",
            document=document.raw if self._source.stores_documents else None,
            call_id=run.call_id,
            destination=self._destination.name if self._destination else "",
            agent=run.agent or self._source.agent_remote_identifier or "",
            settled_at=document.settled_at,
        )

    # A call

    def _call(self, run: _Run, rules: RuleSet) -> Call | None:
        if _judge(run, rules, "call") is not Judgement.WANTED:
            return None
        fields = _fields(run, rules)
        run.call_id = text_of(fields.get("call_id"))
        if self._builder.rules.unknown_roles == "reject" and (refusal := rejected(run.dropped, str(rules.steps[ROWS]))):
            raise _Unfit(refusal)
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
        body_json = built.body_json
        if self._redaction is not None:
            redacted = self._redaction.apply(body_json, with_places=run.trace is not None)
            body_json, run.redacted, run.redactions = redacted.body_json, redacted.counts, redacted.places
        document, destination = run.document, self._destination
        return Call(
            origin=document.origin,
            document=document.raw if self._source.stores_documents else None,
            destination=destination.name if destination else "",
            workspace=destination.workspace if destination else "",
            agent=run.agent,
            call_id=built.call_id,
            started_at_ms=built.started_at_ms,
            ended_at_ms=placed.end_ms,
            payload=body_json,
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
        if _judge(run, rules, "manifest") is not Judgement.WANTED:
            return None
        fields = _fields(run, rules)
        alone = run.compiled.call is None and run.compiled.gather is None
        key = (text_of(fields.get("key")) or "").strip()
        url = (text_of(fields.get("url")) or "").strip() or None
        absent = true(fields.get("absent_when"))
        if not key or (url is None and not absent):
            if alone:
                raise _Unfit(_gave_nothing(rules.steps["url" if key else "key"], "recording"))
            return None  # of a source that has calls too: this document is only one of those
        started, expires, duration = fields.get("started_at"), fields.get("expires_at"), number_of(fields.get("duration_ms"))
        if url is not None and not absent and (wrong := url_problem(url)) is not None:
            raise _Unfit(Refusal(reason=FailReason.INVALID, where=str(rules.steps["url"]), what=wrong))
        return Recording(
            origin=run.document.origin,
            source=self._source.name,
            key=key,
            id=(text_of(fields.get("id")) or "").strip(),
            url=None if absent else url,
            started_at=None if started is None else started / 1000,
            duration_s=None if duration is None else duration / 1000,
            expires_at=None if expires is None else expires / 1000,
        )


def _refusal_of(error: Exception) -> Refusal:
    """Whatever a document breaks: it is refused, and seen."""
    if isinstance(error, Misfit):
        return Refusal(reason=FailReason.UNMAPPABLE, where=str(error.step), what=error.told)
    if isinstance(error, RecursionError):
        return Refusal(reason=FailReason.UNMAPPABLE, where="document", what="a value in it is nested too deep")
    what = f"the mapping can't work on it ({type(error).__name__}); please report this"
    return Refusal(reason=FailReason.UNMAPPABLE, where="document", what=what)


def _is_settled(run: _Run, mapped: Mapped | None) -> bool:
    """Whether the rules know the document: what stands inside it is of no interest then."""
    if run.is_known or mapped is None:
        return run.is_known
    return mapped.fragment is not None or (mapped.refused is not None and mapped.refused.refusal.reason is FailReason.REFUSED)


def _judge(run: _Run, rules: RuleSet, kind: str) -> Judgement:
    """let, refuse, when and not_call, in this order."""
    if run.trace is None:
        rules.let(run.slots)
    else:
        run.broken = rules.let_guarded(run.slots) or run.broken
    for reason, refuse, step in rules.refuse:
        if true(refuse(run.slots)):
            what = f"the mapping refuses it: {reason.replace('_', ' ')}"
            raise _Unfit(Refusal(reason=FailReason.REFUSED, where=str(step), what=what))
    judged = run.judged[kind] = judge(rules, run.slots)
    return judged


def _fields(run: _Run, rules: RuleSet) -> dict[str, Any]:
    """Every field that its rule gave; what is missing or failed is noted."""
    fields: dict[str, Any] = {}
    slots = run.slots
    decisive: Misfit | None = None
    for name, rule in rules.fields:
        try:
            value = rule(slots)
        except Misfit as misfit:  # only the run with places raises it; an error in the bare run leads to that one
            if name in _DECISIVE:  # the other fields are looked at all the same: `explain` shows what they give
                decisive = decisive or misfit
                continue
            run.left_out.append(name)
            run.errors[name] = misfit.told
            continue
        if value or not missing(value):
            fields[name] = value
        else:
            run.missing.append(name)
    run.values.update(fields)
    if decisive is not None:
        raise decisive
    return fields


def _strategy(run: _Run, rules: StrategyRules) -> Strategy:
    """A strategy decided for this call; one whose rule failed, or gave no text, answers "absent". A number that lost digits
    fails the call: it would find another's recording."""
    wanted = _lenient(run, rules.wanted, rules.path)
    given = text_of(wanted)
    text = (given or "").strip() or None
    if given is None and not missing(wanted):
        run.left_out.append(rules.path)
        run.errors[rules.path] = "the rule gave no text"
    if isinstance(rules.rule, ManifestRule):
        return ManifestStrategy(
            source=rules.rule.manifest, key=text, within_s=rules.rule.within_s, wait_s=rules.rule.wait_s, near_s=rules.rule.near_s
        )
    if text is not None and (wrong := url_problem(text)) is not None:
        step = RuleRef(f"{rules.path}.url", rules.rule.url.place, rules.text)
        raise _Unfit(Refusal(reason=FailReason.INVALID, where=str(step), what=wrong))
    expires = None if rules.expires_at is None else _lenient(run, rules.expires_at, rules.path)
    return UrlStrategy(url=text, expires_at=None if expires is None else expires / 1000)


def _lenient(run: _Run, rule: Run, path: str) -> Any:
    try:
        return rule(run.slots)
    except Misfit as misfit:
        if misfit.inexact:
            raise
        run.left_out.append(path)
        run.errors[path] = misfit.told
        return None


def _gave_nothing(step: RuleRef, of: str) -> Refusal:
    what = f"gave nothing, and every {of} needs it; `tunerd explain FILE` shows what each rule found"
    return Refusal(reason=FailReason.UNMAPPABLE, where=str(step), what=what)
