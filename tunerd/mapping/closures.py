"""What expressions become: Python closures, with faster forms for what rules are mostly made of.

A path is one function without calls inside, a comparison with text needs no look at numbers and truths.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from tunerd.mapping.functions import Code, Function, Nulls, Run
from tunerd.mapping.values import equal, missing

_NUMBERS: Final = (int, float)
_ORDER: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
}


def constant(value: Any) -> Code:
    return Code(lambda _: value, value)


def path(index: int, steps: tuple[str | int, ...]) -> Code:
    """`name.a`, `name.a.b`, `name.a[0].b` and longer: one function, no calls inside."""
    made = (index, steps)
    if int in map(type, steps):
        return Code(_walk(index, steps), path=made)
    first = steps[0]
    if len(steps) == 1:

        def run_one(slots: Any) -> Any:
            value = slots[index]
            return value.get(first) if value.__class__ is dict else None

        return Code(run_one, path=made)
    second = steps[1]
    if len(steps) == 2:

        def run_two(slots: Any) -> Any:
            value = slots[index]
            if value.__class__ is not dict:
                return None
            value = value.get(first)
            return value.get(second) if value.__class__ is dict else None

        return Code(run_two, path=made)

    def run(slots: Any) -> Any:
        value = slots[index]
        for name in steps:
            if value.__class__ is not dict:
                return None
            value = value.get(name)
        return value

    return Code(run, path=made)


def _walk(index: int, steps: tuple[str | int, ...]) -> Run:
    def run(slots: Any) -> Any:
        value = slots[index]
        for step in steps:
            if value.__class__ is dict:
                value = value.get(step)  # no object of JSON has a number as a name
            elif value.__class__ is list and step.__class__ is int:
                try:
                    value = value[step]
                except IndexError:
                    return None
            else:
                return None
        return value

    return run


def is_text(code: Code, text: str, *, wanted: bool) -> Code:
    """`x == 'text'`, which needs no look at numbers and truths."""
    index, name = code.direct() or (0, None)
    if name is not None:

        def run_path(slots: Any) -> Any:
            value = slots[index]
            return ((value.get(name) if value.__class__ is dict else None) == text) is wanted

        return Code(run_path, asks=(index, name, text) if wanted else None)
    run = code.run
    return Code(lambda scope: (run(scope) == text) is wanted)


def is_sole(code: Code, sole: bool | None, *, wanted: bool) -> Run:
    """`x == true`, `x == false`, `x == null`: there is one object for each."""
    run = code.run
    return lambda scope: (run(scope) is sole) is wanted


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


def either(first: Run, second: Run) -> Run:
    def run(scope: Any) -> Any:
        value = first(scope)
        return value if value or value.__class__ in _NUMBERS else second(scope)

    return run


def both(first: Run, second: Run) -> Run:
    def run(scope: Any) -> Any:
        value = first(scope)
        return second(scope) if value or value.__class__ in _NUMBERS else value

    return run


def first_of(runs: Sequence[Run]) -> Run:
    """The first value that is not missing. Most lists have two rules: these need no loop."""
    if len(runs) == 2:
        first, second = runs

        def run_two(slots: Any) -> Any:
            value = first(slots)
            if value or not missing(value):
                return value
            value = second(slots)
            return None if missing(value) else value

        return run_two

    def run(slots: Any) -> Any:
        for one in runs:
            value = one(slots)
            if value or not missing(value):
                return value
        return None

    return run


def field(name: str) -> Code:
    """A field of the current item."""

    def run(current: Any) -> Any:
        return current.get(name) if current.__class__ is dict else None

    return Code(run, field=name)


def call(function: Function, codes: Sequence[Code]) -> Code:
    """Call the function with its arguments' values, with its way with nulls."""
    call, runs = function.call, [code.run for code in codes]
    if function.nulls is Nulls.SEEN:
        return Code(lambda scope: call(*[run(scope) for run in runs]))
    if len(codes) == 1:
        return _call_of_one(function, codes[0])
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

    return Code(run)


def _call_of_one(function: Function, code: Code) -> Code:
    call, only, name = function.call, code.run, code.field
    if name is not None and code.convert is None:

        def run_field(current: Any) -> Any:
            value = current.get(name) if current.__class__ is dict else None
            return None if value is None else call(value)

        return Code(run_field, field=name, convert=call)
    index, member = code.direct() or (0, None)
    if member is not None:

        def run_path(slots: Any) -> Any:
            value = slots[index]
            value = value.get(member) if value.__class__ is dict else None
            return None if value is None else call(value)

        return Code(run_path)

    def run(scope: Any) -> Any:
        value = only(scope)
        return None if value is None else call(value)

    return Code(run)
