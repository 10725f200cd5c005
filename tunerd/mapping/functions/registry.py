"""What a function of the rule language is, and how one is registered. The functions are in the files beside this one.

The documentation's function table is made from this registry.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from enum import StrEnum
from typing import Any, Final, TypeAlias

from tunerd.record import positional_record, record

Run: TypeAlias = Callable[[Any], Any]
"""A compiled expression: takes the slots of the root scope, or the current value of the item scope."""

UNKNOWN: Final = object()
"""Stands for the value of an expression that is not constant."""


class Nulls(StrEnum):
    """What a function makes of a null argument."""

    GIVE_NULL = "null if any argument is null"
    FIRST = "null if the first argument is null"
    SEEN = "handles null itself"


@positional_record
class Code:
    """A compiled expression."""

    run: Run
    value: Any = UNKNOWN
    """The value, where it is the same for every document."""
    path: tuple[int, tuple[str | int, ...]] | None = None
    """(slot, steps) where the expression is nothing but `name.a[0].b`: this has faster forms."""
    field: str | None = None
    """The name, where the expression is nothing but a field of the current item, or a function of it: this has faster
    forms."""
    convert: Callable[[Any], Any] | None = None
    """With `field`: the function, which is not asked about null."""
    asks: tuple[int, str, str] | None = None
    """(slot, field, text) where the expression is nothing but `name.a == 'text'`: blocks ask that themselves."""
    members: Sequence[tuple[str, "Code"]] | None = None
    """Where the expression is `{name: expression, ...}` over the current item: a list of such objects has a faster form."""

    def direct(self) -> tuple[int, str] | None:
        """(slot, field) where the expression is nothing but `name.a`: callers read it themselves, without a call."""
        if self.path is None or len(self.path[1]) != 1:
            return None
        slot, (field,) = self.path
        return None if isinstance(field, int) else (slot, field)


@positional_record
class Context:
    """What of its source a function may know."""

    zone: tzinfo = UTC
    """For times that name no zone."""
    exact: bool = False
    """What is compiled becomes an identity, or part of one: numbers that lost digits are refused (identity.py)."""
    reserve: Callable[[], int] | None = None
    """Reserves one of the slots for what a function remembers while one document is mapped. None where its expressions
    do not take the slots."""


Prepare: TypeAlias = Callable[[Sequence[Code], Context], Run | None]
"""Compiles a call with what is known of its arguments at load. None: nothing to gain, call the function. Raises RuleError
for a constant that can never work."""


@record
class Function:
    name: str
    signature: str
    """`lookup(key, table[, default])`"""
    does: str
    """One line for the documentation."""
    call: Callable[..., Any]
    least: int
    most: int | None
    """None: any number of arguments."""
    nulls: Nulls = Nulls.GIVE_NULL
    expressions: frozenset[int] = frozenset()
    """Positions of arguments that are `&expression`; the function gets them as Run over an item."""
    prepare: Prepare | None = None
    built_in: bool = False
    """JMESPath's own."""
    texts: bool = False
    """It makes text of numbers, or looks them up."""


@dataclass(slots=True)
class Registry:
    functions: dict[str, Function] = field(default_factory=dict)

    def add(
        self,
        signature: str,
        does: str,
        *,
        nulls: Nulls = Nulls.GIVE_NULL,
        expressions: Sequence[int] = (),
        prepare: Prepare | None = None,
        built_in: bool = False,
        texts: bool = False,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator; the arity is read off the signature: `[, x]` may be left out, `...` repeats."""
        name, _, inside = signature.removesuffix(")").partition("(")
        firm, *optional = inside.split("[")
        least = len([part for part in firm.split(",") if part.strip() not in ("", "...")])
        most = None if "..." in inside else least + len(optional)

        def register(call: Callable[..., Any]) -> Callable[..., Any]:
            self.functions[name] = Function(
                name=name, signature=signature, does=does, call=call, least=least, most=most, nulls=nulls,
                expressions=frozenset(expressions), prepare=prepare, built_in=built_in, texts=texts,
            )  # fmt: skip
            return call

        return register

    def view(self) -> Mapping[str, Function]:
        return self.functions
