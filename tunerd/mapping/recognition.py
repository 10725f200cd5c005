"""Whether a document is a call (or a recording) at all: what `refuse:`, `when:` and `not_call:` say, and the words for a
document that none of them knows. Pure.
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

from tunerd.call import Refusal
from tunerd.mapping.ruleset import RuleSet
from tunerd.mapping.values import true
from tunerd.outcome import FailReason

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,30}", re.ASCII)
"""A member's name that a message may quote: another one may be somebody's number or address."""
_NAMES_SHOWN: Final = 8


class Judgement(Enum):
    WANTED = "wanted"
    NO_CALL = "no call"
    """`not_call:` is true."""
    LEFT_OUT = "left out"
    """`when:` is false, and nothing else is asked."""
    UNKNOWN = "unknown"
    """Neither `when:` nor `not_call:` is true."""

    @property
    def is_final(self) -> bool:
        """Whether the rules know the document: then nothing is looked for inside it."""
        return self in (Judgement.WANTED, Judgement.NO_CALL)


def judge(rules: RuleSet, slots: list[Any]) -> Judgement:
    """What `when:` and `not_call:` say; `let` and `refuse:` come before."""
    if rules.when is not None and true(rules.when(slots)):
        return Judgement.WANTED
    if any(true(rule(slots)) for rule in rules.not_call):
        return Judgement.NO_CALL
    if rules.when is None:
        return Judgement.WANTED
    return Judgement.UNKNOWN if rules.strict else Judgement.LEFT_OUT


def unrecognised(rules: RuleSet, kind: str, preset: str | None, value: Any) -> Refusal:
    """The refusal of a document that the rules do not know. `kind`: call or manifest; `value`: the document (of a gathered
    call one of them)."""
    what = "recording" if kind == "manifest" else "finished call"
    whose = f"preset `{preset}` does" if preset else "the rules do"
    told = f"{whose} not recognise this document: it is no {what} in a form they know, and nothing says that it is none"
    if preset:
        told = told.replace("they know", "it knows")
    names = list(_names(value))
    if names:
        told += f" (its members: {', '.join(names[:_NAMES_SHOWN])}{', ...' if len(names) > _NAMES_SHOWN else ''})"
    told += "; `tunerd explain FILE` shows what each rule found. "
    listed = next(_lists(value), None)
    if listed is not None:
        told += f"If `{listed}` is a list of documents, add `documents: {listed}` to the source. "
    told += f"If this is no {'recording' if kind == 'manifest' else 'call'}, leave it out with a rule `{kind}: {{not_call: ...}}`"
    told += " or by its file name with `exclude:`"
    where = str(rules.when_step) if rules.when_step is not None else kind
    return Refusal(reason=FailReason.UNMAPPABLE, where=where, what=told)


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (name for name in value if _NAME.fullmatch(name))


def _lists(value: Any) -> Iterator[str]:
    """Members that may be lists of documents, as `documents:` would name them."""
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            yield "doc"
        return
    for name in _names(value):
        member = value[name]
        if isinstance(member, list) and member and all(isinstance(item, dict) for item in member[:3]):
            yield f"doc.{name}" if name.isidentifier() else f'doc."{name}"'
