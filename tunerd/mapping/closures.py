"""What expressions become: Python closures, with faster forms for what rules are mostly made of.

A path is one function without calls inside, a comparison with text needs no look at numbers and truths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tunerd.mapping.functions import UNKNOWN, Function, Nulls, Run
from tunerd.mapping.values import equal

_ORDER: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
}


@dataclass(frozen=True, slots=True)
class Code:
    """A compiled expression."""

    run: Run
    value: Any = UNKNOWN
    """The value, where it is the same for every document."""
    path: tuple[int, tuple[str, ...]] | None = None
    """(slot, fields) where the expression is nothing but `name.a.b`: what has faster forms."""
    form: tuple[Any, ...] | None = None
    """(kind, parts...): what it is made of, for generated.py to write as text. None: only `run` knows."""


def constant(value: Any) -> Code:
    return Code(lambda _: value, value)


def path(index: int, fields: tuple[str, ...]) -> Code:
    """`name.a`, `name.a.b` and longer: one function, no calls inside."""
    first = fields[0]
    if len(fields) == 1:

        def run_one(slots: Any) -> Any:
            value = slots[index]
            return value.get(first) if value.__class__ is dict else None

        return Code(run_one, path=(index, fields))
    second = fields[1]
    if len(fields) == 2:

        def run_two(slots: Any) -> Any:
            value = slots[index]
            if value.__class__ is not dict:
                return None
            value = value.get(first)
            return value.get(second) if value.__class__ is dict else None

        return Code(run_two, path=(index, fields))

    def run(slots: Any) -> Any:
        value = slots[index]
        for name in fields:
            if value.__class__ is not dict:
                return None
            value = value.get(name)
        return value

    return Code(run, path=(index, fields))


def is_text(code: Code, text: str, *, wanted: bool) -> Run:
    """`x == 'text'`, which needs no look at numbers and truths."""
    if code.path is not None and len(code.path[1]) == 1:
        index, (name,) = code.path

        def run_path(slots: Any) -> Any:
            value = slots[index]
            return ((value.get(name) if value.__class__ is dict else None) == text) is wanted

        return run_path
    run = code.run
    return lambda scope: (run(scope) == text) is wanted


def compared(left: Run, right: Run, how: str) -> Run:
    if how == "eq":
        return lambda scope: equal(left(scope), right(scope))
    if how == "ne":
        return lambda scope: not equal(left(scope), right(scope))
    order = ordered(how)
    return lambda scope: order(left(scope), right(scope))


def ordered(how: str) -> Callable[[Any, Any], Any]:
    """Two numbers or two texts as lt, lte, gt or gte says; null for everything else."""
    order = _ORDER[how]

    def run(a: Any, b: Any) -> Any:
        if a.__class__ is str:
            return order(a, b) if b.__class__ is str else None
        return order(a, b) if a.__class__ in (int, float) and b.__class__ in (int, float) else None

    return run


def flattened(values: list[Any]) -> list[Any]:
    """Lists in the list are opened, one level; the same list where there are none."""
    if list not in map(type, values):
        return values
    merged: list[Any] = []
    for value in values:
        if value.__class__ is list:
            merged += value
        else:
            merged.append(value)
    return merged


def call(function: Function, runs: Sequence[Run]) -> Run:
    """Call the function with its arguments' values, with its way with nulls."""
    call = function.call
    if function.nulls is Nulls.SEEN:
        return lambda scope: call(*[run(scope) for run in runs])
    if len(runs) == 1:
        only = runs[0]

        def run_one(scope: Any) -> Any:
            value = only(scope)
            return None if value is None else call(value)

        return run_one
    first, *others = runs

    def run(scope: Any) -> Any:
        values = [first(scope)]
        if values[0] is None:
            return None
        for other in others:
            if (value := other(scope)) is None:
                return None
            values.append(value)
        return call(*values)

    return run
