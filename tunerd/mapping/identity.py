"""Values that tell one call, recording or document from another: a number that lost digits on the way is refused. Pure.

JSON numbers beyond 64 bits, and all with a point or an exponent, are read as floats. From 2^53 on these no longer tell whole
numbers apart, and a fraction may have had more digits than a float keeps: two ids would become one. Both are refused wherever
they would become an identity, or part of a text that does (compile: RuleCompiler.identity).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tunerd.mapping.functions import UNKNOWN, Code, Function, Run
from tunerd.mapping.grammar import GrammarError, Tree, parse
from tunerd.mapping.values import exact, lost_digits
from tunerd.yaml_location import Node


def exactly(run: Run) -> Run:
    """The rule of an identity."""
    return lambda scope: exact(run(scope))


def exact_arguments(function: Function, codes: Sequence[Code]) -> list[Code]:
    """The arguments of a call whose value is part of an identity. Numbers may be fractions where they stay numbers, as times
    do; where they become text, or are looked up, they may not."""
    return [
        code if code.value is not UNKNOWN else Code(_guarded(function, code.run)) for code in codes
    ]  # fmt: skip


def _guarded(function: Function, run: Run) -> Run:
    name = function.name
    if function.name == "to_string":
        return lambda scope: _exact_inside(run(scope), name)
    if function.texts:
        return lambda scope: exact(run(scope), name)

    def guarded(scope: Any) -> Any:
        value = run(scope)
        return exact(value, name) if lost_digits(value) else value

    return guarded


def _exact_inside(value: Any, function: str) -> Any:
    if value.__class__ is list:
        return [_exact_inside(item, function) for item in value]
    if value.__class__ is dict:
        return {name: _exact_inside(item, function) for name, item in value.items()}
    return exact(value, function)


# Which names a rule reads: a `let` that an identity reads is part of it.


def names_read(nodes: Iterable[Node | None]) -> frozenset[str]:
    """The names that these rules read. Rules that don't compile read none; their problem is reported when they are compiled."""
    found: set[str] = set()
    for node in nodes:
        if node is not None:
            _read_by(node, found)
    return frozenset(found)


def lets_of_identities(lets: Mapping[str, Node], nodes: Iterable[Node | None]) -> frozenset[str]:
    """The names of `lets` that the rules of identities read, directly or by others."""
    found: set[str] = set()
    wanted = set(names_read(nodes))
    while new := (wanted & lets.keys()) - found:
        found |= new
        wanted = set(names_read([lets[name] for name in new]))
    return frozenset(found)


def _read_by(node: Node, found: set[str]) -> None:
    if isinstance(node.value, str):
        try:
            _roots(parse(node.value), found)
        except (GrammarError, RecursionError):
            return
    elif isinstance(node.value, tuple):
        for item in node.value:
            _read_by(item, found)
    elif isinstance(node.value, dict) and "const" not in node.value:
        for item in node.value.values():
            _read_by(item, found)


_ITEMS_BEHIND: Final = frozenset(
    {"subexpression", "index_expression", "pipe", "projection", "value_projection", "filter_projection", "flatten"}
)
"""Only the first child sees names, the others see the current item."""


def _roots(tree: Tree, found: set[str]) -> None:
    if tree["type"] == "field":
        found.add(tree["value"])
        return
    children = tree["children"]
    for child in children[:1] if tree["type"] in _ITEMS_BEHIND else children:
        if isinstance(child, dict) and child["type"] != "expref":
            _roots(child, found)
