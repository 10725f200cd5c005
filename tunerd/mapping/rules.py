"""YAML rules -> compiled rules: one method for each form that a rule can have, and for each part of a block.

Each rule is compiled once as it is and, when `explain` or an error asks for it, once more with places (trace.py). A whole
mapping is ruleset.py's matter, what the fields of a call are building.py's.
"""

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Final

from tunerd.mapping.blocks import NO_ROWS, Block, WithoutRole, first_rows, listed, looped, object_block, value_of
from tunerd.mapping.closures import constant, first_of
from tunerd.mapping.functions import UNKNOWN, Code, Context, Run
from tunerd.mapping.grammar import unbalanced
from tunerd.mapping.identity import lets_of_identities
from tunerd.mapping.match_values import names_in
from tunerd.mapping.roles import UnknownRoles, row_without_role
from tunerd.mapping.rule_reader import RuleReader, key_location
from tunerd.mapping.scope import NameScope, nearest
from tunerd.mapping.trace import optional, traced
from tunerd.mapping.values import missing
from tunerd.tuner_fields import NODE_FIELDS, ROW_FIELDS, TOOL_FIELDS
from tunerd.yaml_location import Node

_ROW_TIMES: Final = frozenset({"start_at", "end_at"})
_BLOCK_WORDS: Final = frozenset({"for_each", "let", "when", "rows"})
MAX_DEPTH: Final = 60


