"""Parse tree -> one Python function: every expression is compiled once, at load.

In the root scope a compiled expression takes the list of slots that hold the named roots; in the item scope (inside
`[? ]`, `[].`, `&`, after a pipe or a dot) it takes the current value. Names are resolved here, so an unknown one is an
error at load. Which names there are, and what a YAML rule is made of, rules.py decides.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Final, TypeAlias

from tunerd.mapping.closures import both, call, compared, constant, either, field, is_sole, is_text, path
from tunerd.mapping.functions import FUNCTIONS, UNKNOWN, Code, Context, Function, Run
from tunerd.mapping.grammar import GrammarError, Tree, parse
from tunerd.mapping.identity import exact_arguments
from tunerd.mapping.projections import element, filtered, flattened, object_of_item, projected, projected_values
from tunerd.mapping.roles import TableAsked
from tunerd.mapping.scope import NameScope, nearest, whole
from tunerd.mapping.values import RuleError, true

WatchCall: TypeAlias = Callable[[Function, Run, Sequence[Run]], Run]
"""Given a compiled call in the root scope and its arguments: the run to use in its place, which records them for `explain`."""


@dataclass(frozen=True)
class ExpressionError(Exception):
    """The expression can't be compiled."""

    what: str
    at: int = 0
    """Offset in the text."""
    cut: bool = False
    """YAML may have cut the text: see GrammarError."""


def compile_text(text: str | Tree, names: NameScope, context: Context, watch: WatchCall | None = None) -> Code:
    """Compile an expression of the root scope, or a part of its tree. Raises ExpressionError."""
    return _compile(text, _Compiler(names, context, watch), root=True)


def tables_asked(text: str, names: NameScope, context: Context) -> list[TableAsked]:
    """Which tables an expression of the root scope looks into without a default, its names' own rules included."""
    found: list[TableAsked] = []
    compiler = _Compiler(names, context, None)

    def walk(tree: Tree) -> None:
        kind, children = tree["type"], tree.get("children", [])
        if kind == "field" and (slot := names.find(tree["value"])) is not None:
            found.extend(slot.tables)
        elif kind == "function_expression" and tree["value"] in ("lookup", "classify") and len(children) == 2:
            key, table = (compiler.code(child, root=True).run for child in children)
            found.append(TableAsked(key, table, tree["value"] == "classify"))
        elif kind == "function_expression" or kind in _ROOT_SCOPE:
            for child in children:
                walk(child)
        elif children and isinstance(children[0], dict):
            walk(children[0])  # the rest sees items, not names

    with suppress(GrammarError, ExpressionError, RecursionError):  # compile_text raises these
        walk(parse(text))
    return found


def compile_item(text: str, context: Context | None = None) -> Code:
    """Compile an expression that sees no names, only the current value: plain JMESPath. Raises ExpressionError."""
    return _compile(text, _Compiler(NameScope(), context or Context(), None), root=False)


def _compile(text: str | Tree, compiler: "_Compiler", *, root: bool) -> Code:
    try:
        return compiler.code(parse(text) if isinstance(text, str) else text, root=root)
    except GrammarError as error:
        raise ExpressionError(error.what, error.at, error.cut) from None
    except RecursionError:
        raise ExpressionError("the expression is nested too deep") from None


_ROOT_SCOPE: Final = frozenset({"or_expression", "and_expression", "not_expression"})


