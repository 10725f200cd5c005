"""One document through one source's compiled rules: a call, a recording, a part of a call, a refusal, or nothing.

DocumentMapper._call has the order of the steps: let, refuse, when, fields, strategies, timeline, payload, redaction. source.py
decides which document is meant, and what is tried again.
"""

import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from tunerd.call import (
    KEPT_HEAD_BYTES,
    Call,
    Document,
    Form,
    Fragment,
    IgnoredDocument,
    Mapped,
    Recording,
    Refusal,
    RefusedDocument,
)
from tunerd.mapping import payload, timeline
from tunerd.mapping.building import REQUIRED, Builder, Compiled
from tunerd.mapping.document_run import DocumentRun, gave_nothing, location_of
from tunerd.mapping.gathering import DocumentRules
from tunerd.mapping.limits import RefusalError
from tunerd.mapping.match_values import match_text
from tunerd.mapping.origin import file_root, path_groups
from tunerd.mapping.recognition import Judgement, unrecognised
from tunerd.mapping.redaction import Redaction
from tunerd.mapping.roles import DROPS_SLOT, rejected
from tunerd.mapping.row_values import number_of, text_of
from tunerd.mapping.ruleset import RuleSet
from tunerd.mapping.trace import TRACE_SLOT, RuleRef, Trace
from tunerd.mapping.values import true
from tunerd.outcome import FailReason
from tunerd.tuner_fields import ROWS

Made = TypeVar("Made")


