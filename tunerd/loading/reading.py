"""Node -> values and models, by the table in keys.py: one Reader collects every problem of a file.

Here is what all sections share: unknown keys, wrong types in plain words, bounds. Forms of a section's own (on_missing,
listen, ...) are read beside their section. A Reader never raises for bad input; it notes a problem and goes on.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from tunerd.config.keys import SECTIONS, TOP, Bounds, Key, Kind, Section, wants
from tunerd.config.quantities import parse_duration, parse_size
from tunerd.config.yaml_nodes import resolve_scalar
from tunerd.loading.environment import Substituted
from tunerd.places import Node, Place, Problem

M = TypeVar("M", bound=BaseModel)

_SHOWN_CHARS: Final = 40
_IS_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_-]{0,39}")
"""What can be repeated as the name of a key: `api_key:SECRET` without a blank is a single word to YAML."""


class _Absent:
    """The type of ABSENT."""


ABSENT: Final = _Absent()
"""What a key gives that is not there, or that was wrong: its problem is noted, its default may stand in."""


class Reader:
    def __init__(self, substituted: Substituted) -> None:
        self.problems: list[Problem] = list(substituted.problems)
        self.warnings: list[Problem] = []
        self.places: dict[str, Place] = {}
        """Of every plain key that was read."""
        self._filled = substituted.filled
        self._broken = substituted.broken

    def problem(self, at: Node | Place, path: str, message: str) -> None:
        self.problems.append(Problem(place=at if isinstance(at, Place) else at.place, path=path, message=message))

    def warn(self, at: Node | Place, path: str, message: str) -> None:
        self.warnings.append(Problem(place=at if isinstance(at, Place) else at.place, path=path, message=message))

    def is_broken(self, node: Node) -> bool:
        """Its problem has been told already (a variable that is not set)."""
        return node.place in self._broken

    def members(self, node: Node | None, path: str, known: Iterable[str], where: str = "") -> dict[str, Node]:
        """The known members of a mapping; everything else is a problem. None and null are an empty mapping."""
        if node is None or node.value is None:
            return {}
        if not isinstance(node.value, dict):
            self.problem(node, path, f"takes a mapping (`key: value` lines), not {self.kind_of(node)}")
            return {}
        names = tuple(known)
        found: dict[str, Node] = {}
        for name, child in node.value.items():
            place = (node.keys or {}).get(name, child.place)
            if name in names:
                found[name] = child
                self.places[join(path, name)] = child.place
            elif _IS_NAME.fullmatch(name):
                self.problem(place, join(path, name), _unknown(name, names, where))
            else:
                self.problem(place, path, _no_name(name, names))
        return found

    def section(self, node: Node | None, path: str, section: Section) -> tuple[dict[str, Any], dict[str, Node]]:
        """The values of a section by field name (keys of kind FORM and RULE left out), and all its nodes by key."""
        nodes = self.members(node, path, [key.name for key in section.keys], path.split("[")[0])
        values: dict[str, Any] = {}
        for key in section.keys:
            child = nodes.get(key.name)
            if child is None or key.kind in (Kind.FORM, Kind.RULE):
                continue
            value = self.value(child, join(path, key.name), key, section.bounds(key))
            if value is not ABSENT:
                values[key.field] = value
        return values, nodes

    def build(
        self, section: Section, model: type[M], values: Mapping[str, Any], nodes: Mapping[str, Node], path: str
    ) -> M | None:
        """The model; what it refuses is a problem at its key's place."""
        try:
            return model(**values)
        except ValidationError as exc:
            for error in exc.errors(include_url=False, include_context=False, include_input=False):
                if error["type"] == "missing":
                    continue  # Told where it was looked for, or where its value was wrong.
                field = str(error["loc"][0]) if error["loc"] else ""
                key = next((key for key in section.keys if key.field == field and key.name in nodes), None)
                if key is not None:
                    self._refuse(nodes[key.name], join(path, key.name), key, section.bounds(key))
            return None

    def value(self, node: Node, path: str, key: Key, bounds: Bounds) -> Any:
        """What one key gives, or ABSENT with a problem noted."""
        if self.is_broken(node):
            return ABSENT
        given: object = node.value
        if node.place in self._filled and isinstance(given, str):
            if given == "" and bounds.nullable:
                return None
            if key.kind not in (Kind.TEXT, Kind.SECRET, Kind.CHOICE, Kind.TEXTS):
                given = resolve_scalar(given)
        if given is None and bounds.nullable:
            return None
        value = _read(given, key.kind, bounds)
        if value is ABSENT or not _within(value, bounds):
            self._refuse(node, path, key, bounds)
            return ABSENT
        return value

    def text(self, node: Node, path: str, want: str) -> str | None:
        """The text of a node, or None with a problem that says `want`."""
        if self.is_broken(node):
            return None
        if isinstance(node.value, str) and node.value.strip():
            return node.value
        self.problem(node, path, f"takes {want}, not {self.shown(node)}")
        return None

    def duration(self, node: Node, path: str, want: str) -> float | None:
        """Seconds, or None with a problem that says `want`."""
        if self.is_broken(node):
            return None
        given = resolve_scalar(node.value) if node.place in self._filled and isinstance(node.value, str) else node.value
        value = _read(given, Kind.DURATION, Bounds())
        if isinstance(value, float):
            return value
        self.problem(node, path, f"takes {want}, not {self.shown(node)}")
        return None

    def shown(self, node: Node) -> str:
        """What stands there, for a message: quoted if it is short and cannot be a secret, else by its kind."""
        if node.place in self._filled:
            return f"what the environment gives ({self.kind_of(node)})"
        if isinstance(node.value, str) and 0 < len(node.value) <= _SHOWN_CHARS and "\n" not in node.value:
            return f"`{node.value}`"
        if isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return f"{node.value}"
        return self.kind_of(node)

    @staticmethod
    def kind_of(node: Node) -> str:
        match node.value:
            case None:
                return "nothing (null)"
            case bool():
                return "true" if node.value else "false"
            case int() | float():
                return "a number"
            case "":
                return "empty text"
            case str():
                return "text"
            case tuple():
                return "a list"
            case dict():
                return "a mapping"

    def _refuse(self, node: Node, path: str, key: Key, bounds: Bounds) -> None:
        # Under `tuner:` nothing is quoted: a key is easily pasted one line too high.
        shown = self.kind_of(node) if path.rpartition(".")[0].endswith("tuner") else self.shown(node)
        message = f"`{key.name}` takes {wants(key, bounds)}, not {shown}"
        if key.kind in (Kind.TEXT, Kind.SECRET) and isinstance(node.value, bool | int | float):
            message += "; put it in quotes"
        elif key.kind is Kind.CHOICE and isinstance(node.value, str):
            message += _meant(node.value, bounds.choices)
        elif (
            key.kind in (Kind.INTEGER, Kind.NUMBER)
            and isinstance(resolve_scalar(str(node.value)), int | float)
            and not node.plain
        ):
            message += "; remove the quotes" if isinstance(node.value, str) and node.place not in self._filled else ""
        self.problem(node, path, message)


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    names = list(known)
    close = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1, cutoff=0.6)
    if close:
        return close[0]
    return next(
        (known for known in names if len(known) > 3 and (name.startswith(known) or (known.startswith(name) and len(name) > 3))),
        None,
    )


