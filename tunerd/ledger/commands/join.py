"""Calls and recordings find each other: matching.py decides, and this carries it out on the stored rows."""

from collections.abc import Mapping, Sequence
from typing import Final

from tunerd.call import Choice, ManifestStrategy, Refusal, State, Strategy
from tunerd.file_pattern import FILES, stem
from tunerd.ledger import FailedCall, Matched
from tunerd.ledger.commands.locate_audio import located
from tunerd.ledger.commands.match_files import file_of
from tunerd.ledger.decision import Absence, CheckedUrls, Decision, Exhausted, Use, WaitUntil, decide, wants_of
from tunerd.ledger.matching import (
    Candidate,
    Free,
    Partner,
    Seeker,
    Standing,
    Tie,
    chosen,
    closeness,
    only,
    partners,
    taken_from,
)
from tunerd.ledger.matching_words import BY_HAND, tie_words
from tunerd.ledger.rows import KeptUrlCheck, LedgerRow, Want
from tunerd.ledger.sql.recordings import MANY
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import REVIVABLE, Move
from tunerd.location import without_secrets
from tunerd.outcome import FailReason

_AT_ONCE: Final = 256
"""Changes that one transaction looks at; the next transaction looks at the others."""
_NEIGHBOURS: Final = 32
_WORDS: Mapping[FailReason, str] = {
    FailReason.RECORDING_MISSING: "no strategy found its recording in time; a recording that comes later revives it, "
    "or `tunerd retry` looks again",
    FailReason.RECORDING_EXPIRED: "the URL of its recording had expired before it could be sent; "
    "bring a fresh one, then `tunerd retry`",
    FailReason.RECORDING_AMBIGUOUS: "tunerd does not guess; a nearer one that comes later revives the call, "
    f"or {BY_HAND}. Let the manifests tell when recordings started (`started_at`) and which they are (`id`)",
}


def first_wants(row: LedgerRow, strategies: Sequence[Strategy], *, is_seeking: bool = True) -> Sequence[Want]:
    """What a call looks for that is new or was rewritten; or what it would look for, if it brings its URL. A file says when it
    was last written, so its time is compared with the end of the call."""
    return [
        Want(
            call=row.row,
            position=position,
            source=strategy.source,
            key=strategy.key or "",
            started_at_ms=(row.ended_at_ms if strategy.source == FILES else None) or row.started_at_ms or 0,
            within_ms=None if strategy.within_s is None else round(strategy.within_s * 1000),
            near_ms=round(strategy.near_s * 1000),
            ended_at_ms=None if strategy.source == FILES else row.ended_at_ms,
            seeking=is_seeking,
            choice=strategy.choice,
            stem=stem(strategy.key or "") if strategy.source == FILES else "",
        )
        for position, strategy in wants_of(strategies)
    ]


def resolve(store: Store, row: LedgerRow, now: float, move: Move = Move.DECIDE) -> Matched | FailedCall | None:
    """Decide a call whose wants are in the ledger, and carry the decision out: it is due, waits longer, or is failed."""
    known = store.bodies.matching(row.row)
    if known is None:
        return None
    strategies, on_missing, verify_s = known
    checks = None if verify_s is None else _checks(store, row, verify_s)
    wants = store.wants.of(row.row) if row.seeks else ()
    offers = look(store, row, strategies, wants, now)
    for want in wants:
        offered = offers.get(want.position)
        is_later = isinstance(offered, Candidate) and offered.at > now
        store.wants.look_at(want, offered.at if is_later and isinstance(offered, Candidate) else None)
    decision = decide(
        strategies,
        on_missing,
        offers=offers,
        answers={want.position: want.absence for want in wants if want.absence is not None},
        waits_from=row.waits_from,
        now=now,
        checks=checks,
    )
    absent = () if checks is None else _keep_checks(store, row, decision, now)
    return _carry_out(store, row, decision, now, move, absent)


