"""Proposed rules for the rows of a transcript: their times and units, with tools; and which rules are guesses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tunerd.mapping.functions.times import epoch_ms
from tunerd.mapping.values import RuleError
from tunerd.record import positional_record
from tunerd.workbench.fields import Finder, Found
from tunerd.workbench.shape import Path, Shape, Speech, is_moment, is_naive, is_offset, number, plain, says_end, says_start, words
from tunerd.workbench.written import quoted, step

_ROW_STARTS: Final = words(
    "startat starttime startedat start startms startmillis offset offsetms beginoffsetmillis secondsfromstart timesec "
    "timeincallsecs timestamp ts at time t createdat timems datetime date begin from"
)
_PLAIN_STARTS: Final = frozenset(words("offset offsetms secondsfromstart timeincallsecs timestamp ts at time t from"))
"""Names of one time for a row, which is its start wherever it was looked at."""
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
    starts_at: Any = None
    """The value that the call's start is taken from, of the first document; None: no name in it says start."""
    speaks: bool = True
    """Some role of the rows is the agent's, the user's or a tool's."""
    timed: bool = False
    """Rows have times of their own."""
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
    made.timed = bool(times)
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
    """start_at or start_ms (where both only both together tell the call's start), and ends or lengths. A member whose name
    says start or end goes before one that only says time (`timestamp`); where that one is the end, it is taken for it."""
    end = _first(speech, _ROW_ENDS, says_end, is_moment)
    moment = _first(speech, _ROW_STARTS, says_start, is_moment)
    if moment is not None and not says_start(moment) and end is not None and _is_end(speech, moment, end):
        moment = None
    offset = _first(speech, _ROW_STARTS, says_start, is_offset)
    lines: list[str] = []
    if moment is not None and (offset is None or not known_start):
        others = [] if moment in _always(speech) else _others(speech, moment)
        lines.append(f"start_at: {_one_of([moment, *others])}")
        made.unsure += [f"rows without {moment} take {other} for their start" for other in others]
        if is_naive(speech.values(moment)[0]):
            made.unsure.append(f"{moment} of the rows names no time zone: it is read as UTC unless `timezone:` says another")
    if offset is not None:
        lines.append(f"start_ms: {_offset(offset, speech, made, finder)}")
    if end is not None and (moment is not None or offset is None):
        lines.append(f"end_at: m.{step(end)}")
    elif (end := _first(speech, _ROW_ENDS, says_end, is_offset)) is not None and offset is not None:
        lines.append(f"end_ms: {_offset(end, speech, made, finder)}")
    elif lines and (length := _first(speech, _ROW_LENGTHS, lambda _: False, is_offset)) is not None:
        lines.append(f"duration_ms: {_offset(length, speech, made, finder, length=True)}")
    said = next((name for name in (moment, offset) if name is not None), None)
    if said is not None and not says_start(said) and plain(said) not in _PLAIN_STARTS:
        made.unsure.append(f"{said} of the rows is taken for their start")
    return lines


def has_moments(speech: Speech) -> bool:
    """Whether most rows say when they were, and not only how long after the start."""
    found = (_first(speech, known, says, is_moment) for known, says in ((_ROW_STARTS, says_start), (_ROW_ENDS, says_end)))
    return any(name is not None for name in found)


def _first(speech: Speech, wanted: Sequence[str], says: Callable[[str], bool], fits: Callable[[Any], bool]) -> str | None:
    """The member that most rows of speech have with a fitting value: by a name that says it, else by a known name."""
    names = {plain(name): name for item in speech.items for name in item if name not in (speech.role, speech.text)}
    known = [names[name] for name in wanted if name in names]
    said = [name for name in (*known, *names.values()) if says(name) and "duration" not in plain(name)]
    for name in (*said, *known):
        values = speech.values(name)
        if values and sum(map(fits, values)) > 0.5 * len(values):
            return name
    return None


def _is_end(speech: Speech, moment: str, end: str) -> bool:
    """Whether both say the same instant in most rows that have both, to the tenth of a second."""
    pairs = [(_seconds(item.get(moment)), _seconds(item.get(end))) for item in speech.items]
    both = [abs(one - other) for one, other in pairs if one is not None and other is not None]
    return bool(both) and sum(apart < 0.1 for apart in both) > 0.5 * len(both)


def _always(speech: Speech) -> set[str]:
    """Members that every row has."""
    return {name for name in speech.items[0] if len(speech.values(name)) == len(speech.items)}


