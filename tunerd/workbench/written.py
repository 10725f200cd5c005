"""Expressions and keys in YAML that is written for a person: plain where that is safe, quoted where it is not."""

import json
import re
from typing import Final

from tunerd.workbench.shape import Path

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.()' +*-]*(, [A-Za-z0-9_.()' +*-]+)*")


def dotted(root: str, path: Path) -> str:
    """`doc.call.id`; without a root the path begins with one itself."""
    return ".".join(part for part in (root, steps(path)) if part)


def steps(path: Path) -> str:
    return ".".join(map(step, path))


def step(name: str | None) -> str:
    """A member's name in an expression; quoted where it is no plain word."""
    text = str(name)
    return text if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*(\[0\])?", text) else json.dumps(text, ensure_ascii=False)


def literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quoted(rule: str) -> str:
    """An expression as YAML: plain where that is safe everywhere, also in [ ] and { }."""
    return rule if _PLAIN.fullmatch(rule) and "," not in rule else json.dumps(rule, ensure_ascii=False)


def yaml_key(word: str) -> str:
    return (
        word
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", word) and word.lower() not in ("true", "false", "null")
        else json.dumps(word)
    )


def yaml_text(text: str) -> str:
    """A text value: plain where nobody could take it for anything else."""
    return (
        text if re.fullmatch(r"[/*A-Za-z][\w./*-]*", text) and not text.startswith("*") else json.dumps(text, ensure_ascii=False)
    )
