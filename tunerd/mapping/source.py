"""A source's rules at work: what was read in; calls, recordings, refusals or nothing out. Never raises for what a document holds.

This file decides which document is meant (elements, envelopes, parts of a call), and what is run again with places. How one
document is mapped is document_mapper.py's matter, what the rules are made of building.py's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunerd.call import Document, Form, Fragment, IgnoredDocument, Mapped, Refusal, RefusedDocument
from tunerd.config import Destination, Source, form_of_key
from tunerd.mapping.building import Builder, Compiled
from tunerd.mapping.document_mapper import DocumentMapper
from tunerd.mapping.document_run import DocumentRun
from tunerd.mapping.elements import elements_of
from tunerd.mapping.envelopes import inside
from tunerd.mapping.explanation import Explanation, explanation_of
from tunerd.mapping.gathering import MOST_BYTES, Piece, newest_parts, pack, together, unpack, with_absent
from tunerd.mapping.manifest_facts import ManifestFacts
from tunerd.mapping.trace import Misfit, Trace
from tunerd.mapping.values import RuleError, true
from tunerd.outcome import FailReason


def compile_source(
    source: Source,
    destination: Destination | None,
    *,
    manifests: Mapping[str, ManifestFacts],
    environ: Mapping[str, str],
    form: Form | None = None,
    path: str | None = None,
) -> "SourceMapping":
    """Compile a source's rules, its preset's included. Raises ConfigError with every problem.

    `manifests`: of each source that brings recordings, by name (manifest_sources makes it). `form`: the request form where the
    caller knows more than the configuration (it read a key file). `path`: how problems name the source; by default
    `sources.NAME`.
    """
    if form is None and destination is not None:
        form = destination.form
        if form is None and destination.api_key is not None:
            form = form_of_key(destination.api_key.reveal())
    builder = Builder(source, destination, manifests, environ, path or f"sources.{source.name}")
    return SourceMapping(builder, form)


class SourceMapping:
    """The rules of one source. Safe to use from several threads at once."""

    def __init__(self, builder: Builder, form: Form | None) -> None:
        self._builder = builder
        self._source = builder.source
        self._bare = builder.compile(with_places=False)
        self._with_places: Compiled | None = None
        self._mapper = DocumentMapper(builder, form)
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
        run = self._start(document)
        found: list[Document | RefusedDocument]
        try:
            found = elements_of(document, self._bare.documents(run.slots))
        except Exception as error:
            what = str(error) if isinstance(error, RuleError) else _refusal_of(error).what
            found = [self._mapper.refusal(run, Refusal(reason=FailReason.UNMAPPABLE, where="documents", what=what))]
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
        """What the document gives. Never raises for the content of a document. Of a source that gathers it may also be what the
        ledger kept of a gathered call (Call.document)."""
        if self._bare.gather is not None and (documents := unpack(document.value, self._source.name)) is not None:
            return self._gather(documents) or Mapped()
        if self._alone:
            return self._no_part(document) or self._gather([document]) or Mapped()
        try:
            return self._map_or_unwrapped(document, self._bare)[1]
        except Exception as error:
            run, mapped = self._map_with_places(document)
            return self._after_failure(run, mapped, error)

    def _after_failure(self, run: DocumentRun, mapped: Mapped, error: Exception) -> Mapped:
        """The run with places names the rule that failed, or leaves out an optional field. Where it found nothing wrong, the
        error is a defect of tunerd, and the refusal says so."""
        if run.failed or mapped.refused is not None:
            return mapped
        return self._mapper.refused(run, _refusal_of(error))

    def explain(self, document: Document) -> Explanation:
        """The same, with what every rule gave, and why not. Holds values of the document: for its owner's eyes."""
        if self._alone:
            run, mapped, _ = self._gather_with_places([document], True)
            return explanation_of(run, self._no_part(document) or mapped or Mapped())
        return explanation_of(*self._map_with_places(document))

    def location(self, text: str) -> str:
        """The location that a person names for a recording of this source's calls, as the ledger keeps it. Raises BadLocation."""
        return self._mapper.places.parse(text).text

    # A call of several documents

    def gather(self, kept: bytes | None, fragments: Sequence[Fragment], *, wait_is_over: bool = True) -> Mapped | None:
        """The call that documents of one key make: those that the ledger `kept` with it (Call.document), and new ones.
        None: it is not complete, and its wait is not over. Never raises for their content."""
        return self._gather(together(kept, fragments, self._source.name), wait_is_over=wait_is_over)

    def set_aside(self, kept: bytes | None, fragments: Sequence[Fragment], refusal: Refusal) -> RefusedDocument:
        """The same documents as a refusal, none of them mapped: what killed the process is not tried again."""
        documents = together(kept, fragments, self._source.name)
        return self._mapper.refusal(self._start(replace(documents[-1], raw=pack(documents))), refusal)

    def explain_gathered(self, fragments: Sequence[Fragment]) -> Explanation:
        """`explain`, over all documents of a call."""
        run, mapped, trace = self._gather_with_places(together(None, fragments, self._source.name), True)
        explanation = explanation_of(run, mapped or Mapped())
        return replace(explanation, rules=[*trace.rules, *explanation.rules])

    def _gather(self, documents: Sequence[Document], *, wait_is_over: bool = True) -> Mapped | None:
        try:
            run, parts = self._start_group(documents, self._bare, None, None)
            return self._map_group(run, documents, parts, wait_is_over=wait_is_over)
        except Exception as error:
            run, mapped, _ = self._gather_with_places(documents, wait_is_over)
            return mapped and self._after_failure(run, mapped, error)

    def _gather_with_places(self, documents: Sequence[Document], wait_is_over: bool) -> tuple[DocumentRun, Mapped | None, Trace]:
        compiled = self._compiled_with_places()
        group, trace = compiled.group or compiled, Trace(compiled.steps)
        whole = replace(documents[-1], raw=pack(documents))
        run, parts = self._mapper.start(whole, group, Trace(group.steps)), frozenset[str]()
        try:
            run, parts = self._start_group(documents, compiled, Trace(group.steps), trace)
            return run, self._map_group(run, documents, parts, wait_is_over=wait_is_over), trace
        except Exception as error:
            run.document = replace(run.document, raw=whole.raw)
            return run, self._mapper.refused(run, self._with_absent(_refusal_of(error), parts)), trace

    def _start_group(
        self, documents: Sequence[Document], compiled: Compiled, trace: Trace | None, of_documents: Trace | None
    ) -> tuple[DocumentRun, frozenset[str]]:
        """A run over all documents, and the parts that are there. The current rules decide which part each one is."""
        rules, group = compiled.gather, compiled.group
        if rules is None or group is None:
            raise TypeError(f"source {self._source.name} does not gather")
        pieces: list[Piece] = []
        documents = [self._unwrapped(document) for document in documents]
        for document in documents:
            slots = self._mapper.start(document, compiled, of_documents).slots
            pieces.append(Piece(document, rules.part_of(slots), rules.newest_of(slots)))
        parts = newest_parts(pieces)
        settled_at = max(document.settled_at for document in documents)
        whole = Document(origin=documents[-1].origin, raw=b"", value=documents[0].value, settled_at=settled_at)
        run = self._mapper.start(whole, group, trace)
        for name, index in group.roots.items():
            if name == "docs":
                run.slots[index] = [document.value for document in documents]
            elif (part := parts.get(name)) is not None:
                run.slots[index] = part.value
        return run, frozenset(parts)

    def _map_group(
        self, run: DocumentRun, documents: Sequence[Document], parts: frozenset[str], *, wait_is_over: bool
    ) -> Mapped | None:
        if not wait_is_over and not self._is_complete(run):
            return None
        run.document = replace(run.document, raw=pack(documents))
        if len(run.document.raw) > MOST_BYTES:
            what = f"its documents are more than {MOST_BYTES:,} bytes together: is `gather.key` the same for many calls?"
            return self._mapper.refused(run, Refusal(reason=FailReason.TOO_LARGE, where="gather", what=what))
        mapped = self._mapper.map(run)
        if mapped.refused is None:
            return mapped
        return replace(mapped, refused=replace(mapped.refused, refusal=self._with_absent(mapped.refused.refusal, parts)))

    def _is_complete(self, run: DocumentRun) -> bool:
        complete = run.compiled.complete
        try:
            return complete is not None and true(complete(run.slots))
        except Misfit as misfit:  # it waits then, and is mapped with what is there
            run.left_out.append("gather.complete")
            run.errors["gather.complete"] = misfit.told
            return False

    def _with_absent(self, refusal: Refusal, there: frozenset[str]) -> Refusal:
        return with_absent(refusal, self._bare.gather, there, alone=self._alone)

    # One run

    def _start(self, document: Document) -> DocumentRun:
        return self._mapper.start(document, self._bare, None)

    def _compiled_with_places(self) -> Compiled:
        if self._with_places is None:
            self._with_places = self._builder.compile(with_places=True)
        return self._with_places

    def _map_with_places(self, document: Document) -> tuple[DocumentRun, Mapped]:
        return self._map_or_unwrapped(document, self._compiled_with_places(), with_places=True)

    def _map_or_unwrapped(
        self, document: Document, compiled: Compiled, *, with_places: bool = False
    ) -> tuple[DocumentRun, Mapped]:
        """The result of the document itself or, where the rules do not know it, of the first value inside it that they know.
        Without places it raises what a rule raised."""
        run, mapped, error = self._tried(self._unwrapped(document), compiled, with_places)
        if self._unwraps and not _is_settled(run, mapped):
            for value in inside(document.value):
                found = self._tried(replace(document, value=value), compiled, with_places)
                if _is_settled(*found[:2]):
                    run, mapped, error = found
                    break
        if mapped is not None:
            return run, mapped
        if not with_places and error is not None:
            raise error
        return run, self._mapper.refused(run, _refusal_of(error or RuntimeError()))

    def _tried(
        self, document: Document, compiled: Compiled, with_places: bool
    ) -> tuple[DocumentRun, Mapped | None, Exception | None]:
        run = self._mapper.start(document, compiled, Trace(compiled.steps) if with_places else None)
        try:
            return run, self._mapper.map(run), None
        except Exception as error:
            return run, None, error

    def _no_part(self, document: Document) -> Mapped | None:
        """Of a source that takes each document of its preset for a call: one that is no part of any."""
        rules, run = self._bare.gather, self._start(self._unwrapped(document))
        if rules is None or not _holds(rules.is_no_part, run):
            return None
        return Mapped(ignored=IgnoredDocument(origin=document.origin, known=True))

    def _unwrapped(self, document: Document) -> Document:
        """Of a source that gathers: the document that its `known:` rule means, the given one or one inside it."""
        rules = self._bare.gather
        if rules is None or rules.known is None or not self._unwraps:
            return document
        for value in (document.value, *inside(document.value)):
            candidate = document if value is document.value else replace(document, value=value)
            if _holds(rules.is_known, self._start(candidate)):
                return candidate
        return document


def _holds(rule: Callable[[Any], bool], run: DocumentRun) -> bool:
    """Whether a rule that tells documents apart is true. A rule that fails on this document is not: the rules of the call come
    next, and their refusal names what they cannot work on."""
    try:
        return rule(run.slots)
    except Exception:
        return False


def _refusal_of(error: Exception) -> Refusal:
    """Whatever a document breaks: it is refused, and seen."""
    if isinstance(error, Misfit):
        return Refusal(reason=FailReason.UNMAPPABLE, where=str(error.step), what=error.told)
    if isinstance(error, RecursionError):
        return Refusal(reason=FailReason.UNMAPPABLE, where="document", what="a value in it is nested too deep")
    what = f"the mapping can't work on it ({type(error).__name__}); please report this"
    return Refusal(reason=FailReason.UNMAPPABLE, where="document", what=what)


def _is_settled(run: DocumentRun, mapped: Mapped | None) -> bool:
    """Whether the rules know the document: then nothing is looked for inside it."""
    if run.is_known or mapped is None:
        return run.is_known
    return mapped.fragment is not None or (mapped.refused is not None and mapped.refused.refusal.reason is FailReason.REFUSED)
