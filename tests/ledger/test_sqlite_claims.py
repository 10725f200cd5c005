"""Claims and deliveries of one batch go to SQLite together, and a rollback takes them back together."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.ledger.parts import FORM, NOW, REJECTED, SENT, file_mark, freeze, later, refuse
from tests.ledger.test_write_buffer import statements
from tunerd.call import Form, State
from tunerd.ledger import Admission, Claimed, Freeze, Pick, Settlement, Unfrozen
from tunerd.ledger.commands import admit, claim, operator_actions
from tunerd.ledger.commands import settle as settling
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.damage import open_sound
from tunerd.outcome import FailReason
from tunerd.testing import make_call


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store, _ = open_sound(tmp_path / "ledger.db", NOW, 86_400.0)
    yield store
    store.db.close()


def put(store: Store, *call_ids: str, path: str = "/calls/a.json", mtime_ns: int = 1) -> None:
    calls = [make_call(call_id, path=path, mtime_ns=mtime_ns) for call_id in call_ids]
    store.begin(full=True)
    admit.admit(store, Admission(calls=calls, mark=file_mark(path)), NOW)
    store.commit()


def take(store: Store, count: int, now: float = NOW + 1, freeze: Freeze = freeze) -> list[Claimed]:
    store.begin(full=False)
    claims = claim.claim(store, [ask(now, freeze) for _ in range(count)])
    store.commit()
    return [claim.claimed for claim in claims if claim.claimed is not None]


def ask(now: float, freeze: Freeze = freeze) -> claim.ClaimRequest:
    return claim.ClaimRequest(
        destination="tuner", form=FORM, freeze=freeze, now=now, pick=Pick.OLDEST, not_agents=frozenset(), due_by=None
    )


def settle(store: Store, row: int, settlement: Settlement, now: float = NOW + 2) -> set[tuple[str, str]]:
    store.begin(full=False)
    settling.settle(store, row, settlement, now)
    return store.commit()[1]


def table(store: Store) -> list[sqlite3.Row]:
    return store.db.execute("SELECT * FROM call ORDER BY row").fetchall()


def test_a_batch_is_a_statement_each_for_claims_and_deliveries(store: Store) -> None:
    """32 calls are settled and 32 claimed by one transaction: its statements do not grow with them."""
    put(store, *(f"c{number}" for number in range(64)))
    held = take(store, 32)
    assert len(held) == 32
    seen = statements(store)
    store.begin(full=False)
    for one in held:
        settling.settle(store, one.row, SENT, NOW + 2)
    claims = claim.claim(store, [ask(NOW + 2) for _ in range(32)])
    store.commit()
    assert sum(claim.claimed is not None for claim in claims) == 32
    assert seen == ["BEGIN", "UPDATE", "WITH", "UPDATE", "INSERT", "COMMIT"], "the last INSERT counts the commit"
    assert (store.tally.calls[State.SENT], store.tally.calls[State.SENDING]) == (32, 32)


def test_what_is_in_hand_keeps_no_payload(store: Store) -> None:
    """A large call that is being sent is in memory once, as the body that its worker posts."""
    put(store, "a", "b")
    take(store, 1)
    assert store.bodies._payloads == {}


def test_a_rollback_gives_back_what_was_claimed(store: Store) -> None:
    """Neither the table nor the memory beside it knows of a claim, or a delivery, that was rolled back."""
    put(store, "a", "b")
    before = table(store)
    store.begin(full=False)
    claim.claim(store, [ask(NOW + 1)])
    store.rollback()
    assert (table(store), store.claimed) == (before, {})
    (held,) = take(store, 1)
    claimed = table(store)
    store.begin(full=False)
    settling.settle(store, held.row, SENT, NOW + 2)
    store.rollback()
    assert table(store) == claimed
    settle(store, held.row, SENT)
    assert (store.tally.calls[State.SENT], store.tally.calls[State.DUE]) == (1, 1)


def test_a_copy_that_comes_meanwhile_may_be_disposed_of_too(store: Store) -> None:
    """The same call stands in a second file while it is being sent: both files are candidates once it is delivered."""
    put(store, "a")
    (held,) = take(store, 1)
    put(store, "a", path="/calls/copy.json", mtime_ns=2)
    assert settle(store, held.row, SENT) == {("agent", "/calls/a.json"), ("agent", "/calls/copy.json")}


def test_a_copy_that_came_before_may_be_disposed_of_too(store: Store) -> None:
    """As above, where the second file was there first."""
    put(store, "a", mtime_ns=2)
    put(store, "a", path="/calls/copy.json", mtime_ns=1)
    (held,) = take(store, 1)
    assert settle(store, held.row, SENT) == {("agent", "/calls/a.json"), ("agent", "/calls/copy.json")}


def test_claims_that_find_nothing_each_say_what_they_failed(store: Store) -> None:
    """Two workers ask together, and both calls have a body that cannot be made: each failure is given out once."""
    put(store, "a", "b")
    store.begin(full=False)
    claims = claim.claim(store, [ask(NOW + 1, refuse), ask(NOW + 1, refuse)])
    store.commit()
    assert [[one.call_id for one in found.failed] for found in claims] == [["a"], ["b"]]
    assert [(found.claimed, found.next_due_at) for found in claims] == [(None, None), (None, None)]


def test_a_claim_ends_after_256_calls_that_fail(store: Store) -> None:
    """A backlog that cannot be sent is failed in several transactions: the claim asks to be repeated at once."""
    put(store, *(f"c{number}" for number in range(300)))
    counts = []
    for _ in range(2):
        store.begin(full=False)
        (found,) = claim.claim(store, [ask(NOW + 1, refuse)])
        store.commit()
        counts.append((found.claimed, found.next_due_at, len(found.failed)))
    assert counts == [(None, NOW + 1, 257), (None, None, 43)], "the first call was picked before they are counted"


def test_a_call_whose_payload_is_gone_fails_instead_of_being_claimed_for_ever(store: Store) -> None:
    """Damage took its body before it was frozen: it fails as unreadable, and the next call is claimed."""
    put(store, "lost", "whole")
    store.db.execute("UPDATE body SET payload = NULL WHERE row = (SELECT row FROM call WHERE call_id = 'lost')")
    store.begin(full=False)
    (found,) = claim.claim(store, [ask(NOW + 1)])
    store.commit()
    assert [(one.call_id, one.refusal.reason) for one in found.failed] == [("lost", FailReason.UNREADABLE)]
    assert found.claimed is not None
    assert found.claimed.call_id == "whole"


@pytest.mark.parametrize(
    "change",
    [
        {"destination": "other"},
        {"form": Form.SEND_CALLS},
        {"not_agents": frozenset({"bot"})},
        {"due_by": NOW + 60},
        {"only": 7},
    ],
)
def test_claims_of_different_calls_are_not_answered_together(change: dict[str, Any]) -> None:
    """One statement picks for all requests that are alike; the order of the pick and the time may differ."""
    assert replace(ask(NOW), **change).alike != ask(NOW).alike
    assert replace(ask(NOW + 1), pick=Pick.NEWEST).alike == ask(NOW).alike


def whole(_: Unfrozen) -> bytes:
    """A body that has nothing of its payload and cannot be compressed, so that it is stored whole."""
    return Random(7).randbytes(1000)


def frozen(store: Store) -> list[int]:
    """The rows whose frozen bodies are stored whole."""
    return [row for (row,) in store.db.execute("SELECT row FROM frozen ORDER BY row")]


def test_a_frozen_body_is_deleted_once_its_call_is_sent(store: Store) -> None:
    """A body that is stored whole stays while it may be sent again, and takes no place after that."""
    put(store, "sent", "later", "failed")
    rows = [held.row for held in take(store, 3, freeze=whole)]
    assert frozen(store) == rows
    for row, settlement in zip(rows, (SENT, later(NOW + 60), REJECTED), strict=True):
        settle(store, row, settlement)
    assert frozen(store) == rows[1:]
    (again,) = take(store, 1, NOW + 60)
    assert again.body == whole(Unfrozen(payload=b"", recording_url="", checked_for=None))
    settle(store, again.row, SENT)
    assert frozen(store) == rows[2:]


def test_a_frozen_body_is_deleted_with_what_it_was_made_for(store: Store) -> None:
    """A released first attempt, a call that is sent again by hand, and a forgotten call leave no frozen body behind."""
    put(store, "released", "requeued", "forgotten")
    released, requeued, forgotten = rows = [held.row for held in take(store, 3, freeze=whole)]
    assert frozen(store) == rows
    for row in (requeued, forgotten):
        settle(store, row, REJECTED)
    store.begin(full=False)
    settling.release(store, released, NOW + 2)
    operator_actions.requeue(store, requeued, NOW + 2)
    operator_actions.forget(store, "forgotten")
    store.commit()
    assert frozen(store) == []
