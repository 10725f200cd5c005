"""The view of one document drawn as lines of text: fields, rows, repairs, strategies, the refusal, and every rule.

Lines fit eighty columns where their content allows it. What holds for many documents together is summary.py's.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from tunerd.call import Form, Refusal
from tunerd.mapping.forms import fields_not_carried
from tunerd.tuner_fields import ROWS
from tunerd.visible import visible, visible_json
from tunerd.workbench.request import RequestPreview
from tunerd.workbench.shown import WIDTH, count, short, wrapped
from tunerd.workbench.view import REPAIRS, View, origin_of, where_is

_ROWS_SHOWN: Final = 8
_ORIGINS_SHOWN: Final = 5
_NAME: Final = 28
_TEXT: Final = 38


def lines(view: View, *, rules: bool = False, whole: bool = False) -> Iterator[str]:
    """The report of one document. `rules`: every rule besides; `whole`: nothing is shortened."""
    origins = view["gathered"]["documents"] if "gathered" in view else [view]
    for one in origins[:_ORIGINS_SHOWN]:
        yield visible(origin_of(one))
    if len(origins) > _ORIGINS_SHOWN:
        yield f"and {len(origins) - _ORIGINS_SHOWN:,} more"
    if "rules" not in view:  # it could not be read
        if view["refusal"] is not None:
            yield from _refusal(view["refusal"])
        return
    preset = f"preset {view['preset']}" if view["preset"] else ""
    yield f"  source {view['source']}" + (f", {preset}" if preset else "") if view["configured"] else f"  {preset}"
    yield from _gathered(view)
    yield from _outcome(view)
    is_ignored = view["outcome"] == "ignored"
    if view["fields"] and (not is_ignored or rules):
        yield ""
        for field in view["fields"]:
            yield from _field(field, view["rules"], 10_000 if whole else WIDTH - _NAME - 4)
    if view["call"] is not None:
        yield from _rows(view["call"]["payload"], whole=whole)
    yield from _repairs(view)
    yield from _left_out(view)
    if view["strategies"] and not is_ignored:
        yield ""
        yield "  Where its recording comes from"
        for number, strategy in enumerate(view["strategies"]):
            yield f"    {number + 1}. {strategy['rule']}"
            given = strategy["url"] or strategy["key"]
            yield from wrapped(strategy["answer"] + (f": {short(given, 200)}" if given else ""), "       ")
        if view["audio"]:
            yield from wrapped(f"How its audio reaches Tuner: {view['audio']}", "    ")
    if rules:
        yield ""
        yield "  Rules"
        for rule in view["rules"]:
            yield from _rule(rule, whole=whole)


def _gathered(view: View) -> Iterator[str]:
    gathered = view.get("gathered")
    if gathered is None:
        return
    documents = gathered["documents"]
    parts = ", ".join(dict.fromkeys(one["part"] for one in documents if one["part"] is not None))
    yield f"  gathered from {count(len(documents), 'document')}, key {short(gathered['key'])}" + (f": {parts}" if parts else "")
    if not gathered["complete"]:
        yield f"  not complete: mapped with what is there, {gathered['wait_s']:g} s after its last document"


def _outcome(view: View) -> Iterator[str]:
    call, recording = view["call"], view["recording"]
    if view["refusal"] is not None:
        yield from _refusal(view["refusal"])
    if call is not None:
        to = f" for {call['destination']}, agent {visible(call['agent'])}" if view["configured"] else ""
        yield f"  call {visible(call['call_id'])}{to} ({call['form']})"
    if recording is not None:
        url = "there will be none" if recording["url"] is None else visible(recording["url"])
        yield f"  recording, key {visible(recording['key'])}: {url}"
    if view["outcome"] == "ignored":
        yield "  left out on purpose: nothing is sent, and that is no failure"
        for rule in view["rules"]:
            if rule["path"] in ("call.when", "manifest.when"):
                gave = "false" if rule["first_value"] is None else short(rule["first_value"])
                yield from wrapped(f"{rule['path']} ({where_is(rule)}) gave {gave}: {rule['rule']}", "    ")


def _refusal(refusal: Mapping[str, str]) -> Iterator[str]:
    yield from wrapped(f"refused ({refusal['reason']}): {refusal['where']}: {refusal['what']}", "    ", "  ")


def _field(field: View, rules: Sequence[View], room: int) -> Iterator[str]:
    name, value = field["name"], field["value"]
    if field["why_nothing"] is not None:
        yield from wrapped(f"{name:<{_NAME}}- {field['why_nothing']}", " " * (_NAME + 4), "  ")
    elif name == ROWS and isinstance(value, list):
        yield f"  {name:<{_NAME}}{count(len(value), 'row')} from the rules"
    else:
        yield f"  {name:<{_NAME}}{short(value, room)}"
    yield from wrapped(f"{where_is(field)}  {_rule_text(field, rules)}", "        ", "      ")[:2]


def _rule_text(field: View, rules: Sequence[View]) -> str:
    """The rule as written; of a list also which of its parts gave the value."""
    text: str = field["rule"]
    if text == "a table":
        return "a constant"
    own = next((rule for rule in rules if rule["path"].partition(".")[2] == field["name"]), None)
    if own is None or not text.startswith("first of"):
        return text
    parts = (rule for rule in rules if rule["path"].startswith(f"{own['path']}[") and rule["path"].endswith("]"))
    hit = next((part for part in parts if part["first_value"] is not None), None)
    return f"{text}: {hit['rule']}" if hit is not None else text


# Rows, repairs, what is left out


def _rows(payload: View, *, whole: bool) -> Iterator[str]:
    rows: list[View] = payload[ROWS]
    yield ""
    lasts = (payload["end_timestamp"] - payload["start_timestamp"]) / 1000
    yield f"  {count(len(rows), 'row')}, {lasts:,.1f} s; seconds from the start"
    for row in rows if whole else rows[:_ROWS_SHOWN]:
        start, end = (_seconds(row.get(name)) for name in ("start_ms", "end_ms"))
        times = f"{start:>8} {'-' if end else ' '}{end:>8}"
        words = f" [{len(row['words'])} words]" if row.get("words") else ""
        text = visible(_says(row))
        yield f"    {times}  {row['role']:<15} {text if whole or len(text) <= _TEXT else text[: _TEXT - 3] + '...'}{words}"
    if not whole and len(rows) > _ROWS_SHOWN:
        yield f"    and {len(rows) - _ROWS_SHOWN:,} more (--all shows them)"


def _says(row: View) -> str:
    if row.get("text"):
        return str(row["text"])
    tool, node = row.get("tool"), row.get("node")
    if tool:
        given = next((tool[name] for name in ("error", "result", "params") if name in tool), None)
        return f"{tool.get('name', 'tool')} {short(given, 200) if given is not None else ''}".strip()
    return f"{node.get('from')} -> {node.get('to')}" if node else "(words only)"


def _seconds(ms: Any) -> str:
    return f"{ms / 1000:.2f}" if isinstance(ms, int | float) else ""


def _repairs(view: View) -> Iterator[str]:
    if view["repairs"]:
        yield ""
        yield "  Repairs"
        for name, times in view["repairs"].items():
            yield from wrapped(f"{name} x{times:,}: {REPAIRS.get(name, '')}".rstrip(": "), "      ", "    ")
    if view["redacted"]:
        yield ""
        yield "  Redacted: " + ", ".join(f"{name} x{times:,}" for name, times in view["redacted"].items())


def _left_out(view: View) -> Iterator[str]:
    fields = {field["name"]: field for field in view["fields"]}
    told = [
        f"{name}: its value does not fit Tuner's limit or kind" if name in fields else f"{name}: its rule failed"
        for name in view["left_out"]
        if not (name in fields and fields[name]["why_nothing"])
    ]
    if (call := view["call"]) is not None:
        names = sorted(fields_not_carried(Form(call["form"])) & call["payload"].keys())
        if names:
            told.append(f"send-calls has no place for: {', '.join(names)}")
    told += [
        f"{rule['path']} ({where_is(rule)}): {rule['items'] - rule['rows']:,} of {count(rule['items'], 'item')} gave no row"
        for rule in view["rules"]
        if 0 < rule["rows"] < rule["items"]
    ]
    told += _unknown(view["rules"])
    if told:
        yield ""
        yield "  Left out"
        for text in told:
            yield from wrapped(text, "      ", "    ")


def _unknown(rules: Sequence[View]) -> Iterator[str]:
    """The values that lookups and classifies of these rules were asked for and did not know."""
    for rule in rules:
        for call in rule["functions"]:
            if call["unknown"]:
                asked = ", ".join(f"{short(key, 40)} x{times:,}" for key, times in call["unknown"].items())
                yield f"not in the table of {rule['path']} ({where_is(rule)}): {asked}"


# Rules


def _rule(rule: View, *, whole: bool) -> Iterator[str]:
    value, runs, text = rule["first_value"], rule["runs"], rule["rule"]
    if rule["error"]:
        told = f"failed: {rule['error']}"
    elif rule["items"]:
        told = f"{count(rule['rows'], 'row')} of {count(rule['items'], 'item')}"
    elif not runs:
        told = "constant" if text == "a table" else "not reached"
    elif runs == 1:
        told = "nothing" if rule["missing"] else short(value, 10_000 if whole else 40)
    else:
        told = f"{runs - rule['missing']:,} of {runs:,}"
        told += f", first {short(value, 10_000 if whole else 30)}" if value is not None else ""
    yield from wrapped(f"{rule['path']} ({where_is(rule)}): {told}", "        ", "    ")
    if text not in ("a block", "a table") and not text.startswith("first of"):
        yield from wrapped(text if whole or len(text) <= 200 else text[:200] + "...", "        ")
    for call in rule["functions"]:
        yield from _call(call, whole=whole)


def _call(call: View, *, whole: bool) -> Iterator[str]:
    for sample in call["samples"] if whole or call["calls"] > 1 else call["samples"][:1]:
        arguments = ", ".join(short(value, 24) for value in sample["arguments"])
        yield from wrapped(f"{call['function']}({arguments}) -> {short(sample['gave'], 30)}", "            ", "          ")
    if call["calls"] > len(call["samples"]):
        nulls = f", {call['nulls']:,} gave null" if call["nulls"] else ""
        yield f"          {call['calls']:,} calls in all{nulls}"


# The request


def request_lines(request: RequestPreview | Refusal, *, pretty: bool) -> Iterator[str]:
    """Notes as comments, then the request as it goes over the wire; `pretty`: the body indented, for reading."""
    if isinstance(request, Refusal):
        yield from _refusal({"reason": request.reason.value, "where": request.where, "what": request.what})
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
