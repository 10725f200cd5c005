"""How a key of the configuration is declared, once, in the annotation of its field, and what is read off that declaration. Pure.

`drain_s: Annotated[Seconds, Setting("How long a stop may take.")] = 20.0` declares the key `drain`: name, kind of value, bounds,
default and description. The reader (loading/), the JSON Schema and the printer use it. The declarations are in models.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from tunerd.config.quantities import DURATION_FORM, DURATION_PATTERN, SIZE_FORM, SIZE_PATTERN, duration_text, size_text
from tunerd.config.secret import Secret
from tunerd.record import positional_record, record
from tunerd.yaml_location import Node

Schema: TypeAlias = dict[str, Any]

DAY_S: Final = 86_400.0
MIB: Final = 1024 * 1024

TEXT: Final[Schema] = {"type": "string", "minLength": 1}
NULL: Final[Schema] = {"type": "null"}
VARIABLE: Final[Schema] = {"type": "string", "pattern": r"\$\{", "description": "${NAME} or ${NAME:-default}"}
DURATION: Final = ({"type": "string", "pattern": DURATION_PATTERN}, {"type": "number", "minimum": 0}, VARIABLE)
SIZE: Final = ({"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 0}, VARIABLE)


def any_of(*schemas: Schema) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}


class ValueKind(StrEnum):
    """How a value is written."""

    TEXT = "text"
    SECRET = "secret"  # noqa: S105
    INTEGER = "integer"
    NUMBER = "number"
    SWITCH = "switch"
    CHOICE = "choice"
    DURATION = "duration"
    SIZE = "size"
    TEXTS = "texts"
    """A list of texts, or one text."""
    RULE = "rule"
    """Belongs to mapping/: handed on as a Node, `${NAME}` untouched."""
    OWN = "own"
    """A form of its own: its Setting has its schema, and parses it or leaves it to a reader in loading/."""


Seconds: TypeAlias = Annotated[float, ValueKind.DURATION]
"""In YAML `30s`, `10m`, `1h`, `7d` or a number of seconds."""
Bytes: TypeAlias = Annotated[int, ValueKind.SIZE]
"""In YAML `4MiB`, `1GiB`, `500kB` or a number of bytes."""


@positional_record
class Setting:
    """What a field's annotation says about its key. A field may have several, where several keys make one value."""

    about: str
    """One or two sentences: the description in the JSON Schema."""
    name: str = ""
    """As it is written, where it is not the field's name without its unit."""
    low: float | None = None
    above: float | None = None
    """The value must be greater than this."""
    high: float | None = None
    default: str = ""
    """As it would be written, where the field's own default does not say it."""
    schema: Schema | None = None
    """The JSON Schema of the value, where the kind does not say it."""
    parse: Callable[[Any], Any] | None = None
    """Makes the value of the field from one of the right kind, or from whatever is written where that is OWN (text_forms.py)."""
    takes: str = ""
    """What the key takes, in words, where the kind does not say it."""


