"""Nodes -> the values of keys, by their declarations: one ConfigReader collects every problem of a file.

Here is what all sections share: unknown keys, wrong types in plain words, bounds. Forms of a section's own (on_missing, listen,
...) are read beside their section. A ConfigReader never raises for bad input; it notes a problem and reads on.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tunerd.config.models import SECTIONS, TopLevel
from tunerd.config.quantities import parse_size
from tunerd.config.secret import Secret
from tunerd.config.settings import ConfigKey, ValueKind, keys_of
from tunerd.config.text_forms import Unusable, parse_seconds
from tunerd.config.yaml_nodes import resolve_scalar
from tunerd.loading.environment import Substituted
from tunerd.yaml_location import Node, Problem, YamlLocation

M = TypeVar("M")

_SHOWN_CHARS: Final = 40
_IS_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_-]{0,39}")
"""What can be repeated as the name of a key: `api_key:SECRET` without a blank is a single word to YAML."""
_TEXTUAL: Final = (ValueKind.TEXT, ValueKind.SECRET, ValueKind.CHOICE, ValueKind.TEXTS)


class ConfigReader:
    """Reads one file. `base`: where relative paths start; without `resolve_secrets` keys are neither read nor demanded."""

    def __init__(
        self, substituted: Substituted, base: str = "/", environ: Mapping[str, str] | None = None, *, resolve_secrets: bool = True
    ) -> None:
        self.base = base
        self.environ = environ or {}
        self.resolve_secrets = resolve_secrets
        self.problems: list[Problem] = list(substituted.problems)
        self.warnings: list[Problem] = []
        self.locations: dict[str, YamlLocation] = {}
        """Of every plain key that was read."""
        self._filled = substituted.filled
        self._broken = substituted.broken

    def problem(self, at: Node | YamlLocation, path: str, message: str) -> None:
        self.problems.append(Problem(location=at if isinstance(at, YamlLocation) else at.location, path=path, message=message))

    def warn(self, at: Node | YamlLocation, path: str, message: str) -> None:
        self.warnings.append(Problem(location=at if isinstance(at, YamlLocation) else at.location, path=path, message=message))

    def is_broken(self, node: Node) -> bool:
        """Its problem has been noted already (a variable that is not set)."""
        return node.location in self._broken

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
            location = (node.keys or {}).get(name, child.location)
            if name in names:
                found[name] = child
                self.locations[join(path, name)] = child.location
            elif _IS_NAME.fullmatch(name):
                self.problem(location, join(path, name), _unknown(name, names, where))
            else:
                self.problem(location, path, _no_name(name, names))
        return found

    def section(self, node: Node | None, path: str, model: type, absent: Node | YamlLocation | None = None) -> "ConfigBlock":
        """A mapping by the keys of its model. Rules, and forms that have a reader of their own, are only among its nodes.
        `absent`: the place to name where there is no mapping."""
        keys = keys_of(model)
        block = ConfigBlock(
            self, node or absent or YamlLocation("", 1, 1), path, {}, self.members(node, path, keys, path.split("[")[0])
        )
        self._read_keys(block, keys)
        return block

    def top_level(self, root: Node, nodes: Mapping[str, Node]) -> TopLevel:
        """The keys at the top of the file that are no section, with defaults in place of what was wrong."""
        keys = keys_of(TopLevel)
        block = ConfigBlock(self, root, "", {}, {name: node for name, node in nodes.items() if name in keys})
        self._read_keys(block, keys)
        return TopLevel(**block.values)

    def _read_keys(self, block: "ConfigBlock", keys: Mapping[str, ConfigKey]) -> None:
        for name, child in block.nodes.items():
            key = keys[name]
            left = key.kind is ValueKind.RULE or (key.kind is ValueKind.OWN and key.setting.parse is None)
            if left or self.is_broken(child):
                continue
            try:
                block.values[key.field] = self._value(child, key)
            except Unusable as exc:
                self._refuse(child, join(block.path, name), key, str(exc))
            except ValueError as exc:
                block.problem(name, str(exc))

    def whole(self, node: Node | None, path: str, model: type[M]) -> M:
        """A section without forms of its own, with defaults in place of what was wrong."""
        return model(**self.section(node, path, model).values)

    def absolute(self, path: str) -> str:
        return os.path.abspath(os.path.join(self.base, path))

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
        try:
            return parse_seconds(self._given(node))
        except Unusable:
            self.problem(node, path, f"takes {want}, not {self.shown(node)}")
            return None

    def shown(self, node: Node) -> str:
        """The value for a message: quoted if it is short and cannot be a secret, else only its kind."""
        if node.location in self._filled:
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

    def _given(self, node: Node) -> object:
        """What the environment gives is text; where a key takes no text it means what it would mean without quotes."""
        return resolve_scalar(node.value) if node.location in self._filled and isinstance(node.value, str) else node.value

    def _value(self, node: Node, key: ConfigKey) -> Any:
        given = node.value if key.kind in _TEXTUAL else self._given(node)
        if key.nullable and (given is None or (given == "" and node.location in self._filled)):
            return None
        if key.kind is ValueKind.CHOICE:
            if given not in key.choices:
                raise Unusable
            return given
        value = given if key.kind is ValueKind.OWN else _read(given, key.kind)
        if not key.allows(value):
            raise Unusable
        return value if key.setting.parse is None else key.setting.parse(value)

    def _refuse(self, node: Node, path: str, key: ConfigKey, hint: str) -> None:
        # Under `tuner:` nothing is quoted: a key is easily pasted one line too high.
        shown = self.kind_of(node) if path.rpartition(".")[0].endswith("tuner") else self.shown(node)
        hint = "" if node.location in self._filled else hint
        if key.kind in (ValueKind.TEXT, ValueKind.SECRET) and isinstance(node.value, bool | int | float):
            hint = "; put it in quotes"
        elif key.kind is ValueKind.CHOICE and isinstance(node.value, str):
            near = nearest(node.value, key.choices)
            hint = f"; did you mean `{near}`?" if near else ""
        elif key.kind in (ValueKind.INTEGER, ValueKind.NUMBER) and isinstance(node.value, str) and not node.plain:
            is_number = isinstance(resolve_scalar(node.value), int | float) and node.location not in self._filled
            hint = "; remove the quotes" if is_number else ""
        self.problem(node, path, f"`{key.name}` takes {key.takes()}, not {shown}{hint}")


@dataclass(slots=True)
class ConfigBlock:
    """A mapping of the file while it is read."""

    reader: ConfigReader
    at: Node | YamlLocation
    path: str
    values: dict[str, Any]
    """By field; only what is there and right."""
    nodes: dict[str, Node]
    """By key; all that is there."""

    def problem(self, key: str, message: str) -> None:
        """At the key's value, or at the block where the key is not there; an empty key means the block itself."""
        self.reader.problem(self.nodes.get(key, self.at), join(self.path, key) if key else self.path, message)

    def warn(self, key: str, message: str) -> None:
        self.reader.warn(self.nodes.get(key, self.at), join(self.path, key), message)

    def given(self, key: str) -> Node | None:
        """The node of a key that a form's own reader can look at: there, and its variables were filled in."""
        node = self.nodes.get(key)
        return None if node is None or self.reader.is_broken(node) else node


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


