"""What blocks become at run time: loops that emit rows, and objects that leave out what is null."""

from collections.abc import Callable
from typing import Any, TypeAlias

from tunerd.mapping.functions import Run
from tunerd.mapping.values import RuleError, kind, true

Emit: TypeAlias = Callable[[list[Any], list[Any]], None]
"""Appends the rows of a block: takes the slots and the list."""


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
    def run(slots: Any) -> Any:
        for index, let in lets:
            slots[index] = let(slots)
        if when is not None and not true(when(slots)):
            return None
        if role is None:
            made = {}
        else:
            value = role(slots)
            if not value:
                return None
            made = {"role": value}
        for name, member in members:
            value = member(slots)
            if value is not None:
                made[name] = value
        return made or None

    return run
