"""`${NAME}` and `${NAME:-default}` in the values of a configuration, filled in after YAML was parsed. Pure.

Because it happens after parsing, no content of a variable can change the structure of the file. Rules are left alone:
they use `env.NAME`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from tunerd.yaml_location import Node, Problem, YamlLocation

PathStep: TypeAlias = str | int
Skip: TypeAlias = Callable[[tuple[PathStep, ...]], bool]
"""Whether the value at this path (and all below it) is left alone."""

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_INSIDE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


@dataclass(slots=True)
class Substituted:
    root: Node
    filled: set[YamlLocation] = field(default_factory=set)
    """Values that came (partly) from the environment: no message quotes them, and a number may be given as text."""
    broken: set[YamlLocation] = field(default_factory=set)
    """Values that could not be filled in: their problem is noted already."""
    problems: list[Problem] = field(default_factory=list)


def substitute(root: Node, environ: Mapping[str, str], skip: Skip) -> Substituted:
    """The tree with every reference filled in. Keys are never touched."""
    done = Substituted(root)
    done.root = _walk(root, (), environ, skip, done)
    return done


def path_text(path: tuple[PathStep, ...]) -> str:
    """`sources[0].path`."""
    if "api_key" in path:  # below it would be parts of a key that YAML took for a mapping
        path = path[: path.index("api_key") + 1]
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _walk(node: Node, path: tuple[PathStep, ...], environ: Mapping[str, str], skip: Skip, done: Substituted) -> Node:
    if skip(path):
        return node
    if isinstance(node.value, dict):
        members = {key: _walk(child, (*path, key), environ, skip, done) for key, child in node.value.items()}
        return replace(node, value=members)
    if isinstance(node.value, tuple):
        return replace(node, value=tuple(_walk(child, (*path, at), environ, skip, done) for at, child in enumerate(node.value)))
    if isinstance(node.value, str) and "${" in node.value:
        return _fill(node, node.value, path, environ, done)
    return node


def _fill(node: Node, text: str, path: tuple[PathStep, ...], environ: Mapping[str, str], done: Substituted) -> Node:
    def problem(message: str, variable: str | None = None) -> str:
        done.broken.add(node.location)
        done.problems.append(Problem(location=node.location, path=path_text(path), message=message, variable=variable))
        return ""

    def one(found: "re.Match[str]") -> str:
        if found.group() == "$${":
            return "${"
        inside = _INSIDE.fullmatch(found[1] or "")
        if inside is None:
            return problem("`${` starts a variable: write ${NAME} or ${NAME:-default}, and $${ for the characters themselves")
        name, default = inside[1], inside[2]
        value = environ.get(name)
        if default is not None and not value:
            value = default
        if value is None:
            # In other letters it may be a secret that somebody took for the name of a variable: the place has to do.
            named, again = (name, name) if name.isupper() else ("that is named here", "NAME")
            unset = f"the environment variable {named} is not set; set it, or give a default: ${{{again}:-default}}"
            return problem(unset, variable=name)
        done.filled.add(node.location)
        if any(char in value for char in "\0\n\r"):
            value = value.rstrip("\r\n")
            if any(char in value for char in "\0\n\r"):
                return problem(f"the environment variable {name} holds a line break or NUL; one line of text is wanted")
        return value

    return replace(node, value=_REFERENCE.sub(one, text), plain=False)
