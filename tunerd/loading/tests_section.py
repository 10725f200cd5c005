"""`tests:` -> Example models: documents with what the rules have to make of them. Running them is workbench/'s matter.

Expressions are parsed here, so that a wrong one is a problem with its place before anything runs.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import orjson

from tunerd.config import Example, Source
from tunerd.config.source_settings import REFUSALS
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.loading.environment import substitute
from tunerd.loading.reading import ConfigBlock, ConfigReader, join, meant, nearest
from tunerd.mapping import manifest_sources
from tunerd.mapping.expressions import ExpressionError, compile_item
from tunerd.outcome import FailReason
from tunerd.yaml_location import ConfigError, Node, Problem, YamlLocation

RECORDING_FIELDS: Final = ("key", "id", "url", "started_at", "duration_ms", "expires_at")
Examples: TypeAlias = tuple[Example, ...]
_EXPECTS: Final = ("expect", "expect_recording", "expect_keys", "expect_failed", "expect_ignored")


def read_examples(reader: ConfigReader, node: Node | None, sources: Iterable[Source]) -> Examples:
    """The examples that could be read; what is wrong with the others is noted."""
    if node is None or node.value is None:
        return ()
    if not isinstance(node.value, tuple):
        reader.problem(node, "tests", f"takes a list (lines that start with `- `), not {reader.kind_of(node)}")
        return ()
    by_name = {source.name: source for source in sources}
    found: dict[str, Example] = {}
    for at, item in enumerate(node.value):
        if not isinstance(item.value, dict):
            reader.problem(item, f"tests[{at}]", f"takes a mapping, not {reader.kind_of(item)}")
            continue
        before = len(reader.problems)
        block = reader.section(item, f"tests[{at}]", Example)
        example = _read(block, item.location, by_name)
        if example is None or len(reader.problems) > before:
            continue
        if example.name in found:
            line = found[example.name].location.line
            reader.problem(item, join(block.path, "name"), f"another example has this name (line {line}); each needs its own")
        found.setdefault(example.name, example)
    return tuple(found.values())


def read_examples_file(path: Path, sources: Iterable[Source]) -> Examples:
    """The examples of a file of their own: a list, or a mapping with `tests:`. Raises ConfigError with every problem."""
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as exc:
        why = "there is no such file" if isinstance(exc, FileNotFoundError) else getattr(exc, "strerror", None) or "is not UTF-8"
        raise ConfigError([Problem(location=YamlLocation(str(path), 1, 1), path="", message=why)]) from None
    root = parse_yaml(text, str(path))
    reader = ConfigReader(substitute(root, {}, lambda _: True), os.path.dirname(os.path.abspath(path)))
    node: Node | None = root
    if isinstance(root.value, dict):
        node = reader.members(root, "", ("tests",)).get("tests")
    examples = read_examples(reader, node, sources)
    if reader.problems:
        raise ConfigError(reader.problems)
    return examples


def _read(block: ConfigBlock, location: YamlLocation, sources: Mapping[str, Source]) -> Example | None:
    values, nodes = block.values, block.nodes
    if "name" not in nodes:
        block.problem("", "`name:` is missing: what the example shows, in a few words")
    if ("input" in nodes) == ("input_file" in nodes):
        which = "both" if "input" in nodes else "neither"
        block.problem("", f"an example has either `input:` or `input_file:`; this one has {which}")
    if "input" in nodes:
        values["input"] = _input(block, nodes["input"])
    if "input_file" in values:
        values["input_file"] = block.reader.absolute(values["input_file"])
    given = [name for name in _EXPECTS if name in nodes]
    if not given:
        block.problem("", "expects nothing: write `expect:` with {expression: value}, or one of " + ", ".join(_EXPECTS[1:]))
    for name in ("expect_failed", "expect_ignored"):
        if name in given and len(given) > 1:
            other = next(one for one in given if one != name)
            block.problem(name, f"does not go with `{other}`: then there is nothing to look at")
    if values.get("expect_ignored") is False:
        block.problem("expect_ignored", "is true or left out")
    for name in ("expect", "expect_recording"):
        if name in nodes:
            values[name] = _expressions(block, name)
    if "expect_keys" in nodes:
        values["expect_keys"] = _members(block, "expect_keys", "{manifest source: key}")
        for name in values["expect_keys"]:
            if name not in sources:
                block.reader.problem(
                    nodes["expect_keys"],
                    join(block.path, f"expect_keys.{name}"),
                    f"there is no source `{name}`; {meant(name, sources)}",
                )
    if "expect_failed" in nodes:
        values["expect_failed"] = _reason(block, nodes["expect_failed"])
    source = _source(block, sources)
    return None if source is None or "name" not in values else Example(**{**values, "source": source, "location": location})


def _input(block: ConfigBlock, node: Node) -> Node:
    """Text is the JSON of a document."""
    if isinstance(node.value, str):
        try:
            orjson.loads(node.value)
        except orjson.JSONDecodeError:
            block.problem("input", "takes a document (YAML, or JSON as text); this text is no JSON. A file: `input_file:`")
    elif not isinstance(node.value, dict | tuple):
        block.problem("input", f"takes a document: a mapping (or a list of them), not {block.reader.kind_of(node)}")
    return node


def _members(block: ConfigBlock, key: str, want: str) -> dict[str, Node]:
    node = block.nodes[key]
    if isinstance(node.value, dict) and node.value:
        return node.value
    block.problem(key, f"takes {want}, not {'an empty mapping' if node.value == {} else block.reader.kind_of(node)}")
    return {}


def _expressions(block: ConfigBlock, key: str) -> dict[str, Node]:
    members = _members(block, key, "{expression: value}")
    for text in members:
        try:
            compile_item(text)
        except ExpressionError as error:
            node = block.nodes[key]
            location = (node.keys or {}).get(text, node.location)
            block.reader.problem(location, join(block.path, key), f"`{text}` is no expression: {error.what}")
    return members


def _reason(block: ConfigBlock, node: Node) -> FailReason | None:
    known = [reason.value for reason in REFUSALS]
    if node.value in known:
        return FailReason(str(node.value))
    near = nearest(node.value, known) if isinstance(node.value, str) else None
    hint = f"; did you mean `{near}`?" if near else ""
    block.problem("expect_failed", f"takes one of {', '.join(known)}, not {block.reader.shown(node)}{hint}")
    return None


def _source(block: ConfigBlock, sources: Mapping[str, Source]) -> str | None:
    """The source that an example names, or the only one that it can mean."""
    if "source" in block.nodes:
        name = block.values.get("source")
        if name is not None and name not in sources:
            block.problem("source", f"there is no source `{name}`; {meant(name, sources)}")
        return name
    if "expect_recording" in block.values:
        fits = list(manifest_sources(sources.values()))
    else:
        fits = [name for name, source in sources.items() if source.destination]
    if len(fits) == 1:
        return fits[0]
    if sources:  # without any, something else is wrong and has been noted
        block.problem("", f"`source:` is missing: one of {', '.join(fits or sources)}")
    return None
