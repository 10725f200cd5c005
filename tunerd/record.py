"""`record` and `positional_record`, the decorators of the frozen, slotted dataclasses.

They make what `dataclass(frozen=True, slots=True)` makes, in less time. Before Python 3.13, `dataclass` compiles six methods of
each class from text, which for 300 classes was a third of the processor time from the start of the daemon to ready
(docs/decisions/start.md). Here only `__init__` is compiled, and the other methods are the same functions for all records.
"""

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(cls: type[_T]) -> type[_T]:
    """Its fields are given by name."""
    return _record(cls, kw_only=True)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def positional_record(cls: type[_T]) -> type[_T]:
    """Its fields may be given by place, too."""
    return _record(cls, kw_only=False)


def _record(cls: type[_T], *, kw_only: bool) -> type[_T]:
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # else `dataclass` looks for a signature to put there
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
    own = vars(cls)
    if "__init__" not in own:
        made.__init__ = _init(made)
    if "__repr__" not in own:
        made.__repr__ = _repr
    if "__eq__" not in own:
        made.__eq__, made.__hash__ = _comparison([one.name for one in fields(made) if one.compare])
    made.__setattr__, made.__delattr__ = _refuse_to_set, _refuse_to_delete
    return made  # type: ignore[no-any-return]


def _init(made: Any) -> Callable[..., None]:
    """`def __init__(self, *, name=_default_name): _set_name(self, name)`, with all fields."""
    known: dict[str, Any] = {}
    by_place: list[str] = ["self"]
    by_name: list[str] = []
    body: list[str] = []
    for one in fields(made):
        known[f"_set_{one.name}"] = getattr(made, one.name).__set__  # of its slot: a record refuses to be changed
        (by_name if one.kw_only else by_place).append(_argument(one, known))
        value = one.name
        if one.default_factory is not MISSING:
            value = f"_make_{one.name}() if {one.name} is _missing else {one.name}"
        body.append(f"_set_{one.name}(self, {value})")
    arguments = ", ".join([*by_place, "*", *by_name] if by_name else by_place)
    exec(f"def __init__({arguments}):\n " + "\n ".join(body or ["pass"]), known)  # noqa: S102  # the names of fields are ours
    return known["__init__"]  # type: ignore[no-any-return]


def _argument(one: Field[Any], known: dict[str, Any]) -> str:
    if one.default_factory is not MISSING:
        known["_missing"], known[f"_make_{one.name}"] = MISSING, one.default_factory
        return f"{one.name}=_missing"
    if one.default is not MISSING:
        known[f"_default_{one.name}"] = one.default
        return f"{one.name}=_default_{one.name}"
    return one.name


def _comparison(names: list[str]) -> tuple[Callable[[Any, object], bool], Callable[[Any], int]]:
    values: Callable[[Any], Any] = attrgetter(*names) if names else lambda _: ()

    def __eq__(self: Any, other: object) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(values(self))

    return __eq__, __hash__


def _repr(self: Any) -> str:
    shown = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({shown})"


def _refuse_to_set(self: object, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
