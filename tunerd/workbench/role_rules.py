"""Who speaks in documents that no preset knows: what each role of their rows becomes, by its words; and which roles are
guesses."""

from collections.abc import Sequence
from typing import Final

from tunerd.workbench.row_rules import Proposal
from tunerd.workbench.shape import AGENT_WORDS, SILENT_WORDS, USER_WORDS, Speech, name_words, plain
from tunerd.workbench.written import yaml_key

_TOOL_WORDS: Final = ("tool", "function", "action")


def roles_of(speech: Speech, made: Proposal) -> tuple[dict[str, str], list[str]]:
    """What each role of the documents becomes, and those that become nothing."""
    if speech.role is None:
        made.unsure.append("nothing says who speaks: every row is taken for the user's")
        return {}, []
    roles: dict[str, str] = {}
    silent: list[str] = []
    words = list(speech.roles)[:20]
    both_known = {"agent", "user"} <= {_known_role(word) for word in words}
    for word in words:
        known = _known_role(word)
        if known is None and not SILENT_WORDS.isdisjoint(name_words(word)):
            silent.append(word)
            continue
        if known is None and both_known and (known := _role_by_part(word)) is None:
            silent.append(word)
            made.unsure.append(f"who is `{word}`? Its rows are left out (null in the table): write agent or user if it speaks")
            continue
        if known is None and both_known:
            made.unsure.append(f"who is `{word}`? It is taken for the {known}")
        roles[word] = known or role_of(word, made, len(roles))
    return roles, silent


def _role_by_part(word: str) -> str | None:
    """`human_agent`: by a word in it."""
    parts = frozenset(name_words(word))
    return "agent" if not parts.isdisjoint(AGENT_WORDS) else "user" if not parts.isdisjoint(USER_WORDS) else None


def _known_role(word: str) -> str | None:
    folded = plain(word)
    if word.casefold() in AGENT_WORDS:
        return "agent"
    if word.casefold() in USER_WORDS:
        return "user"
    if not SILENT_WORDS.isdisjoint(name_words(word)):
        return None
    if any(part in folded for part in _TOOL_WORDS):
        return (
            "agent_result"
            if folded == "tool" or any(part in folded for part in ("result", "output", "response"))
            else "agent_function"
        )
    return None


def role_of(word: str, made: Proposal, at: int) -> str:
    known = _known_role(word)
    if known is None:
        known = "agent" if at == 0 else "user"
        made.unsure.append(f"who is `{word}`? It is taken for the {known}")
    return known


def role_table(roles: dict[str, str], speech: Speech | None = None, silent: Sequence[str] = ()) -> list[str]:
    if not roles and (speech is None or speech.role is None):
        return []
    named = {**roles, **dict.fromkeys(silent, "null")}
    members = ", ".join(f"{yaml_key(word)}: {role}" for word, role in named.items())
    return ["  let:", f"    roles: {{const: {{{members}}}}}"]
