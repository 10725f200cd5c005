"""Proposed rules for the rows of a transcript: their times and units, tools among them; what of it is a guess."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tunerd.mapping.functions.times import epoch_ms
from tunerd.mapping.values import RuleError
from tunerd.workbench.fields import Finder, Found
from tunerd.workbench.shape import Path, Shape, Speech, is_moment, is_naive, is_offset, number, plain, words
from tunerd.workbench.written import quoted, step

_ROW_STARTS: Final = words(
    "startat starttime startedat start startms startmillis offset offsetms beginoffsetmillis secondsfromstart timesec "
    "timeincallsecs timestamp ts at time t createdat timems datetime date begin from"
)
_ROW_ENDS: Final = words("endat endtime endedat end endms endoffsetmillis stop finishedat to until")
_ROW_LENGTHS: Final = words("durationms duration durationsec durationseconds length lengthms")
_TOOL_NAMES: Final = words("toolname functionname function name tool")
_TOOL_PARAMS: Final = words("arguments args params parameters input")
_UNITS: Final = (
    ("milliseconds", ("ms", "millis")),
    ("minutes", ("min", "minutes")),
    ("seconds", ("sec", "secs", "seconds", "billsec")),
)


@dataclass(slots=True)
class Proposal:
    calls: bool
    """False: rules for recordings."""
    lines: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    key: str = ""
    """For a call without a URL of its audio: the expression that its recording could be found by."""
    audio: bool = False
    has_start: bool = True
    """Of recordings."""


def row_lines(
    speech: Speech, made: Proposal, finder: Finder, each: str, roles: Mapping[str, str], *, known_start: bool, when: str = ""
) -> list[str]:
    lines = ["  transcript_with_tool_calls:", f"    for_each: {{m: {quoted(each)}}}"]
    if when:
        lines.append(f"    when: {quoted(when)}")
    role = f"lookup(m.{step(speech.role)}, roles)" if speech.role else "{const: user}"
    times = _times(speech, made, finder, known_start=known_start)
    if not times:
        made.lines.append("untimed: spread")
        made.unsure.append("rows have no times: they are spread over the call (untimed: spread), an estimate")
    said = [f"text: m.{step(speech.text)}", *times]
    nested = _nested_calls(speech)
    tools = any(role.startswith("agent_") for role in roles.values())
    if not tools and nested is None:
        return [*lines, f"    role: {role}", *(f"    {line}" for line in said)]
    lines += [f"    let: {{role: {quoted(role)}}}" if speech.role else "", "    rows:"]
    speaks = "role == 'agent' || role == 'user'"
    lines += [f"      - when: {quoted(speaks)}", "        role: role", *(f"        {line}" for line in said)]
    if tools:
        lines += ["      - when: " + quoted("role == 'agent_function' || role == 'agent_result'"), "        role: role",
                  *(f"        {line}" for line in times), f"        tool: {_tool(speech, roles)}"]  # fmt: skip
    if nested is not None:
        lines += _nested_lines(*nested, times)
    return [line for line in lines if line]


def _times(speech: Speech, made: Proposal, finder: Finder, *, known_start: bool) -> list[str]:
    """start_at or start_ms (both where only both together tell the call's start), and ends or lengths."""
    names = {plain(name): name for item in speech.items for name in item}
    lines: list[str] = []
    moment = _first(names, speech, _ROW_STARTS, is_moment)
    offset = _first(names, speech, _ROW_STARTS, is_offset)
    if moment is not None and (offset is None or not known_start):
        lines.append(f"start_at: m.{step(moment)}")
        if is_naive(speech.values(moment)[0]):
            made.unsure.append(f"{moment} of the rows names no time zone: it is read as UTC unless `timezone:` says another")
    if offset is not None:
        lines.append(f"start_ms: {_offset(offset, speech, made, finder)}")
    end = _first(names, speech, _ROW_ENDS, is_moment)
    if end is not None and moment is not None:
        lines.append(f"end_at: m.{step(end)}")
    elif (end := _first(names, speech, _ROW_ENDS, is_offset)) is not None and offset is not None:
        lines.append(f"end_ms: {_offset(end, speech, made, finder)}")
    elif lines and (length := _first(names, speech, _ROW_LENGTHS, is_offset)) is not None:
        lines.append(f"duration_ms: {_offset(length, speech, made, finder, length=True)}")
    return lines


def _first(names: dict[str, str], speech: Speech, wanted: Sequence[str], fits: Any) -> str | None:
    for name in wanted:
        values = speech.values(names[name]) if name in names else []
        if values and names[name] not in (speech.role, speech.text) and sum(map(fits, values)) > 0.5 * len(values):
            return names[name]
    return None


def _offset(name: str, speech: Speech, made: Proposal, finder: Finder, *, length: bool = False) -> str:
    """The rule that makes milliseconds of it."""
    folded, values = plain(name), speech.values(name)
    rule = f"m.{step(name)}"
    if any(isinstance(value, str) and value[-1:].isalpha() for value in values):
        return quoted(f"seconds_to_ms({rule})")
    numbers = [value for value in map(number, values) if value is not None]
    if folded.endswith(("ms", "millis", "milliseconds")):
        return rule
    if folded.endswith(("sec", "secs", "seconds", "secondsfromstart")) or any(value != int(value) for value in numbers):
        return quoted(f"seconds_to_ms({rule})")
    lasts = _length_s(finder)
    most = max(numbers, default=0.0)
    if lasts is not None and not length:
        return rule if abs(most - lasts * 1000) < abs(most - lasts) else quoted(f"seconds_to_ms({rule})")
    if most >= (1000 if length else 10_000):
        return rule
    made.unsure.append(f"{name} of the rows is taken for seconds")
    return quoted(f"seconds_to_ms({rule})")


def _length_s(finder: Finder) -> float | None:
    start, end = finder.start(), finder.end()
    if start is not None and end is not None:
        first, last = _seconds(start.value), _seconds(end.value)
        return None if first is None or last is None or last <= first else last - first
    length = finder.duration()
    value = number(length.value) if length is not None else None
    if length is None or value is None:
        return None
    unit, _ = unit_of_length(length, None, None)
    return value * {"milliseconds": 0.001, "seconds": 1.0, "minutes": 60.0}[unit]


def _seconds(value: Any) -> float | None:
    try:
        moment = epoch_ms(value)
    except RuleError:
        return None
    return None if moment is None else moment / 1000


def unit_of_length(length: Found, start: Found | None, end: Found | None) -> tuple[str, bool]:
    """milliseconds, seconds or minutes, and whether the name says so."""
    folded = plain(length.path[-1])
    for unit, endings in (
        ("milliseconds", ("ms", "millis")),
        ("minutes", ("min", "minutes")),
        ("seconds", ("sec", "secs", "seconds", "billsec")),
    ):
        if folded.endswith(endings) or any(word in folded for word in endings[1:]):
            return unit, True
    value = number(length.value) or 0.0
    return ("milliseconds" if value >= 20_000 else "seconds"), False


def converted(rule: str, unit: str) -> str:
    return {"milliseconds": rule, "seconds": f"seconds_to_ms({rule})", "minutes": f"minutes_to_ms({rule})"}[unit]


# Tools


def _tool(speech: Speech, roles: Mapping[str, str]) -> str:
    of_tools = [item for item in speech.items if roles.get(str(item.get(speech.role or "")), "").startswith("agent_")]
    names = {plain(name): name for item in of_tools for name in item}

    def member(*wanted: str) -> str | None:
        found = next((names[name] for name in wanted if name in names), None)
        return None if found is None else f"m.{step(found)}"

    parts = {
        "name": member(*_TOOL_NAMES),
        "request_id": member("toolcallid", "requestid", "callid", "invocationid", "id"),
        "params": member(*_TOOL_PARAMS),
        "result": member("result", "output", "response", "content", plain(speech.text)),
    }
    return "{" + ", ".join(f"{name}: {rule}" for name, rule in parts.items() if rule) + "}"


def _nested_calls(speech: Speech) -> tuple[str, dict[str, Any]] | None:
    """Tool calls inside a row: `tool_calls: [{function: {name, arguments}}]`."""
    for item in speech.items:
        for name, value in item.items():
            if "call" in plain(name) and isinstance(value, list) and value and isinstance(value[0], dict):
                return name, value[0]
    return None


def _nested_lines(name: str, sample: dict[str, Any], times: Sequence[str]) -> list[str]:
    inner = sample.get("function")
    at = "c.function" if isinstance(inner, dict) else "c"
    names = {plain(key): key for key in (inner if isinstance(inner, dict) else sample)}
    tool = next((names[key] for key in ("name", "toolname", "functionname") if key in names), "name")
    params = next((names[key] for key in ("arguments", "args", "params", "parameters", "input") if key in names), "arguments")
    starts = [line for line in times if line.startswith("start_")]
    return [
        f"      - for_each: {{c: m.{step(name)}}}",
        "        role: {const: agent_function}",
        *(f"        {line}" for line in starts),
        f"        tool: {{name: {at}.{step(tool)}, request_id: c.id, params: {at}.{step(params)}}}",
    ]


@dataclass(frozen=True, slots=True)
class Beside:
    """A list of tool calls apart from what was said."""

    path: Path
    items: Sequence[Mapping[str, Any]]


def tools_beside(shape: Shape, speech: Speech) -> Beside | None:
    """The list whose items have the name of a tool and what it was given."""
    for path, items in shape.lists.items():
        objects = [item for item in items if isinstance(item, dict)]
        names = {plain(name) for item in objects for name in item}
        if path != speech.path and names & {*_TOOL_NAMES} and names & {*_TOOL_PARAMS} and "role" not in names:
            return Beside(path, objects)
    return None


def with_tools(rows: Sequence[str], each: str, items: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows of the transcript, and behind them those of the tools: a call, and a result where there is one."""
    names = {plain(name): name for item in items for name in item}

    def rule(*wanted: str) -> str | None:
        found = next((names[name] for name in wanted if name in names), None)
        return None if found is None else f"c.{step(found)}"

    starts = [names[name] for name in _ROW_STARTS if name in names]
    start = next((name for name in starts if any(is_moment(item.get(name)) for item in items)), None)
    offset = None
    if start is None:
        offset = next((names[name] for name in _ROW_STARTS if name.endswith("ms") and name in names), None)
    at = f"start_at: c.{step(start)}, " if start else f"start_ms: c.{step(offset)}, " if offset else ""
    shared = {"name": rule(*_TOOL_NAMES), "request_id": rule("callid", "toolcallid", "requestid", "id")}
    given, gave = rule(*_TOOL_PARAMS), rule("result", "output", "response")
    said, *block = rows
    lines = [said, "    rows:", *(f"      {'- ' if at_ == 0 else '  '}{line[4:]}" for at_, line in enumerate(block))]
    lines += [f"      - for_each: {{c: {quoted(each)}}}", "        rows:"]
    for role, member, value in (("agent_function", "params", given), ("agent_result", "result", gave)):
        if value is not None:
            tool = ", ".join(f"{name}: {text}" for name, text in {**shared, member: value}.items() if text)
            lines.append(f"          - {{role: {{const: {role}}}, {at}tool: {{{tool}}}}}")
    return lines
