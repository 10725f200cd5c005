"""Claims freeze a due call and hand it to a worker, in one file because an admission hands its new calls over in this way."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tunerd.call import AudioState, Call, Form, Publish, Refusal, State
from tunerd.ledger import (
    Claim,
    Claimed,
    FailedCall,
    Freeze,
    LedgerUnavailable,
    Matched,
    Pick,
    PreparedAudio,
    Reservation,
    Unfrozen,
    UrlToSign,
)
from tunerd.ledger.body_delta import apply_delta, delta_of
from tunerd.ledger.commands.audio_life import body_parts, give_up, prepare
from tunerd.ledger.commands.join import fail, resolve
from tunerd.ledger.commands.locate_audio import located
from tunerd.ledger.decision import Absence
from tunerd.ledger.rows import LedgerRow
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import Move
from tunerd.ledger.uploading import AudioEnded
from tunerd.location import LocationKind, stored_location
from tunerd.outcome import FailReason
from tunerd.record import record

_AT_MOST: Final = 256
"""Calls that one claim may fail or put back before it finds one, so that no transaction grows without bound."""

_LOST: Final = Refusal(
    reason=FailReason.UNREADABLE,
    where="ledger",
    what="its stored payload is gone (the ledger was damaged); `tunerd retry` reads the document again",
)
_SIGNATURE_OVER: Final = Refusal(
    reason=FailReason.RECORDING_EXPIRED,
    where="audio.expires",
    what="its signed URL has expired, and an earlier attempt may have arrived with it; look in Tuner whether the call is there. "
    "If it is not, `tunerd retry` signs a new one",
)


@record
class ClaimRequest:
    """The arguments of a claim."""

    destination: str
    form: Form
    freeze: Freeze
    now: float
    pick: Pick
    not_agents: frozenset[str]
    due_by: float | None
    only: int | None = None
    audio: PreparedAudio | None = None
    """With `only`: the call's audio, and its claimant has a slot for the upload."""

    @property
    def by(self) -> float:
        return self.now if self.due_by is None else self.due_by

    @property
    def alike(self) -> tuple[object, ...]:
        """Requests that have this in common are answered together."""
        return (self.destination, self.form, self.not_agents, self.due_by, self.only)


