"""Claim, settle, release: a call on its way through one attempt; and the gate of its destination."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tunerd.call import Call, Form, Refusal, State
from tunerd.ledger import (
    Claim,
    Claimed,
    Deferred,
    Delivered,
    Ended,
    FailedCall,
    Freeze,
    Gate,
    Matched,
    Pick,
    Reservation,
    Settlement,
    Unfrozen,
)
from tunerd.ledger.body_delta import apply_delta, delta_of
from tunerd.ledger.commands.join import fail, resolve
from tunerd.ledger.matching import Absence
from tunerd.ledger.rows import PauseClock, Row
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import Move, may
from tunerd.outcome import FailReason

_AT_MOST: Final = 256
"""Calls that one claim may fail or put back on its way, so that no transaction grows without bound."""

_LOST: Final = Refusal(
    reason=FailReason.UNREADABLE,
    where="ledger",
    what="its stored payload is gone (the ledger was damaged); `tunerd retry` reads the document again",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The arguments of a claim."""

    destination: str
    form: Form
    freeze: Freeze
    now: float
    pick: Pick
    not_agents: frozenset[str]
    due_by: float | None
    only: int | None = None

    @property
    def by(self) -> float:
        return self.now if self.due_by is None else self.due_by

    @property
    def alike(self) -> tuple[object, ...]:
        """Asks that have this in common are answered together."""
        return (self.destination, self.form, self.not_agents, self.due_by, self.only)


def claim(store: Store, asks: Sequence[Ask]) -> Sequence[Claim]:
    """See WritePath.claim; all of them alike. What they look for is picked at once: that is most of a claim's work."""
    first = asks[0]
    if first.only is not None:
        return [_claim_only(store, ask, first.only) for ask in asks]
    now = min(ask.now for ask in asks)
    picked = store.pick_many(
        first.destination, [ask.pick for ask in asks], now if first.due_by is None else first.due_by, now, first.not_agents
    )
    claims: list[Claim | None] = []
    failed: list[list[FailedCall]] = [[] for _ in asks]
    for ask, pick, own in zip(asks, picked, failed, strict=True):
        claimed = None if pick is None else _try(store, pick, ask, own)
        claims.append(None if claimed is None else Claim(claimed=claimed, next_due_at=None, failed=tuple(own)))
    dry: Claim | None = None
    for at, ask in enumerate(asks):
        if claims[at] is not None:
            continue
        if dry is None or (dry.next_due_at is not None and dry.next_due_at <= ask.by):
            claims[at] = found = _claim_one(store, ask, failed[at])
            dry = found if found.claimed is None else None
        else:  # where one has just found nothing there is nothing
            claims[at] = replace(dry, failed=tuple(failed[at]))
    return [claim for claim in claims if claim is not None]


def hand_over(
    store: Store,
    new: Sequence[tuple[Call, Row]],
    offers: Sequence[Reservation],
    now: float,
    found: list[Matched | FailedCall | None],
) -> Sequence[Claimed]:
    """Of the calls that this transaction made, those that are due now and offered a place are handed out, in their order.
    Nobody has to be woken for them."""
    handed: list[Claimed] = []
    failed: list[FailedCall] = []
    for offer in offers:
        ask = Ask(destination=offer.destination, form=offer.form, freeze=offer.freeze, now=now, pick=Pick.NEWEST,
                  not_agents=frozenset(), due_by=None)  # fmt: skip
        left = offer.count
        for call, row in new:
            if not left or row.destination != offer.destination or row.state is not State.DUE or (row.due_at or 0.0) > now:
                continue
            store.payload_is(row.row, call.payload, call.checked_for)
            claimed = _try(store, row, ask, failed)
            if claimed is not None:
                store.woken[row.destination] -= 1
                handed.append(claimed)
                left -= 1
    found.extend(failed)
    return handed


def _claim_only(store: Store, ask: Ask, number: int) -> Claim:
    failed: list[FailedCall] = []
    row, claimed = store.get(number), None
    if row is not None and row.state is State.DUE and row.destination == ask.destination and (row.due_at or 0.0) <= ask.by:
        claimed = _try(store, row, ask, failed)
    next_due_at = None if claimed is not None else store.next_due(ask.destination, ask.not_agents)
    return Claim(claimed=claimed, next_due_at=next_due_at, failed=tuple(failed))


