"""What became of one document, rule by rule: the data behind `tunerd explain`. No printing here.

It holds values of the document: it is for the eyes of whoever owns that, never for a log.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tunerd.call import Choice, ManifestStrategy, Mapped, Refusal, Strategy, UrlStrategy
from tunerd.file_pattern import FILES, stem
from tunerd.mapping.document_run import DocumentRun
from tunerd.mapping.trace import RuleRef, RuleTrace
from tunerd.mapping.values import kind, missing
from tunerd.record import record
from tunerd.yaml_location import YamlLocation


@record
class FieldReport:
    """One field of the call or of the recording."""

    name: str
    rule: str
    location: YamlLocation
    value: Any
    kind: str
    """text, a number, a list, ...; null where there is nothing."""
    why: str | None
    """Why there is nothing: what each part of the rule found, or the error. None where there is a value."""


@record
class StrategyReport:
    path: str
    rule: str
    answer: str
    """What the strategy says about this call."""
    strategy: Strategy | None


@record
class Explanation:
    mapped: Mapped
    fields: Sequence[FieldReport]
    rules: Sequence[RuleTrace]
    """Every rule, in the order of the configuration."""
    strategies: Sequence[StrategyReport]
    redactions: Sequence[tuple[str, str]] = ()
    """Path in the call, and the kind of what was taken out there; the values above are not redacted."""

    @property
    def repairs(self) -> Mapping[str, int]:
        return self.mapped.notes.repairs

    @property
    def redacted(self) -> Mapping[str, int]:
        """Kind -> how often."""
        return self.mapped.notes.redacted

    @property
    def refusal(self) -> Refusal | None:
        return self.mapped.refused.refusal if self.mapped.refused else None


def explanation_of(run: DocumentRun, mapped: Mapped) -> Explanation:
    """What the run with places found, beside what came of it."""
    compiled, rules = run.compiled, run.trace.rules if run.trace is not None else ()
    fields = [step for set_ in (compiled.manifest, compiled.call) if set_ is not None for step in set_.steps.items()]
    asks = mapped.call is not None and mapped.call.verify_s is not None
    return Explanation(
        mapped=mapped,
        fields=[_field(name, step, run.values.get(name), run.errors.get(name), rules) for name, step in dict(fields).items()],
        rules=rules,
        strategies=[
            _strategy(
                one.path, one.text, run.strategies[at] if at < len(run.strategies) else None, run.errors.get(one.path), asks
            )
            for at, one in enumerate(compiled.strategies)
        ],
        redactions=run.redactions,
    )


def _field(name: str, step: RuleRef, value: Any, error: str | None, rules: Sequence[RuleTrace]) -> FieldReport:
    why = None
    if error is not None:
        why = f"left out: {error}"
    elif missing(value):
        why = _why(step, rules)
    return FieldReport(name=name, rule=step.text, location=step.location, value=value, kind=kind(value), why=why)


def _why(step: RuleRef, rules: Sequence[RuleTrace]) -> str:
    """Why a field has nothing, from its rule and the rule's direct parts."""
    own = [rule for rule in rules if rule.path == step.path]
    if failed := next((rule.error for rule in rules if rule.path.startswith(step.path) and rule.error), None):
        return failed
    if not any(rule.runs for rule in own):
        return "not reached"
    for rule in own:
        if rule.items and not rule.rows:
            return f"{rule.items} items gave no row{_unknown(step, rules)}"
    parts = [rule for rule in rules if rule.path.startswith(f"{step.path}[") and rule.path.endswith("]") and rule.runs]
    if parts:
        return "; ".join(f"{part.ref.text}: nothing" for part in parts)
    return "gave nothing" + _unknown(step, rules)


def _unknown(step: RuleRef, rules: Sequence[RuleTrace]) -> str:
    asked = {
        key: count
        for rule in rules
        if rule.path.startswith(step.path)
        for call in rule.calls.values()
        for key, count in call.unknown.items()
    }
    return f" (not in the table: {', '.join(f'{key} x{count}' for key, count in asked.items())})" if asked else ""


def _strategy(path: str, rule: str, strategy: Strategy | None, error: str | None, asks: bool) -> StrategyReport:
    """`asks`: the host of a URL is asked for it first (`verify: get`)."""
    if error is not None:
        answer = f"absent: {error}"
    elif strategy is None:
        answer = "not reached"
    elif isinstance(strategy, UrlStrategy):
        when = "once its host gives the first byte (`verify: get`)" if asks else "at once"
        answers = f"answers {when} with the URL of the document"
        answer = "absent: the rule gave nothing" if strategy.location is None else answers
    elif strategy.source == FILES:
        when = "" if strategy.within_s is None else f", last written within {strategy.within_s:g} s of the call's end"
        looks = f"waits up to {strategy.wait_s:g} s for the file {strategy.key}{when}"
        if strategy.choice is Choice.ONLY or stem(strategy.key or ""):
            looks = f"takes the only file {strategy.key}{when}, after {strategy.wait_s:g} s"
        answer = "absent: the rule gave nothing" if strategy.key is None else looks
    elif isinstance(strategy, ManifestStrategy):
        near = "any time" if strategy.within_s is None else f"within {strategy.within_s:g} s of the call's start"
        looks = f"waits up to {strategy.wait_s:g} s for a recording of `{strategy.source}` with this key, {near}"
        absent = "absent: the key is empty"
        if strategy.choice is Choice.ONLY:
            alone = f"if no other call and no other recording starts {near}"
            looks = f"takes the one recording of `{strategy.source}` with the same values after {strategy.wait_s:g} s, {alone}"
            absent = "absent: a value of `same:` is missing"
        elif strategy.choice is not Choice.NEAREST:
            looks = f"{looks}; takes the {strategy.choice} of several after that time"
        answer = absent if strategy.key is None else looks
    return StrategyReport(path=path, rule=rule, answer=answer, strategy=strategy)
