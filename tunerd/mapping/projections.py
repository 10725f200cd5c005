"""What expressions over lists and objects become: elements, slices, projections, filters, lists of objects."""

from collections.abc import Sequence
from typing import Any

from tunerd.mapping.functions import Code, Run
from tunerd.mapping.values import true


def element(at: int) -> Run:
    def run(current: Any) -> Any:
        if current.__class__ is not list:
            return None
        try:
            return current[at]
        except IndexError:
            return None

    return run


def projected(base: Run, item: Code | None) -> Run:
    """`[].expression`: the expression over every item, nulls left out. None: the items themselves."""
    if item is None:

        def run_plain(scope: Any) -> Any:
            values = base(scope)
            return [v for v in values if v is not None] if values.__class__ is list else None

        return run_plain
    if item.members is not None:
        return _objects_of_items(base, item.members)
    each = item.run

    def run(scope: Any) -> Any:
        values = base(scope)
        return [v for v in map(each, values) if v is not None] if values.__class__ is list else None

    return run


def projected_values(base: Run, each: Run) -> Run:
    """`*.expression`: over the values of an object."""

    def run(scope: Any) -> Any:
        values = base(scope)
        return [v for v in map(each, values.values()) if v is not None] if values.__class__ is dict else None

    return run


def filtered(base: Run, each: Run, holds: Run) -> Run:
    """`[?condition].expression`"""

    def run(scope: Any) -> Any:
        values = base(scope)
        if values.__class__ is not list:
            return None
        return [v for value in values if true(holds(value)) and (v := each(value)) is not None]

    return run


def flattened(base: Run) -> Run:
    """`[]`: lists in the list are opened, one level."""

    def run(scope: Any) -> Any:
        values = base(scope)
        if values.__class__ is not list:
            return None
        if list not in map(type, values):
            return values
        merged: list[Any] = []
        for value in values:
            if value.__class__ is list:
                merged += value
            else:
                merged.append(value)
        return merged

    return run


def object_of_item(members: Sequence[tuple[str, Code]]) -> Run:
    """`{name: expression, ...}` over the current item."""
    runs = [(name, code.run) for name, code in members]

    def run(current: Any) -> Any:
        if current is None:
            return None
        return {name: member(current) for name, member in runs}

    return run


def _objects_of_items(base: Run, members: Sequence[tuple[str, Code]]) -> Run:
    """The same over every item of a list. Two loops on purpose: they run for every word of every call, and a field is read
    here, without a call."""
    steps = [(name, code.run, code.field, code.convert) for name, code in members]

    def run(scope: Any) -> Any:
        values = base(scope)
        if values.__class__ is not list:
            return None
        listed: list[dict[str, Any]] = []
        for value in values:
            if value is None:
                continue
            made: dict[str, Any] = {}
            get = value.get if value.__class__ is dict else _nothing
            for name, member, field, convert in steps:
                if field is None:
                    made[name] = member(value)
                else:
                    found = get(field)
                    made[name] = found if convert is None or found is None else convert(found)
            listed.append(made)
        return listed

    return run


def _nothing(name: str) -> None:
    """Stands for the `get` of what is no object."""