def _others(speech: Speech, moment: str) -> list[str]:
    """What tells the time of rows that lack `moment`: tool rows and logs often have one time only."""
    rest = replace(speech, items=[item for item in speech.items if item.get(moment) in (None, "")])
    other = _first(rest, _ROW_STARTS, lambda _: False, is_moment)
    return [] if other is None or other == moment else [other]


def _one_of(names: Sequence[str]) -> str:
    rules = [f"m.{step(name)}" for name in names]
    return rules[0] if len(rules) == 1 else f"[{', '.join(rules)}]"


def _offset(name: str, speech: Speech, made: Proposal, finder: Finder, *, length: bool = False) -> str:
    """The rule that converts the member to milliseconds."""
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
    for unit, endings in _UNITS:
        if folded.endswith(endings) or any(word in folded for word in endings[1:]):
            return unit, True
    value = number(length.value) or 0.0
    return ("milliseconds" if value >= 20_000 else "seconds"), False


def converted(rule: str, unit: str) -> str:
    return {"milliseconds": rule, "seconds": f"seconds_to_ms({rule})", "minutes": f"minutes_to_ms({rule})"}[unit]


# Tools


def _tool(speech: Speech, roles: Mapping[str, str]) -> str:
    of_tools = [item for item in speech.items if roles.get(str(item.get(speech.role or "")), "").startswith("agent_")]
    parts = {
        "name": _member("m", of_tools, *_TOOL_NAMES),
        "request_id": _member("m", of_tools, "toolcallid", "requestid", "callid", "invocationid", "id"),
        "params": _member("m", of_tools, *_TOOL_PARAMS),
        "result": _member("m", of_tools, "result", "output", "response", "content", plain(speech.text)),
    }
    return "{" + ", ".join(f"{name}: {rule}" for name, rule in parts.items() if rule) + "}"


def _member(root: str, items: Sequence[Mapping[str, Any]], *wanted: str) -> str | None:
    """The expression for the first of these members, named in any spelling, that some item has."""
    names = {plain(name): name for item in items for name in item}
    return next((f"{root}.{step(names[name])}" for name in wanted if name in names), None)


def _nested_calls(speech: Speech) -> tuple[str, dict[str, Any]] | None:
    """Tool calls inside a row: `tool_calls: [{function: {name, arguments}}]`."""
    for item in speech.items:
        for name, value in item.items():
            if "call" in plain(name) and isinstance(value, list) and value and isinstance(value[0], dict):
                return name, value[0]
    return None


def _nested_lines(name: str, sample: dict[str, Any], times: Sequence[str]) -> list[str]:
    inner = sample.get("function")
    at, items = ("c.function", [inner]) if isinstance(inner, dict) else ("c", [sample])
    tool = _member(at, items, "name", "toolname", "functionname") or f"{at}.name"
    params = _member(at, items, *_TOOL_PARAMS) or f"{at}.arguments"
    starts = [line for line in times if line.startswith("start_")]
    return [
        f"      - for_each: {{c: m.{step(name)}}}",
        "        role: {const: agent_function}",
        *(f"        {line}" for line in starts),
        f"        tool: {{name: {tool}, request_id: c.id, params: {params}}}",
    ]


@positional_record
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
    starts = [names[name] for name in _ROW_STARTS if name in names]
    start = next((name for name in starts if any(is_moment(item.get(name)) for item in items)), None)
    offset = None
    if start is None:
        offset = next((names[name] for name in _ROW_STARTS if name.endswith("ms") and name in names), None)
    at = f"start_at: c.{step(start)}, " if start else f"start_ms: c.{step(offset)}, " if offset else ""
    shared = {
        "name": _member("c", items, *_TOOL_NAMES),
        "request_id": _member("c", items, "callid", "toolcallid", "requestid", "id"),
    }
    given, gave = _member("c", items, *_TOOL_PARAMS), _member("c", items, "result", "output", "response")
    said, *block = rows
    lines = [said, "    rows:", *(f"      {'- ' if at_ == 0 else '  '}{line[4:]}" for at_, line in enumerate(block))]
    lines += [f"      - for_each: {{c: {quoted(each)}}}", "        rows:"]
    for role, member, value in (("agent_function", "params", given), ("agent_result", "result", gave)):
        if value is not None:
            tool = ", ".join(f"{name}: {text}" for name, text in {**shared, member: value}.items() if text)
            lines.append(f"          - {{role: {{const: {role}}}, {at}tool: {{{tool}}}}}")
    return lines
