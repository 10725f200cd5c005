"""YAML text -> Node: every value with its location, read as a person means it.

Only the language YAML lives here: 1.2 core scalars, no duplicate keys, no tags, bounded aliases, one clear line for what
does not parse. loading/ and mapping/ know what the keys mean. No input or output.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import yaml

from tunerd.yaml_location import ConfigError, Node, Problem, Scalar, YamlLocation

MAX_DEPTH: Final = 100
"""Deeper nesting is refused, so that nothing that walks a configuration needs to fear for its stack."""
MAX_NODES: Final = 100_000
"""Values in one file, each alias counted as often as it is used (a few lines of aliases can stand for billions)."""

# libyaml's scanner where it was built in, else the slower one in Python; both give marks.
_LOADER: Final = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTHS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# A leading zero makes it text (0123 is an extension or a postcode, never 83); so do 1:30, 1_000 and dates.
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})|0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_END: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_QUOTE_IT: Final = "if this is one value (an expression, an API key), put all of it in quotes"
"""No message repeats the value: an API key that begins with one of YAML's signs looks just like this."""


def parse_yaml(text: str, file: str) -> Node:
    """The root Node of one YAML document. `file` only names it in locations.

    Raises ConfigError: at once for what cannot be parsed (YAML stops at the first fault), else with every
    duplicate key, tag and misplaced alias of the file.
    """
    text = text.removeprefix("\ufeff")
    if bad := _UNPRINTABLE.search(text):
        raise ConfigError([Problem(location=_location_of(text, bad.start(), file), path="", message=_unprintable(bad.group()))])
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as exc:
        problems = [*builder.problems, _syntax_problem(exc, text, file)]
        raise ConfigError(problems) from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        # What the scanner of a given libyaml refuses without a mark; the text was checked above, so this is rare.
        raise ConfigError([Problem(location=YamlLocation(file, 1, 1), path="", message="this is not YAML")]) from exc
    return builder.finish()


def resolve_scalar(text: str) -> Scalar:
    """What a plain scalar means by YAML 1.2's core schema (with the leading-zero rule above)."""
    if text in _NULLS:
        return None
    if text in _TRUTHS:
        return _TRUTHS[text]
    if _INT.fullmatch(text):
        whole = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        return whole if -(2**63) <= whole < 2**63 else text
    if text.lstrip("+-").isdecimal():
        return text  # More digits than JSON numbers keep: an id, not a quantity.
    if _FLOAT.fullmatch(text) and len(text) <= 64:
        number = float(text)
        return number if abs(number) != float("inf") else text
    return text


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    location: YamlLocation
    flow: bool
    anchor: str | None
    mapping: bool
    items: list[Node] = field(default_factory=list)
    values: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, YamlLocation] = field(default_factory=dict)
    key: tuple[str, YamlLocation] | None = None
    """The key whose value comes next."""
    merging: bool = False
    """That key is a plain `<<`."""
    merged: list[Node] = field(default_factory=list)
    """What `<<:` brings in; the mapping's own keys win."""
    weight: int = 1


