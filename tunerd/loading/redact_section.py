"""`redact:` at the top and in a source: what is taken out of calls before anything of them is stored or sent. Pure.

The detectors, the paths and the patterns themselves belong to mapping/; here they are checked, each with its place.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tunerd.config import Redact
from tunerd.loading.reading import ConfigReader, join, meant
from tunerd.mapping.detectors import DETECTORS
from tunerd.mapping.fieldpaths import field_path
from tunerd.mapping.patterns import BadPattern, compile_redaction
from tunerd.yaml_location import Node

_RULE_NAME: Final = re.compile(r"[a-z][a-z_-]{0,30}", re.ASCII)
_TAKEN: Final = frozenset({*DETECTORS, "field", "redacted"})


def read_redact(reader: ConfigReader, node: Node | None, path: str) -> dict[str, Any] | None:
    """The members of one `redact:` as they were given, those that are wrong left out with a problem noted; None where
    there is none, or it is null (off)."""
    if node is None or node.value is None:
        return None
    block = reader.section(node, path, Redact)
    values, nodes = block.values, block.nodes
    for name, wrong in (("detect", _unknown_detector), ("fields", _bad_path)):
        if name in nodes and values.get(name) is not None:
            values[name] = _each(reader, nodes[name], join(path, name), values[name], wrong)
    if "patterns" in nodes:
        values["patterns"] = _patterns(reader, nodes["patterns"], join(path, "patterns"))
    return values


def redact_of(reader: ConfigReader, own: Node | None, path: str, top: Mapping[str, Any] | None) -> Redact | None:
    """What holds for one source: its own `redact:`, keys that it leaves out taken from the top; null there is off."""
    if own is None:
        return None if top is None else Redact(**top)
    values = read_redact(reader, own, path)
    return None if values is None else Redact(**{**(top or {}), **values})


def _each(
    reader: ConfigReader, node: Node, path: str, texts: Sequence[str], wrong: Callable[[str], str | None]
) -> tuple[str, ...]:
    """Tell what is wrong with each text of a list, and give those that are right."""
    items = node.value if isinstance(node.value, tuple) else (node,)
    for at, item in enumerate(items):
        message = wrong(str(item.value))
        if message is not None:
            reader.problem(item, f"{path}[{at}]" if isinstance(node.value, tuple) else path, message)
    return tuple(text for text in texts if wrong(text) is None)


def _unknown_detector(name: str) -> str | None:
    return None if name in DETECTORS else f"there is no detector `{name}`; {meant(name, sorted(DETECTORS))}"


def _bad_path(text: str) -> str | None:
    try:
        field_path(text)
    except ValueError as exc:
        return str(exc)
    return None


def _patterns(reader: ConfigReader, node: Node, path: str) -> dict[str, str]:
    if node.value is None:
        return {}
    if not isinstance(node.value, dict):
        reader.problem(node, path, f"takes a mapping of `name: 'regular expression'`, not {reader.kind_of(node)}")
        return {}
    found: dict[str, str] = {}
    for name, child in node.value.items():
        at = join(path, name)
        if not _RULE_NAME.fullmatch(name) or name in _TAKEN:
            why = "has a meaning already" if name in _TAKEN else "only small letters, - and _, because texts will show [name]"
            reader.problem((node.keys or {}).get(name, child.location), at, f"the name `{name}` can't be used: {why}")
        text = reader.text(child, at, "a regular expression in single quotes")
        if text is not None:
            try:
                compile_redaction(text)
            except BadPattern as exc:
                reader.problem(child, at, str(exc))
            else:
                found[name] = text
    return found