def claim(store: Store, asks: Sequence[ClaimRequest]) -> Sequence[Claim]:
    """See WritePath.claim; all requests are alike. What they look for is picked together: that is most of a claim's work."""
    if not store.db.others.has_name():
        raise LedgerUnavailable("another start took this instance's name; this one sends nothing more")
    first = asks[0]
    if first.only is not None:
        return [_claim_only(store, ask, first.only) for ask in asks]
    now = min(ask.now for ask in asks)
    picked = store.due.pick_many(
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
        else:  # the request before has just found nothing
            claims[at] = replace(dry, failed=tuple(failed[at]))
    return [claim for claim in claims if claim is not None]


def hand_over(
    store: Store,
    new: Sequence[tuple[Call, LedgerRow]],
    offers: Sequence[Reservation],
    now: float,
    found: list[Matched | FailedCall | None],
) -> Sequence[Claimed]:
    """Hand out calls that this transaction made, in their order: those that are due now and have a reservation. Nobody has to be
    woken for them."""
    handed: list[Claimed] = []
    failed: list[FailedCall] = []
    for offer in offers if store.db.others.has_name() else ():
        ask = ClaimRequest(destination=offer.destination, form=offer.form, freeze=offer.freeze, now=now, pick=Pick.NEWEST,
                  not_agents=frozenset(), due_by=None)  # fmt: skip
        left = offer.count
        for call, row in new:
            if not left or row.destination != offer.destination or row.state is not State.DUE or (row.due_at or 0.0) > now:
                continue
            if row.audio is AudioState.PENDING:
                continue
            store.bodies.payload_is(row.row, call.payload, call.checked_for)
            claimed = _try(store, row, ask, failed)
            if claimed is not None:
                store.woken[row.destination] -= 1
                handed.append(claimed)
                left -= 1
    found.extend(failed)
    return handed


def _claim_only(store: Store, ask: ClaimRequest, number: int) -> Claim:
    failed: list[FailedCall] = []
    row, claimed = store.calls.get(number), None
    if row is not None and _may_claim(store, row, ask):
        claimed = _try(store, row, ask, failed)
    next_due_at = None if claimed is not None else store.due.next_due(ask.destination, ask.not_agents)
    is_due = row is not None and row.state is State.DUE and row.destination == ask.destination and (row.due_at or 0.0) <= ask.now
    needs_audio = is_due and claimed is None and row is not None and row.audio is AudioState.PENDING
    if needs_audio and row is not None:
        needs_audio = store.audios.has_uploader(row)
    return Claim(claimed=claimed, next_due_at=next_due_at, failed=tuple(failed), needs_audio=needs_audio)


def _may_claim(store: Store, row: LedgerRow, ask: ClaimRequest) -> bool:
    if row.state is not State.DUE or row.destination != ask.destination or (row.due_at or 0.0) > ask.by:
        return False
    if row.audio is not AudioState.PENDING:
        return ask.audio is None
    return ask.audio is not None and store.audios.may_upload(row) and prepare(store, row, ask.audio)


def _claim_one(store: Store, ask: ClaimRequest, failed: list[FailedCall]) -> Claim:
    for _ in range(_AT_MOST):
        row = store.due.pick(ask.destination, ask.pick, ask.by, ask.now, ask.not_agents)
        if row is None:
            next_due_at = store.due.next_due(ask.destination, ask.not_agents)
            audio = store.audios.next_due(ask.destination, (), ask.not_agents)
            is_due = audio is not None and audio[0] <= ask.now
            return Claim(claimed=None, next_due_at=next_due_at, failed=tuple(failed), needs_audio=is_due)
        if (claimed := _try(store, row, ask, failed)) is not None:
            return Claim(claimed=claimed, next_due_at=None, failed=tuple(failed))
    return Claim(claimed=None, next_due_at=ask.now, failed=tuple(failed))


def _try(store: Store, row: LedgerRow, ask: ClaimRequest, failed: list[FailedCall]) -> Claimed | None:
    """Hand the call out. None: its URL had expired or its body could not be made; if that failed it, `failed` has it."""
    to_sign = _to_sign(store, row)
    is_over = row.recording_expires_at is not None and row.recording_expires_at <= ask.now
    if is_over and (to_sign is None or (row.form is not None and row.may_have_arrived)):
        ended: Matched | FailedCall | bytes | None = (
            _expire(store, row, ask.now) if to_sign is None else fail(store, row, _SIGNATURE_OVER, ask.now, Move.END)
        )
    elif to_sign is not None and (row.form is None or is_over):
        store.thaw(row)
        return _hand_out(store, row, b"", ask.form, ask.now, to_sign)
    else:
        ended = _freeze(store, row, ask.form, ask.freeze, ask.now)
        if isinstance(ended, bytes):
            return _hand_out(store, row, ended, ask.form, ask.now)
    if isinstance(ended, FailedCall):
        failed.append(ended)
    return None


def _expire(store: Store, row: LedgerRow, now: float) -> Matched | FailedCall | None:
    """The URL is no longer served: the next strategy answers, or the call fails. Its frozen body holds the URL and is thawed."""
    store.thaw(row)
    described = [
        one for one in store.recordings.taken(row.row) if one.location is not None and one.expires_at != row.recording_expires_at
    ]
    fresh = next((one for one in described if one.expires_at is None or one.expires_at > now), None)
    if row.joined is not None and fresh is not None:  # a manifest described it again while the body was frozen
        store.change(
            row, **located(store, row, fresh.location, fresh.expires_at, now, identity=fresh.identity, owner=fresh.owner)
        )
        return None
    if row.joined is not None:
        store.wants.answer(row.row, row.joined, Absence(at=now, expired=True))
    if row.seeks:
        store.wants.seek(row.row, True)
    store.change(row, joined=None, **located(store, row, None, None, now))
    return resolve(store, row, now)


def _to_sign(store: Store, row: LedgerRow) -> UrlToSign | None:
    """Of a call whose recording is an object that Tuner gets by a signed URL."""
    if row.recording_location is None or stored_location(row.recording_location).kind is not LocationKind.OBJECT:
        return None
    if row.audio is AudioState.FAILED:  # it is sent with the placeholder
        return None
    plan = store.bodies.audio_plan(row.row)
    if plan is None or plan.publish is not Publish.PRESIGN:
        return None
    return UrlToSign(location=row.recording_location, expires_s=plan.expires_s, sends_on_error=plan.sends_on_error)


def freeze_signed(
    store: Store, row_id: int, freeze: Freeze, form: Form, url: str | AudioEnded, expires_at: float | None, now: float
) -> Claimed | FailedCall | None:
    """See WritePath.freeze_signed."""
    row = store.claimed_row(row_id)
    if row is None or row.state is not State.SENDING or row.form is not None:
        return None
    if isinstance(url, AudioEnded):
        give_up(store, row, url, now)
    body = _freeze(store, row, form, freeze, now, "" if isinstance(url, AudioEnded) else url)
    if isinstance(body, FailedCall):
        return body
    store.change(row, form=row.form, patch=row.patch, frozen_by_claim=True, recording_expires_at=expires_at)
    if store.db.holder:
        store.fleet_claims.note(row.row, row.claims, body)
    return _claimed(store, row, body, form, now)


def _freeze(store: Store, row: LedgerRow, form: Form, freeze: Freeze, now: float, signed_url: str = "") -> bytes | FailedCall:
    """The exact bytes to post; they are chosen once."""
    if row.form is not None:
        row.frozen_by_claim = False
        frozen = frozen_body(store, row)
        return fail(store, row, _LOST, now, Move.END) if frozen is None else frozen
    payload, checked_for = store.bodies.payload(row.row)
    if payload is None:
        return fail(store, row, _LOST, now, Move.END)
    (location, upload), rule = body_parts(store, row), ""
    if row.audio is AudioState.NONE:
        location = signed_url or location
        if location and stored_location(location).kind is not LocationKind.URL:
            plan = store.bodies.audio_plan(row.row)
            rule = plan.url_rule if plan is not None else ""
    made = freeze(
        Unfrozen(payload=payload, recording_url=location, checked_for=checked_for, url_rule=rule, upload=upload,
                 with_placeholder=row.audio is not AudioState.NONE)
    )  # fmt: skip
    if isinstance(made, Refusal):
        return fail(store, row, made, now, Move.END)
    row.patch = delta_of(payload, made)
    if row.patch is None:
        store.bodies.keep_frozen(row.row, made)
    row.form = form
    row.frozen_by_claim = True
    return made


def frozen_body(store: Store, row: LedgerRow) -> bytes | None:
    if row.patch is None:
        return store.bodies.frozen(row.row)
    payload, _ = store.bodies.payload(row.row)
    return None if payload is None else apply_delta(payload, row.patch)


def _hand_out(store: Store, row: LedgerRow, body: bytes, form: Form, now: float, to_sign: UrlToSign | None = None) -> Claimed:
    columns: dict[str, object] = {"claimed_at": now}
    if row.frozen_by_claim:
        columns |= {"form": row.form, "patch": row.patch}
    if row.first_attempt_at is None:
        columns["paused_before_s"] = _clock(store, row.destination, row.agent, now)
    if to_sign is not None:
        columns["recording_expires_at"] = None
    if store.db.holder:
        columns |= {"holder": store.db.holder, "claims": row.claims + 1}
        store.fleet_claims.note(row.row, row.claims + 1, body)
    store.move(row, Move.CLAIM, State.SENDING, now, frozen_by_claim=row.frozen_by_claim, **columns)
    return _claimed(store, row, body, form, now, to_sign)


def _claimed(store: Store, row: LedgerRow, body: bytes, form: Form, now: float, to_sign: UrlToSign | None = None) -> Claimed:
    paused_s = 0.0
    if row.first_attempt_at is not None:
        paused_s = max(0.0, _clock(store, row.destination, row.agent, now) - row.paused_before_s)
    return Claimed(
        row=row.row,
        source=row.source,
        destination=row.destination,
        agent=row.agent,
        call_id=row.call_id or "",
        body=body,
        form=row.form or form,
        attempts=row.attempts,
        first_attempt_at=row.first_attempt_at,
        paused_s=paused_s,
        settled_at=row.settled_at,
        ended_at_ms=row.ended_at_ms,
        recording_expires_at=row.recording_expires_at,
        read_from=row.read_from,
        to_sign=to_sign,
        lease=store.db.lease,
    )


def _clock(store: Store, destination: str, agent: str, now: float) -> float:
    known = store.destinations.get(destination)
    return 0.0 if known is None else known[1].shown_at(known[0], now, agent)
