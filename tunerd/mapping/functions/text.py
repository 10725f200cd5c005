"""Functions over text."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote

import orjson

from tunerd.mapping.functions.registry import UNKNOWN, Code, Context, Nulls, Registry, Run
from tunerd.mapping.patterns import BadPattern, Pattern, compile_pattern
from tunerd.mapping.values import RuleError, refuse

REGISTRY: Final = Registry()
_MAY_BE_JSON: Final = re.compile(r'[ \t\n\r]*(?:[\[{"0-9-]|true|false|null)').match
"""Most text that is asked is speech, and orjson's refusal of one costs more than all else of its row."""

_LINE_END: Final = re.compile(r"\r\n|\n|\r")


def text_of(function: str, value: Any) -> str:
    """Text as it is; numbers, true and false as JSON writes them. Raises RuleError for lists and objects."""
    if value.__class__ is str:
        return value
    if value.__class__ is bool:
        return "true" if value else "false"
    if value.__class__ in (int, float):
        return repr(value)
    raise refuse(function, "text", value)


@lru_cache(maxsize=128)
def compiled(function: str, pattern: str, *, ignore_case: bool = False) -> Pattern:
    try:
        return compile_pattern(pattern, ignore_case=ignore_case)
    except BadPattern as error:
        raise RuleError(function, f"the pattern '{_shown(pattern)}' {error}") from None


def _shown(pattern: str) -> str:
    return pattern if len(pattern) <= 40 else f"{pattern[:39]}\u2026"


def split_lines(text: str) -> list[str]:
    """Stripped, without empty ones. str.splitlines would also cut at U+2028, form feeds and others, which are text here."""
    return [line for raw in _LINE_END.split(text) if (line := raw.strip())]


def _prepare_regex(codes: Sequence[Code], context: Context) -> Run | None:
    if codes[1].value.__class__ is not str:
        return None
    groups, text = compiled("regex", codes[1].value).groups, codes[0].run

    def run(scope: Any) -> Any:
        value = text(scope)
        return None if value is None else groups(text_of("regex", value))

    return run


@REGISTRY.add(
    "regex(text, pattern)",
    "an object with the named groups of the first match, or {match} if the pattern has none; null without a match",
    prepare=_prepare_regex,
    texts=True,
)
def _regex(value: Any, pattern: Any) -> Any:
    return compiled("regex", text_of("regex", pattern)).groups(text_of("regex", value))


@REGISTRY.add(
    "concat(x, ...)", "one text of all parts; null if one part is null (so that no incomplete URL is built)", texts=True
)
def _concat(*parts: Any) -> Any:
    return "".join([text_of("concat", part) for part in parts])


@REGISTRY.add("lower(text)", "the text in lower case", texts=True)
def _lower(value: Any) -> Any:
    return text_of("lower", value).lower()


@REGISTRY.add("upper(text)", "the text in upper case", texts=True)
def _upper(value: Any) -> Any:
    return text_of("upper", value).upper()


@REGISTRY.add("strip(text[, characters])", "the text without white space (or without `characters`) at both ends", texts=True)
def _strip(value: Any, characters: Any = None) -> Any:
    if characters is None and value.__class__ is str:
        return value.strip()
    return text_of("strip", value).strip(None if characters is None else text_of("strip", characters))


@REGISTRY.add("replace(text, old, new)", "the text with every `old` replaced by `new`", texts=True)
def _replace(value: Any, old: Any, new: Any) -> Any:
    if not (what := text_of("replace", old)):
        raise RuleError("replace", "cannot replace empty text")
    return text_of("replace", value).replace(what, text_of("replace", new))


@REGISTRY.add("split(text, separator)", "a list of the parts between the separators", texts=True)
def _split(value: Any, separator: Any) -> Any:
    if not (at := text_of("split", separator)):
        raise RuleError("split", "cannot split at empty text")
    return text_of("split", value).split(at)


@REGISTRY.add("truncate(text, n)", "at most the first n characters", texts=True)
def _truncate(value: Any, length: Any) -> Any:
    if length.__class__ is not int or length < 0:
        raise refuse("truncate", "a whole number of characters", length)
    return text_of("truncate", value)[:length]


@REGISTRY.add(
    "lines(text)",
    "a list of the lines, each without white space at both ends; empty lines are left out; only LF, CR LF and CR end a line",
    texts=True,
)
def _lines(value: Any) -> Any:
    return split_lines(text_of("lines", value))


@REGISTRY.add("from_json(x)", "the value of a text that is JSON; any other value unchanged")
def _from_json(value: Any) -> Any:
    if value.__class__ is not str or not _MAY_BE_JSON(value):
        return value
    try:
        return orjson.loads(value)
    except (ValueError, RecursionError):
        return value


@REGISTRY.add("url_quote(x)", 'the text with %XX for characters that a URL cannot contain; "/" is kept', texts=True)
def _url_quote(value: Any) -> Any:
    return quote(text_of("url_quote", value), safe="/")


@REGISTRY.add("url_decode(x)", "the text with %XX decoded", texts=True)
def _url_decode(value: Any) -> Any:
    return unquote(text_of("url_decode", value))


def _prepare_classify(codes: Sequence[Code], context: Context) -> Run | None:
    if codes[1].value is UNKNOWN or codes[1].value is None:
        return None
    table = _patterns(codes[1].value)
    text = codes[0].run
    default: Run = codes[2].run if len(codes) == 3 else lambda _: None

    def run(scope: Any) -> Any:
        value = text(scope)
        if value is None:
            return None
        text_value = text_of("classify", value)
        for found, result in table:
            if found(text_value):
                return result
        return default(scope)

    return run


def _patterns(table: Any) -> list[tuple[Any, Any]]:
    if table.__class__ is not dict:
        raise refuse("classify", "a table of pattern: value", table)
    return [(compiled("classify", pattern, ignore_case=True).found, result) for pattern, result in table.items()]


@REGISTRY.add(
    "classify(text, table[, default])",
    "the value of the first pattern in `table` that is found in the text (case ignored), or else the default; null without text",
    nulls=Nulls.SEEN,
    prepare=_prepare_classify,
    texts=True,
)
def _classify(value: Any, table: Any, default: Any = None) -> Any:
    if value is None or table is None:
        return None
    text_value = text_of("classify", value)
    return next((result for found, result in _patterns(table) if found(text_value)), default)
