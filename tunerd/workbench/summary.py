"""Many documents of real calls together: how often each field is filled, what no rule knew, and why some are refused."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tunerd.visible import visible
from tunerd.workbench.shown import count, short, wrapped
from tunerd.workbench.view import REPAIRS, View, origin_of, where_is

_VALUES_KEPT: Final = 200
_VALUES_SHOWN: Final = 12
_IDS_KEPT: Final = 100_000


class Summary:
    """Takes the view of one document (view.py) after the other. What it holds is what `as_json` gives and `lines` draws."""

    def __init__(self) -> None:
        self._documents = 0
        self._gathered = {"documents": 0, "calls": 0}
        self._outcomes: Counter[str] = Counter()
        self._repairs: Counter[str] = Counter()
        self._redacted: Counter[str] = Counter()
        self._refused: dict[tuple[str, str, str], View] = {}
        """One entry for each kind of refusal, with the origin of the first as an example."""
        self._fields: dict[tuple[str, str], View] = {}
        self._not_asked: dict[str, Counter[str]] = {}
        """By source: what is not counted with its fields, and why."""
        self._gathers: set[str] = set()
        self._left_out: dict[tuple[str, str], View] = {}
        self._unknown: dict[tuple[str, str, int], View] = {}
        self._items: dict[tuple[str, str, int], View] = {}

    def add(self, view: View) -> None:
        source, together = view["source"], view["gathered"]["documents"] if "gathered" in view else []
        self._documents += len(together) or 1
        self._outcomes[view["outcome"]] += 1
        if together:
            self._gathers.add(source)
            self._gathered["documents"] += len(together)
            self._gathered["calls"] += 1
        is_read = "rules" in view
        if (refusal := view["refusal"]) is not None:
            kind = {**refusal, "where": _place(refusal["where"]) if is_read else ""}
            example = origin_of(together[0] if together else view)
            self._refused.setdefault(tuple(kind.values()), {**kind, "count": 0, "example": example})["count"] += 1
        if is_read and view["outcome"] != "ignored":
            self._add(view)
        else:
            self._not_asked.setdefault(source, Counter())["left out" if is_read else "not readable"] += 1

    def _add(self, view: View) -> None:
        self._repairs.update(view["repairs"])
        self._redacted.update(view["redacted"])
        for field in view["fields"]:
            at = {"source": view["source"], "name": field["name"], "file": field["file"], "line": field["line"]}
            kept = self._fields.setdefault((view["source"], field["name"]), {**at, "filled": 0, "documents": 0})
            why = field["why_nothing"]
            kept["documents"] += 1
            kept["filled"] += why is None
            if why is not None and why.startswith("left out: "):
                error = {"field": field["name"], "why": why.removeprefix("left out: ")}
                self._left_out.setdefault((error["field"], error["why"]), {**error, "count": 0})["count"] += 1
        for rule in view["rules"]:
            at = {name: rule[name] for name in ("path", "file", "line")}
            key = rule["path"], rule["file"], rule["line"]
            if rule["items"]:
                counts = self._items.setdefault(key, {**at, "items": 0, "rows": 0})
                counts["items"] += rule["items"]
                counts["rows"] += rule["rows"]
            for call in rule["functions"]:
                if call["unknown"]:
                    values = self._unknown.setdefault(key, {**at, "rule": rule["rule"], "values": Counter()})["values"]
                    for value, times in call["unknown"].items():
                        if value in values or len(values) < _VALUES_KEPT:
                            values[value] += times

    def lines(self) -> Iterator[str]:
        told = [
            f"{times:,} {_PLAIN[name][times != 1] if name in _PLAIN else name}" for name, times in self._outcomes.most_common()
        ]
        together, calls = self._gathered.values()
        of_them = "" if together == self._documents else f" {together:,} of them"
        gathered = f",{of_them} gathered into {count(calls, 'call')}" if calls else ""
        yield f"{count(self._documents, 'document')}{gathered}: {', '.join(told) or 'nothing was read'}"
        yield from self._field_lines()
        if self._left_out:
            yield ""
            yield "Optional fields left out because their rule failed"
            for one in _most(self._left_out):
                yield from wrapped(f"{one['count']:>8,}  {one['field']}: {one['why']}", " " * 12, "  ")
        if self._refused:
            yield ""
            yield "Refused"
            for one in _most(self._refused):
                told = [one[name] for name in ("reason", "where", "what") if one[name]]
                yield from wrapped(": ".join(told), " " * 12, f"  {one['count']:>8,}  ")
                yield f"            for example {visible(one['example'])}"
        if self._unknown:
            yield ""
            yield "Values that no table knew"
            for rule in self._unknown.values():
                most = rule["values"].most_common(_VALUES_SHOWN)
                values = ", ".join(f"{short(value, 40)} x{times:,}" for value, times in most)
                more = len(rule["values"]) - len(most)
                yield from wrapped(f"{rule['path']} ({where_is(rule)})", "      ", "  ")
                yield from wrapped(values + (f" and {more} more" if more else ""), "      ")
        if without := [rule for rule in self._items.values() if rule["rows"] < rule["items"]]:
            yield ""
            yield "Items that gave no row"
            for rule in without:
                gave_none = f"{rule['items'] - rule['rows']:,} of {count(rule['items'], 'item')}"
                yield from wrapped(f"{gave_none}: {rule['path']} ({where_is(rule)})", "      ", "  ")
        if self._repairs:
            yield ""
            yield "Repairs, and how often"
            for name, times in self._repairs.most_common():
                yield from wrapped(f"{name}: {REPAIRS.get(name, '')}".rstrip(": "), " " * 12, f"  {times:>8,}  ")
        if self._redacted:
            yield ""
            yield "Redacted: " + ", ".join(f"{name} x{times:,}" for name, times in self._redacted.most_common())

    def _field_lines(self) -> Iterator[str]:
        for source in dict.fromkeys(field["source"] for field in self._fields.values()):
            yield ""
            noun = "call" if source in self._gathers else "document"
            yield f"Fields of source {source}: in how many {noun}s their rule gives a value"
            if not_asked := [f"{times:,} {why}" for why, times in self._not_asked.get(source, {}).items()]:
                yield f"  (not counted: {', '.join(not_asked)})"
            for field in self._fields.values():
                if field["source"] == source:
                    share = f"{100 * field['filled'] / field['documents']:3.0f} %"
                    of = f"{field['filled']:,} of {field['documents']:,}"
                    yield f"  {field['name']:<28}{share}  {of:>16}   {where_is(field)}"

    def as_json(self) -> View:
        return {
            "documents": self._documents,
            "gathered": self._gathered,
            "outcomes": self._outcomes,
            "fields": list(self._fields.values()),
            "left_out": list(self._left_out.values()),
            "refused": sorted(self._refused.values(), key=_count, reverse=True),
            "unknown": list(self._unknown.values()),
            "items": list(self._items.values()),
            "repairs": self._repairs,
            "redacted": self._redacted,
        }


def _count(entry: View) -> int:
    times: int = entry["count"]
    return times


def _most(entries: Mapping[Any, View]) -> list[View]:
    return sorted(entries.values(), key=_count, reverse=True)[:_VALUES_SHOWN]


class Ids:
    """Call ids that several documents share: with one start they are duplicates, else a rule that makes calls vanish."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], list[tuple[int, str]]] = {}

    def add(self, view: View) -> None:
        if (call := view.get("call")) is None:
            return
        key = call["agent"], call["call_id"]
        last = view["gathered"]["documents"][-1] if "gathered" in view else view
        if len(self._seen) < _IDS_KEPT or key in self._seen:
            self._seen.setdefault(key, []).append((call["payload"]["start_timestamp"], origin_of(last)))

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