class DocumentMapper:
    """What one source makes of documents. Safe to use from several threads at once."""

    def __init__(self, builder: Builder, form: Form | None) -> None:
        self._source = builder.source
        self._destination = builder.destination
        self._path_groups = builder.path_groups
        self._manifest, self._match = builder.manifest, builder.match
        self._unknown_roles = builder.rules.unknown_roles
        self._untimed = builder.rules.untimed
        self._form = form
        self.places, plan = builder.places, builder.source.audio.plan()
        self._audio = None if plan is None else replace(plan, files=self.places.files)
        self._redaction = Redaction(self._source.redact) if self._source.redact is not None else None

    def start(self, document: Document, compiled: Compiled, trace: Trace | None) -> DocumentRun:
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
                    groups = path_groups(self._path_groups, document.origin, self._source.path)
                slots[index] = groups.get(name)
        return DocumentRun(document, compiled, slots, trace)

    def map(self, run: DocumentRun) -> Mapped:
        """Raises what a rule raises, but for a refusal."""
        compiled = run.compiled
        recording = fragment = None
        try:
            if compiled.manifest is not None:
                recording = self._recording(run, compiled.manifest)
            if compiled.gather is not None:
                fragment = self._fragment(run, compiled.gather)
            call = self._call(run, compiled.call) if compiled.call is not None else None
        except RefusalError as refused:
            return self.refused(run, refused.refusal, recording)
        if call is None and recording is None and fragment is None:
            return self._nothing_of(run)
        return Mapped(call=call, recording=recording, fragment=fragment, notes=run.notes())

    def refused(self, run: DocumentRun, refusal: Refusal, recording: Recording | None = None) -> Mapped:
        return Mapped(refused=self.refusal(run, refusal), recording=recording, notes=run.notes())

    def refusal(self, run: DocumentRun, refusal: Refusal) -> RefusedDocument:
        document = run.document
        return RefusedDocument(
            origin=document.origin,
            refusal=refusal,
            head=document.raw[:KEPT_HEAD_BYTES] if self._source.stores_documents else b"",
            document=document.kept if self._source.stores_documents else None,
            call_id=run.call_id,
            destination=self._destination.name if self._destination else "",
            agent=run.agent or self._source.agent_remote_identifier or "",
            settled_at=document.settled_at,
        )

    def _nothing_of(self, run: DocumentRun) -> Mapped:
        """Left out on purpose, or refused because nothing says so."""
        judged = run.judged
        known = Judgement.NO_CALL in judged.values()
        kind = next((kind for kind, one in judged.items() if one is Judgement.UNKNOWN), None)
        rules = run.compiled.call if kind == "call" else run.compiled.manifest
        if known or kind is None or rules is None:
            return Mapped(ignored=IgnoredDocument(origin=run.document.origin, known=known), notes=run.notes())
        return self.refused(run, unrecognised(rules, kind, self._source.preset, run.document.value))

    def _fragment(self, run: DocumentRun, rules: DocumentRules) -> Fragment | None:
        document, group = run.document, run.compiled.group
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

    # A call

    def _call(self, run: DocumentRun, rules: RuleSet) -> Call | None:
        if not run.judge(rules, "call"):
            return None
        fields = run.fields(rules)
        run.call_id = text_of(fields.get("call_id"))
        if self._unknown_roles == "reject":
            _accept(rejected(run.dropped, str(rules.steps[ROWS])))
        for name in REQUIRED:
            if name not in fields:
                raise gave_nothing(rules.steps[name], "call")
        run.agent = self._agent(run)
        run.strategies = tuple([run.strategy(strategy) for strategy in run.compiled.strategies])
        placed = _accept(timeline.place(fields, form=self._form, untimed=self._untimed))
        run.repairs = dict(placed.repairs)
        built = _accept(payload.build(fields, placed, form=self._form))
        run.repairs.update(built.repairs)
        run.left_out += built.left_out
        document, destination = run.document, self._destination
        return Call(
            origin=document.origin,
            document=document.kept if self._source.stores_documents else None,
            destination=destination.name if destination else "",
            workspace=destination.workspace if destination else "",
            agent=run.agent,
            call_id=built.call_id,
            started_at_ms=built.started_at_ms,
            ended_at_ms=placed.end_ms,
            payload=self._redacted(run, built.body_json),
            checked_for=built.checked_for,
            strategies=run.strategies,
            on_missing=self._source.on_missing,
            audio=self._audio,
            verify_s=self._source.verify.verify_s(),
            settled_at=document.settled_at,
        )

    def _agent(self, run: DocumentRun) -> str:
        rule = run.compiled.agent
        agent = (text_of(rule(run.slots)) or "").strip() if rule is not None else ""
        agent = agent or self._source.agent_remote_identifier or ""
        if not agent and self._destination is not None:
            what = "the rule gave no text, and `tuner:` has no agent_remote_identifier to fall back to"
            raise RefusalError("agent", what, FailReason.UNMAPPABLE)
        return agent

    def _redacted(self, run: DocumentRun, body_json: bytes) -> bytes:
        if self._redaction is None:
            return body_json
        redacted = self._redaction.apply(body_json, with_places=run.trace is not None)
        run.redacted, run.redactions = redacted.counts, redacted.places
        return redacted.body_json

    # A recording

    def _recording(self, run: DocumentRun, rules: RuleSet) -> Recording | None:
        if not run.judge(rules, "manifest"):
            return None
        fields = run.fields(rules)
        key = (text_of(fields.get("key")) or "").strip()
        location = (text_of(fields.get("url")) or "").strip() or None
        absent = true(fields.get("absent_when"))
        held = (text_of(fields.get("audio")) or "").strip() if location is None and not absent else ""
        match = match_text(self._match, fields.get("match") or {})
        is_findable = bool(key) if "key" in rules.steps else match is not None
        if not is_findable or (location is None and not absent and not held):
            if run.compiled.call is None and run.compiled.gather is None:
                wanted = ("url", "audio", "absent_when") if is_findable else ("key", "match")
                raise gave_nothing(rules.steps[next(name for name in wanted if name in rules.steps)], "recording")
            return None  # of a source that has calls too: this document is only one of those
        started, expires, duration = fields.get("started_at"), fields.get("expires_at"), number_of(fields.get("duration_ms"))
        location = None if location is None or absent else location_of(location, rules.steps["url"], self._manifest.places)
        spooled = run.document.spooled.get(held)
        return Recording(
            origin=run.document.origin,
            source=self._source.name,
            key=key,
            match=match or "",
            id=(text_of(fields.get("id")) or "").strip(),
            location=location if spooled is None else spooled.location,
            embedded=_decoded(held, rules.steps["audio"]) if held and spooled is None else b"",
            identity="" if spooled is None else spooled.identity,
            started_at=None if started is None else started / 1000,
            duration_s=None if duration is None else duration / 1000,
            expires_at=None if expires is None else expires / 1000,
        )


def _decoded(text: str, step: RuleRef) -> bytes:
    """Audio in base64; blanks and line ends in it do not count."""
    try:
        found = binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except ValueError:  # other signs, or the end is missing
        raise RefusalError(str(step), "is no base64: other signs are in it, or its end is missing") from None
    if not found:
        raise RefusalError(str(step), "is base64 of nothing")
    return found


def _accept(made: Made | Refusal) -> Made:
    """What a step made of the call. A refusal in its place goes up to DocumentMapper.map."""
    if isinstance(made, Refusal):
        raise RefusalError(made.where, made.what, made.reason)
    return made
