"""Values that a call and its recording have in common beside a key: `match:` of a manifest, `same:` of `nearest:`. Pure."""

from collections.abc import Collection
from typing import Any, Final

import orjson

from tunerd.mapping.row_values import text_of
from tunerd.yaml_location import Node

_NO_KEY: Final = "\x1f"
"""At the beginning of such a text. No key begins with it, since keys are trimmed."""
_WORDS: Final = frozenset({"let", "when", "for_each", "rows", "const"})


def names_in(node: Node | None) -> frozenset[str] | None:
    """The names of the values that a rule gives; None where it is no mapping of names and rules."""
    if node is None or node.value is None:
        return frozenset()
    if not isinstance(node.value, dict) or not node.value or node.value.keys() & _WORDS:
        return None
    return frozenset(node.value)


def match_text(names: Collection[str], values: Any) -> str | None:
    """One text for all values, the same on both sides; None if one of them is missing: it equals nothing then."""
    found = []
    for name in sorted(names):
        text = (text_of(values.get(name)) or "").strip() if isinstance(values, dict) else ""
        if not text:
            return None
        found.append([name, text])
    return _NO_KEY + orjson.dumps(found).decode()
