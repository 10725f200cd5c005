"""Old rules and new rules on the same documents: what would change in the bodies of real calls, call by call and in sum."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import orjson

from tunerd.call import Call, Document, ManifestStrategy, Mapped, Refusal, RefusedDocument, UrlStrategy
from tunerd.record import positional_record, record
from tunerd.visible import visible
from tunerd.workbench.compare import Change, changes, field_of, lines
from tunerd.workbench.compiled import CompiledSource
from tunerd.workbench.evaluation import Unit, mapped, units
from tunerd.workbench.example_runs import recording_fields
from tunerd.workbench.request import request_of
from tunerd.workbench.shown import count, wrapped

_FIELDS_SHOWN: Final = 20


class DifferenceKind(StrEnum):
    UNCHANGED = "unchanged"
    CHANGED = "changed"
    NOW_REFUSED = "now refused"
    NOW_ACCEPTED = "now accepted"
    NOW_LEFT_OUT = "now left out"
    NOT_READ = "no longer read"
    """The new configuration has no such source, or gathers it into another call."""
    ONLY_NEW = "only with the new rules"


@record
class Difference:
    """One document (or gathered call)."""

    origins: Sequence[str]
    call_id: str | None
    kind: DifferenceKind
    changes: Sequence[Change] = ()
    before: str = ""
    """Refusals in words: with the old rules, with the new ones."""
    after: str = ""


@dataclass(slots=True)
class Total:
    kinds: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)
    """Calls in which a field changed."""

    def add(self, difference: Difference) -> None:
        self.kinds[difference.kind] += 1
        self.fields.update(dict.fromkeys(map(field_of, difference.changes), 1))

    @property
    def differs(self) -> bool:
        return any(times for kind, times in self.kinds.items() if kind != DifferenceKind.UNCHANGED)

    def lines(self) -> Iterator[str]:
        told = ", ".join(f"{self.kinds[kind]:,} {kind}" for kind in DifferenceKind if self.kinds[kind])
        yield f"{count(self.kinds.total(), 'document or call', 'documents and calls')} compared: {told or 'none'}"
        if self.fields:
            yield "In how many a field changed:"
            for name, times in self.fields.most_common(_FIELDS_SHOWN):
                yield f"  {times:>8,}  {visible(name)}"
            if len(self.fields) > _FIELDS_SHOWN:
                yield f"            and {len(self.fields) - _FIELDS_SHOWN:,} fields more"


@positional_record
class _View:
    """What comes of a unit, as a comparable value."""

    kind: str
    """call, refused, ignored, recording."""
    call_id: str | None
    value: dict[str, Any]
    refusal: str


def differences(
    old: CompiledSource, new: CompiledSource | None, reads: Iterable[Document | RefusedDocument]
) -> Iterator[Difference]:
    """What was read, mapped by both. `new` None: the new configuration has no such source."""
    read = list(reads)
    before = [(unit, _view(mapped(old, unit), old)) for unit in units(old, read)]
    after = {} if new is None else {unit.origins: (unit, _view(mapped(new, unit), new)) for unit in units(new, read)}
    unpaired: list[tuple[Unit, _View]] = []
    for unit, view in before:
        if (found := after.pop(unit.origins, None)) is not None:
            yield _difference(unit, view, found[1])
        else:
            unpaired.append((unit, view))
    by_id = {view.call_id: origins for origins, (_, view) in after.items() if view.call_id is not None}
    for unit, view in unpaired:
        origins = by_id.pop(view.call_id, None) if view.call_id is not None else None
        if origins is not None:
            yield _difference(unit, view, after.pop(origins)[1])
        else:
            yield Difference(origins=unit.origins, call_id=view.call_id, kind=DifferenceKind.NOT_READ)
    for unit, view in after.values():
        yield Difference(origins=unit.origins, call_id=view.call_id, kind=DifferenceKind.ONLY_NEW, after=view.refusal)


def _difference(unit: Unit, old: _View, new: _View) -> Difference:
    kind = DifferenceKind.UNCHANGED
    found: list[Change] = []
    if old.kind == new.kind or "refused" not in (old.kind, new.kind):
        found = list(changes(old.value, new.value))
        kind = DifferenceKind.CHANGED if found or old.refusal != new.refusal else DifferenceKind.UNCHANGED
        if new.kind == "ignored" and old.kind != "ignored":
            kind, found = DifferenceKind.NOW_LEFT_OUT, []
        elif old.kind == "ignored" and new.kind != "ignored":
            kind, found = DifferenceKind.NOW_ACCEPTED, []
    elif new.kind == "refused":
        kind = DifferenceKind.NOW_REFUSED
    else:
        kind = DifferenceKind.NOW_LEFT_OUT if new.kind == "ignored" else DifferenceKind.NOW_ACCEPTED
    return Difference(
        origins=unit.origins,
        call_id=new.call_id or old.call_id,
        kind=kind,
        changes=found,
        before=old.refusal,
        after=new.refusal,
    )


def _view(made: Mapped, compiled: CompiledSource) -> _View:
    value: dict[str, Any] = {}
    refusal = made.refused.refusal if made.refused is not None else None
    if made.recording is not None:
        value["recording"] = recording_fields(made.recording)
    if made.call is not None:
        request = request_of(made.call, compiled)
        if isinstance(request, Refusal):
            refusal = request
        else:
            value |= orjson.loads(request.body)
            value["recording_url"] = _recording(made.call)
            value["(form)"] = request.form.value
            value["(agent)"] = made.call.agent
            value["(destination)"] = made.call.destination
    if refusal is not None:
        call_id = made.refused.call_id if made.refused is not None else made.call.call_id if made.call is not None else None
        return _View("refused", call_id, value, f"{refusal.reason.value}: {refusal.where}: {refusal.what}")
    kind = "call" if made.call is not None else "recording" if made.recording is not None else "ignored"
    return _View(kind, made.call.call_id if made.call else None, value, "")


def _recording(call: Call) -> Any:
    """The URL; where the recording is looked for, in words."""
    for strategy in call.strategies:
        if isinstance(strategy, UrlStrategy) and strategy.location is not None:
            return strategy.location
        if isinstance(strategy, ManifestStrategy) and strategy.key is not None:
            return f"(from {strategy.source}, {strategy.looks_for})"
    return "(none is found)"


def drawn(difference: Difference, most: int | None) -> Iterator[str]:
    """One difference as lines; `most`: changes shown."""
    origins = ", ".join(difference.origins[:3]) + (", ..." if len(difference.origins) > 3 else "")
    who = f"  {visible(difference.call_id)}" if difference.call_id else ""
    what = "" if difference.kind is DifferenceKind.CHANGED else f"  {difference.kind}"
    yield f"{visible(origins)}{who}{what}"
    if difference.before and difference.before != difference.after:
        yield from wrapped(f"was refused, {difference.before}", "      ", "    ")
    if difference.after and difference.before != difference.after:
        yield from wrapped(f"is refused, {difference.after}", "      ", "    ")
    for change in difference.changes[:most]:
        yield from lines(change, "old", "new", "    ")
    if most is not None and len(difference.changes) > most:
        yield f"    and {count(len(difference.changes) - most, 'change')} more (--all shows them)"
