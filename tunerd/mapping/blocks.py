"""What blocks become at run time: loops that emit rows, and objects that leave out what is null."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from tunerd.mapping.functions import UNKNOWN, Code, Run
from tunerd.mapping.roles import DROPS_SLOT, forget_said
from tunerd.mapping.values import RuleError, kind, missing, true
from tunerd.record import positional_record

Lets: TypeAlias = Sequence[tuple[int, Run]]
"""Slots, and what gives their values."""
EmitRows: TypeAlias = Callable[[list[Any], list[Any]], None]
"""Appends the rows of a block: takes the slots and the list."""
WithoutRole: TypeAlias = Callable[[list[Any], Mapping[str, Run]], dict[str, Any] | None]
"""What becomes of a row whose `role:` rule gave nothing: takes the slots and the rules of the row's other members."""


@positional_record
class Block:
    """A compiled block that gives rows."""

    emit: EmitRows
    one: Run | None = None
    """Of a block that gives one row or none: its value, which needs no list to be handed over."""
    asks: tuple[int, str, str] | None = None
    """(slot, field, text) where the block is left out unless `name.a == 'text'`: a list of blocks asks that itself."""
    asked: Run | None = None
    """With `asks`: its value once that holds."""
    over: tuple[int, str] | None = None
    """(slot, field) of a loop over `name.a`: a list of blocks leaves it out where that is null or an empty list."""


def no_rows(slots: list[Any], made: list[Any]) -> None:
    """Stands for a block that could not be compiled."""


def single(one: Run, asks: tuple[int, str, str] | None = None, asked: Run | None = None) -> Block:
    """The block of one object."""

    def emit(slots: list[Any], made: list[Any]) -> None:
        if (value := one(slots)) is not None:
            made.append(value)

    return Block(emit, one, asks, asked)


def value_of(block: Block) -> Run:
    """The value of a block where rows are not expected; a block that gives several rows gives their list."""
    emit = block.emit

    def run(slots: Any) -> Any:
        made: list[Any] = []
        emit(slots, made)
        return made or None

    return run if block.one is None else block.one


def looped(each: Code, item: int, body: EmitRows, *, is_row: bool) -> Block:
    """`is_row`: an item may give several rows, and what one of them leaves out and another one has is not lost."""
    items_of = each.run

    def emit(slots: list[Any], made: list[Any]) -> None:
        items = items_of(slots)
        if items is None or items == []:
            return
        if items.__class__ is not list:
            raise RuleError("for_each", f"takes a list, got {kind(items)}")
        drops = slots[DROPS_SLOT] if is_row else []
        for value in items:
            slots[item] = value
            known, before = len(drops), len(made)
            body(slots, made)
            if len(drops) > known:
                forget_said(drops, known, made[before:])

    return Block(emit, over=each.direct())


def listed(lets: Lets, when: Run | None, blocks: Sequence[Block]) -> Block:
    """`rows:`, the blocks one after the other. Most of them ask the same item, and this for different texts of one field:
    what leaves a block out is read here, without a call."""
    questions = [block.asks[:2] for block in blocks if block.asks is not None]
    questions = questions or [block.over for block in blocks if block.over is not None]
    slot, field = max(questions, key=questions.count, default=(0, ""))
    steps: list[tuple[str | None, str | None, Run | None, EmitRows]] = []
    for block in blocks:
        if block.asks is not None and block.asks[:2] == (slot, field):
            steps.append((block.asks[2], None, block.asked, block.emit))
        elif block.over is not None and block.over[0] == slot:
            steps.append((None, block.over[1], None, block.emit))
        else:
            steps.append((None, None, block.one, block.emit))

    def emit(slots: list[Any], made: list[Any]) -> None:
        for index, run in lets:
            slots[index] = run(slots)
        if when is not None and not true(when(slots)):
            return
        value = slots[slot]
        get = value.get if value.__class__ is dict else _nothing
        answer = get(field)
        for text, over, one, several in steps:
            if text is not None and text != answer:
                continue
            if one is None:
                if over is None or ((items := get(over)) is not None and items != []):
                    several(slots, made)
            elif (value := one(slots)) is not None:
                made.append(value)

    return Block(emit)


def object_block(
    lets: Lets,
    when: Code | None,
    role: Code | None,
    members: Sequence[tuple[str, Code]],
    without_role: WithoutRole | None = None,
) -> Block:
    """The object of a block, or null where it is left out: `when:` says so, it is an object of nothing, or it has no role and
    a rule for one."""
    made = _object_run(role, members, without_role)
    if when is None and not lets:
        return single(made)
    if when is not None and when.asks is not None and not lets:
        slot, field, text = when.asks

        def run_asked(slots: Any) -> Any:
            value = slots[slot]
            return made(slots) if value.__class__ is dict and value.get(field) == text else None

        return single(run_asked, when.asks, made)
    holds = None if when is None else when.run

    def run(slots: Any) -> Any:
        for index, let in lets:
            slots[index] = let(slots)
        return made(slots) if holds is None or true(holds(slots)) else None

    return single(run)


def _object_run(role: Code | None, members: Sequence[tuple[str, Code]], without_role: WithoutRole | None) -> Run:
    """One loop on purpose: it runs for every row of every call. Fields of the item that most members read are read here,
    without a call."""
    item = _most_read([code for _, code in members])
    steps = [(name, *_reading(code, item)) for name, code in members]
    runs = {name: code.run for name, code in members}
    known_role = None if role is None or role.value is UNKNOWN else role.value
    role_run, role_field = (None, "") if role is None else _reading(role, item)
    needs_role = role is not None and not known_role
    if role is None and all(member is None for _, member, _ in steps):
        return _fields_of(item, [(name, field) for name, _, field in steps])

    def run(slots: Any) -> Any:
        made: dict[str, Any] = {}
        value = slots[item]
        get = value.get if value.__class__ is dict else _nothing
        if needs_role:
            value = get(role_field) if role_run is None else role_run(slots)
            if not value:
                return without_role(slots, runs) if without_role is not None else None
            made["role"] = value
        elif known_role:
            made["role"] = known_role
        for name, member, field in steps:
            value = get(field) if member is None else member(slots)
            if value is not None:
                made[name] = value
        return made or None

    return run


def _fields_of(item: int, reads: Sequence[tuple[str, str]]) -> Run:
    """An object of nothing but fields of one item, as `tool` and `metadata` mostly are."""

    def run(slots: Any) -> Any:
        value = slots[item]
        if value.__class__ is not dict:
            return None
        get, made = value.get, {}
        for name, field in reads:
            if (value := get(field)) is not None:
                made[name] = value
        return made or None

    return run


def first_rows(runs: Sequence[Run]) -> Run:
    """The first list of rows. What those before it left out is not lost: they gave no row at all."""

    def run(slots: Any) -> Any:
        drops = slots[DROPS_SLOT]
        first = len(drops)
        for one in runs:
            since = len(drops)
            value = one(slots)
            if not missing(value):
                del drops[first:since]
                return value
        return None

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


NO_ROWS: Final = Block(no_rows)