def _checks(store: Store, row: LedgerRow, verify_s: float) -> CheckedUrls:
    known = store.checks.of(row.row).values()
    absent = {one.location: at for one in known if (at := one.absent_at(verify_s)) is not None}
    return CheckedUrls(wait_s=verify_s, absent=absent, there=[one.location for one in known if one.due_at is None])


def _keep_checks(store: Store, row: LedgerRow, decision: Decision, now: float) -> Sequence[KeptUrlCheck]:
    """While the call waits, its URLs are asked for. Gives those that were asked for and are not there."""
    known = store.checks.of(row.row).values()
    store.checks.keep(row.row, decision.urls if isinstance(decision, WaitUntil) else (), now)
    return [one for one in known if one.due_at is not None and one.detail]


def look(
    store: Store, row: LedgerRow, strategies: Sequence[Strategy], wants: Sequence[Want], now: float
) -> Mapping[int, Candidate | Tie]:
    """What the ledger has for each of a call's wants. Reads only."""
    offers: dict[int, Candidate | Tie] = {}
    known: dict[tuple[str, str], Partner | Tie | None] = {}
    for want in wants:
        if want.absence is not None and not want.absence.expired:
            continue
        strategy = strategies[want.position]
        if not isinstance(strategy, ManifestStrategy):
            continue
        if want.source == FILES:
            partner = file_of(store, row, want, strategy.wait_s)
        elif want.choice is not Choice.NEAREST:  # each looks for itself, within its own time
            partner = _choice(store, want)
        else:
            if (want.source, want.key) not in known:
                known[want.source, want.key] = _partner(store, want)
            partner = known[want.source, want.key]
        if isinstance(partner, Tie):
            if any(closeness(want.seeker, one.started_at_ms) is not None for one in partner.recordings):
                offers[want.position] = partner
        elif partner is not None:
            close = closeness(want.seeker, partner.found.started_at_ms)
            if close is not None:
                own = Partner(found=partner.found, is_near=partner.is_near and not close[0])
                is_nearest = want.choice is Choice.NEAREST and not want.stem
                written_at = None if is_nearest else max(row.mtime_ns / 1e9, own.found.written_at)
                at = taken_from(
                    own, waits_from=row.waits_from, wait_s=strategy.wait_s, far=store.wants.far, now=now, written_at=written_at
                )
                offers[want.position] = Candidate(found=own.found, at=at)
    return offers


def _partner(store: Store, want: Want) -> Partner | Tie | None:
    """What matching gives the call, among everything near it: the recordings, the other calls to which they may belong, and what
    those may take instead."""
    free = {one.row: one for one in store.recordings.free_near(want.source, want.key, want.started_at_ms)}
    if not free:
        return None
    starts = dict.fromkeys([want.started_at_ms, *(one.started_at_ms for one in free.values())])
    rivals = {(w.call, w.position): w for at in starts for w in store.wants.rivals_near(want.source, want.key, at)}
    rivals[want.call, want.position] = want
    for other in [w for w in rivals.values() if w.call != want.call and w.standing is not Standing.SERVED][:_NEIGHBOURS]:
        free |= {one.row: one for one in store.recordings.free_near(want.source, want.key, other.started_at_ms)}
    return partners([rival.seeker for rival in rivals.values()], list(free.values())).get(want.call)


def _choice(store: Store, want: Want) -> Partner | Tie | None:
    """What belongs to the call by another rule than nearness."""
    if want.choice is Choice.ONLY:
        free, taken = store.recordings.alike_near(want.source, want.key, want.started_at_ms)
        return only(want.seeker, _others(store, want, free), free, taken)
    found = store.recordings.free_within(want.source, want.key, want.started_at_ms, want.within_ms)
    if len(found) > MANY:
        return Tie(recordings=tuple(found), others=0)
    return chosen(want.seeker, _others(store, want, found), found)


def _others(store: Store, want: Want, free: Sequence[Free]) -> Sequence[Seeker]:
    """Other calls that are known near these recordings."""
    rivals = {
        (rival.call, rival.position): rival
        for at in dict.fromkeys(one.started_at_ms for one in free)
        for rival in store.wants.rivals_near(want.source, want.key, at)
    }
    return [rival.seeker for rival in rivals.values() if rival.call != want.call]


