"""Locations in a YAML file, the nodes that the loader gives, and the problems that it finds. Pure.

Every message about the configuration starts with a YamlLocation, so that it can say file:line:column.
"""

from collections.abc import Iterable
from typing import TypeAlias

from tunerd.record import positional_record, record

Scalar: TypeAlias = None | bool | int | float | str


@positional_record
class YamlLocation:
    file: str
    line: int
    """From 1."""
    column: int
    """From 1."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@positional_record
class Node:
    """A YAML value that knows its location. `value` of a list is a tuple of Nodes, of a mapping a dict of Nodes."""

    value: "Scalar | tuple[Node, ...] | dict[str, Node]"
    location: YamlLocation
    plain: bool = False
    """A scalar without quotes."""
    flow: bool = False
    """A list or mapping in [ ] or { }: where an expression was misread, this is how it looks."""
    keys: "dict[str, YamlLocation] | None" = None
    """Of a mapping: the location of each key."""

    def bare(self) -> "Scalar | list[object] | dict[str, object]":
        """The value without locations."""
        if isinstance(self.value, tuple):
            return [item.bare() for item in self.value]
        if isinstance(self.value, dict):
            return {key: item.bare() for key, item in self.value.items()}
        return self.value


@record
class Problem:
    location: YamlLocation
    path: str
    """`sources[0].call.call_id`"""
    message: str
    """What is wrong, and what to write instead."""
    variable: str | None = None
    """All that is wrong is that this environment variable is not set here; for the service it may well be."""

    def __str__(self) -> str:
        return f"{self.location}: {self.path}: {self.message}" if self.path else f"{self.location}: {self.message}"


class ConfigError(Exception):
    """The configuration cannot be used; every problem found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.location.file, p.location.line, p.location.column)))
        super().__init__("\n".join(map(str, self.problems)))
