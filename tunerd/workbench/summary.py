"""Many documents of real calls together: how often each field is filled, what no rule knew, and why some are refused."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tunerd.mapping.explanation import Explanation
from tunerd.visible import visible
from tunerd.workbench.evaluation import Evaluation
from tunerd.workbench.shown import count, short, where, wrapped
from tunerd.workbench.view import REPAIRS, merged, outcome_of
from tunerd.yaml_location import YamlLocation

_VALUES_KEPT: Final = 200
_VALUES_SHOWN: Final = 12
_IDS_KEPT: Final = 100_000


@dataclass(slots=True)
class _Field:
    source: str
    name: str
    location: YamlLocation
    filled: int = 0
    asked: int = 0


@dataclass(slots=True)
class _Unknown:
    rule: str
    values: Counter[str] = field(default_factory=Counter)


class Summary:
    """Takes one evaluation after the other."""

    def __init__(self) -> None:
        self.documents = 0
        self.gathered = [0, 0]
        """Documents that make calls together, and those calls."""
        self.outcomes: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()
        self.redacted: Counter[str] = Counter()
        self.refused: Counter[tuple[str, str, str]] = Counter()
        self.examples: dict[tuple[str, str, str], str] = {}
        """An origin for each kind of refusal."""
        self._fields: dict[tuple[str, str], _Field] = {}
        self._not_asked: dict[str, Counter[str]] = {}
        """By source: what is not counted with its fields, and why."""
        self._gathers: set[str] = set()
        self._errors: Counter[tuple[str, str]] = Counter()
        self._unknown: dict[tuple[str, YamlLocation], _Unknown] = {}
        self._no_row: dict[tuple[str, YamlLocation], list[int]] = {}

    def add(self, evaluation: Evaluation) -> None:
        self.documents += len(evaluation.unit.origins)
        self.outcomes[outcome_of(evaluation)] += 1
        source, explanation = evaluation.compiled.source.name, evaluation.explanation
        if evaluation.unit.fragments:
            self._gathers.add(source)
            self.gathered[0] += len(evaluation.unit.fragments)
            self.gathered[1] += 1
        refusal = evaluation.refusal
        if refusal is not None:
            at = "" if evaluation.unit.unread else _place(refusal.where)
            key = refusal.reason.value, at, refusal.what
            self.refused[key] += 1
            self.examples.setdefault(key, evaluation.unit.origins[0])
        if explanation is not None and explanation.mapped.ignored is None:
            self._add(source, explanation)
        else:
            self._not_asked.setdefault(source, Counter())["not readable" if explanation is None else "left out"] += 1

    def _add(self, source: str, explanation: Explanation) -> None:
        self.repairs.update(explanation.repairs)
        self.redacted.update(explanation.mapped.notes.redacted)
        for report in explanation.fields:
            kept = self._fields.setdefault((source, report.name), _Field(source, report.name, report.location))
            kept.asked += 1
            kept.filled += report.why is None
            if report.why is not None and report.why.startswith("left out: "):
                self._errors[(report.name, report.why.removeprefix("left out: "))] += 1
        for rule in merged(explanation.rules):
            if rule.items:
                counts = self._no_row.setdefault((rule.path, rule.ref.location), [0, 0])
                counts[0] += rule.items
                counts[1] += rule.rows
            for call in rule.calls.values():
                if call.unknown:
                    unknown = self._unknown.setdefault((rule.path, rule.ref.location), _Unknown(rule.ref.text))
                    for value, times in call.unknown.items():
                        if value in unknown.values or len(unknown.values) < _VALUES_KEPT:
                            unknown.values[value] += times

    def lines(self) -> Iterator[str]:
        told = [
            f"{times:,} {_PLAIN[name][times != 1] if name in _PLAIN else name}" for name, times in self.outcomes.most_common()
        ]
        together, calls = self.gathered
        of_them = "" if together == self.documents else f" {together:,} of them"
        gathered = f",{of_them} gathered into {count(calls, 'call')}" if calls else ""
        yield f"{count(self.documents, 'document')}{gathered}: {', '.join(told) or 'nothing was read'}"
        yield from self._field_lines()
        if self._errors:
            yield ""
            yield "Optional fields left out because their rule failed"
            for (name, why), times in self._errors.most_common(_VALUES_SHOWN):
                yield from wrapped(f"{times:>8,}  {name}: {why}", " " * 12, "  ")
        if self.refused:
            yield ""
            yield "Refused"
            for key, times in self.refused.most_common(_VALUES_SHOWN):
                reason, at, what = key
                yield from wrapped(": ".join(part for part in (reason, at, what) if part), " " * 12, f"  {times:>8,}  ")
                yield f"            for example {visible(self.examples[key])}"
        if self._unknown:
            yield ""
            yield "Values that no table knew"
            for (path, location), unknown in self._unknown.items():
                most = unknown.values.most_common(_VALUES_SHOWN)
                values = ", ".join(f"{short(value, 40)} x{times:,}" for value, times in most)
                more = len(unknown.values) - len(most)
                yield from wrapped(f"{path} ({where(location)})", "      ", "  ")
                yield from wrapped(values + (f" and {more} more" if more else ""), "      ")
        without = {key: counts for key, counts in self._no_row.items() if counts[1] < counts[0]}
        if without:
            yield ""
            yield "Items that gave no row"
            for (path, location), (items, rows) in without.items():
                yield from wrapped(f"{items - rows:,} of {count(items, 'item')}: {path} ({where(location)})", "      ", "  ")
        if self.repairs:
            yield ""
            yield "Repairs, and how often"
            for name, times in self.repairs.most_common():
                yield from wrapped(f"{name}: {REPAIRS.get(name, '')}".rstrip(": "), " " * 12, f"  {times:>8,}  ")

        if self.redacted:
            yield ""
            yield "Redacted: " + ", ".join(f"{name} x{times:,}" for name, times in self.redacted.most_common())

    def _field_lines(self) -> Iterator[str]:
        sources = dict.fromkeys(kept.source for kept in self._fields.values())
        for source in sources:
            yield ""
            noun = "call" if source in self._gathers else "document"
            yield f"Fields of source {source}: in how many {noun}s their rule gives a value"
            if not_asked := [f"{times:,} {why}" for why, times in self._not_asked.get(source, {}).items()]:
                yield f"  (not counted: {', '.join(not_asked)})"
            for kept in self._fields.values():
                if kept.source == source:
                    share = f"{100 * kept.filled / kept.asked:3.0f} %"
                    of = f"{kept.filled:,} of {kept.asked:,}"
                    yield f"  {kept.name:<28}{share}  {of:>16}   {where(kept.location)}"

    def as_json(self) -> dict[str, Any]:
        return {
            "documents": self.documents,
            "gathered": {"documents": self.gathered[0], "calls": self.gathered[1]},
            "outcomes": dict(self.outcomes),
            "fields": [
                {"source": kept.source, "name": kept.name, "file": kept.location.file, "line": kept.location.line,
                 "filled": kept.filled, "documents": kept.asked}
                for kept in self._fields.values()
            ],
            "left_out": [{"field": name, "why": why, "count": times} for (name, why), times in self._errors.items()],
            "refused": [
                {"reason": key[0], "where": key[1], "what": key[2], "count": times, "example": self.examples[key]}
                for key, times in self.refused.most_common()
            ],
            "unknown": [
                {"path": path, "file": location.file, "line": location.line, "rule": unknown.rule, "values": dict(unknown.values)}
                for (path, location), unknown in self._unknown.items()
            ],
            "items": [
                {"path": path, "file": location.file, "line": location.line, "items": items, "rows": rows}
                for (path, location), (items, rows) in self._no_row.items()
            ],
            "repairs": dict(self.repairs),
            "redacted": dict(self.redacted),
        }  # fmt: skip


class Ids:
    """Call ids that several documents share: with one start they are duplicates, else a rule that makes calls vanish."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], list[tuple[int, str]]] = {}

    def add(self, evaluation: Evaluation) -> None:
        call = evaluation.explanation.mapped.call if evaluation.explanation else None
        if call is not None and (len(self._seen) < _IDS_KEPT or (call.agent, call.call_id) in self._seen):
            origins = self._seen.setdefault((call.agent, call.call_id), [])
            origins.append((call.started_at_ms, str(call.origin)))

    @property
    def conflicts(self) -> bool:
        """Whether some have one id and different starts."""
        return any(_differ(found) for found in self._seen.values())

    def shared(self) -> list[dict[str, Any]]:
        return [
            {"call_id": call_id, "agent": agent, "same_start": not _differ(found), "documents": [origin for _, origin in found]}
            for (agent, call_id), found in self._seen.items()
            if len(found) > 1
        ]

    def lines(self) -> Iterator[str]:
        shared = self.shared()
        if not shared:
            return
        yield ""
        yield f"{count(len(shared), 'call id is', 'call ids are')} shared by several documents"
        for one in shared[:_VALUES_SHOWN]:
            what = (
                "the same start: sent once"
                if one["same_start"]
                else "DIFFERENT starts: only one would be sent, the others fail (id_conflict); correct the call_id rule"
            )
            yield from wrapped(f"{one['call_id']}: {what}", "      ", "  ")
            for origin in one["documents"][:5]:
                yield f"      {visible(origin)}"
            if len(one["documents"]) > 5:
                yield f"      and {len(one['documents']) - 5:,} more"
        if len(shared) > _VALUES_SHOWN:
            yield f"  and {len(shared) - _VALUES_SHOWN:,} more ids"


_PLAIN: Final = {
    "call": ("mapped to a call", "mapped to calls"),
    "recording": ("mapped to a recording", "mapped to recordings"),
    "call and recording": ("mapped to a call and a recording", "mapped to a call and a recording each"),
    "ignored": ("left out on purpose", "left out on purpose"),
}
"""Of one, and of any other number."""


def _place(where_: str) -> str:
    """The place without the number of the row, so that equal refusals count as one; the line of the rule stays."""
    head, paren, tail = where_.partition(" (")
    return re.sub(r"\[\d+\]", "[]", head) + paren + tail


def _differ(found: list[tuple[int, str]]) -> bool:
    starts = [start for start, _ in found]
    return max(starts) - min(starts) > 1000
