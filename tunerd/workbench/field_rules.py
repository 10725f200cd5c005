"""Proposed rules for the fields of a call but its rows: by their names and values; and which rules are guesses."""

from collections.abc import Callable
from typing import TypeAlias

from tunerd.workbench.fields import Finder, Found
from tunerd.workbench.row_rules import Proposal, converted, unit_of_length
from tunerd.workbench.shape import is_naive, says_start
from tunerd.workbench.written import quoted

Expression: TypeAlias = Callable[[Found], str]


def field_lines(
    finder: Finder, made: Proposal, expression: Expression, call_id: str | None = None, *, rows_tell: bool = False
) -> list[str]:
    """Lines under `call:`. `call_id`: its rule, where it is known; `rows_tell`: rows have absolute times."""
    fields = _FieldRules(finder, made, expression)
    fields.identity(call_id)
    fields.times(rows_tell=rows_tell)
    fields.optional()
    return fields.lines


class _FieldRules:
    def __init__(self, finder: Finder, made: Proposal, expression: Expression) -> None:
        self.lines: list[str] = []
        self._finder = finder
        self._unsure = made.unsure
        self._made = made
        self._expression = expression
        self._caller = finder.caller()

    def _add(self, name: str, rule: str, comment: str = "") -> None:
        self.lines.append(f"  {name}: {rule}" + (f"{' ' * max(1, 44 - len(name) - len(rule))}# {comment}" if comment else ""))

    def _add_found(self, name: str, found: Found | None, comment: str = "") -> None:
        if found is not None:
            self._add(name, quoted(self._expression(found)), comment)

    def identity(self, call_id: str | None) -> None:
        found = self._finder.call_id()
        if call_id is not None:
            self._add("call_id", quoted(call_id))
        elif found is not None:
            self._add_found("call_id", found, "" if found.certain else "a guess: is it one for each call?")
            if not found.certain:
                self._unsure.append(f"call_id is {self._expression(found)}: it has to differ from call to call")
        else:
            self._add("call_id", "file.stem", "no id was found: the file's name")
            self._unsure.append("no id of the call was found: the name of the file is taken, so each call needs its own")
        self._made.key = self._made.key or (self._expression(found) if found else "file.stem")
        typed = self._finder.call_type()
        if typed is not None:
            self._add_found("call_type", typed)
        else:
            kind = "phone_call" if self._caller is not None else "web_call"
            self._add("call_type", f"{{const: {kind}}}", "a guess: phone_call, web_call, sip_call, ...")
            self._unsure.append(f"call_type is always {kind}: nothing in the documents says it")

    def times(self, *, rows_tell: bool) -> None:
        start, end, length = self._finder.start(), self._finder.end(), self._finder.duration()
        self._made.starts_at = start.value if start is not None and says_start(start.path[-1]) else None
        for name, moment in (("start_timestamp", start), ("end_timestamp", end)):
            if moment is None:
                continue
            self._add_found(name, moment, "" if moment.certain else "a guess, by its name")
            rule = self._expression(moment)
            if not moment.certain:
                self._unsure.append(f"{name} is {rule}: is it that of the call?")
            if is_naive(moment.value):
                self._unsure.append(f"{rule} names no time zone: it is read as UTC unless `timezone:` says another")
        if start is None and (end is not None or rows_tell):
            self._unsure.append("no start of the call was found: its first row tells it, if rows have absolute times")
        elif start is None:
            self._add("end_timestamp", "file.mtime", "a guess: when the file was written")
            self._unsure.append("no time of the call was found: it is taken to have ended when its file was written")
        if length is not None and (start is None or end is None):
            unit, sure = unit_of_length(length, start, end)
            self._add("duration_ms", quoted(converted(self._expression(length), unit)))
            if not sure:
                self._unsure.append(f"{self._expression(length)} is taken for {unit}")

    def optional(self) -> None:
        finder = self._finder
        self._add_found("caller_phone_number", self._caller)
        self._add_found("disconnection_reason", finder.reason())
        self._add_found("in_voicemail", finder.voicemail())
        self._add_found("call_successful", finder.success())
        self._add_found("metadata", finder.objects(("metadata", "meta", "custom", "customdata")))
        variables = ("variables", "dynamicvariables", "collecteddynamicvariables")
        self._add_found("collected_dynamic_variables", finder.objects(variables))
        self._add_found("call_analysis", finder.objects(("analysis", "callanalysis", "postcallanalysis")))
        if (mood := finder.sentiment()) is not None:
            self._add("user_sentiment", quoted(f"lower({self._expression(mood)})"))
        if (cost := finder.cost()) is not None:
            self._add("call_cost", quoted(f"multiply({self._expression(cost)}, 100)"), "dollars -> cents")
            self._unsure.append(f"{self._expression(cost)} is taken for dollars: Tuner wants cents")
