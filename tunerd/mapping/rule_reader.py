"""What every YAML rule needs to become a compiled one: names and slots, problems and their places, expressions, times.

How rules are made of others (lists, blocks) is rules.py's matter.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from tunerd.mapping.blocks import Block
from tunerd.mapping.closures import constant
from tunerd.mapping.expressions import ExpressionError, compile_text, tables_asked
from tunerd.mapping.functions import UNKNOWN, Code, Context
from tunerd.mapping.functions.times import epoch_ms, instants
from tunerd.mapping.grammar import unbalanced
from tunerd.mapping.identity import exactly
from tunerd.mapping.roles import DROPS_SLOT, TableAsked
from tunerd.mapping.scope import NameScope, Slot, nearest
from tunerd.mapping.trace import TRACE_SLOT, RuleRef, traced, watching
from tunerd.mapping.values import RuleError, exact
from tunerd.yaml_location import Node, Problem, YamlLocation

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
_KEY: Final = re.compile(r"[\w-]+")
_QUOTE: Final = "put the expression in quotes"


class RuleReader:
    """Collects every problem of one source's rules. `with_places`: rules are compiled in the traced form."""

    def __init__(self, context: Context, *, with_places: bool = False) -> None:
        self.context = replace(context, reserve=self._reserve)
        self.with_places = with_places
        self.roots = NameScope(guarded=with_places)
        self.problems: list[Problem] = []
        self.steps: list[RuleRef] = []
        self.size = max(TRACE_SLOT, DROPS_SLOT) + 1
        """How many slots a run needs."""

    def root(self, name: str, value: Any = UNKNOWN) -> Slot:
        """A root name of every rule."""
        slot = self.roots.slots[name] = self._slot(value)
        return slot

    def _slot(self, value: Any = UNKNOWN) -> Slot:
        slot = Slot(self.size, value)
        self.size += 1
        return slot

    def _reserve(self) -> int:
        """A slot without a name."""
        return self._slot().index

    def _bind(self, names: NameScope, name: str, location: YamlLocation, path: str, value: Any = UNKNOWN) -> Slot:
        if not _NAME.fullmatch(name):
            self.problem(location, path, f"`{name}` is no name: use a-z, 0-9 and _, beginning with a letter")
        elif name in names.all():
            self.problem(location, path, f"the name `{name}` is taken already: choose another")
        slot = self._slot(value)
        names.slots[name] = slot
        return slot

    def problem(self, location: YamlLocation, path: str, message: str) -> None:
        problem = Problem(location=location, path=path, message=message)
        if problem not in self.problems:
            self.problems.append(problem)

    def members(self, node: Node, path: str) -> dict[str, Node] | None:
        if isinstance(node.value, dict):
            if self._misread(node, path):
                return None
            return node.value
        if node.value is not None:
            self.problem(node.location, path, "write a mapping here: name: rule")
        return None

    def _tables(self, rule: Node, names: NameScope) -> list[TableAsked]:
        """Which tables a rule looks into: whoever gets nothing from it may have asked for a role that none of them names."""
        if isinstance(rule.value, tuple):
            return [each for item in rule.value for each in self._tables(item, names)]
        return tables_asked(rule.value, names, self.context) if isinstance(rule.value, str) else []

    @contextmanager
    def _exact(self) -> Iterator[None]:
        """What is compiled within becomes part of an identity."""
        before = self.context
        self.context = replace(before, exact=True)
        try:
            yield
        finally:
            self.context = before

    def _guarded(self, code: Code, node: Node, path: str) -> Code:
        if code.value is UNKNOWN:
            return Code(exactly(code.run))
        try:
            return constant(exact(code.value))
        except RuleError as error:
            self.problem(node.location, path, str(error))
            return constant(None)

    def step(self, node: Node, path: str) -> RuleRef:
        value = node.value
        if isinstance(value, str):
            text = " ".join(value.split())
        elif isinstance(value, tuple):
            text = f"first of {len(value)}"
        elif isinstance(value, dict):
            text = "a table" if "const" in value else "a block"
        else:
            text = "null" if value is None else str(value).lower()
        return RuleRef(path, node.location, text)

    def _text(self, node: Node, text: str, path: str, names: NameScope, number: int) -> Code:
        try:
            return compile_text(text, names, self.context, watching(number) if self.with_places else None)
        except ExpressionError as error:
            what = error.what
            if what.startswith("unknown name `doc`") and "docs" in names.all():
                what = "unknown name `doc`: the source gathers, so a call has `docs` (all of its documents) and parts"
            elif what.startswith("unknown name") and _WORD.fullmatch(text.strip()):
                known = nearest(text, names.all())
                what = f"unknown name `{text}`{known}: write {{const: {text}}} for the text, doc.{text} for a field"
            elif node.plain and error.cut:
                what += f"; YAML cuts a plain text at ` #`, `: ` and, in [ ] and {{ }}, at commas: {_QUOTE}"
            self.problem(_location_in(node, text, error.at), path, what)
            return constant(None)

    def _misread(self, node: Node, path: str) -> bool:
        """An expression that YAML took for a list or mapping of its own and split at the commas."""
        if not node.flow:
            return False
        if isinstance(node.value, tuple):
            odd = any(_is_cut(item) for item in node.value)
        elif isinstance(node.value, dict):
            odd = any(
                unbalanced(name) or _is_cut(item) or (item.value is None and not _KEY.fullmatch(name))
                for name, item in node.value.items()
            )
        else:
            odd = False
        if odd:
            self.problem(node.location, path, f"YAML split this at a comma or at `: `: {_QUOTE}")
        return odd

    def as_time(self, code: Code, node: Node, path: str) -> Code:
        """An instant in any form, as epoch ms."""
        zone = self.context.zone
        if code.value is not UNKNOWN:
            try:
                return constant(epoch_ms(code.value, zone))
            except RuleError as error:
                self.problem(node.location, path, str(error))
                return constant(None)
        run = instants(code, zone)
        if not self.with_places:
            return Code(run)
        number = len(self.steps)
        self.steps.append(self.step(node, path))
        return Code(traced(run, number, self.steps[number]))

    def _counted_items(self, each: Code, number: int) -> Code:
        if not self.with_places:
            return each
        run = each.run

        def counted(slots: Any) -> Any:
            items = run(slots)
            if items.__class__ is list:
                slots[TRACE_SLOT].rules[number].items += len(items)
            return items

        return Code(counted)

    def _counted(self, block: Block, number: int) -> Block:
        if not self.with_places:
            return block
        emit = block.emit

        def counted(slots: list[Any], made: list[Any]) -> None:
            before = len(made)
            emit(slots, made)
            slots[TRACE_SLOT].rules[number].rows += len(made) - before

        return Block(counted)


def _location_in(node: Node, text: str, at: int) -> YamlLocation:
    """Of a text of several lines, where it begins."""
    begin = node.location
    return begin if "\n" in text else YamlLocation(begin.file, begin.line, begin.column + at + (0 if node.plain else 1))


def _is_cut(node: Node) -> bool:
    return node.plain and isinstance(node.value, str) and unbalanced(node.value)


def key_location(node: Node, name: str) -> YamlLocation:
    return (node.keys or {}).get(name, node.location)
