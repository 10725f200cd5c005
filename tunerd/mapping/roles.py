"""Rows whose role no table names: which lookups a `role:` rule makes, what was said in a row that has no role, and what
becomes of it (`unknown_roles:`). Pure.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from tunerd.call import Refusal
from tunerd.mapping.functions import Run
from tunerd.mapping.values import missing
from tunerd.outcome import FailReason
from tunerd.record import positional_record

UnknownRoles: TypeAlias = Literal["reject", "drop", "agent"]
Why: TypeAlias = Literal["unknown_role", "no_role", "not_speech"]
"""Of a dropped row: no table names its role; it has none; a table names it with null, or it is a prompt or a tool's text."""

DROPS_SLOT: Final = 1
"""Where a run finds its list of dropped rows among the slots."""
_NEVER_SPEECH: Final = frozenset({"system", "developer", "tool", "function"})
"""Roles of chat messages that nobody says aloud. A table need not name them."""
_TOLD: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,40}", re.ASCII)
"""A role that logs may name; another one may be a person's name, or a whole sentence."""
_MOST_NAMES: Final = 20


@positional_record
class TableAsked:
    """A `lookup` or `classify` without a default, in a rule of a role."""

    key: Run
    table: Run
    by_pattern: bool


@positional_record
class Dropped:
    why: Why
    role: str
    """As the document has it; empty where there is none."""
    said: Any
    """The row's text or words: another row of the same item may hold them."""
    is_taken: bool = False
    """It became a row of the agent's after all (`unknown_roles: agent`)."""


def row_without_role(
    slots: list[Any], rules: Mapping[str, Run], tables: Sequence[TableAsked], unknown_roles: UnknownRoles
) -> dict[str, Any] | None:
    """What becomes of a row whose `role:` rule gave nothing; `rules`: those of its other members. Where it says something, that
    is noted, and with `unknown_roles: agent` it becomes a row of the agent's."""
    said = rules["text"](slots) if "text" in rules else None
    if missing(said) or (isinstance(said, str) and not said.strip()):
        said = rules["words"](slots) if "words" in rules else None
        if missing(said):
            return None
    why, role = _why(slots, tables)
    is_taken = unknown_roles == "agent" and why != "not_speech"
    slots[DROPS_SLOT].append(Dropped(why, role, said, is_taken))
    if not is_taken:
        return None
    return {"role": "agent", **{name: value for name, rule in rules.items() if (value := rule(slots)) is not None}}


def _why(slots: list[Any], tables: Sequence[TableAsked]) -> tuple[Why, str]:
    """Why a row has no role, and the role as the document has it."""
    name = ""
    for asked in tables:
        key = asked.key(slots)
        if missing(key) or isinstance(key, dict | list):
            continue
        name = name or str(key)
        table = asked.table(slots)
        if not asked.by_pattern and isinstance(table, dict) and _names(table, str(key)):
            return "not_speech", str(key)
    if name.casefold() in _NEVER_SPEECH:
        return "not_speech", name
    return "unknown_role" if name else "no_role", name


def _names(table: Mapping[str, Any], key: str) -> bool:
    """Whether the table has the key, with null."""
    return None in table.values() and (key in table or key.casefold() in [name.casefold() for name in table])


def forget_said(drops: list[Dropped], since: int, rows: Sequence[Any]) -> None:
    """Of one item: what one of its rows holds after all (a tool's result) is not lost with another block."""
    if len(drops) == since or not rows:
        return
    held = [value for row in rows if isinstance(row, dict) for value in _held(row)]
    drops[since:] = [one for one in drops[since:] if one.is_taken or not any(one.said == value for value in held)]


def _held(row: Mapping[str, Any]) -> list[Any]:
    tool = row.get("tool")
    inside = [tool.get(name) for name in ("result", "params", "error")] if isinstance(tool, dict) else []
    return [row.get("text"), *inside]


def counted(drops: Sequence[Dropped]) -> dict[str, int]:
    return dict(Counter(one.why for one in drops if not one.is_taken))


def names_of(drops: Sequence[Dropped]) -> tuple[str, ...]:
    """The roles that no table names, as logs may name them: of an unusual one only its length."""
    found = (_told(one) for one in drops if one.why != "not_speech")
    return tuple(dict.fromkeys(found))[:_MOST_NAMES]


def _told(one: Dropped) -> str:
    if not one.role:
        return "(none)"
    return one.role if _TOLD.fullmatch(one.role) else f"(a role of {len(one.role)} characters)"


def rejected(drops: Sequence[Dropped], where: str) -> Refusal | None:
    """`unknown_roles: reject`."""
    lost = [one for one in drops if one.why != "not_speech"]
    if not lost:
        return None
    names = ", ".join(f"`{name}`" for name in names_of(lost))
    rows = "1 row says" if len(lost) == 1 else f"{len(lost)} rows say"
    what = (
        f"{rows} something under a role that no table of the rules names: {names}. Add it to the table (agent or user; null "
        "leaves such rows out), or set `unknown_roles: drop` (or agent) on the source"
    )
    return Refusal(reason=FailReason.UNMAPPABLE, where=where, what=what)
