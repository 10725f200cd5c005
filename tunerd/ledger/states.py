"""Which states a call may pass between, and by which move. Pure: a table, and the question whether a step is in it.

How a step is decided (matching, retries) and how it is stored is said elsewhere.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from tunerd.call import State
from tunerd.outcome import FailReason


class Move(StrEnum):
    """What happens to a call that is in the ledger."""

    DECIDE = "decide"
    """Its recording was looked for: it is there, may still come, or will not."""
    CLAIM = "claim"
    DELIVER = "deliver"
    DEFER = "defer"
    """An attempt decided nothing: the call is due again."""
    END = "end"
    """Failed: by its attempt, or because its body could not be made."""
    RELEASE = "release"
    """A claim was given back."""
    REWRITE = "rewrite"
    """A newer document, or the same one mapped again, replaced it."""
    REOPEN = "reopen"
    """Another document of a gathered call came before it was sent: it is gathered again."""
    REQUEUE = "requeue"
    """A person wants it sent again as it is."""


_DECIDED: Final = frozenset({State.WAITING, State.DUE, State.FAILED})
_REWRITTEN: Final = _DECIDED | {State.IGNORED}

TRANSITIONS: Final[Mapping[tuple[State, Move], frozenset[State]]] = {
    (State.GATHERING, Move.REWRITE): _REWRITTEN,
    (State.WAITING, Move.DECIDE): _DECIDED,
    (State.WAITING, Move.REWRITE): _REWRITTEN,
    (State.WAITING, Move.REQUEUE): _DECIDED,
    (State.DUE, Move.DECIDE): _DECIDED,  # its recording's URL expired before it was sent
    (State.DUE, Move.CLAIM): frozenset({State.SENDING}),
    (State.DUE, Move.DELIVER): frozenset({State.SENT}),  # by an instance that was given up while its request was open
    (State.DUE, Move.END): frozenset({State.FAILED}),
    (State.DUE, Move.REWRITE): _REWRITTEN,
    (State.DUE, Move.REQUEUE): _DECIDED,
    (State.SENDING, Move.DELIVER): frozenset({State.SENT}),
    (State.SENDING, Move.DEFER): frozenset({State.DUE}),
    (State.SENDING, Move.END): frozenset({State.FAILED}),
    (State.SENDING, Move.RELEASE): frozenset({State.DUE}),
    (State.FAILED, Move.DECIDE): frozenset({State.DUE}),  # its recording came late
    (State.FAILED, Move.REWRITE): _REWRITTEN,
    (State.FAILED, Move.REQUEUE): _DECIDED,
    (State.IGNORED, Move.REWRITE): _REWRITTEN,
    (State.WAITING, Move.REOPEN): frozenset({State.GATHERING}),
    (State.DUE, Move.REOPEN): frozenset({State.GATHERING}),
    (State.FAILED, Move.REOPEN): frozenset({State.GATHERING}),
    (State.IGNORED, Move.REOPEN): frozenset({State.GATHERING}),
}
"""A step that is not in here does not happen: a sent call stays sent, and only its worker gives back a call that is sending."""

REVIVABLE: Final = frozenset({FailReason.RECORDING_MISSING, FailReason.RECORDING_EXPIRED, FailReason.RECORDING_AMBIGUOUS})
"""Failed without a recording: one that comes later puts the call to work again."""


def may(state: State, move: Move) -> bool:
    """Whether the table has this move for a call in this state."""
    return (state, move) in TRANSITIONS


def check(state: State, move: Move, after: State) -> None:
    """Raises AssertionError for a step that is not in the table: that is a defect of tunerd."""
    if after not in TRANSITIONS.get((state, move), frozenset()):
        raise AssertionError(f"no {move} leads from {state} to {after}")
