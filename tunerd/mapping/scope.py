"""The names that rules see: which names are visible where, and which slot holds the value of each during a run."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunerd.mapping.functions import UNKNOWN, Code
from tunerd.mapping.roles import TableAsked
from tunerd.record import positional_record


@positional_record
class Slot:
    """Where the value of a name is: in the list of slots, or known at load."""

    index: int
    value: Any = UNKNOWN
    tables: Sequence[TableAsked] = ()
    """The tables that its rule asks."""
    path: Code | None = None
    """The code of its rule, where that is nothing but a path: whoever reads the name reads the path instead."""


@positional_record
class Broken:
    """In a slot: the rule that should have filled it failed. Whoever reads it fails alike."""

    error: Exception


@dataclass(slots=True)
class NameScope:
    """The names that an expression sees: lexical scopes, inner ones over outer ones, without shadowing."""

    outer: "NameScope | None" = None
    slots: dict[str, Slot] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Shared by all scopes of a mapping: the names that some expression reads."""
    guarded: bool = False
    """A slot may hold a Broken; reading it raises what broke it."""

    def inner(self) -> "NameScope":
        return NameScope(self, {}, self.used, self.guarded)

    def find(self, name: str) -> Slot | None:
        scope: NameScope | None = self
        while scope is not None:
            if (slot := scope.slots.get(name)) is not None:
                self.used.add(name)
                return slot
            scope = scope.outer
        return None

    def all(self) -> list[str]:
        return [*(self.outer.all() if self.outer else ()), *self.slots]


def whole(value: Any) -> Any:
    if value.__class__ is Broken:
        raise value.error
    return value


def nearest(name: str, among: Iterable[str]) -> str:
    """` (did you mean ...?)`, or nothing where no name is near."""
    found = difflib.get_close_matches(name, list(among), n=1, cutoff=0.6)
    return f" (did you mean `{found[0]}`?)" if found else ""
