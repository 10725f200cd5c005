"""The answers, states, pauses and defaults in docs/delivery.md are those of the code."""

import re

import pytest

from tests.docs.fences import DOCS
from tunerd.call import State
from tunerd.config import Delivery, LedgerConfig, Source
from tunerd.config.settings import keys_of
from tunerd.delivery.retry import HttpAnswer, judge
from tunerd.outcome import Failed, Outcome, PauseReason, Refused, Retry, Scope, Sent, Unconfirmed

PAGE = (DOCS / "delivery.md").read_text()
_ANSWERS = re.findall(r"^\| ((?:`\d+` ?)+)\| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
_CASES = [
    (int(status), body, words)
    for statuses, with_json, other in _ANSWERS
    for status in re.findall(r"\d+", statuses)
    for body, words in ((b'{"detail": "x"}', with_json), (b"<html>", other))
]


def _in_words(outcome: Outcome) -> str:
    match outcome:
        case Sent():
            return "sent"
        case Retry():
            return f"tried again: {outcome.reason.value}"
        case Failed():
            return f"failed: {outcome.reason.value}"
        case Unconfirmed():
            return "unconfirmed"
        case Refused():
            return f"paused: {outcome.reason.value}" + (", this agent only" if outcome.scope is Scope.AGENT else "")


@pytest.mark.parametrize(("status", "body", "words"), _CASES)
def test_an_answer_means_what_the_table_says(status: int, body: bytes, words: str) -> None:
    """Each cell, up to a remark, says what the code does with the answer."""
    outcome = judge(HttpAnswer(status=status, body=body), now=0.0, retry_after_max_s=3600.0)
    assert re.split(r" \(|; |(?<=^sent): ", words.strip())[0] == _in_words(outcome)


_SUCCESSES = [
    (body, words.strip())
    for bodies, words in re.findall(r"^\| (`[{O].*`) \| [^|]+ \| (\w[^|]*) \|$", PAGE, re.MULTILINE)
    for body in re.findall(r"`([^`]+)`", bodies)
]


@pytest.mark.parametrize(("body", "words"), _SUCCESSES)
def test_a_2xx_means_what_the_table_of_bodies_says(body: str, words: str) -> None:
    """Each example body means the same with every status from 200 to 299."""
    assert len(_SUCCESSES) >= 18
    for status in range(200, 300):
        assert _in_words(judge(HttpAnswer(status=status, body=body.encode()), now=0.0, retry_after_max_s=3600.0)) == words


def test_states_and_pauses_are_all_there() -> None:
    """The tables have one row for each state and pause, and no other rows."""

    def cells(title: str) -> set[str]:
        section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        return {cell.partition(",")[0] for cell in re.findall(r"^\| ([a-z][^|]*?) \|", section, re.MULTILINE)}

    assert cells("States") - {"state"} == {state.value for state in State}
    assert cells("Pauses") - {"pause"} == {reason.value for reason in PauseReason}


@pytest.mark.parametrize("page", ["delivery.md", "recordings.md", "troubleshooting.md"])
def test_defaults_are_what_is_said(page: str) -> None:
    """A number in brackets after a key, such as `drain` (20 s), is the default of that key."""
    fields = {key.field: key.default for model in (Delivery, LedgerConfig, Source) for key in keys_of(model).values()}
    defaults = fields | {re.sub(r"_(s|bytes)$", "", name): default for name, default in fields.items()}
    units = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86_400, "days": 86_400, "MiB": 1 << 20, "GiB": 1 << 30}
    text = (DOCS / page).read_text()
    said = re.findall(r"`(?:delivery\.|ledger\.)?(\w+):?` \((\d+)(?: (s|min|h|d|days|MiB|GiB))?\)", text)
    assert said
    wrong = [
        (name, number, unit)
        for name, number, unit in said
        if name not in _NOT_ONE_FIELD and defaults[name] != int(number) * units[unit]
    ]
    assert not wrong


_NOT_ONE_FIELD = frozenset({"hold_for"})
"""Its default belongs to `on_missing` as a whole."""
