"""Calls and recordings find each other: matching.py decides, this carries it out on the stored rows."""

from collections.abc import Mapping, Sequence

from tunerd.call import Refusal, State
from tunerd.ledger import FailedCall, Matched
from tunerd.ledger.matching import Answer, Decision, Exhausted, Free, Use, WaitUntil, decide, offer, wants_of
from tunerd.ledger.rows import Body, Row, Want
from tunerd.ledger.sql.store import SqliteStore
from tunerd.ledger.states import REVIVABLE, Move
from tunerd.outcome import FailReason

_WORDS: Mapping[FailReason, str] = {
    FailReason.RECORDING_MISSING: "no strategy found its recording in time; a recording that comes later revives it, "
    "or `tunerd retry` looks again",
    FailReason.RECORDING_EXPIRED: "the URL of its recording had expired before it could be sent; "
    "bring a fresh one, then `tunerd retry`",
}


def first_wants(row: Row, body: Body) -> Sequence[Want]:
    """What a call that is new, or was rewritten, looks for."""
    return [
        Want(
            call=row.row,
            position=position,
            source=strategy.source,
            key=strategy.key or "",
            started_at_ms=row.started_at_ms or 0,
            within_ms=None if strategy.within_s is None else round(strategy.within_s * 1000),
        )
        for position, strategy in wants_of(body.strategies)
    ]


def resolve(
    store: SqliteStore, row: Row, now: float, move: Move = Move.DECIDE, body: Body | None = None
) -> Matched | FailedCall | None:
    """Decide a call whose wants stand in the ledger, and carry the decision out: due, waiting on, or failed."""
    body = body or store.body(row.row)
    if body is None:
        return None
    wants = store.wants(row.row) if row.seeks else ()
    decision = decide(
        body.strategies,
        body.on_missing,
        offers=_offers(store, wants),
        answers={want.position: want.answer for want in wants if want.answer is not None},
        waits_from=row.waits_from,
        now=now,
    )
    return _carry_out(store, row, decision, now, move)


def _offers(store: SqliteStore, wants: Sequence[Want]) -> Mapping[int, Free]:
    offers: dict[int, Free] = {}
    for want in wants:
        if want.answer is not None and not want.answer.expired:
            continue
        free = store.free_near(want.source, want.key, want.started_at_ms)
        if not free:
            continue
        rivals = {r.row: [w.seeker for w in store.seekers_near(want.source, want.key, r.started_at_ms)] for r in free}
        if (found := offer(want.seeker, free, rivals)) is not None:
            offers[want.position] = found
    return offers


def _carry_out(store: SqliteStore, row: Row, decision: Decision, now: float, move: Move) -> Matched | FailedCall | None:
    for closing in decision.closes:
        store.take(closing.recording, row.row)
        store.answer_want(row.row, closing.position, Answer(at=now, expired=closing.expired))
    match decision:
        case Use():
            if decision.recording is not None:
                store.take(decision.recording, row.row)
            store.move(
                row,
                move,
                State.DUE,
                now,
                due_at=now,
                recording_url=decision.url,
                recording_expires_at=decision.expires_at,
                joined=decision.position,
                reason=None,
                place="",
                detail="",
            )
            if row.seeks:
                store.open_wants(row.row, False)
            if decision.recording is None:
                return None
            store.tell(row, now, "matched")
            return Matched(source=row.source, call_id=row.call_id or "", waited_s=max(0.0, now - row.waits_from))
        case WaitUntil():
            if row.state is State.FAILED and move is Move.DECIDE:
                return None  # still nothing: it stays failed
            if row.state is State.WAITING and move is Move.DECIDE:
                store.change(row, due_at=decision.at)
            else:
                store.move(row, move, State.WAITING, now, due_at=decision.at, recording_url=None, recording_expires_at=None)
            return None
        case Exhausted():
            if row.state is State.FAILED and move is Move.DECIDE:
                return None
            return fail(store, row, Refusal(reason=decision.reason, where="recording", what=_WORDS[decision.reason]), now, move)


def fail(store: SqliteStore, row: Row, refusal: Refusal, now: float, move: Move) -> FailedCall:
    """The ledger itself ends a call."""
    store.move(
        row,
        move,
        State.FAILED,
        now,
        due_at=None,
        reason=refusal.reason.value,
        place=refusal.where,
        detail=refusal.what,
    )
    store.tell(row, now, "failed", detail=f"{refusal.reason.value}: {refusal.what}")
    if row.seeks and refusal.reason not in REVIVABLE:
        store.open_wants(row.row, False)
    return FailedCall(row=row.row, source=row.source, call_id=row.call_id, path=row.read_from, refusal=refusal)
