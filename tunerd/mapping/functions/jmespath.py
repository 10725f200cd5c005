"""JMESPath's own functions, null-safe: a null argument gives null (only not_null and type look at nulls).

`abs` is in numbers.py, because it takes digit text too.
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any, Final

from tunerd.mapping.functions.registry import Nulls, Registry, Run
from tunerd.mapping.values import RuleError, equal, is_number, kind, lost_digits, refuse

REGISTRY: Final = Registry()
_NUMBER: Final = re.compile(r"\s*[+-]?(\d{1,400}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,3})?\s*", re.ASCII)


def _built_in(
    signature: str, does: str, *, nulls: Nulls = Nulls.GIVE_NULL, expressions: tuple[int, ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return REGISTRY.add(signature, does, nulls=nulls, expressions=expressions, built_in=True)


def _text(function: str, value: Any) -> str:
    if value.__class__ is not str:
        raise refuse(function, "text", value)
    return value


def _list(function: str, value: Any) -> list[Any]:
    if value.__class__ is not list:
        raise refuse(function, "a list", value)
    return value


def _object(function: str, value: Any) -> dict[str, Any]:
    if value.__class__ is not dict:
        raise refuse(function, "an object", value)
    return value


def _numbers(function: str, values: Any) -> list[Any]:
    for value in _list(function, values):
        if not is_number(value):
            raise RuleError(function, f"takes a list of numbers, got {kind(value)} in it")
    return values  # type: ignore[no-any-return]


def _alike(function: str, values: Any) -> list[Any]:
    """A list of numbers only or of text only: what has an order."""
    if _list(function, values) and not (all(map(is_number, values)) or all(v.__class__ is str for v in values)):
        odd = next(v for v in values if not is_number(v)) if is_number(values[0]) else values[0]
        raise RuleError(function, f"takes a list of numbers or a list of text, got {kind(odd)} in it")
    return values  # type: ignore[no-any-return]


@_built_in("avg(list)", "the mean of a list of numbers")
def _avg(values: Any) -> Any:
    return sum(_numbers("avg", values)) / len(values) if values else None


@_built_in("sum(list)", "the sum of a list of numbers")
def _sum(values: Any) -> Any:
    return sum(_numbers("sum", values))


@_built_in("max(list)", "the greatest value in a list of numbers or texts")
def _max(values: Any) -> Any:
    return max(_alike("max", values), default=None)


@_built_in("min(list)", "the least value in a list of numbers or texts")
def _min(values: Any) -> Any:
    return min(_alike("min", values), default=None)


@_built_in("sort(list)", "the list, sorted")
def _sort(values: Any) -> Any:
    return sorted(_alike("sort", values))


@_built_in("ceil(number)", "the number, rounded up to a whole number")
def _ceil(value: Any) -> Any:
    if not is_number(value):
        raise refuse("ceil", "a number", value)
    return value if lost_digits(value) else math.ceil(value)


@_built_in("floor(number)", "the number, rounded down to a whole number")
def _floor(value: Any) -> Any:
    if not is_number(value):
        raise refuse("floor", "a number", value)
    return value if lost_digits(value) else math.floor(value)


@_built_in("length(x)", "the number of characters of a text, items of a list or members of an object")
def _length(value: Any) -> Any:
    if value.__class__ not in (str, list, dict):
        raise refuse("length", "text, a list or an object", value)
    return len(value)


@_built_in("contains(list or text, x)", "true if the list or text contains x")
def _contains(where: Any, what: Any) -> Any:
    if where.__class__ is str:
        return what.__class__ is str and what in where
    listed = _list("contains", where)
    return any(equal(one, what) for one in listed) if lost_digits(what) else what in listed


@_built_in("starts_with(text, start)", "true if the text begins with `start`")
def _starts_with(value: Any, start: Any) -> Any:
    return _text("starts_with", value).startswith(_text("starts_with", start))


@_built_in("ends_with(text, end)", "true if the text ends with `end`")
def _ends_with(value: Any, end: Any) -> Any:
    return _text("ends_with", value).endswith(_text("ends_with", end))


@_built_in("join(glue, list)", "the texts of a list as one text, with `glue` between them")
def _join(glue: Any, parts: Any) -> Any:
    for part in _list("join", parts):
        if part.__class__ is not str:
            raise RuleError("join", f"takes a list of text, got {kind(part)} in it")
    return _text("join", glue).join(parts)


@_built_in("reverse(list or text)", "the list or text in reverse order")
def _reverse(value: Any) -> Any:
    return value[::-1] if value.__class__ is str else _list("reverse", value)[::-1]


@_built_in("keys(object)", "a list of the names of the members")
def _keys(value: Any) -> Any:
    return list(_object("keys", value))


@_built_in("values(object)", "a list of the values of the members")
def _values(value: Any) -> Any:
    return list(_object("values", value).values())


@_built_in("merge(object, ...)", "one object with all members; if a name occurs twice, the last one counts")
def _merge(*objects: Any) -> Any:
    merged: dict[str, Any] = {}
    for one in objects:
        merged.update(_object("merge", one))
    return merged


@_built_in("map(&expression, list)", "a list with the value of the expression for each item; nulls are kept", expressions=(0,))
def _map(expression: Run, values: Any) -> Any:
    return [expression(value) for value in _list("map", values)]


def _key(function: str, expression: Run) -> Callable[[Any], Any]:
    first: list[type] = []

    def key(item: Any) -> Any:
        value = expression(item)
        if not (is_number(value) or value.__class__ is str):
            raise RuleError(function, f"orders by a number or text, got {kind(value)}")
        here = str if value.__class__ is str else float
        if first and first[0] is not here:
            raise RuleError(function, "orders by numbers or by text, got both")
        first[:] = [here]
        return value

    return key


@_built_in("sort_by(list, &expression)", "the list, sorted by the value of the expression", expressions=(1,))
def _sort_by(values: Any, expression: Run) -> Any:
    return sorted(_list("sort_by", values), key=_key("sort_by", expression))


@_built_in("min_by(list, &expression)", "the item with the least value of the expression", expressions=(1,))
def _min_by(values: Any, expression: Run) -> Any:
    return min(_list("min_by", values), key=_key("min_by", expression), default=None)


@_built_in("max_by(list, &expression)", "the item with the greatest value of the expression", expressions=(1,))
def _max_by(values: Any, expression: Run) -> Any:
    return max(_list("max_by", values), key=_key("max_by", expression), default=None)


@_built_in("to_array(x)", "a list unchanged; any other value as a list with this one item")
def _to_array(value: Any) -> Any:
    return value if value.__class__ is list else [value]


@_built_in("to_string(x)", "a text unchanged; any other value as JSON")
def _to_string(value: Any) -> Any:
    return value if value.__class__ is str else json.dumps(value, separators=(",", ":"))


@_built_in("to_number(x)", "a number unchanged; a text of digits as a number; null for anything else")
def _to_number(value: Any) -> Any:
    if is_number(value):
        return value
    if value.__class__ is not str or not _NUMBER.fullmatch(value):
        return None
    try:
        return int(value)
    except ValueError:
        return found if math.isfinite(found := float(value)) else None


@_built_in("not_null(x, ...)", "the first argument that is not null", nulls=Nulls.SEEN)
def _not_null(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


@_built_in("type(x)", "the kind of the value: string, number, boolean, array, object or null", nulls=Nulls.SEEN)
def _type(value: Any) -> Any:
    names = {str: "string", bool: "boolean", list: "array", dict: "object", int: "number", float: "number"}
    return names.get(value.__class__, "null")
