"""`tests:` -> Example models: documents with what the rules have to make of them. Running them is workbench/'s matter.

Expressions are parsed here, so that a wrong one is a problem with its place before anything runs.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson

from tunerd.config import Example, Source
from tunerd.config.source_settings import REFUSALS
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.loading.environment import substitute
from tunerd.loading.reading import ConfigReader, join, nearest
from tunerd.mapping import presets
from tunerd.mapping.expressions import ExpressionError, compile_item
from tunerd.outcome import FailReason
from tunerd.places import ConfigError, Node, Place, Problem

RECORDING_FIELDS: Final = ("key", "id", "url", "started_at", "duration_ms", "expires_at")
Examples: TypeAlias = tuple[Example, ...]
_EXPECTS: Final = ("expect", "expect_recording", "expect_keys", "expect_failed", "expect_ignored")


def read_examples(reader: ConfigReader, node: Node | None, path: str, base: str, sources: Iterable[Source]) -> Examples:
    """The examples that could be read; what is wrong with the others is noted. `base`: where relative files start."""
    if node is None or node.value is None:
        return ()
    if not isinstance(node.value, tuple):
        reader.problem(node, path, f"takes a list (lines that start with `- `), not {reader.kind_of(node)}")
        return ()
    by_name = {source.name: source for source in sources}
    found: list[Example] = []
    names: dict[str, int] = {}
    for at, item in enumerate(node.value):
        below = f"{path}[{at}]"
        if not isinstance(item.value, dict):
            reader.problem(item, below, f"takes a mapping, not {reader.kind_of(item)}")
            continue
        before = len(reader.problems)
        example = _read(reader, item, below, base, by_name)
        if example is None or len(reader.problems) > before:
            continue
        if example.name in names:
            what = f"another example has this name (line {names[example.name]}); each needs its own"
            reader.problem(item, join(below, "name"), what)
        names.setdefault(example.name, item.place.line)
        found.append(example)
    return tuple(found)


def read_examples_file(path: Path, sources: Iterable[Source]) -> Examples:
    """The examples of a file of their own: a list, or a mapping with `tests:`. Raises ConfigError with every problem."""
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as exc:
        why = "there is no such file" if isinstance(exc, FileNotFoundError) else getattr(exc, "strerror", None) or "is not UTF-8"
        raise ConfigError([Problem(place=Place(str(path), 1, 1), path="", message=why)]) from None
    root = parse_yaml(text, str(path))
    reader = ConfigReader(substitute(root, {}, lambda _: True))
    node: Node | None = root
    if isinstance(root.value, dict):
        node = reader.members(root, "", ("tests",)).get("tests")
    examples = read_examples(reader, node, "tests", os.path.dirname(os.path.abspath(path)), sources)
    if reader.problems:
        raise ConfigError(reader.problems)
    return examples


def _read(reader: ConfigReader, node: Node, path: str, base: str, sources: Mapping[str, Source]) -> Example | None:
    values, nodes = reader.section(node, path, Example)
    if "name" not in nodes:
        reader.problem(node, path, "`name:` is missing: what the example shows, in a few words")
    if ("input" in nodes) == ("input_file" in nodes):
        which = "both" if "input" in nodes else "neither"
        reader.problem(node, path, f"an example has either `input:` or `input_file:`; this one has {which}")
    if "input" in nodes:
        values["input"] = _input(reader, nodes["input"], join(path, "input"))
    if "input_file" in values:
        values["input_file"] = os.path.abspath(os.path.join(base, values["input_file"]))
    if "file" in values and (values["file"].startswith("/") or ".." in values["file"].split("/")):
        reader.problem(
            nodes["file"], join(path, "file"), "is relative to the source's `path:`, without a leading / and without .."
        )
    given = [name for name in _EXPECTS if name in nodes]
    if not given:
        reader.problem(
            node, path, "expects nothing: write `expect:` with {expression: value}, or one of " + ", ".join(_EXPECTS[1:])
        )
    for name in ("expect_failed", "expect_ignored"):
        if name in given and len(given) > 1:
            other = next(one for one in given if one != name)
            reader.problem(nodes[name], join(path, name), f"does not go with `{other}`: then there is nothing to look at")
    if nodes.get("expect_ignored") is not None and nodes["expect_ignored"].value is False:
        reader.problem(nodes["expect_ignored"], join(path, "expect_ignored"), "is true or left out")
    for name in ("expect", "expect_recording"):
        if name in nodes:
            values[name] = _expressions(reader, nodes[name], join(path, name))
    if "expect_keys" in nodes:
        values["expect_keys"] = _members(reader, nodes["expect_keys"], join(path, "expect_keys"), "{manifest source: key}")
        for name in values["expect_keys"]:
            if name not in sources:
                _no_source(reader, nodes["expect_keys"], join(path, f"expect_keys.{name}"), name, sources)
    if "expect_failed" in nodes:
        values["expect_failed"] = _reason(reader, nodes["expect_failed"], join(path, "expect_failed"))
    values["source"] = _source(reader, node, nodes.get("source"), values, path, sources)
    values["place"] = node.place
    if values["source"] is None or "name" not in values:
        return None
    return Example(**values)


def _input(reader: ConfigReader, node: Node, path: str) -> Node:
    """Text is the JSON of a document."""
    if isinstance(node.value, str):
        try:
            orjson.loads(node.value)
        except orjson.JSONDecodeError:
            reader.problem(node, path, "takes a document (YAML, or JSON as text); this text is no JSON. A file: `input_file:`")
    elif not isinstance(node.value, dict | tuple):
        reader.problem(node, path, f"takes a document: a mapping (or a list of them), not {reader.kind_of(node)}")
    return node


def _members(reader: ConfigReader, node: Node, path: str, want: str) -> dict[str, Node]:
    if isinstance(node.value, dict) and node.value:
        return node.value
    reader.problem(node, path, f"takes {want}, not {'an empty mapping' if node.value == {} else reader.kind_of(node)}")
    return {}


def _expressions(reader: ConfigReader, node: Node, path: str) -> dict[str, Node]:
    members = _members(reader, node, path, "{expression: value}")
    for text in members:
        try:
            compile_item(text)
        except ExpressionError as error:
            place = (node.keys or {}).get(text, node.place)
            reader.problem(place, path, f"`{text}` is no expression: {error.what}")
    return members


def _reason(reader: ConfigReader, node: Node, path: str) -> FailReason | None:
    known = [reason.value for reason in REFUSALS]
    if node.value in known:
        return FailReason(str(node.value))
    near = nearest(node.value, known) if isinstance(node.value, str) else None
    hint = f"; did you mean `{near}`?" if near else ""
    reader.problem(node, path, f"takes one of {', '.join(known)}, not {reader.shown(node)}{hint}")
    return None


def _source(
    reader: ConfigReader, node: Node, given: Node | None, values: Mapping[str, Any], path: str, sources: Mapping[str, Source]
) -> str | None:
    if given is not None:
        name = values.get("source")
        if name is not None and name not in sources:
            _no_source(reader, given, join(path, "source"), name, sources)
        return name
    manifest = "expect_recording" in values
    fits = [name for name, source in sources.items() if (_brings_recordings(source) if manifest else bool(source.destination))]
    if len(fits) == 1:
        return fits[0]
    if sources:  # without any, something else is wrong and told
        reader.problem(node, path, f"`source:` is missing: one of {', '.join(fits or sources)}")
    return None


def _brings_recordings(source: Source) -> bool:
    return presets.effective(source).manifest is not None


def _no_source(reader: ConfigReader, at: Node, path: str, name: str, sources: Collection[str]) -> None:
    near = nearest(name, sources)
    reader.problem(
        at, path, f"there is no source `{name}`; " + (f"did you mean `{near}`?" if near else f"there is {', '.join(sources)}")
    )
