"""One document on its way through compiled rules: its slots, what the rules gave, and what to report.

This file has the steps that only need the rules; document_mapper.py makes calls and recordings of their results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tunerd.call import Choice, Document, ManifestStrategy, MappingNotes, Strategy, UrlStrategy
from tunerd.config import FileRule, ManifestRule, NearestRule
from tunerd.file_pattern import FILES, escaped
from tunerd.location import BadLocation, LocationPolicy
from tunerd.mapping.building import REQUIRED, Compiled
from tunerd.mapping.file_names import file_name, holds_id
from tunerd.mapping.functions import Run
from tunerd.mapping.limits import RefusalError
from tunerd.mapping.match_values import match_text
from tunerd.mapping.recognition import Judgement, judge
from tunerd.mapping.roles import DROPS_SLOT, Dropped, counted, names_of
from tunerd.mapping.row_values import text_of
from tunerd.mapping.ruleset import RuleSet
from tunerd.mapping.strategy_compiler import StrategyRules
from tunerd.mapping.trace import Misfit, RuleRef, Trace
from tunerd.mapping.values import missing, true
from tunerd.outcome import FailReason

_DECISIVE: Final = frozenset(
    {*REQUIRED, "start_timestamp", "end_timestamp", "key", "id", "match", "url", "audio", "absent_when", "started_at"}
)
"""An error in the rule of one of these fails the document; any other field is left out."""


@dataclass(slots=True)
class DocumentRun:
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

    def judge(self, rules: RuleSet, kind: str) -> bool:
        """let, refuse, when and not_call, in this order: whether the document is wanted as a call or as a recording."""
        if self.trace is None:
            rules.let(self.slots)
        else:
            self.broken = rules.let_guarded(self.slots) or self.broken
        for reason, refuse, step in rules.refuse:
            if true(refuse(self.slots)):
                raise RefusalError(str(step), f"the mapping refuses it: {reason.replace('_', ' ')}", FailReason.REFUSED)
        judged = self.judged[kind] = judge(rules, self.slots)
        return judged is Judgement.WANTED

    def fields(self, rules: RuleSet) -> dict[str, Any]:
        """Every field that its rule gave; what is missing or failed is noted."""
        fields: dict[str, Any] = {}
        slots = self.slots
        decisive: Misfit | None = None
        for name, rule in rules.fields:
            try:
                value = rule(slots)
            except Misfit as misfit:  # only the run with places raises it; an error in the bare run leads to that one
                if name in _DECISIVE:  # the other fields are looked at all the same: `explain` shows what they give
                    decisive = decisive or misfit
                    continue
                self.left_out.append(name)
                self.errors[name] = misfit.told
                continue
            if value or not missing(value):
                fields[name] = value
            else:
                self.missing.append(name)
        self.values.update(fields)
        if decisive is not None:
            raise decisive
        return fields

    def strategy(self, rules: StrategyRules) -> Strategy:
        """A strategy decided for this call; one whose rule failed, or gave no text, answers "absent". A number that lost digits
        fails the call: it would find another's recording."""
        wanted = self._lenient(rules.wanted, rules.path)
        if isinstance(rules.rule, NearestRule):
            return ManifestStrategy(
                source=rules.rule.nearest,
                key=match_text(rules.names, wanted),
                within_s=rules.rule.within_s,
                wait_s=rules.rule.wait_s,
                near_s=0.0,
                choice=Choice.ONLY,
            )
        given = text_of(wanted)
        text = (given or "").strip() or None
        if given is None and not missing(wanted):
            self.left_out.append(rules.path)
            self.errors[rules.path] = "the rule gave no text"
        if isinstance(rules.rule, FileRule):
            return self._file(rules.rule, rules, is_named=text is not None)
        if isinstance(rules.rule, ManifestRule):
            return ManifestStrategy(
                source=rules.rule.manifest,
                key=text,
                within_s=rules.rule.within_s,
                wait_s=rules.rule.wait_s,
                near_s=rules.rule.near_s,
                choice=Choice(rules.rule.pick),
            )
        if text is not None:
            text = location_of(text, RuleRef(f"{rules.path}.url", rules.rule.url.location, rules.text), rules.places)
        expires = None if rules.expires_at is None else self._lenient(rules.expires_at, rules.path)
        return UrlStrategy(location=text, expires_at=None if expires is None else expires / 1000)

    def _file(self, rule: FileRule, rules: StrategyRules, *, is_named: bool) -> ManifestStrategy:
        """The name is the key of what the call looks for (file_pattern.py). A name that could be another call's is refused."""
        key = None
        if is_named:
            step = str(RuleRef(f"{rules.path}.file", rule.file.location, rules.text))
            try:
                name, values = file_name(rules.pieces, self.slots)
            except ValueError as wrong:
                raise RefusalError(step, str(wrong)) from None
            if rule.within_s is None and not holds_id(values, self.call_id or ""):
                what = "the name is not made of the call's own id, so another call may have it"
                raise RefusalError(step, f"{what}: make it of the id, or write `within:`")
            key = f"{escaped(rules.directory).rstrip('/')}/{name}"
        choice = Choice.NEAREST if rule.within_s is None else Choice.ONLY  # what only times tell apart is not guessed
        return ManifestStrategy(source=FILES, key=key, within_s=rule.within_s, wait_s=rule.wait_s, near_s=0.0, choice=choice)

    def _lenient(self, rule: Run, path: str) -> Any:
        try:
            return rule(self.slots)
        except Misfit as misfit:
            if misfit.inexact:
                raise
            self.left_out.append(path)
            self.errors[path] = misfit.told
            return None


def location_of(text: str, step: RuleRef, places: LocationPolicy) -> str:
    """The location that a rule gave, as the ledger keeps it. Whatever maps a document decides it here."""
    try:
        return places.parse(text).text
    except BadLocation as bad:
        raise RefusalError(str(step), str(bad)) from None


def gave_nothing(step: RuleRef, of: str) -> RefusalError:
    what = f"gave nothing, and every {of} needs it; `tunerd explain FILE` shows what each rule found"
    return RefusalError(str(step), what, FailReason.UNMAPPABLE)
