"""Values of frozen dataclasses out of parsed JSON: strict about every type, so that a misspelt argument never widens an order.
Text may hold lone surrogates (file names that are not UTF-8). Pure.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache, partial
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Build = Callable[[object, str], Any]

_TYPES: Final[Mapping[type, tuple[tuple[type, ...], str]]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a text"),
}


def from_json(kind: type[T], value: object, *, is_lenient: bool = False) -> T:
    """The value as `kind`, a dataclass. Raises ValueError with one line. `is_lenient`: fields that `kind` does not have are
    ignored, as a newer daemon may answer with more."""
    built: T = _dataclass(kind, value, "", is_lenient)
    return built


def _dataclass(kind: Any, value: object, name: str, is_lenient: bool) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name or 'the request'} must be a JSON object")
    builders = _builders(kind, is_lenient)
    if not is_lenient and (unknown := sorted(set(value) - set(builders))):
        raise ValueError(f"unknown: {', '.join(map(str, unknown))}")
    given = {one: build(value[one], one) for one, (build, _) in builders.items() if one in value}
    if missing := [one for one, (_, is_required) in builders.items() if is_required and one not in value]:
        raise ValueError(f"{missing[0]} is missing")
    return kind(**given)


@cache
def _builders(kind: Any, is_lenient: bool) -> Mapping[str, tuple[Build, bool]]:
    hints = get_type_hints(kind)
    return {
        one.name: (_builder(hints[one.name], is_lenient), one.default is MISSING and one.default_factory is MISSING)
        for one in fields(kind)
    }


def _builder(kind: Any, is_lenient: bool) -> Build:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (only,) = [_builder(one, is_lenient) for one in inner if one is not types.NoneType]
        return lambda value, name: None if value is None else only(value, name)
    if origin is not None and issubclass(origin, Mapping):
        item = _builder(inner[1], is_lenient)
        return lambda value, name: {str(key): item(each, name) for key, each in _an(Mapping, value, name).items()}
    if origin is frozenset:
        each_of = _builder(inner[0], is_lenient)
        return lambda value, name: frozenset(each_of(each, name) for each in _a_list(value, name))
    if origin is not None and issubclass(origin, Sequence):
        one_of = _builder(inner[0], is_lenient)
        return lambda value, name: [one_of(each, name) for each in _a_list(value, name)]
    if is_dataclass(kind):
        return partial(_dataclass, kind, is_lenient=is_lenient)
    if issubclass(kind, Enum):
        return lambda value, name: _member(kind, value, name)
    allowed, words = _TYPES[kind]
    return lambda value, name: _plain(value, name, allowed, words)


def _an(kind: type[Any], value: object, name: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a JSON object")
    return value


def _a_list(value: object, name: str) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} must be a list")
    return value


def _member(kind: type[Enum], value: object, name: str) -> Enum:
    try:
        return kind(value)
    except ValueError as exc:
        raise ValueError(f"{name} must be one of {', '.join(str(one.value) for one in kind)}") from exc


def _plain(value: object, name: str, allowed: tuple[type, ...], words: str) -> object:
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise ValueError(f"{name} must be {words}")
    return value
