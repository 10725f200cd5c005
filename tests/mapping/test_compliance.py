"""Plain JMESPath: the published compliance cases, and random expressions against jmespath's own evaluator.

The cases are not ours to copy. TUNERD_JMESPATH_COMPLIANCE names a directory that holds their JSON files.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jmespath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions

from tests.examples import examples
from tunerd.mapping.closures import Code
from tunerd.mapping.expressions import ExpressionError, compile_item, compile_text
from tunerd.mapping.functions import Context
from tunerd.mapping.scope import NameScope, Slot
from tunerd.mapping.values import RuleError

DECIDED = {
    # null in, null out, where the cases want an error
    ("functions", "max(abc)"),
    ("functions", "min(abc)"),
    ("functions", "sort(abc)"),
    ("functions", "map(&a, badkey)"),
    # a bare number is a literal
    ("syntax", "foo.[abc, 1]"),
}
"""Where the rule language differs on purpose."""

FOLDER = os.environ.get("TUNERD_JMESPATH_COMPLIANCE", "")


def _cases() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    for file in sorted(Path(FOLDER).glob("*.json")):
        for group in json.loads(file.read_text("utf-8")):
            for case in group["cases"]:
                if "bench" not in case:
                    yield file.stem, group["given"], case


def test_published_compliance_cases() -> None:
    """Every published case gives what it says, apart from the decided differences, each of which does differ."""
    if not FOLDER:
        if os.environ.get("CI"):
            pytest.fail("TUNERD_JMESPATH_COMPLIANCE is not set: CI runs the compliance cases")
        pytest.skip(
            "TUNERD_JMESPATH_COMPLIANCE is not set to a directory with JMESPath's compliance cases (npm pack jmespath@0.15.0)"
        )
    seen, wrong, differing = 0, [], set()
    for name, value, case in _cases():
        seen += 1
        try:
            result = compile_item(case["expression"]).run(value)
            fits = "error" not in case and json.dumps(result) == json.dumps(case["result"])
        except (ExpressionError, RuleError):
            fits = "error" in case
        if not fits and (name, case["expression"]) in DECIDED:
            differing.add((name, case["expression"]))
        elif not fits:
            wrong.append(f"{name}: {case['expression']}")
    assert not wrong
    assert seen > 800
    assert differing == DECIDED


# Random expressions

_NAMES = st.sampled_from(["a", "b", "c", "id"])
_TEXTS = st.sampled_from(["''", "'x'", "'10'", "'Bot'"])
_LITERALS = st.one_of(_TEXTS, st.sampled_from(["`0`", "`1`", "`2.5`", "`-3`", "`true`", "`false`", "`null`", "`[]`", "`{}`"]))
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 12), st.sampled_from([0.0, 1.0, 2.5, "", "x", "10", "Bot"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_NAMES, inner, max_size=4)),
    max_leaves=12,
)

_OF_ONE = (
    *("length", "type", "to_string", "to_number", "to_array", "keys", "values", "reverse"),
    *("max", "min", "sum", "avg", "sort", "ceil", "floor"),
)


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(inner, _NAMES).map(lambda p: f"({p[0]}).{p[1]}"),
        st.tuples(inner, st.sampled_from(["[0]", "[-1]", "[1:]", "[::-1]", "[*]", "[]", ".*"])).map(lambda p: f"({p[0]}){p[1]}"),
        st.tuples(inner, inner, _NAMES).map(lambda p: f"({p[0]})[?{p[1]}].{p[2]}"),
        st.tuples(inner, st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "&&", "||", "|"]), inner).map(
            lambda p: f"({p[0]} {p[1]} {p[2]})"
        ),
        inner.map(lambda e: f"!({e})"),
        pair.map(lambda p: f"({p[0]})[].[{p[1]}, @]"),
        pair.map(lambda p: f"({p[0]}).{{k: {p[1]}, v: @}}"),
        st.tuples(st.sampled_from(_OF_ONE), inner).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(st.sampled_from(["sort_by", "max_by", "min_by"]), inner, _NAMES).map(lambda p: f"{p[0]}({p[1]}, &{p[2]})"),
        pair.map(lambda p: f"not_null({p[0]}, {p[1]})"),
        pair.map(lambda p: f"contains({p[0]}, {p[1]})"),
        pair.map(lambda p: f"map(&{p[0]}, {p[1]})"),
    )


_EXPRESSIONS = st.recursive(st.one_of(_NAMES, st.just("@"), _LITERALS), _grown, max_leaves=8)
_REFUSED = object()


class _NullSafe(Functions):  # type: ignore[misc]
    """The one difference in evaluation, told to the library: null in, null out."""

    def call_function(self, function_name: str, resolved_args: list[Any]) -> Any:
        if None in [a if a is None else 0 for a in resolved_args] and function_name not in ("not_null", "type"):
            return None
        return super().call_function(function_name, resolved_args)


def _by_library(expression: str, value: Any) -> Any:
    try:
        return jmespath.search(expression, value, jmespath.Options(custom_functions=_NullSafe()))
    except (JMESPathError, TypeError, ValueError):
        return _REFUSED


def _by_us(compile_it: Callable[[], Code], scope: Any) -> Any:
    """What the compiled expression gives; constants that no function takes are told at load, where the library may never
    come to evaluate them."""
    try:
        return compile_it().run(scope)
    except ExpressionError as error:
        if " takes " in error.what or " orders by " in error.what:
            return _REFUSED
        raise


@settings(max_examples=examples(100), deadline=None)
@given(_EXPRESSIONS, _VALUES)
def test_random_expressions_agree_with_the_library(expression: str, value: Any) -> None:
    """Where jmespath's evaluator (made null-safe) answers, the compiled expression gives the same, byte for byte."""
    wanted = _by_library(expression, value)
    got = _REFUSED if wanted is _REFUSED else _by_us(lambda: compile_item(expression), value)
    assert got is _REFUSED or json.dumps(got) == json.dumps(wanted)


@settings(max_examples=examples(60), deadline=None)
@given(_EXPRESSIONS, _VALUES)
def test_named_roots_agree_with_the_library(expression: str, value: Any) -> None:
    """An expression that begins with a root name gives what the library gives over an object with that member."""
    rooted = f"doc | {expression}"
    wanted = _by_library(rooted, {"doc": value})
    names = NameScope(slots={"doc": Slot(0)})
    got = _REFUSED if wanted is _REFUSED else _by_us(lambda: compile_text(rooted, names, Context()), [value])
    assert got is _REFUSED or json.dumps(got) == json.dumps(wanted)