@record
class ConfigKey:
    """A key with everything that its declaration says."""

    name: str
    field: str
    kind: ValueKind
    setting: Setting
    choices: tuple[str, ...]
    nullable: bool
    default: Any
    """Of the field; None also where there is none."""

    def takes(self) -> str:
        """What the key takes, in plain words: `a whole number from 1 to 1000`."""
        if self.setting.takes:
            return self.setting.takes
        if self.kind is ValueKind.CHOICE:
            return f"one of {', '.join(self.choices)}"
        return _WORDS[self.kind] + self._range()

    def allows(self, value: object) -> bool:
        """Whether a value of the right kind is within the bounds."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return True
        low, above, high = self.setting.low, self.setting.above, self.setting.high
        return (low is None or value >= low) and (above is None or value > above) and (high is None or value <= high)

    def written_default(self) -> object:
        """The default as it would be written; None where there is none."""
        if self.setting.default:
            return self.setting.default
        default = self.default if self.kind is not ValueKind.OWN or isinstance(self.default, str) else None
        return None if default == "" else self.written(default)

    def written(self, value: Any) -> object:
        """A value of the field as one would write it in YAML: `30s`, `4MiB`, a list."""
        if value is not None and self.kind is ValueKind.DURATION:
            return duration_text(value)
        if value is not None and self.kind is ValueKind.SIZE:
            return size_text(value)
        return list(value) if isinstance(value, tuple) else value

    def schema(self) -> Schema:
        """The JSON Schema of the key: its value as it may be written, its description and its default."""
        shape = self.setting.schema or self._shape()
        default = self.written_default()
        return {"description": self.setting.about, **shape, **({} if default is None else {"default": default})}

    def _shape(self) -> Schema:
        null = (NULL,) if self.nullable else ()
        match self.kind:
            case ValueKind.INTEGER | ValueKind.NUMBER:
                limits = {"minimum": self.setting.low, "exclusiveMinimum": self.setting.above, "maximum": self.setting.high}
                stated = {name: value for name, value in limits.items() if value is not None}
                return any_of({"type": self.kind.value, **stated}, VARIABLE, *null)
            case ValueKind.SWITCH:
                return any_of({"type": "boolean"}, VARIABLE, *null)
            case ValueKind.CHOICE:
                return any_of({"enum": list(self.choices)}, VARIABLE, *null)
            case ValueKind.DURATION:
                return any_of(*DURATION, *null)
            case ValueKind.SIZE:
                return any_of(*SIZE, *null)
            case ValueKind.TEXTS:
                return any_of(TEXT, {"type": "array", "items": TEXT}, *null)
            case ValueKind.TEXT | ValueKind.SECRET:
                return any_of(TEXT, *null)
            case ValueKind.RULE | ValueKind.OWN:
                return {"$ref": "#/$defs/rule"}

    def _range(self) -> str:
        low, above, high = self.setting.low, self.setting.above, self.setting.high
        if low is not None and high is not None:
            return f" from {self._text(low)} to {self._text(high)}"
        if above is not None:
            return f" greater than {self._text(above)}" if above else " greater than 0"
        return f", at least {self._text(low)}" if low else ""

    def _text(self, value: float) -> str:
        return str(self.written(int(value) if value == int(value) else value))


_WORDS: Final = {
    ValueKind.TEXT: "text",
    ValueKind.SECRET: "text",
    ValueKind.INTEGER: "a whole number",
    ValueKind.NUMBER: "a number",
    ValueKind.SWITCH: "true or false",
    ValueKind.DURATION: DURATION_FORM,
    ValueKind.SIZE: SIZE_FORM,
    ValueKind.TEXTS: "a list of texts, or one text",
    ValueKind.RULE: "a rule",
    ValueKind.OWN: "another form",
}
_KINDS: Final[Mapping[Any, ValueKind]] = {
    bool: ValueKind.SWITCH,
    int: ValueKind.INTEGER,
    float: ValueKind.NUMBER,
    str: ValueKind.TEXT,
    Secret: ValueKind.SECRET,
    tuple[str, ...]: ValueKind.TEXTS,
    Node: ValueKind.RULE,
}
_UNITS: Final = {ValueKind.DURATION: "_s", ValueKind.SIZE: "_bytes"}


@lru_cache(maxsize=32)
def keys_of(model: type) -> Mapping[str, ConfigKey]:
    """The keys that a model declares, by name, in the order of their declaration."""
    hints = get_type_hints(model, include_extras=True)
    found: dict[str, ConfigKey] = {}
    for field in fields(model):
        parts = _Parts(hints[field.name])
        for setting in parts.settings:
            kind = ValueKind.OWN if len(parts.settings) > 1 else parts.kind
            name = setting.name or field.name.removesuffix(_UNITS.get(kind, ""))
            found[name] = ConfigKey(
                name=name,
                field=field.name,
                kind=kind,
                setting=setting,
                choices=parts.choices,
                nullable=parts.nullable,
                default=None if field.default is MISSING else field.default,
            )
    return found


def rule_keys(model: type) -> frozenset[str]:
    """The keys of a model whose values are rules."""
    return frozenset(name for name, key in keys_of(model).items() if key.kind is ValueKind.RULE)


class _Parts:
    """An annotation taken apart."""

    def __init__(self, annotation: Any) -> None:
        self.settings: list[Setting] = []
        self.choices: tuple[str, ...] = ()
        self.nullable = False
        self.kind = ValueKind.OWN
        self._take(annotation)

    def _take(self, annotation: Any) -> None:
        marked: ValueKind | None = None
        if get_origin(annotation) is Annotated:
            annotation, *metadata = get_args(annotation)
            self.settings = [item for item in metadata if isinstance(item, Setting)] or self.settings
            marked = next((item for item in metadata if isinstance(item, ValueKind)), None)
        if get_origin(annotation) in (Union, UnionType):
            members = [part for part in get_args(annotation) if part is not NoneType]
            self.nullable = len(members) < len(get_args(annotation))
            if len(members) == 1:
                self._take(members[0])
        elif get_origin(annotation) is Literal:
            self.kind, self.choices = ValueKind.CHOICE, get_args(annotation)
        else:
            self.kind = _KINDS.get(annotation, ValueKind.OWN)
        self.kind = marked or self.kind