class RuleCompiler(RuleReader):
    """Compiles the rules of one source."""

    def __init__(self, context: Context, *, with_places: bool = False, unknown_roles: UnknownRoles = "reject") -> None:
        super().__init__(context, with_places=with_places)
        self.unknown_roles = unknown_roles

    def lets(
        self,
        members: dict[str, Node],
        names: NameScope,
        path: str,
        into: list[tuple[int, Code]],
        read_by: Sequence[Node | None] = (),
    ) -> None:
        """`read_by`: the rules of identities. A `let` that they read is part of them."""
        let = members.get("let")
        if let is None:
            return
        rules = self.members(let, f"{path}.let") or {}
        identities = lets_of_identities(rules, read_by)
        for name, rule in rules.items():
            at = f"{path}.let.{name}"
            with self._exact() if name in identities else nullcontext():
                code = self.rule(rule, at, names)
            slot = self._bind(names, name, key_location(let, name), at, code.value)
            if code.value is not UNKNOWN:
                continue
            alias = code if code.path is not None else None
            names.slots[name] = replace(slot, tables=self._tables(rule, names), path=alias)
            if alias is None:
                into.append((slot.index, code))

    def identity(self, node: Node, path: str, names: NameScope) -> Code:
        """Compile a rule whose value tells calls, recordings or the like from each other: a number that may have lost digits
        is an error wherever it would be part of that (identity.py)."""
        with self._exact():
            return self.rule(node, path, names, identity=True)

    def values(self, node: Node, path: str, names: NameScope) -> Code:
        """Compile a mapping of names and rules, whose values tell calls and recordings from each other."""
        if not names_in(node) or not isinstance(node.value, dict):
            self.problem(node.location, path, "takes a mapping of names and rules, like {caller: doc.from}")
            return constant({})
        runs = {name: self.identity(rule, f"{path}.{name}", names).run for name, rule in node.value.items()}
        return Code(lambda slots: {name: run(slots) for name, run in runs.items()})

    def rule(
        self, node: Node, path: str, names: NameScope, *, rows: bool = False, depth: int = 0, identity: bool = False
    ) -> Code:
        """Compile one rule. `rows`: its blocks are rows of a transcript. `identity`: its value is guarded as one. Problems are
        noted, and the rule becomes null."""
        if depth > MAX_DEPTH:
            self.problem(node.location, path, "rules are nested too deep here")
            return constant(None)
        value = node.value
        number = len(self.steps)
        self.steps.append(self.step(node, path))
        if isinstance(value, str):
            code = self._text(node, value, path, names, number)
        elif isinstance(value, tuple):
            code = self._first_of(node, value, path, names, rows, depth)
        elif isinstance(value, dict):
            code = self._mapping(node, value, path, names, rows, depth, number)
        else:
            code = constant(value)
        if identity:
            code = self._guarded(code, node, path)
        if not self.with_places or (code.value is not UNKNOWN and path.count(".let.")):
            return code
        return Code(traced(code.run, number, self.steps[number]), code.value)

    def _first_of(self, node: Node, items: Sequence[Node], path: str, names: NameScope, rows: bool, depth: int) -> Code:
        if not items:
            self.problem(node.location, path, "an empty list gives nothing: write null, or {const: []}")
            return constant(None)
        if self._misread(node, path):
            return constant(None)
        codes: list[Code] = []
        for position, item in enumerate(items):
            code = self.rule(item, f"{path}[{position}]", names, rows=rows, depth=depth + 1)
            if code.value is UNKNOWN or not missing(code.value):
                codes.append(code)
            if code.value is not UNKNOWN and not missing(code.value):
                break  # rules behind a constant are never evaluated
        if not codes or codes[0].value is not UNKNOWN:
            return codes[0] if codes else constant(None)
        runs = [code.run for code in codes]
        return Code(first_rows(runs) if rows else first_of(runs))

    def instant(self, node: Node, path: str, names: NameScope) -> Run:
        """A rule whose value is read as an instant: epoch ms."""
        return self.as_time(self.rule(node, path, names), node, path).run

    def _mapping(
        self, node: Node, members: dict[str, Node], path: str, names: NameScope, rows: bool, depth: int, number: int
    ) -> Code:
        if "const" in members:
            if len(members) > 1:
                self.problem(node.location, path, "`const` stands alone in its mapping")
            return constant(members["const"].bare())
        if self._misread(node, path):
            return constant(None)
        if "for_each" in members or "rows" in members:
            return Code(value_of(self._emitter(node, members, path, names, rows, depth, number)))
        return Code(value_of(self._object(node, members, path, names, rows, depth)))

    def _emitter(
        self, node: Node, members: dict[str, Node], path: str, names: NameScope, rows: bool, depth: int, number: int
    ) -> Block:
        """A block that gives rows (or items): for_each around, then let, when, and its object or its `rows`."""
        names = names.inner()
        each: Code | None = None
        item = 0
        if (for_each := members.get("for_each")) is not None:
            heads = self.members(for_each, f"{path}.for_each") or {}
            if len(heads) != 1:
                self.problem(for_each.location, f"{path}.for_each", "for_each takes one name and one rule: {m: doc.messages}")
                return NO_ROWS
            (name, rule) = next(iter(heads.items()))
            each = self.rule(rule, f"{path}.for_each", names, depth=depth + 1)
            item = self._bind(names, name, key_location(for_each, name), f"{path}.for_each").index
        inner = {name: member for name, member in members.items() if name != "for_each"}
        compile_body = self._rows if "rows" in members else self._object
        body = compile_body(node, inner, path, names, rows, depth)
        if each is not None:
            body = looped(self._counted_items(each, number), item, body.emit, is_row=rows)
        return self._counted(body, number)

    def _rows(self, node: Node, members: dict[str, Node], path: str, names: NameScope, rows: bool, depth: int) -> Block:
        for name in members:
            if name not in _BLOCK_WORDS:
                self.problem(
                    key_location(node, name), f"{path}.{name}", "a block has either `rows` or fields: move this into a row"
                )
        lets, when = self._prelude(members, path, names)
        given = members["rows"]
        if not isinstance(given.value, tuple) or not given.value:
            self.problem(given.location, f"{path}.rows", "rows takes a list of blocks")
            return NO_ROWS
        blocks = [self._row(item, f"{path}.rows[{at}]", names, rows, depth + 1) for at, item in enumerate(given.value)]
        return listed([(index, code.run) for index, code in lets], when.run if when else None, blocks)

    def _row(self, node: Node, path: str, names: NameScope, rows: bool, depth: int) -> Block:
        if not isinstance(node.value, dict) or "const" in node.value:
            self.problem(node.location, path, "rows takes a list of blocks: {role: ..., text: ...}")
            return NO_ROWS
        if depth > MAX_DEPTH:
            self.problem(node.location, path, "rules are nested too deep here")
            return NO_ROWS
        number = len(self.steps)
        self.steps.append(self.step(node, path))
        return self._emitter(node, node.value, path, names, rows, depth, number)

    def _prelude(self, members: dict[str, Node], path: str, names: NameScope) -> tuple[list[tuple[int, Code]], Code | None]:
        lets: list[tuple[int, Code]] = []
        self.lets(members, names, path, lets)
        when = members.get("when")
        return lets, None if when is None or when.value is None else self.rule(when, f"{path}.when", names)

    def _object(self, node: Node, members: dict[str, Node], path: str, names: NameScope, rows: bool, depth: int) -> Block:
        """let, when and fields of one object: null members are left out, an object of nothing (or without the role that
        it has a rule for) is null."""
        names = names.inner()
        lets, when = self._prelude(members, path, names)
        made: list[tuple[str, Code]] = []
        role: Code | None = None
        without_role: WithoutRole | None = None
        for name, rule in members.items():
            if name in _BLOCK_WORDS or rule.value is None:
                continue
            at = f"{path}.{name}"
            if rows and name not in ROW_FIELDS:
                hint = nearest(name, ROW_FIELDS) if name != "content" else " (did you mean `text`?)"
                self.problem(key_location(node, name), at, f"a row has no `{name}`{hint}; what is your own goes into metadata")
                continue
            if rows and name in ("tool", "node"):
                self._check_members(rule, at, TOOL_FIELDS if name == "tool" else NODE_FIELDS)
            code = self.rule(rule, at, names, depth=depth + 1)
            if rows and name in _ROW_TIMES:
                code = self.as_time(code, rule, at)
            if rows and name == "metadata" and self.with_places:
                code = Code(optional(code.run))
            if name == "role":
                role = Code(code.run) if self.with_places else code
                if rows and (tables := self._tables(rule, names)):
                    without_role = partial(row_without_role, tables=tables, unknown_roles=self.unknown_roles)
            else:
                made.append((name, code))
        return object_block([(index, code.run) for index, code in lets], when, role, made, without_role)

    def _check_members(self, node: Node, path: str, known: Collection[str]) -> None:
        if isinstance(node.value, dict) and "const" not in node.value:
            for name in node.value:
                if name not in known and name not in _BLOCK_WORDS and not unbalanced(name):
                    self.problem(key_location(node, name), f"{path}.{name}", f"unknown member `{name}`{nearest(name, known)}")