def meant(name: str, known: Iterable[str]) -> str:
    """For a name that is not there: the one that was probably meant, or those that there are."""
    names = list(known)
    near = nearest(name, names)
    return f"did you mean `{near}`?" if near else f"there are: {', '.join(names) or 'none'}"


def _no_name(name: str, known: tuple[str, ...]) -> str:
    """For text in a key's place, which may be a secret: it is not repeated."""
    begins = next((one for one in known if name.startswith(f"{one}:")), None)
    if begins is not None:
        return f"a blank is missing after `{begins}:`"
    return f"this is not a known key; known here: {', '.join(known)}"


def _unknown(name: str, known: tuple[str, ...], where: str) -> str:
    if near := nearest(name, known):
        return f"unknown key `{name}`; did you mean `{near}`?"
    elsewhere = [at for at, section in SECTIONS.items() if at not in (where, "tests") and name in keys_of(section.model)]
    if elsewhere:
        return f"`{name}` does not belong here but under `{elsewhere[0]}:`"
    if where and (name in SECTIONS or name in keys_of(TopLevel)):
        return f"`{name}` does not belong here but at the top of the file, without indentation"
    return f"unknown key `{name}`; known here: {', '.join(known)}"


def _read(given: object, kind: ValueKind) -> Any:
    """A value of one kind. Raises Unusable. `true` is a number to Python; never to a person."""
    number = isinstance(given, int | float) and not isinstance(given, bool)
    match kind:
        case ValueKind.TEXT if isinstance(given, str) and given.strip():
            return given
        case ValueKind.SECRET if isinstance(given, str) and given.strip():
            return Secret(given.strip())
        case ValueKind.INTEGER if number and isinstance(given, int):
            return given
        case ValueKind.NUMBER if number:
            return given
        case ValueKind.SWITCH if isinstance(given, bool):
            return given
        case ValueKind.DURATION:
            return parse_seconds(given)
        case ValueKind.SIZE:
            return _size(given)
        case ValueKind.TEXTS if isinstance(given, str) and given:
            return (given,)
        case ValueKind.TEXTS if isinstance(given, tuple) and all(isinstance(item.value, str) and item.value for item in given):
            return tuple(item.value for item in given)
    raise Unusable


def _size(given: object) -> int:
    try:
        if isinstance(given, str):
            return parse_size(given)
        if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
            return parse_size(f"{given:d}B")
    except ValueError:
        pass
    raise Unusable