class _Compiler:
    """One method a node type. `root`: the code takes the slots, else the current value; `dotted`: a name after a dot."""

    def __init__(self, names: NameScope, context: Context, watch: WatchCall | None) -> None:
        self.names = names
        self.context = context
        self.watch = watch

    def code(self, tree: Tree, *, root: bool, dotted: bool = False) -> Code:
        method: Callable[..., Code] = getattr(self, f"_{tree['type']}")
        return method(tree, root, dotted)

    def _item(self, tree: Tree, *, dotted: bool = False) -> Run:
        return self.code(tree, root=False, dotted=dotted).run

    # Names and paths

    def _field(self, tree: Tree, root: bool, dotted: bool) -> Code:
        name = tree["value"]
        if root:
            return self._root(tree)
        if not dotted and not tree.get("quoted") and self.names.find(name) is not None:
            raise ExpressionError(
                f"`{name}` is a name of the mapping, and names are not seen in here: write `@.{name}` for the item's own "
                f"field, or join with find(list, 'field', value)",
                tree.get("start", 0),
            )
        return field(name)

    def _root(self, tree: Tree) -> Code:
        name = tree["value"]
        slot = self.names.find(name)
        if slot is None:
            known = self.names.all()
            hint = nearest(name, known) or f"; known here: {', '.join(known)}"
            raise ExpressionError(f"unknown name `{name}`{hint}", tree.get("start", 0))
        if slot.value is not UNKNOWN:
            return constant(slot.value)
        if slot.path is not None:
            return slot.path
        index = slot.index
        if self.names.guarded:
            return Code(lambda slots: whole(slots[index]))
        return Code(itemgetter(index), path=(index, ()))

    def _subexpression(self, tree: Tree, root: bool, dotted: bool) -> Code:
        first, *rest = tree["children"]
        code = self.code(first, root=root, dotted=dotted)
        for step in rest:
            code = self._step(code, step)
        return code

    def _step(self, code: Code, step: Tree) -> Code:
        if step["type"] in ("subexpression", "index_expression"):
            for child in step["children"]:
                code = self._step(code, child)
            return code
        if step["type"] in ("field", "index") and code.path is not None:
            index, steps = code.path
            return path(index, (*steps, step["value"]))
        then = self.code(step, root=False, dotted=True)
        if code.value is not UNKNOWN:
            return constant(_now(then.run, code.value, step))
        before, after = code.run, then.run
        return Code(lambda scope: after(before(scope)))

    _index_expression = _subexpression

    def _index(self, tree: Tree, root: bool, dotted: bool) -> Code:
        self._needs_item(tree, root)
        return Code(element(tree["value"]))

    def _slice(self, tree: Tree, root: bool, dotted: bool) -> Code:
        self._needs_item(tree, root)
        if tree["children"][2] == 0:
            raise ExpressionError("the step of a slice can't be 0")
        part = slice(*tree["children"])
        return Code(lambda current: current[part] if current.__class__ is list else None)

    def _current(self, tree: Tree, root: bool, dotted: bool) -> Code:
        self._needs_item(tree, root)
        return Code(lambda current: current)

    _identity = _current

    def _needs_item(self, tree: Tree, root: bool) -> None:
        if root:
            raise ExpressionError("there is no current item here: begin with a name, for example `doc`")

    def _pipe(self, tree: Tree, root: bool, dotted: bool) -> Code:
        before = self.code(tree["children"][0], root=root, dotted=dotted)
        then = self.code(tree["children"][1], root=False)
        after = then.run
        if before.value is not UNKNOWN:
            return constant(_now(after, before.value, tree))
        run = before.run
        return Code(lambda scope: after(run(scope)))

    # Lists

    def _base(self, tree: Tree, root: bool, dotted: bool) -> Run:
        return self.code(tree["children"][0], root=root, dotted=dotted).run

    def _projection(self, tree: Tree, root: bool, dotted: bool) -> Code:
        base, is_plain = self._base(tree, root, dotted), tree["children"][1]["type"] == "identity"
        return Code(projected(base, None if is_plain else self.code(tree["children"][1], root=False, dotted=True)))

    def _value_projection(self, tree: Tree, root: bool, dotted: bool) -> Code:
        return Code(projected_values(self._base(tree, root, dotted), self._item(tree["children"][1], dotted=True)))

    def _filter_projection(self, tree: Tree, root: bool, dotted: bool) -> Code:
        base, each = self._base(tree, root, dotted), self._item(tree["children"][1], dotted=True)
        return Code(filtered(base, each, self._item(tree["children"][2])))

    def _flatten(self, tree: Tree, root: bool, dotted: bool) -> Code:
        return Code(flattened(self._base(tree, root, dotted)))

    def _multi_select_list(self, tree: Tree, root: bool, dotted: bool) -> Code:
        codes = [self.code(child, root=root) for child in tree["children"]]
        if root and all(code.value is not UNKNOWN for code in codes):
            return constant([code.value for code in codes])
        runs = [code.run for code in codes]
        if root:
            return Code(lambda slots: [run(slots) for run in runs])
        return Code(lambda current: None if current is None else [run(current) for run in runs])

    def _multi_select_dict(self, tree: Tree, root: bool, dotted: bool) -> Code:
        members = [(child["value"], self.code(child["children"][0], root=root)) for child in tree["children"]]
        if root and all(code.value is not UNKNOWN for _, code in members):
            return constant({name: code.value for name, code in members})
        runs = [(name, code.run) for name, code in members]
        if root:
            return Code(lambda slots: {name: run(slots) for name, run in runs})
        return Code(object_of_item(members), members=members)

    # Truth and comparison

    def _or_expression(self, tree: Tree, root: bool, dotted: bool) -> Code:
        left, right = (self.code(child, root=root) for child in tree["children"])
        if left.value is not UNKNOWN:
            return left if true(left.value) else right
        return Code(either(left.run, right.run))

    def _and_expression(self, tree: Tree, root: bool, dotted: bool) -> Code:
        left, right = (self.code(child, root=root) for child in tree["children"])
        if left.value is not UNKNOWN:
            return right if true(left.value) else left
        return Code(both(left.run, right.run))

    def _not_expression(self, tree: Tree, root: bool, dotted: bool) -> Code:
        code = self.code(tree["children"][0], root=root)
        if code.value is not UNKNOWN:
            return constant(not true(code.value))
        run = code.run
        return Code(lambda scope: not true(run(scope)))

    def _comparator(self, tree: Tree, root: bool, dotted: bool) -> Code:
        left, right = (self.code(child, root=root) for child in tree["children"])
        how = tree["value"]
        if left.value is not UNKNOWN and right.value is not UNKNOWN:
            return constant(compared(left.run, right.run, how)(None))
        if how in ("eq", "ne"):
            for one, other in ((left, right), (right, left)):
                if one.value.__class__ is str:
                    return is_text(other, one.value, wanted=how == "eq")
                if one.value is None or one.value.__class__ is bool:
                    return Code(is_sole(other, one.value, wanted=how == "eq"))
        return Code(compared(left.run, right.run, how))

    # Calls and literals

    def _literal(self, tree: Tree, root: bool, dotted: bool) -> Code:
        return constant(tree["value"])

    def _expref(self, tree: Tree, root: bool, dotted: bool) -> Code:
        raise ExpressionError("`&` belongs in the arguments of sort_by, min_by, max_by and map")

    def _function_expression(self, tree: Tree, root: bool, dotted: bool) -> Code:
        name, arguments, at = tree["value"], tree["children"], tree.get("start", 0)
        function = FUNCTIONS.get(name)
        if function is None:
            raise ExpressionError(f"unknown function `{name}`{nearest(name, FUNCTIONS)}", at)
        if len(arguments) < function.least or (function.most is not None and len(arguments) > function.most):
            raise ExpressionError(f"`{function.signature}` got {_count(len(arguments))}", at)
        codes: list[Code] = []
        for position, argument in enumerate(arguments):
            if (argument["type"] == "expref") != (position in function.expressions):
                asks = "an expression with `&` before it" if position in function.expressions else "a value, not `&`"
                raise ExpressionError(f"`{function.signature}` takes {asks} as argument {position + 1}", at)
            if argument["type"] == "expref":
                codes.append(constant(self._item(argument["children"][0])))
            else:
                codes.append(self.code(argument, root=root))
        if self.context.exact:
            codes = exact_arguments(function, codes)
        runs, known = [code.run for code in codes], [code.value for code in codes]
        try:
            context = self.context if root else replace(self.context, reserve=None)
            prepared = function.prepare(codes, context) if function.prepare else None
            code = Code(prepared) if prepared else call(function, codes)
            if not function.expressions and all(value is not UNKNOWN for value in known):
                return constant(code.run(None))
        except RuleError as error:
            raise ExpressionError(str(error), at) from None
        except (ArithmeticError, ValueError, RecursionError) as error:
            raise ExpressionError(f"{name}: can't work on these constants ({type(error).__name__})", at) from None
        return Code(self.watch(function, code.run, runs)) if root and self.watch else code


def _now(run: Run, value: Any, tree: Tree) -> Any:
    try:
        return run(value)
    except RuleError as error:
        raise ExpressionError(str(error), tree.get("start", 0)) from None


def _count(number: int) -> str:
    return {0: "no argument", 1: "one argument"}.get(number, f"{number} arguments")