class _Builder:
    """Puts the parser's events together without recursion; a fault is noted and the rest of the file still read."""

    def __init__(self, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._root: Node | None = None
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._documents = 0
        self._nodes = 0

    def finish(self) -> Node:
        if self.problems:
            raise ConfigError(self.problems)
        if self._root is None:
            raise ConfigError(
                [Problem(location=YamlLocation(self._file, 1, 1), path="", message="the file is empty; see config.example.yaml")]
            )
        return self._root

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        location = YamlLocation(self._file, 1, 1) if mark is None else YamlLocation(self._file, mark.line + 1, mark.column + 1)
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents == 2:
                    self._fatal(location, "a second document starts here; the configuration is one: remove the `---`")
            case yaml.ScalarEvent():
                self._scalar(event, location)
            case yaml.AliasEvent():
                self._alias(event.anchor, location)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._refuse_tag(event.tag, location)
                if len(self._open) >= MAX_DEPTH:
                    self._fatal(location, f"nested deeper than {MAX_DEPTH} levels")
                mapping = isinstance(event, yaml.MappingStartEvent)
                self._open.append(_Open(location, bool(event.flow_style), event.anchor, mapping))
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                done = self._open.pop()
                value = self._mapping_of(done) if done.mapping else tuple(done.items)
                node = Node(value, done.location, flow=done.flow, keys=done.keys if done.mapping else None)
                self._put(node, done.weight, done.anchor)

    def _scalar(self, event: yaml.ScalarEvent, location: YamlLocation) -> None:
        self._refuse_tag(event.tag, location)
        if event.value == "" and event.anchor is not None:
            self._problem(
                location, f"YAML reads `&` and what follows as the name of an anchor, and there is no value; {_QUOTE_IT}"
            )
        plain = not event.style
        text: str = event.value
        if bad := _UNPRINTABLE.search(text):  # Escapes in double quotes can write what the file itself may not hold.
            self._problem(location, _unprintable(bad.group()))
            text = ""
        frame = self._open[-1] if self._open else None
        if frame is not None and frame.mapping and frame.key is None:
            frame.key = (text, location)  # A key is its text as written: `1`, `true` and `no` are names.
            if event.anchor is not None:
                self._problem(location, "a key takes no anchor")
            frame.merging = plain and text == "<<"
            return
        self._put(Node(resolve_scalar(text) if plain else text, location, plain=plain), 1, event.anchor)

    def _alias(self, anchor: str | None, location: YamlLocation) -> None:
        known = self._anchors.get(anchor or "")
        if known is None:
            if any(frame.anchor == anchor for frame in self._open):
                self._problem(location, "this alias is inside the value that it names, so the value would never end")
            else:
                self._problem(location, f"YAML reads `*` and what follows as an alias of nothing above; {_QUOTE_IT}")
            known = (Node(None, location), 1)
        self._put(*known, None)

    def _put(self, node: Node, weight: int, anchor: str | None) -> None:
        """Put a finished value where it belongs."""
        if anchor is not None:
            self._anchors[anchor] = (node, weight)
        if not self._open:
            self._root = node
            return
        frame = self._open[-1]
        frame.weight += weight
        if frame.weight > MAX_NODES:
            self._fatal(node.location, f"more than {MAX_NODES} values in this file (aliases counted as often as they are used)")
        if not frame.mapping:
            frame.items.append(node)
        elif frame.key is None:
            self._problem(node.location, "a key must be text; if this is an expression, put all of it in quotes")
            frame.key, frame.merging = ("", node.location), False
        else:
            (key, location), frame.key = frame.key, None
            if frame.merging:
                frame.merged.append(node)
            elif key in frame.values:
                first = frame.keys[key].line
                self._problem(location, f"`{key}` is given twice (first in line {first}): keep one")
            else:
                frame.values[key] = node
                frame.keys[key] = location

    def _mapping_of(self, frame: _Open) -> dict[str, Node]:
        for brought in frame.merged:
            for source in brought.value if isinstance(brought.value, tuple) else (brought,):
                if not isinstance(source.value, dict):
                    self._problem(brought.location, "`<<` takes an alias of a mapping: `<<: *name`")
                    continue
                for key, node in source.value.items():
                    if key not in frame.values:
                        frame.values[key] = node
                        frame.keys[key] = (source.keys or {}).get(key, node.location)
        return frame.values

    def _refuse_tag(self, tag: str | None, location: YamlLocation) -> None:
        if tag is not None:
            self._problem(location, f"YAML reads `!` and what follows as a tag, and tags mean nothing here; {_QUOTE_IT}")

    def _problem(self, location: YamlLocation, message: str) -> None:
        self.problems.append(Problem(location=location, path="", message=message))

    def _fatal(self, location: YamlLocation, message: str) -> None:
        self._problem(location, message)
        raise ConfigError(self.problems)


def _syntax_problem(exc: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    """One line for what the scanner or parser met: theirs are in the words of a grammar."""
    mark = exc.problem_mark or exc.context_mark
    if mark is None:
        return Problem(location=YamlLocation(file, 1, 1), path="", message="this is not YAML")
    lines = _LINE_END.split(text)
    line = lines[mark.line] if mark.line < len(lines) else ""
    location = YamlLocation(file, mark.line + 1, mark.column + 1)
    return Problem(location=location, path="", message=_words(exc, line, mark.column))


def _words(exc: yaml.MarkedYAMLError, line: str, column: int) -> str:
    problem, context = exc.problem or "", exc.context or ""
    char = line[column : column + 1]
    opened = f" that was opened in line {exc.context_mark.line + 1}" if exc.context_mark else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "a tab in the indentation; YAML wants spaces"
    if "cannot start any token" in problem:
        return f"a value cannot start with `{char}` without quotes: put all of it in quotes"
    if "mapping values are not allowed" in problem:
        return "a second `: ` in this value, or a wrong indentation; put a value that has `: ` in it in quotes"
    if "quoted scalar" in context and "end of stream" in problem:
        return f"the quote{opened} is never closed"
    if "escape" in problem:
        return "an unknown \\ escape in double quotes; in single quotes a \\ is a plain character"
    if "flow" in context:
        return f"the [ or {{{opened} is not closed, or a comma is missing; {_QUOTE_IT}"
    if "anchor" in context or "alias" in context:
        return f"`&` and `*` at the start of a value belong to YAML; {_QUOTE_IT}"
    if "tag" in context:
        return f"`!` at the start of a value belongs to YAML; {_QUOTE_IT}"
    if "directive" in context or "incompatible" in problem:
        return "a line that starts with `%` is a YAML directive; none is needed here"
    if "document start" in problem:
        return "there is text after the end of the configuration; check the indentation and the brackets"
    if "key" in problem or "block end" in problem or "'-' indicator" in problem:
        return f"this does not fit the lines before it: check the indentation; {_QUOTE_IT}"
    return "YAML cannot be read from here on: check quotes, brackets and indentation"


def _unprintable(char: str) -> str:
    return f"the character U+{ord(char):04X} is not allowed in YAML; remove it"


def _location_of(text: str, at: int, file: str) -> YamlLocation:
    line, start = 1, 0
    for end in _ends(text, at):
        line, start = line + 1, end
    return YamlLocation(file, line, at - start + 1)


def _ends(text: str, before: int) -> Iterator[int]:
    for found in _LINE_END.finditer(text, 0, before):
        yield found.end()
