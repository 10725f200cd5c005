"""One tried document as lines of text: fields, rows, repairs, strategies, the refusal, and every rule.

Lines fit eighty columns where their content allows it. What holds for many documents together is summary.py's.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from tunerd.call import Call, Refusal
from tunerd.mapping.explanation import CallReport, Explanation, FieldReport, RuleReport
from tunerd.mapping.forms import fields_not_carried
from tunerd.mapping.neighbours import FASTEST_PER_S, TIMES_APART
from tunerd.places import Place
from tunerd.tuner_fields import ROWS
from tunerd.visible import visible, visible_json
from tunerd.workbench.compiled import CompiledSource
from tunerd.workbench.evaluation import Evaluation
from tunerd.workbench.request import RequestPreview, form_used
from tunerd.workbench.shown import WIDTH, count, short, where

_ROWS_SHOWN: Final = 8
_ORIGINS_SHOWN: Final = 5
_NAME: Final = 28
_TEXT: Final = 38


def lines(evaluation: Evaluation, *, rules: bool = False, whole: bool = False) -> Iterator[str]:
    """The report of one document. `rules`: every rule besides; `whole`: nothing is shortened."""
    for origin in evaluation.unit.origins[:_ORIGINS_SHOWN]:
        yield visible(origin)
    if len(evaluation.unit.origins) > _ORIGINS_SHOWN:
        yield f"and {len(evaluation.unit.origins) - _ORIGINS_SHOWN:,} more"
    explanation = evaluation.explanation
    if explanation is None:
        if evaluation.refusal is not None:
            yield from _refusal(evaluation.refusal)
        return
    source = evaluation.compiled.source
    preset = f"preset {source.preset}" if source.preset else ""
    yield f"  {preset}" if evaluation.compiled.made_up else f"  source {source.name}" + (f", {preset}" if preset else "")
    yield from _gathered(evaluation)
    yield from _outcome(evaluation, explanation)
    if explanation.fields and (explanation.mapped.ignored is None or rules):
        yield ""
        for field in explanation.fields:
            yield from _field(field, explanation.rules, 10_000 if whole else WIDTH - _NAME - 4)
    if explanation.mapped.call is not None:
        yield from _rows(explanation.mapped.call, whole=whole)
    yield from _repairs(explanation)
    yield from _left_out(explanation, evaluation.compiled)
    if explanation.strategies and explanation.mapped.ignored is None:
        yield ""
        yield "  Where its recording comes from"
        for number, strategy in enumerate(explanation.strategies):
            yield f"    {number + 1}. {strategy.rule}"
            answer = strategy.answer
            given = getattr(strategy.strategy, "url", None) or getattr(strategy.strategy, "key", None)
            yield from wrapped(answer + (f": {short(given, 200)}" if given else ""), "       ")
    if rules:
        yield ""
        yield "  Rules"
        for rule in merged(explanation.rules):
            yield from _rule(rule, whole=whole)


def outcome_of(evaluation: Evaluation) -> str:
    """`call`, `recording`, `call and recording`, `ignored`, `refused`."""
    if evaluation.explanation is None or evaluation.refusal is not None:
        return "refused"
    mapped = evaluation.explanation.mapped
    if mapped.ignored is not None:
        return "ignored"
    return " and ".join(name for name, it in (("call", mapped.call), ("recording", mapped.recording)) if it is not None)


def estimated(evaluation: Evaluation) -> list[str]:
    """Which times of a mapped call the document did not tell: each is a guess, and said to be one."""
    call = evaluation.explanation.mapped.call if evaluation.explanation is not None else None
    if call is None or evaluation.explanation is None:
        return []
    found = []
    repairs = evaluation.explanation.repairs
    if rows := repairs.get("spread"):
        found.append(f"the times of {count(rows, 'row')} are estimated: nothing in it says when they were spoken")
    if orjson.loads(call.payload)["end_timestamp"] == call.origin.mtime_ns // 1_000_000:
        found.append("the call is taken to have ended when the file was written: nothing in it says when")
    found += [f"{name}: {REPAIRS[name]}" for name in DOUBTS if name in repairs]
    return found


def wrapped(text: str, indent: str, first: str | None = None) -> list[str]:
    """Lines of at most eighty columns; what is long and whole (a URL, a path) stays so."""
    return textwrap.wrap(
        visible(text), WIDTH, initial_indent=indent if first is None else first, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    ) or [first or indent]  # fmt: skip


def _gathered(evaluation: Evaluation) -> Iterator[str]:
    fragments = evaluation.unit.fragments
    if not fragments:
        return
    parts = ", ".join(dict.fromkeys(fragment.part for fragment in fragments if fragment.part is not None))
    yield f"  gathered from {count(len(fragments), 'document')}, key {short(fragments[0].key)}" + (f": {parts}" if parts else "")
    if not evaluation.complete:
        yield f"  not complete: mapped with what is there, {fragments[-1].wait_s:g} s after its last document"
    if evaluation.unit.cut is not None:
        yield from _refusal(evaluation.unit.cut)


def _outcome(evaluation: Evaluation, explanation: Explanation) -> Iterator[str]:
    mapped, compiled = explanation.mapped, evaluation.compiled
    if evaluation.refusal is not None:
        yield from _refusal(evaluation.refusal)
    if mapped.call is not None:
        to = "" if compiled.made_up else f" for {mapped.call.destination}, agent {visible(mapped.call.agent)}"
        yield f"  call {visible(mapped.call.call_id)}{to} ({form_used(mapped.call, compiled).value})"
    if mapped.recording is not None:
        url = "there will be none" if mapped.recording.url is None else visible(mapped.recording.url)
        yield f"  recording, key {visible(mapped.recording.key)}: {url}"
    if mapped.ignored is not None:
        yield "  left out on purpose: nothing is sent, and that is no failure"
        for rule in explanation.rules:
            if rule.path in ("call.when", "manifest.when"):
                gave = "false" if rule.value is None else short(rule.value)
                yield from wrapped(f"{rule.path} ({where(rule.place)}) gave {gave}: {rule.rule}", "    ")


def _refusal(refusal: Refusal) -> Iterator[str]:
    yield from wrapped(f"refused ({refusal.reason.value}): {refusal.where}: {refusal.what}", "    ", "  ")


def _field(field: FieldReport, rules: Sequence[RuleReport], room: int) -> Iterator[str]:
    by = rule_text(field, rules)
    if field.why is not None:
        yield from wrapped(f"{field.name:<{_NAME}}- {field.why}", " " * (_NAME + 4), "  ")
    elif field.name == ROWS and isinstance(field.value, list):
        yield f"  {field.name:<{_NAME}}{count(len(field.value), 'row')} from the rules"
    else:
        yield f"  {field.name:<{_NAME}}{short(field.value, room)}"
    yield from wrapped(f"{where(field.place)}  {by}", "        ", "      ")[:2]


def rule_text(field: FieldReport, rules: Sequence[RuleReport]) -> str:
    """The rule as written; of a list also which of its parts gave the value."""
    if field.rule == "a table":
        return "a constant"
    own = next((rule for rule in rules if rule.path.partition(".")[2] == field.name), None)
    if own is None or not field.rule.startswith("first of"):
        return field.rule
    parts = (rule for rule in rules if rule.path.startswith(f"{own.path}[") and rule.path.endswith("]"))
    hit = next((part for part in parts if part.value is not None), None)
    return f"{field.rule}: {hit.rule}" if hit is not None else field.rule


# Rows, repairs, what is left out


def _rows(call: Call, *, whole: bool) -> Iterator[str]:
    payload: dict[str, Any] = orjson.loads(call.payload)
    rows: list[dict[str, Any]] = payload[ROWS]
    yield ""
    lasts = (payload["end_timestamp"] - payload["start_timestamp"]) / 1000
    yield f"  {count(len(rows), 'row')}, {lasts:,.1f} s; seconds from the start"
    for row in rows if whole else rows[:_ROWS_SHOWN]:
        start, end = (_seconds(row.get(name)) for name in ("start_ms", "end_ms"))
        times = f"{start:>8} {'-' if end else ' '}{end:>8}"
        words = f" [{len(row['words'])} words]" if row.get("words") else ""
        yield f"    {times}  {row['role']:<15} {_cut(_says(row), whole=whole)}{words}"
    if not whole and len(rows) > _ROWS_SHOWN:
        yield f"    and {len(rows) - _ROWS_SHOWN:,} more (--all shows them)"


def _cut(text: str, *, whole: bool) -> str:
    text = visible(text)
    return text if whole or len(text) <= _TEXT else text[: _TEXT - 3] + "..."


def _says(row: Mapping[str, Any]) -> str:
    if row.get("text"):
        return str(row["text"])
    tool, node = row.get("tool"), row.get("node")
    if tool:
        given = next((tool[name] for name in ("error", "result", "params") if name in tool), None)
        return f"{tool.get('name', 'tool')} {short(given, 200) if given is not None else ''}".strip()
    return f"{node.get('from')} -> {node.get('to')}" if node else "(words only)"


def _seconds(ms: Any) -> str:
    return f"{ms / 1000:.2f}" if isinstance(ms, int | float) else ""


def _repairs(explanation: Explanation) -> Iterator[str]:
    if explanation.repairs:
        yield ""
        yield "  Repairs"
        for name, times in explanation.repairs.items():
            yield from wrapped(f"{name} x{times:,}: {REPAIRS.get(name, '')}".rstrip(": "), "      ", "    ")
    if redacted := explanation.mapped.notes.redacted:
        yield ""
        yield "  Redacted: " + ", ".join(f"{name} x{times:,}" for name, times in redacted.items())


REPAIRS: Final[Mapping[str, str]] = {
    "call_start_from_rows": "the call's start is that of its first row",
    "call_end_from_rows": "the call's end is that of its last row",
    "text_from_words": "rows without text take that of their words",
    "start_from_end": "rows that only have an end start a reading pace before it",
    "before_start": "rows that begin before the call begin with it",
    "after_end": "rows end after the call; they stay",
    "end_before_start": "rows end before they start; they end where they start",
    "spread": "speech without times is spread between its neighbours (an estimate)",
    "carried_start": "tool and node rows without a time take the end of the row before",
    "reordered": "rows are sorted by their start",
    "end_from_next": "speech without an end ends with the next speech",
    "end_from_call": "speech without an end ends with the call",
    "spoken_too_fast": f"DOUBTFUL: over {FASTEST_PER_S} characters are said in a second; are the rows' times in milliseconds?",
    "much_shorter_than_call": f"DOUBTFUL: the transcript is over {TIMES_APART} times shorter than the call; check the units",
    "much_longer_than_call": f"DOUBTFUL: the transcript is over {TIMES_APART} times longer than the call; check the units",
    "words_out_of_row": "words more than 1 s outside their row are dropped: unit?",
    "name_from_call": "tool results take the name of their call",
    "result_without_call": "tool results whose call is not there",
    "node_from": "nodes come from the node before",
    "wrapped": "tool values that are no objects become {value: ...}",
    "surrogates": "half characters (lone surrogates) are replaced",
    "big_numbers": "numbers beyond 64 bits lose precision",
    "cut": "texts are cut to their limit",
}
"""What each repair of the timeline and the payload means."""
DOUBTS: Final = ("spoken_too_fast", "much_shorter_than_call", "much_longer_than_call")


def _left_out(explanation: Explanation, compiled: CompiledSource) -> Iterator[str]:
    fields = {field.name: field for field in explanation.fields}
    told = [
        f"{name}: its value does not fit Tuner's limit or kind" if name in fields else f"{name}: its rule failed"
        for name in explanation.mapped.notes.left_out
        if not (name in fields and fields[name].why)
    ]
    call = explanation.mapped.call
    if call is not None:
        names = sorted(fields_not_carried(form_used(call, compiled)) & orjson.loads(call.payload).keys())
        if names:
            told.append(f"send-calls has no place for: {', '.join(names)}")
    told += [
        f"{rule.path} ({where(rule.place)}): {rule.items - rule.rows:,} of {count(rule.items, 'item')} gave no row"
        for rule in merged(explanation.rules)
        if 0 < rule.rows < rule.items
    ]
    told += unknown_lines(explanation.rules)
    if told:
        yield ""
        yield "  Left out"
        for text in told:
            yield from wrapped(text, "      ", "    ")


def unknown_lines(rules: Sequence[RuleReport]) -> Iterator[str]:
    """The values that lookups and classifies of these rules were asked for and did not know."""
    for rule in merged(rules):
        for call in rule.calls:
            if call.unknown:
                asked = ", ".join(f"{short(key, 40)} x{times:,}" for key, times in call.unknown.items())
                yield f"not in the table of {rule.path} ({where(rule.place)}): {asked}"


# Rules


def merged(rules: Sequence[RuleReport]) -> list[RuleReport]:
    """Times are compiled as two steps of one path (the rule, and its reading as a time): shown as one."""
    found: dict[tuple[str, str, Place], RuleReport] = {}
    for rule in rules:
        key = rule.path, rule.rule, rule.place
        if key not in found or (rule.error and not found[key].error):
            found[key] = rule
    return list(found.values())


def _rule(rule: RuleReport, *, whole: bool) -> Iterator[str]:
    if rule.error:
        told = f"failed: {rule.error}"
    elif rule.items:
        told = f"{count(rule.rows, 'row')} of {count(rule.items, 'item')}"
    elif not rule.runs:
        told = "constant" if rule.rule == "a table" else "not reached"
    elif rule.runs == 1:
        told = "nothing" if rule.missing else short(rule.value, 10_000 if whole else 40)
    else:
        told = f"{rule.runs - rule.missing:,} of {rule.runs:,}"
        told += f", first {short(rule.value, 10_000 if whole else 30)}" if rule.value is not None else ""
    yield from wrapped(f"{rule.path} ({where(rule.place)}): {told}", "        ", "    ")
    if rule.rule not in ("a block", "a table") and not rule.rule.startswith("first of"):
        shown = rule.rule if whole or len(rule.rule) <= 200 else rule.rule[:200] + "..."
        yield from wrapped(shown, "        ")
    for call in rule.calls:
        yield from _call(call, whole=whole)


def _call(call: CallReport, *, whole: bool) -> Iterator[str]:
    for got, gave in call.samples if whole or call.calls > 1 else call.samples[:1]:
        arguments = ", ".join(short(value, 24) for value in got)
        yield from wrapped(f"{call.function}({arguments}) -> {short(gave, 30)}", "            ", "          ")
    if call.calls > len(call.samples):
        nulls = f", {call.nulls:,} gave null" if call.nulls else ""
        yield f"          {call.calls:,} calls in all{nulls}"


# The request


def request_lines(request: RequestPreview | Refusal, *, pretty: bool) -> Iterator[str]:
    """Notes as comments, then the request as it goes over the wire; `pretty`: the body indented, for reading."""
    if isinstance(request, Refusal):
        yield from _refusal(request)
        return
    for note in request.notes:
        yield from wrapped(note, "# ")
    yield f"POST {request.url}"
    for name, value in request.headers.items():
        yield f"{name}: {value}"
    yield ""
    body = request.body.decode()
    text = orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode() if pretty else body
    yield from visible_json(text).split("\n")
