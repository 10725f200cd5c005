"""Arithmetic and conditions. Numbers, or text of digits; blank text counts as null, as everywhere."""

import math
import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from functools import reduce
from typing import Any, Final

from tunerd.mapping.functions.registry import Code, Context, Nulls, Registry, Run
from tunerd.mapping.values import RuleError, is_number, lost_digits, refuse, true

REGISTRY: Final = Registry()
_DIGITS: Final = re.compile(r"[+-]?\d{1,40}(\.\d{1,40})?", re.ASCII)
_WANTS: Final = "a number or text of digits"


def read_number(function: str, value: Any) -> int | float | None:
    """A number as it is, digit text as a number, blank text and null as None. Raises RuleError for all else."""
    if value is None:
        return None
    if is_number(value):
        if not math.isfinite(value):
            raise RuleError(function, "got a number that is not finite")
        return value  # type: ignore[no-any-return]
    if value.__class__ is str:
        text = value.strip()
        if not text:
            return None
        if _DIGITS.fullmatch(text):
            return float(text) if "." in text else int(text)
    raise refuse(function, _WANTS, value)


def _all(function: str, values: tuple[Any, ...]) -> list[int | float] | None:
    read = [read_number(function, value) for value in values]
    return None if None in read else read  # type: ignore[return-value]


@REGISTRY.add("add(a, b, ...)", "the sum; takes numbers or texts of digits")
def _add(*values: Any) -> Any:
    read = _all("add", values)
    return None if read is None else reduce(lambda a, b: a + b, read)


@REGISTRY.add("subtract(a, b)", "a - b")
def _subtract(a: Any, b: Any) -> Any:
    read = _all("subtract", (a, b))
    return None if read is None else read[0] - read[1]


@REGISTRY.add("multiply(a, b, ...)", "the product")
def _multiply(*values: Any) -> Any:
    read = _all("multiply", values)
    return None if read is None else reduce(lambda a, b: a * b, read)


@REGISTRY.add("divide(a, b)", "a / b; null if b is 0")
def _divide(a: Any, b: Any) -> Any:
    read = _all("divide", (a, b))
    if read is None or read[1] == 0:
        return None
    if isinstance(read[0], int) and isinstance(read[1], int) and read[0] % read[1] == 0:
        return read[0] // read[1]
    return read[0] / read[1]


@REGISTRY.add("round(x[, digits])", "the number, rounded half up to a whole number or to `digits` places (at most 12)")
def _round(value: Any, digits: Any = 0) -> Any:
    number, places = read_number("round", value), read_number("round", digits)
    if number is None or places is None:
        return None
    if places.__class__ is not int or not 0 <= places <= 12:
        raise RuleError("round", "takes 0 to 12 digits")
    if number.__class__ is int or lost_digits(number):
        return number  # whole as it is; digits that are gone don't come back
    rounded = Decimal(repr(number)).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    return float(rounded) if places else int(rounded)


@REGISTRY.add("abs(x)", "the number without its sign; takes a number or a text of digits")
def _abs(value: Any) -> Any:
    number = read_number("abs", value)
    return None if number is None else abs(number)


def _prepare_if(codes: Sequence[Code], context: Context) -> Run:
    condition, then = codes[0].run, codes[1].run
    otherwise: Run = codes[2].run if len(codes) == 3 else lambda _: None

    def run(scope: Any) -> Any:
        # Both sides are evaluated, so that an error in the one that is not taken today does not wait for its day.
        yes, no = then(scope), otherwise(scope)
        return yes if true(condition(scope)) else no

    return run


@REGISTRY.add(
    "if(condition, then[, else])",
    "`then` if the condition is true (as in JMESPath, 0 is true), or else `else` or null; both are evaluated",
    nulls=Nulls.SEEN,
    prepare=_prepare_if,
)
def _if(condition: Any, then: Any, otherwise: Any = None) -> Any:
    return then if true(condition) else otherwise


@REGISTRY.add(
    "to_bool(x)", "true for true, yes and 1; false for false, no and 0 (in upper or lower case); null for other texts and numbers"
)
def _to_bool(value: Any) -> Any:
    if value.__class__ is bool:
        return value
    if is_number(value):
        return {0: False, 1: True}.get(value)
    if value.__class__ is not str:
        raise refuse("to_bool", "text, a number, true or false", value)
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(value.strip().lower())


@REGISTRY.add("int64(x)", "the number in a wrapped 64-bit integer ({$numberLong: text}, {low, high}); any other value unchanged")
def _int64(value: Any) -> Any:
    if value.__class__ is not dict:
        return value
    for name in ("$numberLong", "$numberInt", "$numberDouble", "$numberDecimal"):
        if name in value:
            return value[name]
    low, high = value.get("low"), value.get("high")
    if low.__class__ is int and high.__class__ is int:
        return (high << 32) + (low & 0xFFFFFFFF)
    raise refuse("int64", "a number, text, {$numberLong} or {low, high}", value)
