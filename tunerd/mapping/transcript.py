"""Reading the transcript: the rows as the rules gave them, cleaned and placed one by one (steps 1 and 3 of the timeline).

Times come out in whole milliseconds from the start of the call, not yet limited to it. What a row's fields mean is in
row_values.py; what depends on other rows is in neighbours.py. The one exception are rows that say that they continue in the next.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from tunerd.mapping.limits import RefusalError, row_at
from tunerd.mapping.row_values import (
    joined_text,
    node_of,
    object_of,
    outer_times,
    spoken_length,
    text_of_words,
    time_of,
    tool_of,
    words_of,
)
from tunerd.mapping.values import missing
from tunerd.outcome import FailReason
from tunerd.tuner_fields import ROLES, ROWS

TranscriptRow: TypeAlias = dict[str, Any]
Words: TypeAlias = list[dict[str, Any]]

SPEECH: Final = ("user", "agent")
PACE_MS: Final = 75
"""A spoken character, as measured from the times of real words."""
LONGEST_PAUSE_MS: Final = 1000
LONGEST_PACE_MS: Final = 120
"""Speech whose end is not known takes at most a second and this much a character."""
WORD_SLACK_MS: Final = 1000
OUTSIDE_MS: Final = 60_000
"""How far outside the call a row may lie. One that lies farther outside has a wrong unit or time zone."""


def longest_ms(text: str) -> int:
    """How long it takes at most to say the text."""
    return LONGEST_PAUSE_MS + LONGEST_PACE_MS * spoken_length(text)


def given_rows(fields: Mapping[str, Any]) -> tuple[Sequence[int], Sequence[Any]]:
    """The number of each row in the given list, and the rows, those joined that continue in the next. Raises RefusalError
    without any row."""
    given = fields.get(ROWS)
    if missing(given):
        raise RefusalError(ROWS, "gave no rows: the call needs at least one", FailReason.UNMAPPABLE)
    if not isinstance(given, list | tuple):
        raise RefusalError(ROWS, "has to be a list of rows")
    for row in given:
        if row.__class__ is dict and "more" in row:
            return _join_continued(given)
    return range(len(given)), given


def _join_continued(given: Sequence[Any]) -> tuple[Sequence[int], Sequence[Any]]:
    """A row with a true `more` continues in the next row of its role, unless someone else speaks in between. Texts are put
    together unchanged (streamed tokens bring their own blanks); the start is the first one's, the end the last one's."""
    numbers: list[int] = []
    groups: list[list[Any]] = []
    unfinished: list[Any] | None = None
    for number, row in enumerate(given):
        role, continues = (row.get("role"), bool(row.get("more"))) if isinstance(row, Mapping) else (None, False)
        if unfinished is not None and role is not None and unfinished[0].get("role") == role:
            unfinished.append(row)
            unfinished = unfinished if continues else None
            continue
        group = [row]
        if continues:
            unfinished = group
        elif role in SPEECH:
            unfinished = None
        numbers.append(number)
        groups.append(group)
    joined = [group[0] if len(group) == 1 else _in_one(group, number) for number, group in zip(numbers, groups, strict=True)]
    return numbers, joined


def _in_one(group: Sequence[Mapping[str, Any]], number: int) -> dict[str, Any]:
    first, last = group[0], group[-1]
    row = {name: value for name, value in (*last.items(), *first.items()) if not missing(value)}
    for name in ("content", "end_at", "end_ms", "duration_ms", "words"):
        row.pop(name, None)
    row["text"] = "".join([raw_text(part, number) for part in group])
    row["words"] = [word for part in group if not missing(part.get("words")) for word in words_of(part["words"], number)]
    for start_name, end_name in (("start_at", "end_at"), ("start_ms", "end_ms")):
        if not missing(last.get(end_name)):
            row[end_name] = last[end_name]
            continue
        started = time_of(last.get(start_name), number, start_name)
        lasted = time_of(last.get("duration_ms"), number, "duration_ms")
        if started is not None and lasted is not None:
            row[end_name] = started + lasted
    return row


def raw_text(row: Mapping[str, Any], number: int) -> str:
    """What the row says, not stripped."""
    text = row.get("text")
    if missing(text):
        text = row.get("content")
    return text if isinstance(text, str) else joined_text(text, number)


@dataclass(slots=True)
class ReadRows:
    """The rows as they are read one after the other, and what the later steps have to do with them."""

    rows: list[TranscriptRow] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """The number of each row in the given list."""
    earliest: int = 0
    latest: int = 0
    unordered: bool = False
    untimed_speech: bool = False
    untimed_others: bool = False
    open_speech: bool = False
    """Some speech has a start and no end."""
    worded: bool = False
    tools: bool = False
    nodes: bool = False
    foreign_roles: bool = False


def read(numbers: Sequence[int], given: Sequence[Any], origin: int, *, strict: bool, repairs: dict[str, int]) -> ReadRows:
    """Clean and place every row. `strict`: only the five roles pass. Raises RefusalError."""
    made = ReadRows()
    rows, kept = made.rows, made.numbers
    last = earliest = latest = 0
    for number, row in zip(numbers, given, strict=True):
        if row.__class__ is not dict and not isinstance(row, Mapping):
            raise RefusalError(row_at(number), "a row has to be an object")
        get = row.get
        content = _content(get, number, made, strict, repairs)
        if content is None:
            continue
        out, words = content
        start, end = _times(get, number, origin, out, words, repairs)
        if start is None:
            if out["role"] in SPEECH:
                made.untimed_speech = True
            else:
                made.untimed_others = True
        else:
            out["start_ms"] = start
            if start < last:
                made.unordered = True
            else:
                last = start
            if start < earliest:
                earliest = start
            elif start > latest:
                latest = start
            if end is not None:
                out["end_ms"] = end
                if end > latest:
                    latest = end
            elif out["role"] in SPEECH:
                made.open_speech = True
        if words:
            out["words"] = words
            made.worded = True
        metadata = get("metadata")
        if metadata and (metadata.__class__ is dict or (metadata := object_of(metadata))):
            out["metadata"] = metadata
        rows.append(out)
        kept.append(number)
    made.earliest, made.latest = earliest, latest
    if not rows:
        raise RefusalError(ROWS, "no row says anything: no text, words, tool or node in any of them")
    return made


def _content(
    get: Callable[[str], Any], number: int, made: ReadRows, strict: bool, repairs: dict[str, int]
) -> tuple[TranscriptRow, Words | None] | None:
    """Role, text, tool and node of a row, and its words; None where it says nothing. One function on purpose, as `_times` is: it
    runs for every row of every call, and a call of a function costs as much as a field."""
    role = get("role")
    if role.__class__ is not str or not role:
        raise RefusalError(row_at(number, "role"), "a row needs a role, as text")
    text = get("text")
    if not text:
        text = get("content")
    if text.__class__ is str:
        text = text.strip()
    elif text is not None:
        text = joined_text(text, number)
    out: TranscriptRow = {"role": role, "text": text} if text else {"role": role}
    if role == "agent" or role == "user":
        words = get("words")
        if words and (words := words_of(words, number)):
            if not text:
                out["text"] = text_of_words(words)
                repairs["text_from_words"] = repairs.get("text_from_words", 0) + 1
            return out, words
        return (out, None) if text else None
    if role not in ROLES:
        if strict:
            raise RefusalError(row_at(number, "role"), f"is none of {', '.join(sorted(ROLES))}: map it with lookup(role, roles)")
        made.foreign_roles = True
        if not text and (words := get("words")):
            text = out["text"] = text_of_words(words_of(words, number))
    tool, node = get("tool"), get("node")
    if tool is not None and (tool := tool_of(tool, number, repairs)):
        out["tool"] = tool
        made.tools = True
    if node is not None and (node := node_of(node, number)):
        out["node"] = node
        made.nodes = True
    return (out, None) if text or tool or node else None


def _times(
    get: Callable[[str], Any], number: int, origin: int, out: TranscriptRow, words: Words | None, repairs: dict[str, int]
) -> tuple[int | None, int | None]:
    """When a row starts and ends, from the start of the call: as given, else by its length, its words or its tool."""
    start: Any = get("start_at")
    if start.__class__ is not int and start is not None:
        start = time_of(start, number, "start_at")
    if start is not None:
        start -= origin
    else:
        start = get("start_ms")
        if start.__class__ is not int and start is not None:
            start = time_of(start, number, "start_ms")
    end: Any = get("end_at")
    if end.__class__ is not int and end is not None:
        end = time_of(end, number, "end_at")
    if end is not None:
        end -= origin
    else:
        end = get("end_ms")
        if end.__class__ is not int and end is not None:
            end = time_of(end, number, "end_ms")
    if start is None or end is None:
        duration = get("duration_ms")
        if duration.__class__ is not int and duration is not None:
            duration = time_of(duration, number, "duration_ms")
        if start is None:
            if words:
                start = words[0]["start_ms"]
            elif end is not None:
                start = end - duration if duration is not None else _start_before(end, out, repairs)
            elif "tool" in out:
                start = _tool_start(get("tool"), number)
        if end is None and start is not None:
            if duration is not None:
                end = start + duration
            elif words:
                spoken_to = max([word["end_ms"] for word in words])
                if start - WORD_SLACK_MS <= spoken_to <= start + 2 * longest_ms(out["text"]) + OUTSIDE_MS:
                    end = spoken_to
    if words and start is not None and start > words[0]["start_ms"]:
        start, end = outer_times(words, get("words"), start, end)
    if start is not None and end is not None and end < start:
        repairs["end_before_start"] = repairs.get("end_before_start", 0) + 1
        return start, start
    return start, end


def _start_before(end: int, out: TranscriptRow, repairs: dict[str, int]) -> int:
    """The start of a row of which only the end is known: of speech at the usual pace, within the call."""
    repairs["start_from_end"] = repairs.get("start_from_end", 0) + 1
    text = out.get("text")
    return max(end - PACE_MS * spoken_length(text), min(end, 0)) if text and out["role"] in SPEECH else end


def _tool_start(tool: Any, number: int) -> int | None:
    """A tool row that is timed only inside its tool, as bodies of Tuner's own clients are."""
    return time_of(tool.get("start_ms"), number, "tool.start_ms") if isinstance(tool, Mapping) else None
