"""What blocks become at run time: loops that emit rows, and objects that leave out what is null."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from tunerd.mapping.functions import Code, Run
from tunerd.mapping.values import RuleError, kind, true

_NUMBERS: Final = (int, float)
EmitRows: TypeAlias = Callable[[list[Any], list[Any]], None]
"""Appends the rows of a block: takes the slots and the list."""

WithoutRole: TypeAlias = Callable[[list[Any], dict[str, Any]], dict[str, Any] | None]
"""What becomes of a row whose `role:` rule gave nothing: takes the slots and the row's other members."""


@dataclass(frozen=True, slots=True)
class Block:
    """A compiled block that gives rows."""

    emit: EmitRows
    one: Run | None = None
    """Of a block that gives one row or none: its value, which needs no list to be handed over."""


def no_rows(slots: list[Any], made: list[Any]) -> None:
    """Stands for a block that could not be compiled."""


def single(one: Run) -> Block:
    """The block of one object."""

    def emit(slots: list[Any], made: list[Any]) -> None:
        if (value := one(slots)) is not None:
            made.append(value)

    return Block(emit, one)


def looped(each: Run, item: int, body: EmitRows) -> Block:
    def emit(slots: list[Any], made: list[Any]) -> None:
        items = each(slots)
        if items is None:
            return
        if items.__class__ is not list:
            raise RuleError("for_each", f"takes a list, got {kind(items)}")
        for value in items:
            slots[item] = value
            body(slots, made)

    return Block(emit)


def listed(lets: Sequence[tuple[int, Run]], when: Run | None, blocks: Sequence[Block]) -> Block:
    """`rows:`, the blocks one after the other."""
    steps = [(block.one, block.emit) for block in blocks]

    def emit(slots: list[Any], made: list[Any]) -> None:
        for index, run in lets:
            slots[index] = run(slots)
        if when is not None and not true(when(slots)):
            return
        for one, several in steps:
            if one is None:
                several(slots, made)
            elif (value := one(slots)) is not None:
                made.append(value)

    return Block(emit)


def object_run(
    lets: list[tuple[int, Run]],
    when: Code | None,
    role: Code | None,
    members: Sequence[tuple[str, Code]],
    without_role: WithoutRole | None = None,
) -> Run:
    """The object of a block, or null where it is left out: an object of nothing, or one without the role that it has a rule
    for.

    One loop on purpose: it runs for every row of every call. Fields of the item that most members read are read here,
    without a call.
    """
    asked = when.asks if when is not None else None
    holds = when.run if when is not None and asked is None else None
    asked_slot, asked_field, asked_text = asked or (0, "", "")
    item = _most_read([code for _, code in members])
    steps = [(name, *_reading(code, item)) for name, code in members]
    given_role, role_field = _reading(role, item) if role is not None else (None, "")

    def _others(slots: Any) -> dict[str, Any]:
        read = {name: code.run(slots) for name, code in members}
        return {name: value for name, value in read.items() if value is not None}

    def run(slots: Any) -> Any:
        for index, let in lets:
            slots[index] = let(slots)
        if asked:
            value = slots[asked_slot]
            if value.__class__ is not dict or value.get(asked_field) != asked_text:
                return None
        elif holds is not None:
            held = holds(slots)
            if not held and held.__class__ not in _NUMBERS:
                return None
        made: dict[str, Any] = {}
        value = slots[item]
        get = value.get if value.__class__ is dict else _nothing
        if role is not None:
            value = get(role_field) if given_role is None else given_role(slots)
            if not value:
                return without_role(slots, _others(slots)) if without_role is not None else None
            made["role"] = value
        for name, member, field in steps:
            value = get(field) if member is None else member(slots)
            if value is not None:
                made[name] = value
        return made or None

    return run


def _most_read(codes: Sequence[Code]) -> int:
    """The slot of which the most of these read a field."""
    slots = [direct[0] for code in codes if (direct := code.direct()) is not None]
    return max(slots, key=slots.count, default=0)


def _reading(code: Code, item: int) -> tuple[Run | None, str]:
    """How a value is had: by a call, or (None, field) of the item."""
    direct = code.direct()
    return (None, direct[1]) if direct is not None and direct[0] == item else (code.run, "")


def _nothing(name: str) -> None:
    """Stands for the `get` of what is no object."""