def match(store: Store, now: float) -> tuple[list[Matched | FailedCall], set[int]]:
    """Decide every call that is near to a change of this transaction: a recording that came, was taken or became free, or a call
    that no longer looks for one. Returns the calls that were matched or failed, and the rows that were looked at."""
    found: list[Matched | FailedCall] = []
    seen: set[int] = set()
    for _ in range(_AT_ONCE + 4 * len(store.touched)):  # also what changes by these; but there is an end
        if not store.touched:
            break
        source, key, started_at_ms = next(iter(store.touched))
        del store.touched[source, key, started_at_ms]
        seekers = list(store.wants.seekers_near(source, key, started_at_ms))
        for other, at_ms in store.recordings.other_names(source, key, started_at_ms) if source == FILES else ():
            seekers += store.wants.seekers_near(source, other, at_ms)
        for call in dict.fromkeys(want.call for want in seekers):
            row = store.calls.get(call)
            if row is not None and (row.state is State.WAITING or is_revivable(row)):
                seen.add(call)
                ended = resolve(store, row, now)
                found += [ended] if ended is not None else []
    return found, seen


def is_revivable(row: LedgerRow) -> bool:
    return row.state is State.FAILED and not row.dismissed and row.reason in REVIVABLE


def _carry_out(
    store: Store, row: LedgerRow, decision: Decision, now: float, move: Move, absent: Sequence[KeptUrlCheck]
) -> Matched | FailedCall | None:
    """`absent`: URLs of the call that were asked for and are not there."""
    for closing in decision.closes:
        store.recordings.take(closing.recording, row.row)
        store.wants.answer(row.row, closing.position, Absence(at=now, expired=closing.expired))
    match decision:
        case Use():
            if decision.recording is not None:
                store.recordings.take(decision.recording, row.row)
            for one in absent if decision.is_placeholder else ():
                said = f"{without_secrets(one.location)}: {one.detail}; the call is sent as on_missing says"
                store.history.add(row, now, "recording missing", detail=said)
            store.move(
                row,
                move,
                State.DUE,
                now,
                due_at=now,
                joined=decision.position,
                reason=None,
                place="",
                detail="",
                **located(store, row, decision.location, decision.expires_at, now, identity=decision.identity),
            )
            if row.seeks:
                store.wants.seek(row.row, False)
            if decision.recording is None:
                return None
            store.history.add(row, now, "matched")
            return Matched(source=row.source, call_id=row.call_id or "", waited_s=max(0.0, now - row.waits_from))
        case WaitUntil():
            if row.state is State.FAILED and move is Move.DECIDE:
                return None  # it stays failed
            if row.state is State.WAITING and move is Move.DECIDE:
                if row.due_at != decision.at:
                    store.change(row, due_at=decision.at)
            else:
                store.move(row, move, State.WAITING, now, due_at=decision.at, **located(store, row, None, None, now))
            return None
        case Exhausted():
            if row.state is State.FAILED and move is Move.DECIDE:
                return None
            what = _WORDS[decision.reason]
            if absent and decision.reason is FailReason.RECORDING_MISSING:
                what = f"its URL gave no recording in time ({absent[0].detail}); `tunerd retry` asks again"
            if decision.tie is not None:
                what = f"{tie_words(decision.tie)}; {what}"
            return fail(store, row, Refusal(reason=decision.reason, where="recording", what=what), now, move)


def fail(store: Store, row: LedgerRow, refusal: Refusal, now: float, move: Move) -> FailedCall:
    """The ledger itself fails a call."""
    store.move(row, move, State.FAILED, now, due_at=None, reason=refusal.reason.value, place=refusal.where, detail=refusal.what)
    store.history.add(row, now, "failed", detail=f"{refusal.reason.value}: {refusal.what}")
    if row.seeks and refusal.reason not in REVIVABLE:
        store.wants.seek(row.row, False)
    return FailedCall(row=row.row, source=row.source, call_id=row.call_id, path=row.read_from, refusal=refusal)
