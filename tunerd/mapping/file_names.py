"""The name of a recording file, of a `file:` rule: literal text of the rule may stand for other characters, values of documents
never do. The rule is one expression; where it is `concat(...)`, its parts are told apart.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from tunerd.file_pattern import escaped
from tunerd.mapping.expressions import ExpressionError, compile_text
from tunerd.mapping.functions import Context, Run
from tunerd.mapping.functions.text import text_of
from tunerd.mapping.grammar import GrammarError, Tree, parse
from tunerd.mapping.scope import NameScope

NamePieces: TypeAlias = "Sequence[str | Run]"
"""Literal text, and what gives text from a document."""

_CLASS: Final = re.compile(r"\[!?\]?[^\]]*\]")
"""`[...]`, one of several characters."""
_MOST_CHARS: Final = 1024
_MOST_BYTES: Final = 255
"""Of one file name, on every file system in use."""


def name_pieces(text: str, names: NameScope, context: Context) -> NamePieces:
    """Nothing for an expression that cannot be compiled: RuleCompiler reports that."""
    try:
        return [
            tree["value"]
            if tree["type"] == "literal" and isinstance(tree["value"], str)
            else compile_text(tree, names, context).run
            for tree in _leaves(parse(text))
        ]
    except (GrammarError, ExpressionError, RecursionError):
        return ()


def _leaves(tree: Tree) -> list[Tree]:
    if tree["type"] == "function_expression" and tree["value"] == "concat":
        return [leaf for child in tree["children"] for leaf in _leaves(child)]
    return [tree]


def wrong_pattern(pieces: NamePieces) -> str | None:
    """What is wrong with the literal text of a name, known at load; None: nothing."""
    literals = [piece for piece in pieces if isinstance(piece, str)]
    if any(text.startswith("/") for text in pieces[:1] if isinstance(text, str)):
        return "begins with /: write the directory under `in:`, and here the name below it"
    if any(part in ("..", "**") for text in literals for part in text.split("/")):
        return "has `..` or `**` in it: a name stays below the directory of `in:`, and `*` stands for one name"
    if any("[" in _CLASS.sub("", text) for text in literals):
        return "has `[` without `]` in one text: write `[...]` in one piece, or `[[]` for the sign itself"
    return None


def file_name(pieces: NamePieces, slots: list[Any]) -> tuple[str, Sequence[str]]:
    """The pattern below `in:`, and the values from the document in it. Raises ValueError with what is wrong with a value; it
    is not quoted."""
    values: list[str] = []
    name = ""
    for piece in pieces:
        if isinstance(piece, str):
            name += piece
            continue
        value = text_of("concat", piece(slots)).strip()
        if not value:
            raise ValueError("has an empty value in the name of the file")
        if "/" in value:
            raise ValueError("has a value with / in the name of the file, and such a value could lead out of its directory")
        values.append(value)
        name += escaped(value)
    parts = [part for part in name.split("/") if part]
    if not parts or any(part in (".", "..") for part in parts):
        raise ValueError("gives a name of dots, which could lead out of the directory")
    longest = max(len(part.encode("utf-8", "replace")) for part in parts)
    if not name.isprintable() or len(name) > _MOST_CHARS or longest > _MOST_BYTES:
        raise ValueError("gives a name with a control character, or one that is too long for a file")
    return "/".join(parts), values


def holds_id(values: Sequence[str], call_id: str) -> bool:
    """Whether a name with these values is the call's own: one of them is its id, or has it between other signs."""
    alone = re.compile(rf"(?<![0-9A-Za-z]){re.escape(call_id)}(?![0-9A-Za-z])")
    return any(alone.search(value) for value in values)
