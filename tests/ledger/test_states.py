"""The table of transitions, in full."""

import pytest

from tunerd.call import State
from tunerd.ledger.states import TRANSITIONS, Move, check, may

ALLOWED = {
    (State.GATHERING, Move.REWRITE): "waiting due failed ignored",
    (State.WAITING, Move.DECIDE): "waiting due failed",
    (State.WAITING, Move.REWRITE): "waiting due failed ignored",
    (State.WAITING, Move.REQUEUE): "waiting due failed",
    (State.DUE, Move.DECIDE): "waiting due failed",
    (State.DUE, Move.CLAIM): "sending",
    (State.DUE, Move.DELIVER): "sent",
    (State.DUE, Move.END): "failed",
    (State.DUE, Move.REWRITE): "waiting due failed ignored",
    (State.DUE, Move.REQUEUE): "waiting due failed",
    (State.SENDING, Move.DELIVER): "sent",
    (State.SENDING, Move.DEFER): "due",
    (State.SENDING, Move.END): "failed",
    (State.SENDING, Move.RELEASE): "due",
    (State.FAILED, Move.DECIDE): "due",
    (State.FAILED, Move.REWRITE): "waiting due failed ignored",
    (State.FAILED, Move.REQUEUE): "waiting due failed",
    (State.IGNORED, Move.REWRITE): "waiting due failed ignored",
    (State.WAITING, Move.REOPEN): "gathering",
    (State.DUE, Move.REOPEN): "gathering",
    (State.FAILED, Move.REOPEN): "gathering",
    (State.IGNORED, Move.REOPEN): "gathering",
}


@pytest.mark.parametrize("move", list(Move))
@pytest.mark.parametrize("before", list(State))
def test_every_state_and_move(before: State, move: Move) -> None:
    """For every state and move exactly the listed states follow; a sent call stays sent, a sending one is its worker's."""
    after = {State(name) for name in ALLOWED.get((before, move), "").split()}
    assert may(before, move) == bool(after)
    for to in State:
        if to in after:
            check(before, move, to)
        else:
            with pytest.raises(AssertionError):
                check(before, move, to)


def test_nothing_leads_out_of_sent() -> None:
    """A call that Tuner has is never tried again by any move."""
    assert not [pair for pair in TRANSITIONS if pair[0] is State.SENT]
