"""What a row takes from the rows around it: its time, order, end, words, tool name and node (steps 4 to 9).

Each function changes the rows it is given, in place, and counts what it repaired.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Final

from tunerd.mapping.row_values import spoken_length
from tunerd.mapping.transcript import LONGEST_PACE_MS, LONGEST_PAUSE_MS, SPEECH, WORD_SLACK_MS, TranscriptRow, longest_ms

by_start = itemgetter("start_ms")


def count(repairs: dict[str, int], name: str, times: int = 1) -> None:
    if times:
        repairs[name] = repairs.get(name, 0) + times


def spread(rows: Sequence[TranscriptRow], length: int, repairs: dict[str, int]) -> None:
    """Untimed speech between the end before and the start after it, each row in proportion to its characters + 10. Of a
    row before that has only a start, its own share goes first. What it takes to say the text bounds the length of a row."""
    before: TranscriptRow | None = None
    at = 0
    while at < len(rows):
        row = rows[at]
        if "start_ms" in row or row["role"] not in SPEECH:
            before = row if "start_ms" in row else before
            at += 1
            continue
        run: list[TranscriptRow] = []
        while at < len(rows) and "start_ms" not in rows[at]:
            if rows[at]["role"] in SPEECH:
                run.append(rows[at])
            at += 1
        lengths = [spoken_length(row.get("text", "")) for row in run]
        total = sum(lengths) + 10 * len(lengths)
        low = 0
        if before is not None:
            low = before["end_ms"] if "end_ms" in before else before["start_ms"]
        high: int = rows[at]["start_ms"] if at < len(rows) else max(length, low)
        if before is not None and "end_ms" not in before and before["role"] in SPEECH:
            text = before.get("text", "")
            weight = spoken_length(text) + 10
            low += min(longest_ms(text), max(0, high - low) * weight // (total + weight))
        low = min(low, high)
        done = 0
        for row, spoken in zip(run, lengths, strict=True):
            start = low + (high - low) * done // total
            done += spoken + 10
            end = low + (high - low) * done // total
            row["start_ms"], row["end_ms"] = start, min(end, start + LONGEST_PAUSE_MS + LONGEST_PACE_MS * spoken)
            row["metadata"] = {**row.get("metadata", {}), "timing": "estimated"}
        count(repairs, "spread", len(run))


def carry(rows: Sequence[TranscriptRow], length: int, repairs: dict[str, int]) -> None:
    """Untimed tool and node rows: at the end of the row before, not after the next timed start, never backwards."""
    following: list[int | None] = []
    upcoming: int | None = None
    for row in reversed(rows):
        following.append(upcoming)
        upcoming = row.get("start_ms", upcoming)
    before: TranscriptRow | None = None
    for row, after in zip(rows, reversed(following), strict=True):
        if "start_ms" not in row:
            at = 0
            if before is not None:
                began: int = before["start_ms"]
                at = before.get("end_ms", began)
                if "end_ms" not in before and before["role"] in SPEECH:
                    at = min(began + longest_ms(before.get("text", "")), max(length, began))
                if after is not None:
                    at = min(at, after)
                at = max(at, began)
            row["start_ms"] = at
            count(repairs, "carried_start")
        before = row


def order(rows: list[TranscriptRow], repairs: dict[str, int]) -> None:
    last = moved = 0
    for row in rows:
        start = row["start_ms"]
        if start < last:
            moved += 1
        else:
            last = start
    if moved:
        rows.sort(key=by_start)
        count(repairs, "reordered", moved)


def doubt(timed: Sequence[TranscriptRow], length: int, repairs: dict[str, int]) -> None:
    """Count what no conversation does, most often a wrong unit (seconds given as milliseconds): nothing is changed, since a
    strange call may still be a true one. Only times that were given say anything: ends are not estimated yet."""
    speech = [row for row in timed if row["role"] in SPEECH]
    if len(speech) < 2:
        return
    first: int = speech[0]["start_ms"]
    last: int = speech[-1]["start_ms"]
    latest = max([last, *[row["end_ms"] for row in speech if "end_ms" in row]])
    said = sum([len(row["text"]) for row in speech if "text" in row])
    if "end_ms" not in speech[-1]:
        said -= len(speech[-1].get("text", ""))  # nothing says how long that took
    if latest > first and said >= _SAYS_MUCH and said * 1000 > FASTEST_PER_S * (latest - first):
        # Whole seconds are rounded: a second more may have passed. Rows that all share one instant have no pace.
        rounded = 1000 if all(row["start_ms"] % 1000 == 0 for row in speech) else 0
        if said * 1000 > FASTEST_PER_S * (latest - first + rounded):
            count(repairs, "spoken_too_fast")
    if len(speech) > 2 and said >= _SAYS_MUCH and length > 1000 and latest * TIMES_APART < length:
        count(repairs, "much_shorter_than_call")
    if latest > 1000 and latest > length * TIMES_APART:
        count(repairs, "much_longer_than_call")


FASTEST_PER_S: Final = 60
"""Characters; real speech has about 13 (PACE_MS)."""
TIMES_APART: Final = 50
"""How many times shorter or longer than the call its transcript may be."""
_SAYS_MUCH: Final = 20
"""Characters; fewer say nothing about a pace."""


def end_speech(timed: Sequence[TranscriptRow], length: int, repairs: dict[str, int]) -> None:
    """Speech ends when the next begins that starts later, else with the call; but it takes no longer than its text."""
    nearest: int | None = None
    later: int | None = None
    from_next = from_call = 0
    for row in reversed(timed):
        if row["role"] not in SPEECH:
            continue
        start = row["start_ms"]
        if start != nearest:
            later, nearest = nearest, start
        if "end_ms" in row:
            continue
        if later is None:
            bound = max(length, start)
            from_call += 1
        else:
            bound = later
            from_next += 1
        text = row.get("text", "")
        longest = LONGEST_PAUSE_MS + LONGEST_PACE_MS * len(text) if text.isascii() else longest_ms(text)
        row["end_ms"] = min(bound, start + longest)
    count(repairs, "end_from_next", from_next)
    count(repairs, "end_from_call", from_call)


def fit_words(timed: Iterable[TranscriptRow], repairs: dict[str, int]) -> None:
    for row in timed:
        words = row.get("words")
        if words is None:
            continue
        low, high = row["start_ms"] - WORD_SLACK_MS, row["end_ms"] + WORD_SLACK_MS
        earliest = max(low, 0)
        for word in words:
            if not earliest <= word["start_ms"] <= word["end_ms"] <= high:
                break
        else:
            continue
        fitting = [
            {**word, "start_ms": (start := max(word["start_ms"], 0)), "end_ms": max(word["end_ms"], start)}
            for word in words
            if low <= word["start_ms"] <= high and word["end_ms"] <= high
        ]
        count(repairs, "words_out_of_row", len(words) - len(fitting))
        if fitting:
            row["words"] = fitting
        else:
            del row["words"]


def complete_tools(rows: Iterable[TranscriptRow], repairs: dict[str, int]) -> None:
    calls: dict[str, str | None] = {}
    early: list[TranscriptRow] = []
    for row in rows:
        tool = row.get("tool")
        if tool is None:
            continue
        if "start_ms" in row:
            tool["start_ms"] = row["start_ms"]
        request_id = tool.get("request_id")
        if request_id is None:
            continue
        if row["role"] == "agent_function":
            calls[request_id] = tool.get("name")
        elif row["role"] == "agent_result":
            if request_id not in calls:
                early.append(tool)
            elif "name" not in tool:
                _name(tool, calls[request_id], repairs)
    for tool in early:
        if tool["request_id"] not in calls:
            count(repairs, "result_without_call")
        elif "name" not in tool:
            _name(tool, calls[tool["request_id"]], repairs)


def _name(tool: TranscriptRow, name: str | None, repairs: dict[str, int]) -> None:
    if name is not None:
        tool["name"] = name
        count(repairs, "name_from_call")


def complete_nodes(rows: Iterable[TranscriptRow], repairs: dict[str, int]) -> None:
    here = "start"
    for row in rows:
        node = row.get("node")
        if node is None:
            continue
        if "from" not in node:
            node["from"] = here
            count(repairs, "node_from")
        here = node["to"]