def _claim_one(store: Store, ask: Ask, failed: list[FailedCall]) -> Claim:
    for _ in range(_AT_MOST):
        row = store.pick(ask.destination, ask.pick, ask.by, ask.now, ask.not_agents)
        if row is None:
            return Claim(claimed=None, next_due_at=store.next_due(ask.destination, ask.not_agents), failed=tuple(failed))
        if (claimed := _try(store, row, ask, failed)) is not None:
            return Claim(claimed=claimed, next_due_at=None, failed=tuple(failed))
    return Claim(claimed=None, next_due_at=ask.now, failed=tuple(failed))


def _try(store: Store, row: Row, ask: Ask, failed: list[FailedCall]) -> Claimed | None:
    """Hand the call out; or it goes another way, and what fails by that is noted."""
    if row.recording_expires_at is not None and row.recording_expires_at <= ask.now:
        ended: Matched | FailedCall | bytes | None = _expire(store, row, ask.now)
    else:
        ended = _freeze(store, row, ask.form, ask.freeze, ask.now)
        if isinstance(ended, bytes):
            return _hand_out(store, row, ended, ask.now)
    if isinstance(ended, FailedCall):
        failed.append(ended)
    return None


def _expire(store: Store, row: Row, now: float) -> Matched | FailedCall | None:
    """The URL is no longer served: the next strategy answers, or the call fails. A frozen body carries the URL."""
    store.thaw(row)
    told = [one for one in store.taken(row.row) if one.url is not None and one.expires_at != row.recording_expires_at]
    fresh = next((one for one in told if one.expires_at is None or one.expires_at > now), None)
    if row.joined is not None and fresh is not None:  # it was told again while the body was kept as it was
        store.change(row, recording_url=fresh.url, recording_expires_at=fresh.expires_at)
        return None
    if row.joined is not None:
        store.answer_want(row.row, row.joined, Absence(at=now, expired=True))
    if row.seeks:
        store.open_wants(row.row, True)
    store.change(row, recording_url=None, recording_expires_at=None, joined=None)
    return resolve(store, row, now)


def _freeze(store: Store, row: Row, form: Form, freeze: Freeze, now: float) -> bytes | FailedCall:
    """The exact bytes to post; they are chosen once."""
    if row.form is not None:
        row.frozen_by_claim = False
        frozen = _frozen(store, row)
        return fail(store, row, _LOST, now, Move.END) if frozen is None else frozen
    payload, checked_for = store.payload(row.row)
    if payload is None:
        return fail(store, row, _LOST, now, Move.END)
    made = freeze(Unfrozen(payload=payload, recording_url=row.recording_url or "", checked_for=checked_for))
    if isinstance(made, Refusal):
        return fail(store, row, made, now, Move.END)
    row.patch = delta_of(payload, made)
    if row.patch is None:
        store.keep_frozen(row.row, made)
    row.form = form
    row.frozen_by_claim = True
    return made


def _frozen(store: Store, row: Row) -> bytes | None:
    if row.patch is None:
        return store.kept_frozen(row.row)
    payload, _ = store.payload(row.row)
    return None if payload is None else apply_delta(payload, row.patch)


def _hand_out(store: Store, row: Row, body: bytes, now: float) -> Claimed:
    clock = _clock(store, row.destination, row.agent, now)
    paused_s = 0.0 if row.first_attempt_at is None else max(0.0, clock - row.paused_before_s)
    columns: dict[str, object] = {"claimed_at": now}
    if row.frozen_by_claim:
        columns |= {"form": row.form, "patch": row.patch}
    if row.first_attempt_at is None:
        columns["paused_before_s"] = clock
    store.move(row, Move.CLAIM, State.SENDING, now, frozen_by_claim=row.frozen_by_claim, **columns)
    return Claimed(
        row=row.row,
        source=row.source,
        destination=row.destination,
        agent=row.agent,
        call_id=row.call_id or "",
        body=body,
        form=row.form or Form.CREATE_CALL,
        attempts=row.attempts,
        first_attempt_at=row.first_attempt_at,
        paused_s=paused_s,
        settled_at=row.settled_at,
        recording_expires_at=row.recording_expires_at,
        read_from=row.read_from,
    )


def _clock(store: Store, destination: str, agent: str, now: float) -> float:
    known = store.gate(destination)
    return 0.0 if known is None else known[1].shown_at(known[0], now, agent)


