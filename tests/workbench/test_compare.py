"""Two JSON values held against each other."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunerd.workbench.compare import ABSENT, changes, field_of, lines, same

TABLE: list[tuple[Any, Any, list[tuple[str, Any, Any]]]] = [
    (1, 1.0, []),
    (True, 1, [("", True, 1)]),
    ({"a": 1}, {"a": 1, "b": 2}, [("b", ABSENT, 2)]),
    ({"a": 1, "b": None}, {"a": 1}, [("b", None, ABSENT)]),
    ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, [("a.b[1]", 2, 3)]),
    ([1, 2, 3], [1, 9, 2, 3], [("[1]", ABSENT, 9)]),
    ([1, 2, 3], [2, 3], [("[0]", 1, ABSENT)]),
    ([{"t": "a", "x": 1}, {"t": "b"}], [{"t": "n"}, {"t": "a", "x": 1}, {"t": "b"}], [("[0]", ABSENT, {"t": "n"})]),
    ([{"t": "a"}, {"t": "b"}, {"t": "c"}], [{"t": "a"}, {"t": "B"}], [("[1].t", "b", "B"), ("[2]", {"t": "c"}, ABSENT)]),
    ({"a": [1]}, {"a": {"b": 1}}, [("a", [1], {"b": 1})]),
]


@pytest.mark.parametrize(("old", "new", "expected"), TABLE)
def test_each_difference_is_named_once_with_both_values(old: Any, new: Any, expected: list[tuple[str, Any, Any]]) -> None:
    """Lists of different lengths are aligned: one row more is one change."""
    assert [(change.path, change.old, change.new) for change in changes(old, new)] == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=12,
)


@given(JSON, JSON)
def test_no_change_means_equal(old: Any, new: Any) -> None:
    """Nothing differs exactly when there is nothing to tell."""
    assert (list(changes(old, new)) == []) == same(old, new)
    assert list(changes(old, old)) == []


def test_long_texts_are_shown_around_their_difference() -> None:
    """Both lines fit, and the place where they part is in them."""
    old, new = "word " * 100 + "left" + " tail" * 50, "word " * 100 + "right" + " tail" * 50
    (change,) = changes({"text": old}, {"text": new})
    shown = list(lines(change, "old", "new", "    "))
    assert shown[0] == "    text"
    assert "left" in shown[1]
    assert "right" in shown[2]
    assert max(map(len, shown)) <= 80


@pytest.mark.parametrize(
    ("path", "field"),
    [("call_id", "call_id"), ("rows[12].tool.params", "rows[].tool.params"), ("a[1][2].b", "a[][].b"), ("", "")],
)
def test_changes_are_counted_by_field_whatever_the_row(path: str, field: str) -> None:
    """Numbers of rows play no part."""
    (change,) = changes(1, 2, path)
    assert field_of(change) == field
