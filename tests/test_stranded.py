"""Which calls may move to another destination automatically, and what the ledger moves."""

from collections.abc import Sequence

import pytest

from tunerd.call import Form, State
from tunerd.config import Destination, Secret
from tunerd.ledger import Admission, Deferred, Delivered, Filter, Retention, Stranded
from tunerd.outcome import RetryReason
from tunerd.stranded import heir_of
from tunerd.testing import MemoryLedger, make_call

NOW = 1_767_225_600.0


def at(base_url: str, workspace_id: int = 42) -> Destination:
    name = f"{base_url.partition('://')[2]}/{workspace_id}"
    return Destination(name=name, base_url=base_url, workspace_id=workspace_id, api_key=Secret("k"))


NEW = at("https://new.example")
OLD = Stranded(destination="old.example/42", workspace="https://old.example/42", due=3)
CASES: Sequence[tuple[Stranded, list[Destination], Destination | None]] = [
    (OLD, [NEW], NEW),
    (OLD, [NEW, at("https://other.example", 7)], NEW),
    (OLD, [NEW, at("https://other.example")], None),
    (OLD, [at("https://new.example", 7)], None),
    (OLD, [], None),
    (OLD, [NEW, at("https://old.example", 7)], None),
    (Stranded(destination="old.example/42", workspace="https://old.example/42", due=3, has_accepted=True), [NEW], None),
    (Stranded(destination="new.example/41", workspace="https://new.example/41", due=3), [NEW], None),
    (Stranded(manifest="egress", waiting=3), [NEW], None),
    (Stranded(destination="old.example/x/42", workspace="https://old.example/x/42", due=1), [NEW], NEW),
]


@pytest.mark.parametrize(("one", "destinations", "heir"), CASES)
def test_the_heir_is_beyond_doubt(one: Stranded, destinations: list[Destination], heir: Destination | None) -> None:
    """Calls move if exactly one destination has the same workspace, and the old address never accepted a call and is not
    configured."""
    assert heir_of(one, destinations) == heir


def call(call_id: str, workspace: str = "https://old.example/42", destination: str = "old.example/42") -> object:
    from dataclasses import replace

    return replace(make_call(call_id, destination=destination), workspace=workspace)


async def _admit(ledger: MemoryLedger, *calls: object) -> None:
    await ledger.admit(Admission(calls=calls), NOW)  # type: ignore[arg-type]


async def _claim(ledger: MemoryLedger, destination: str) -> int:
    claim = await ledger.claim(destination, Form.SEND_CALLS, lambda unfrozen: unfrozen.payload, NOW)
    assert claim.claimed is not None
    return claim.claimed.row


async def test_what_surely_did_not_arrive_moves_and_the_rest_stays() -> None:
    """A moved call gets a new body and is due at once. A call that may have arrived stays, and so does one whose id is taken
    at the new destination."""
    ledger = MemoryLedger()
    await _admit(ledger, call("may"))
    later = Deferred(
        due_at=NOW, reason=RetryReason.TIMEOUT, status=None, detail="no answer", counts=True, surely_not_arrived=False
    )
    await ledger.settle(await _claim(ledger, "old.example/42"), later, NOW)
    await _admit(ledger, call("refused"))
    await _admit(ledger, call("taken"), call("taken", "https://new.example/42", "new.example/42"))
    (old,) = [one for one in await ledger.stranded(["new.example/42"], []) if one.destination]
    assert (old.destination, old.due, old.may_have_arrived, old.has_accepted) == ("old.example/42", 3, 1, False)
    assert await ledger.follow("old.example/42", "new.example/42", "https://new.example/42", NOW + 5) == 1
    rows = {(row.call_id, row.destination): row for row in await ledger.calls(Filter())}
    assert set(rows) == {
        ("may", "old.example/42"), ("taken", "old.example/42"), ("taken", "new.example/42"), ("refused", "new.example/42"),
    }  # fmt: skip
    assert rows["refused", "new.example/42"].state is State.DUE
    (story,) = await ledger.story("refused")
    assert any(event.what == "moved" and "old.example/42" in event.detail for event in story.events)
    await _claim(ledger, "new.example/42")


async def test_an_address_that_accepted_a_call_is_known_after_its_rows_are_gone() -> None:
    """After retention deletes the sent row, the address still counts as one that accepted."""
    ledger = MemoryLedger()
    await _admit(ledger, call("sent"))
    await ledger.settle(
        await _claim(ledger, "old.example/42"), Delivered(status=201, tuner_call_id=None, already_there=False), NOW
    )
    await _admit(ledger, call("due"))
    (one,) = await ledger.stranded([], [])
    assert one.has_accepted
    keep = Retention(sent_s=1.0, failed_s=1.0, recordings_s=1.0, max_failed_bytes=1, documents=0)
    assert await ledger.trim(keep, NOW + 100) == 1
    (one,) = await ledger.stranded([], [])
    assert one.has_accepted