def settle(store: Store, row_id: int, settlement: Settlement, now: float) -> None:
    """See WritePath.settle. A row that is not `sending` was settled before (or is gone): nothing happens."""
    row = store.held(row_id)
    if row is None or row.state is not State.SENDING:
        return
    first = row.first_attempt_at if row.first_attempt_at is not None else row.claimed_at
    match settlement:
        case Delivered():
            if row.form is not None and row.patch is None:
                store.drop_frozen(row.row)
            store.move(
                row,
                Move.DELIVER,
                State.SENT,
                now,
                due_at=None,
                attempts=row.attempts + 1,
                first_attempt_at=first,
                status=settlement.status,
                tuner_call_id=settlement.tuner_call_id,
                reason=None,
                detail="Tuner already had it" if settlement.already_there else "",
                form=None,
                patch=None,
            )
            store.retire_body(row)
            if row.gathers:
                store.thin_fragments(row.row)
        case Deferred():
            columns: dict[str, object] = {"attempts": row.attempts + 1, "first_attempt_at": first} if settlement.counts else {}
            store.move(
                row,
                Move.DEFER,
                State.DUE,
                now,
                due_at=settlement.due_at,
                status=settlement.status,
                reason=settlement.reason.value,
                detail=settlement.detail,
                may_have_arrived=row.may_have_arrived or not settlement.surely_not_arrived,
                frozen_by_claim=False,
                **columns,
            )
            tried = f"attempt {row.attempts}, " if settlement.counts else ""
            why = f"{tried}{settlement.reason.value}: {settlement.detail}"
            store.tell(row, now, "retried" if settlement.counts else "refused", settlement.status, why)
        case Ended():
            store.move(
                row,
                Move.END,
                State.FAILED,
                now,
                due_at=None,
                attempts=row.attempts + 1,
                first_attempt_at=first,
                status=settlement.status,
                reason=settlement.reason.value,
                detail=settlement.detail,
                may_have_arrived=row.may_have_arrived or settlement.reason is not FailReason.REJECTED,
                frozen_by_claim=False,
            )
            why = f"attempt {row.attempts}, {settlement.reason.value}: {settlement.detail}"
            store.tell(row, now, "failed", settlement.status, why)


def release(store: Store, row_id: int, now: float) -> None:
    """See WritePath.release."""
    row = store.get(row_id)
    if row is None or row.state is not State.SENDING:
        return
    if row.frozen_by_claim:
        store.thaw(row)
    store.move(row, Move.RELEASE, State.DUE, now, due_at=row.due_at)


_ENDED: Final = "the process ended while it was being sent"
_FAILED: Final = "the ledger's disk failed while it was being sent"
_NOBODYS: Final = "it stood as being sent, and nobody had it in hand"


def reclaim(store: Store, row: Row, now: float, why: str = _ENDED) -> None:
    """A call that was being sent is due again, with its body: it is in nobody's hands, and nobody knows whether it
    arrived."""
    if may(row.state, Move.RELEASE):
        store.move(row, Move.RELEASE, State.DUE, now, due_at=row.due_at, may_have_arrived=True, frozen_by_claim=False)
        store.tell(row, now, "interrupted", detail=f"attempt {row.attempts + 1}: {why}")


def reclaim_all(store: Store, now: float) -> None:
    """At open: whatever was being sent when the last process ended."""
    for row in store.sending():
        reclaim(store, row, now)


def sending(store: Store) -> dict[int, float]:
    """See WritePath.sending."""
    rows = [row for number in store.in_hand if (row := store.held(number)) is not None and row.state is State.SENDING]
    return {row.row: row.claimed_at or 0.0 for row in rows}


def reclaim_lost(store: Store, claims: Mapping[int, float], now: float) -> int:
    """See WritePath.reclaim."""
    lost = [
        row for number, at in claims.items()
        if (row := store.get(number)) is not None and row.state is State.SENDING and (row.claimed_at or 0.0) == at
    ]  # fmt: skip
    for row in lost:
        reclaim(store, row, now, _NOBODYS)
    return len(lost)


def take_after(store: Store, before: Store, now: float) -> None:
    """Go on where another connection to the same file broke down. After a failed write nobody knows which of the last
    transactions are on disk: what stands as being sent there and is in nobody's hands is due again, as one that may have
    arrived; what is in somebody's hands here stands as being sent, until its settlement is written."""
    store.touched, store.far = before.touched, before.far
    for row in store.sending():
        if row.row in before.in_hand:
            store.in_hand[row.row] = row
        else:
            reclaim(store, row, now, _FAILED)
    for number in before.in_hand:
        known = None if number in store.in_hand else store.get(number)
        if known is not None and known.state is State.DUE:
            store.move(known, Move.CLAIM, State.SENDING, now, claimed_at=now, frozen_by_claim=False)


def set_gate(store: Store, destination: str, gate: Gate, now: float) -> None:
    """See WritePath.set_gate."""
    known = store.gate(destination)
    clock = PauseClock(at=now) if known is None else known[1].advance(known[0], now)
    store.set_gate(destination, gate, clock)