def _meant(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f"; did you mean `{near}`?" if near else ""


def _no_name(name: str, known: tuple[str, ...]) -> str:
    """For what stands in a key's place and may hold a secret: it is not repeated."""
    begins = next((one for one in known if name.startswith(f"{one}:")), None)
    if begins is not None:
        return f"a blank is missing after `{begins}:`"
    return f"an unknown key stands here; known here: {', '.join(known)}"


def _unknown(name: str, known: tuple[str, ...], where: str) -> str:
    if near := nearest(name, known):
        return f"unknown key `{name}`; did you mean `{near}`?"
    elsewhere = [at for at, section in SECTIONS.items() if at != where and any(key.name == name for key in section.keys)]
    if elsewhere:
        return f"`{name}` does not belong here but under `{elsewhere[0]}:`"
    if where and name in TOP:
        return f"`{name}` does not belong here but at the top of the file, without indentation"
    return f"unknown key `{name}`; known here: {', '.join(known)}"


def _within(value: object, bounds: Bounds) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return True
    return not (
        (bounds.low is not None and value < bounds.low)
        or (bounds.above is not None and value <= bounds.above)
        or (bounds.high is not None and value > bounds.high)
        or (bounds.below is not None and value >= bounds.below)
    )


def _read(given: object, kind: Kind, bounds: Bounds) -> Any:
    """The value of one kind, or ABSENT. `true` is a number to Python; never to a person."""
    number = isinstance(given, int | float) and not isinstance(given, bool)
    result: Any = ABSENT
    match kind:
        case Kind.TEXT | Kind.SECRET:
            result = given if isinstance(given, str) and given.strip() else ABSENT
        case Kind.INTEGER:
            result = given if number and isinstance(given, int) else ABSENT
        case Kind.NUMBER:
            result = given if number else ABSENT
        case Kind.SWITCH:
            result = given if isinstance(given, bool) else ABSENT
        case Kind.CHOICE:
            result = given if given in bounds.choices else ABSENT
        case Kind.DURATION | Kind.SIZE:
            result = _quantity(given, kind)
        case Kind.TEXTS:
            result = _texts(given)
        case Kind.RULE | Kind.FORM:
            result = ABSENT
    return result


def _quantity(given: object, kind: Kind) -> Any:
    try:
        if isinstance(given, str):
            return parse_duration(given) if kind is Kind.DURATION else parse_size(given)
        if isinstance(given, int | float) and not isinstance(given, bool) and given >= 0:
            # Through the text form, so that one set of limits holds for both.
            return parse_duration(f"{given:.9f}s") if kind is Kind.DURATION else parse_size(f"{given:d}B")
    except ValueError:
        pass
    return ABSENT


def _texts(given: object) -> Any:
    if isinstance(given, str) and given:
        return (given,)
    if isinstance(given, tuple) and all(isinstance(item.value, str) and item.value for item in given):
        return tuple(item.value for item in given)
    return ABSENT
