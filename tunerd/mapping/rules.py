"""YAML rules -> compiled rules: one method for each form that a rule can have, and for each part of a block.

Each rule is compiled once as it is and, when `explain` or an error asks for it, once more with places (trace.py). A whole
mapping is ruleset.py's matter, what the fields of a call are building.py's.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Final

from tunerd.mapping.blocks import NO_ROWS, Block, WithoutRole, listed, looped, object_block, value_of
from tunerd.mapping.closures import constant
from tunerd.mapping.expressions import ExpressionError, compile_text, tables_asked
from tunerd.mapping.functions import UNKNOWN, Code, Context, Run
from tunerd.mapping.functions.times import epoch_ms, instants
from tunerd.mapping.grammar import unbalanced
from tunerd.mapping.identity import exactly, lets_of_identities
from tunerd.mapping.roles import DROPS_SLOT, TableAsked, UnknownRoles, row_without_role
from tunerd.mapping.scope import NameScope, Slot, nearest
from tunerd.mapping.trace import TRACE_SLOT, RuleRef, optional, traced, watching
from tunerd.mapping.values import RuleError, exact, missing
from tunerd.places import Node, Place, Problem
from tunerd.tuner_fields import NODE_FIELDS, ROW_FIELDS, TOOL_FIELDS

_ROW_TIMES: Final = frozenset({"start_at", "end_at"})
_BLOCK_WORDS: Final = frozenset({"for_each", "let", "when", "rows"})
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
_KEY: Final = re.compile(r"[\w-]+")
_QUOTE: Final = "put the expression in quotes"
MAX_DEPTH: Final = 60


class RuleCompiler:
    """Compiles the rules of one source, collecting every problem. `with_places`: the traced form."""

    def __init__(self, context: Context, *, with_places: bool = False, unknown_roles: UnknownRoles = "reject") -> None:
        self.context = replace(context, reserve=self._reserve)
        self.with_places = with_places
        self.unknown_roles = unknown_roles
        self.roots = NameScope(guarded=with_places)
        self.problems: list[Problem] = []
        self.steps: list[RuleRef] = []
        self.size = max(TRACE_SLOT, DROPS_SLOT) + 1
        """How many slots a run needs."""

    # Names

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

    def _bind(self, names: NameScope, name: str, place: Place, path: str, value: Any = UNKNOWN) -> Slot:
        if not _NAME.fullmatch(name):
            self.problem(place, path, f"`{name}` is no name: use a-z, 0-9 and _, beginning with a letter")
        elif name in names.all():
            self.problem(place, path, f"the name `{name}` is taken already: choose another")
        slot = self._slot(value)
        names.slots[name] = slot
        return slot

    def problem(self, place: Place, path: str, message: str) -> None:
        problem = Problem(place=place, path=path, message=message)
        if problem not in self.problems:
            self.problems.append(problem)

    # Members

    def members(self, node: Node, path: str) -> dict[str, Node] | None:
        if isinstance(node.value, dict):
            if self._misread(node, path):
                return None
            return node.value
        if node.value is not None:
            self.problem(node.place, path, "write a mapping here: name: rule")
        return None

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
            slot = self._bind(names, name, key_place(let, name), at, code.value)
            if code.value is UNKNOWN and (tables := self._tables(rule, names)):
                slot = names.slots[name] = replace(slot, tables=tables)
            if code.value is UNKNOWN:
                into.append((slot.index, code))

    def _tables(self, rule: Node, names: NameScope) -> list[TableAsked]:
        """Which tables a rule looks into: whoever gets nothing from it may have asked for a role that none of them names."""
        if isinstance(rule.value, tuple):
            return [each for item in rule.value for each in self._tables(item, names)]
        return tables_asked(rule.value, names, self.context) if isinstance(rule.value, str) else []

    # A rule

    @contextmanager
    def _exact(self) -> Iterator[None]:
        """What is compiled within becomes part of an identity."""
        before = self.context
        self.context = replace(before, exact=True)
        try:
            yield
        finally:
            self.context = before

    def identity(self, node: Node, path: str, names: NameScope) -> Code:
        """Compile a rule whose value tells calls, recordings or the like from each other: a number that may have lost digits
        is an error wherever it would be part of that (identity.py)."""
        with self._exact():
            return self.rule(node, path, names, identity=True)

    def rule(
        self, node: Node, path: str, names: NameScope, *, rows: bool = False, depth: int = 0, identity: bool = False
    ) -> Code:
        """Compile one rule. `rows`: its blocks are rows of a transcript. `identity`: its value is guarded as one. Problems are
        noted, and null stands in."""
        if depth > MAX_DEPTH:
            self.problem(node.place, path, "rules are nested too deep here")
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

    def _guarded(self, code: Code, node: Node, path: str) -> Code:
        if code.value is UNKNOWN:
            return Code(exactly(code.run))
        try:
            return constant(exact(code.value))
        except RuleError as error:
            self.problem(node.place, path, str(error))
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
        return RuleRef(path, node.place, text)

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
            self.problem(_place_in(node, text, error.at), path, what)
            return constant(None)

    def _first_of(self, node: Node, items: Sequence[Node], path: str, names: NameScope, rows: bool, depth: int) -> Code:
        if not items:
            self.problem(node.place, path, "an empty list gives nothing: write null, or {const: []}")
            return constant(None)
        if self._misread(node, path):
            return constant(None)
        codes: list[Code] = []
        for position, item in enumerate(items):
            code = self.rule(item, f"{path}[{position}]", names, rows=rows, depth=depth + 1)
            if code.value is UNKNOWN or not missing(code.value):
                codes.append(code)
            if code.value is not UNKNOWN and not missing(code.value):
                break  # what stands behind a constant is never asked
        if not codes or codes[0].value is not UNKNOWN:
            return codes[0] if codes else constant(None)
        if rows:
            return Code(_first_rows([code.run for code in codes]))
        if len(codes) == 1:
            only = codes[0].run
            return Code(lambda slots: None if missing(value := only(slots)) else value)
        if len(codes) == 2:
            first, second = codes[0].run, codes[1].run

            def run_two(slots: Any) -> Any:
                value = first(slots)
                if value or not missing(value):
                    return value
                value = second(slots)
                return None if missing(value) else value

            return Code(run_two)
        runs = [code.run for code in codes]

        def run(slots: Any) -> Any:
            for one in runs:
                value = one(slots)
                if value or not missing(value):
                    return value
            return None

        return Code(run)

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
            self.problem(node.place, path, f"YAML split this at a comma or at `: `: {_QUOTE}")
        return odd

    def instant(self, node: Node, path: str, names: NameScope) -> Run:
        """A rule whose value is read as an instant: epoch ms."""
        return self.as_time(self.rule(node, path, names), node, path).run

    def as_time(self, code: Code, node: Node, path: str) -> Code:
        """An instant in any form, as epoch ms."""
        zone = self.context.zone
        if code.value is not UNKNOWN:
            try:
                return constant(epoch_ms(code.value, zone))
            except RuleError as error:
                self.problem(node.place, path, str(error))
                return constant(None)
        run = instants(code, zone)
        if not self.with_places:
            return Code(run)
        number = len(self.steps)
        self.steps.append(self.step(node, path))
        return Code(traced(run, number, self.steps[number]))

    # Blocks

    def _mapping(
        self, node: Node, members: dict[str, Node], path: str, names: NameScope, rows: bool, depth: int, number: int
    ) -> Code:
        if "const" in members:
            if len(members) > 1:
                self.problem(node.place, path, "`const` stands alone in its mapping")
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
                self.problem(for_each.place, f"{path}.for_each", "for_each takes one name and one rule: {m: doc.messages}")
                return NO_ROWS
            (name, rule) = next(iter(heads.items()))
            each = self.rule(rule, f"{path}.for_each", names, depth=depth + 1)
            item = self._bind(names, name, key_place(for_each, name), f"{path}.for_each").index
        inner = {name: member for name, member in members.items() if name != "for_each"}
        compile_body = self._rows if "rows" in members else self._object
        body = compile_body(node, inner, path, names, rows, depth)
        if each is not None:
            body = looped(self._counted_items(each.run, number), item, body.emit, is_row=rows)
        return self._counted(body, number)

    def _counted_items(self, each: Run, number: int) -> Run:
        if not self.with_places:
            return each

        def counted(slots: Any) -> Any:
            items = each(slots)
            if items.__class__ is list:
                slots[TRACE_SLOT].at(number).items += len(items)
            return items

        return counted

    def _counted(self, block: Block, number: int) -> Block:
        if not self.with_places:
            return block
        emit = block.emit

        def counted(slots: list[Any], made: list[Any]) -> None:
            before = len(made)
            emit(slots, made)
            slots[TRACE_SLOT].at(number).rows += len(made) - before

        return Block(counted)

    def _rows(self, node: Node, members: dict[str, Node], path: str, names: NameScope, rows: bool, depth: int) -> Block:
        for name in members:
            if name not in _BLOCK_WORDS:
                self.problem(key_place(node, name), f"{path}.{name}", "a block has either `rows` or fields: move this into a row")
        lets, when = self._prelude(members, path, names)
        given = members["rows"]
        if not isinstance(given.value, tuple) or not given.value:
            self.problem(given.place, f"{path}.rows", "rows takes a list of blocks")
            return NO_ROWS
        blocks = [self._row(item, f"{path}.rows[{at}]", names, rows, depth + 1) for at, item in enumerate(given.value)]
        return listed([(index, code.run) for index, code in lets], when.run if when else None, blocks)

    def _row(self, node: Node, path: str, names: NameScope, rows: bool, depth: int) -> Block:
        if not isinstance(node.value, dict) or "const" in node.value:
            self.problem(node.place, path, "rows takes a list of blocks: {role: ..., text: ...}")
            return NO_ROWS
        if depth > MAX_DEPTH:
            self.problem(node.place, path, "rules are nested too deep here")
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
                self.problem(key_place(node, name), at, f"a row has no `{name}`{hint}; what is your own goes into metadata")
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
                    self.problem(key_place(node, name), f"{path}.{name}", f"unknown member `{name}`{nearest(name, known)}")


def _first_rows(runs: Sequence[Run]) -> Run:
    """The first list of rows. What those before it left out is not lost: they gave no row at all."""

    def run(slots: Any) -> Any:
        drops = slots[DROPS_SLOT]
        first = len(drops)
        for one in runs:
            since = len(drops)
            value = one(slots)
            if not missing(value):
                del drops[first:since]
                return value
        return None

    return run


def _place_in(node: Node, text: str, at: int) -> Place:
    """Of a text of several lines, where it begins."""
    place = node.place
    return place if "\n" in text else Place(place.file, place.line, place.column + at + (0 if node.plain else 1))


def _is_cut(node: Node) -> bool:
    return node.plain and isinstance(node.value, str) and unbalanced(node.value)


def key_place(node: Node, name: str) -> Place:
    return (node.keys or {}).get(name, node.place)
