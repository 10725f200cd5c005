"""What blocks become at run time: loops that emit rows, and objects that leave out what is null."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from tunerd.mapping.functions import Run
from tunerd.mapping.values import RuleError, kind, true

Emit: TypeAlias = Callable[[list[Any], list[Any]], None]
"""Appends the rows of a block: takes the slots and the list."""


@dataclass(frozen=True, slots=True)
class Emits:
    """A compiled block that gives rows, as Code is a compiled expression."""

    run: Emit
    form: tuple[Any, ...] | None = None
    """As Code.form."""


def looped(each: Run, item: int, body: Emit) -> Emit:
    def emit(slots: list[Any], made: list[Any]) -> None:
        items = each(slots)
        if items is None:
            return
        if items.__class__ is not list:
            raise RuleError("for_each", f"takes a list, got {kind(items)}")
        for value in items:
            slots[item] = value
            body(slots, made)

    return emit


def object_run(lets: list[tuple[int, Run]], when: Run | None, role: Run | None, members: tuple[tuple[str, Run], ...]) -> Run:
    """The object of a block, or null where it is left out. The bare forms come first: rows are mostly those."""
    if not lets and when is None:
        return _members_run(members) if role is None else _row_run(role, members)
    inner = object_run([], None, role, members)

    def run(slots: Any) -> Any:
        for index, let in lets:
            slots[index] = let(slots)
        return inner(slots) if when is None or true(when(slots)) else None

    return run


def _members_run(members: tuple[tuple[str, Run], ...]) -> Run:
    def run(slots: Any) -> Any:
        return {name: value for name, member in members if (value := member(slots)) is not None} or None

    return run


def _row_run(role: Run, members: tuple[tuple[str, Run], ...]) -> Run:
    def run(slots: Any) -> Any:
        given = role(slots)
        if not given:
            return None
        made = {"role": given}
        for name, member in members:
            value = member(slots)
            if value is not None:
                made[name] = value
        return made

    return run
