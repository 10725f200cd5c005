"""What one row of a transcript says, read leniently: its text, words, tool, node and numbers. No order, no neighbours.

Everything here takes the value that a rule gave (or that stood in the document) and gives what Tuner's row holds.
"""

import math
import re
from collections.abc import Mapping, Sequence
from operator import gt, itemgetter
from typing import Any, Final

import orjson

from tunerd.mapping.functions.times import half_up
from tunerd.mapping.limits import RefusalError, row_at
from tunerd.mapping.values import InexactError, exact, missing

LONGEST_TIME: Final = 1 << 53
"""Beyond this a number is no time in milliseconds (and JavaScript cannot hold it)."""

_CJK = re.compile("[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_TRUE: Final = frozenset({"true", "yes", "1"})
_FALSE: Final = frozenset({"false", "no", "0"})


def spoken_length(text: str) -> int:
    """Characters as the speaking pace counts them: one of Chinese, Japanese or Korean is as long as three others."""
    return len(text) if text.isascii() else len(text) + 2 * len(_CJK.findall(text))


def number_of(value: Any) -> int | float | None:
    """The value as a finite number (digits in text count, true and false do not), or None where it is none."""
    if type(value) is int:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else None
    if isinstance(value, str) and len(value) < 40 and _NUMBER.fullmatch(value.strip()):
        text = value.strip().lstrip("+")
        number = int(text) if text.lstrip("-").isdecimal() else float(text)
        return number if math.isfinite(number) else None
    return None


def text_of(value: Any) -> str | None:
    """Text unchanged, a whole number as its digits; None for everything else."""
    if isinstance(value, str):
        return value
    if type(value) is int:
        return str(value) if abs(value) < 10**40 else None
    if type(value) is float and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < LONGEST_TIME else str(value)
    return None


def bool_of(value: Any) -> bool | None:
    """true and false, in words, text of any case or 1 and 0; None for everything else."""
    if value is None or value.__class__ is bool:
        return value
    word = (text_of(value) or "").strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def object_of(value: Any) -> dict[str, Any] | None:
    """An object, or JSON text of one; None for everything else."""
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        if value[:1] != "{" and value.lstrip()[:1] != "{":
            return None
        try:
            parsed = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
        return parsed if isinstance(parsed, dict) else None
    return dict(value) if isinstance(value, Mapping) else None


def time_of(value: Any, number: int, name: str) -> int | None:
    """A row's time or duration in whole milliseconds, None where it is missing. Raises RefusalError for what is no number."""
    if value.__class__ is float and -LONGEST_TIME < value < LONGEST_TIME:
        return math.floor(value + 0.5)
    if missing(value):
        return None
    found = number_of(value)
    if found is None or abs(found) > LONGEST_TIME:
        raise RefusalError(row_at(number, name), "has to be a number of milliseconds (seconds_to_ms and epoch_ms give them)")
    return found if type(found) is int else half_up(found)


def joined_text(value: Any, number: int) -> str:
    """The text of a row that is not simply text: a number, or a list of texts and of objects with a `text`, joined."""
    if isinstance(value, list | tuple):
        parts = (part.get("text") if isinstance(part, Mapping) else part for part in value)
        return " ".join(text.strip() for part in parts if (text := text_of(part)) is not None and text.strip())
    if missing(value):
        return ""
    text = text_of(value)
    if text is None:
        raise RefusalError(row_at(number, "text"), "has to be text (or a list of texts)")
    return text.strip()


def words_of(value: Any, number: int) -> list[dict[str, Any]]:
    """The words that have a word, a start and an end, by their starts, with whole milliseconds (not limited to the call yet).
    They may be the document's own objects: whoever changes a word makes a new one."""
    if not isinstance(value, list | tuple):
        raise RefusalError(row_at(number, "words"), "has to be a list of {word, start_ms, end_ms}")
    words: list[dict[str, Any]] = []
    for word in value:
        if word.__class__ is not dict and not isinstance(word, dict):
            continue
        try:
            said, start, end = word["word"], word["start_ms"], word["end_ms"]
        except KeyError:
            continue
        if said.__class__ is str and start.__class__ is int and end.__class__ is int and len(word) == 3:
            if said and not said.isspace():
                words.append(word)  # nothing to change: most words are so, and there are many
            continue
        start, end = _word_time(start), _word_time(end)
        if said.__class__ is not str:
            said = text_of(said)
        if start is None or end is None or not said or said.isspace():
            continue
        kept = {"word": said, "start_ms": start, "end_ms": end}
        confidence = word.get("confidence")
        if confidence is not None and (confidence := number_of(confidence)) is not None:
            kept["confidence"] = confidence
        words.append(kept)
    starts = [word["start_ms"] for word in words]
    if any(map(gt, starts, starts[1:])):
        words.sort(key=itemgetter("start_ms"))
    return words


def outer_times(words: Sequence[Mapping[str, Any]], given: Any, start: Any, end: Any) -> tuple[Any, Any]:
    """The times of a row whose rules took them from the first and the last of its words as they were given: where those
    are out of order, the least start and the greatest end are meant."""
    first, last = given[0], given[-1]
    if not isinstance(first, Mapping) or start != _word_time(first.get("start_ms")):
        return start, end
    if isinstance(last, Mapping) and end is not None and end == _word_time(last.get("end_ms")):
        end = max(end, *(word["end_ms"] for word in words))
    return min(start, words[0]["start_ms"]), end


def text_of_words(words: Sequence[Mapping[str, Any]]) -> str:
    return " ".join([word["word"].strip() for word in words])


def _word_time(value: Any) -> int | None:
    if value.__class__ is int:
        return value
    number = number_of(value)
    return None if number is None else half_up(number)


def tool_of(value: Any, number: int, repairs: dict[str, int]) -> dict[str, Any] | None:
    """A tool call or result with objects as params and result (`wrapped` is counted), None where it says nothing.
    An empty object or list in params and result is kept, where the tool says something: it is an answer too."""
    if not value and missing(value):
        return None
    if value.__class__ is not dict and not isinstance(value, Mapping):
        raise RefusalError(row_at(number, "tool"), "has to be an object: {name, request_id, params, result, is_error, error}")
    get = value.get
    name, request_id, params, result, error = get("name"), get("request_id"), get("params"), get("result"), get("error")
    if not (name or params or result or error):
        silent = missing(name) and missing(params) and missing(result) and missing(error)
        if silent and not (result == [] and not missing(request_id)):
            return None
    tool: dict[str, Any] = {}
    if name is not None and (text := name if name.__class__ is str else text_of(name)):
        tool["name"] = text
    if request_id is not None and (
        text := request_id if request_id.__class__ is str else _id_of(request_id, number, "tool.request_id")
    ):
        tool["request_id"] = text
    if params is not None and params != "":
        tool["params"] = params if params.__class__ is dict else _wrapped(params, repairs)
    if result is not None and result != "":
        tool["result"] = result if result.__class__ is dict else _wrapped(result, repairs)
    is_error = get("is_error")
    if is_error is not None and (is_error := bool_of(is_error)) is not None:
        tool["is_error"] = is_error
    if error is not None and not missing(error):
        told = text_of(error)
        tool["error"] = told if told is not None else _as_json(error)
    return tool


def _wrapped(value: Any, repairs: dict[str, int]) -> dict[str, Any]:
    found = object_of(value)
    if found is None:
        repairs["wrapped"] = repairs.get("wrapped", 0) + 1
        found = {"value": value}
    return found


def node_of(value: Any, number: int) -> dict[str, Any] | None:
    """A node transition, None where it has no `to`; `from` may still be missing."""
    if missing(value):
        return None
    if not isinstance(value, Mapping):
        raise RefusalError(row_at(number, "node"), "has to be an object: {from, to, reason}")
    node = {field: text for field in ("from", "to") if (text := _id_of(value.get(field), number, f"node.{field}"))}
    if reason := text_of(value.get("reason")):
        node["reason"] = reason
    return node if "to" in node else None


def _id_of(value: Any, number: int, name: str) -> str | None:
    """What tells tool calls or nodes apart, as text. Raises RefusalError for a number that may have lost digits."""
    try:
        return text_of(exact(value))
    except InexactError as error:
        raise RefusalError(row_at(number, name), error.what) from None


def _as_json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return "an error that is no plain JSON"
