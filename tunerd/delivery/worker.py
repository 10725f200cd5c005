"""A worker: one call after the other through claim, upload, decide and settle.

What it holds is in two fields, `permit` and `claimed`, from the moment it gets them until another part answers for them. So
there is one place where both go back, whatever ended the worker's turn: `_give_back`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from tunerd.audio.signed_url import SignedUrl
from tunerd.clock import Clock
from tunerd.delivery.destination_pool import DestinationPool
from tunerd.delivery.permits import Blocked, Permit
from tunerd.delivery.ports import MayNotSend
from tunerd.ledger import AudioEnded, Claim, Claimed, Ended, FailedCall, LedgerUnavailable, Settlement, UrlToSign, WritePath
from tunerd.outcome import AudioReason, Outcome
from tunerd.record import record

LEDGER_AGAIN_S: Final = 1.0
LOOK_AGAIN_S: Final = 0.05
AUDIO_PROBE_S: Final = 1.0
"""How long the probe of a pause is left to the workers that upload audio, if a call with audio has to be the probe."""
_LAST_SETTLE_S: Final = 1.0
"""How long a worker that is cancelled may take to note that its call was broken off."""
_ANY_TIME_S: Final = 10 * 365 * 86_400.0


@record
class Settling:
    """A call whose settlement is in the ledger's hands."""

    claimed: Claimed
    settlement: Settlement
    pauses: Awaitable[None] | None
    """Where this attempt changed the destination's pauses: done when they are stored, which has to be before the settlement."""
    durable: Awaitable[None]


class Worker:
    def __init__(
        self,
        pool: DestinationPool,
        number: int,
        ledger: WritePath,
        clock: Clock,
        tell_failed: Callable[[Sequence[FailedCall]], None],
        is_over: Callable[[DestinationPool], bool],
    ) -> None:
        self.number = number
        self.permit: Permit | None = None
        """Counted as in flight; nobody else gives it back."""
        self.claimed: Claimed | None = None
        """`sending` in the ledger; nobody else settles or releases it."""
        self.settling: Settling | None = None
        self._pool = pool
        self._ledger = ledger
        self._clock = clock
        self._tell_failed = tell_failed
        self._is_over = is_over

    def go_on(self) -> None:
        """Nobody writes the settlement that this worker waits for: stop waiting."""
        if self.settling is not None and isinstance(self.settling.durable, asyncio.Future) and not self.settling.durable.done():
            self.settling.durable.set_exception(LedgerUnavailable("its settlement was lost"))

    async def run(self) -> None:
        """Until there is nothing to do any more, or this worker is one too many. The next claim is asked for while the last
        call is being settled (one commit holds both); its call is not sent before that settlement is durable."""
        pool = self._pool
        try:
            while self.number < pool.settings.concurrency and not self._is_over(pool):
                changes = pool.parking.changes
                wait = await self._take()
                await self._see_settled()
                if wait is not None:
                    await self._rest(wait, changes)
                    continue
                if pool.pacing.has_room:
                    pool.parking.wake_next()
                await self._attempt()
            await self._see_settled()
        finally:
            self._give_back()
            pool.parking.wake_next()  # whoever sits may have a reason to end, too

    # Gate, permit, claim.

    async def _take(self) -> Blocked | None:
        """Get a permit and the call that it is for, or how long there is none. Without a call the permit goes back."""
        pool = self._pool
        if pool.handed:
            return self._take_handed()
        if (until := pool.need_not_look()) is not None:
            return Blocked(until=until)
        if not pool.may_send():
            return Blocked(until=self._clock.now() + LEDGER_AGAIN_S)
        permit = Blocked() if pool.settings.dry_run else pool.pacing.acquire(self._clock.now())
        if isinstance(permit, Blocked):
            return permit
        self.permit = permit
        form, changes = pool.key.form, pool.parking.changes
        if form is None:
            self._give_back()
            return Blocked()
        try:
            claim = await self._claim(permit)
        except LedgerUnavailable:
            self._give_back()
            return Blocked(until=self._clock.now() + LEDGER_AGAIN_S)
        self._tell_failed(claim.failed)
        now = self._clock.now()
        if claim.claimed is None and permit.probe and claim.needs_audio:
            self._give_back()
            pool.audio.parking.notify()
            return Blocked(until=now + AUDIO_PROBE_S)
        if claim.claimed is None:
            self._give_back()
            pool.found_nothing(claim.next_due_at, changes)
            if claim.next_due_at is None and not claim.needs_audio:
                pool.found_no_probe()
            return Blocked(until=self._look_again_at(claim, now))
        if not pool.pacing.pauses.takes_agent(claim.claimed.agent, now):
            self._give_back()
            await self._ledger.release(claim.claimed.row, now)
            return Blocked(until=now + LOOK_AGAIN_S)
        self.claimed = claim.claimed
        return await self._share_probe(permit, claim.claimed) if pool.shares_probe(permit, claim.claimed.agent) else None

    async def _share_probe(self, permit: Permit, claimed: Claimed) -> Blocked | None:
        """None: no other instance sends a probe now. Else the call goes back."""
        try:
            until = await self._pool.claim_probe(permit, claimed.agent)
        except LedgerUnavailable:
            until = self._clock.now() + LEDGER_AGAIN_S
        if until is None:
            return None
        self._give_back()
        self._pool.pacing.pauses.probe_elsewhere(permit.probe, claimed.agent, until)
        return Blocked(until=until)

    def _take_handed(self) -> Blocked | None:
        """The next call that was handed over, if it may still go: a pause may have begun since its permit was reserved."""
        pool, now = self._pool, self._clock.now()
        permit, claimed = pool.handed.popleft()
        self.permit = permit
        may_go = (
            pool.pacing.pauses.is_open(now) and pool.key.form is claimed.form and not pool.settings.dry_run and pool.may_send()
        )
        may_go = may_go and not pool.shares_probe(permit, claimed.agent)
        if may_go and pool.pacing.pauses.takes_agent(claimed.agent, now):
            self.claimed = claimed
            return None
        self._give_back()
        self._ledger.release(claimed.row, now)
        return Blocked(until=now + LOOK_AGAIN_S)

    async def _claim(self, permit: Permit) -> Claim:
        """Raises LedgerUnavailable."""
        pool, now = self._pool, self._clock.now()
        form = pool.key.form
        assert form is not None  # noqa: S101 - asked before
        freeze, any_time = pool.freeze(form), now + _ANY_TIME_S
        if permit.row is not None:
            claim = await self._ledger.claim(pool.name, form, freeze, now, due_by=any_time, only=permit.row)
            if claim.claimed is not None or claim.needs_audio:
                return claim
            self._tell_failed(claim.failed)
            pool.pacing.pauses.probe_is_gone(permit.row)
        claim = await self._ledger.claim(pool.name, form, freeze, now, pick=permit.pick, not_agents=permit.not_agents)
        if permit.probe and claim.claimed is None and claim.next_due_at is not None:
            self._tell_failed(claim.failed)
            claim = await self._ledger.claim(pool.name, form, freeze, now, not_agents=permit.not_agents, due_by=any_time)
        return claim

    def _look_again_at(self, claim: Claim, now: float) -> float | None:
        times = [at for at in (claim.next_due_at, self._pool.pacing.pauses.next_agent_probe_at()) if at is not None]
        return max(min(times), now + LOOK_AGAIN_S) if times else None

    def _give_back(self) -> None:
        """The permit was not used, and no attempt was begun with the call that was claimed with it."""
        permit, claimed = self.permit, self.claimed
        self.permit = self.claimed = None
        now = self._clock.now()
        if permit is not None and claimed is None:
            self._pool.pacing.unused(permit, now)
        elif permit is not None and claimed is not None:
            self._pool.pacing.untouched(permit, claimed.agent, now)
            self._ledger.release(claimed.row, now)

    # The attempt.

    async def _attempt(self) -> None:
        pool, permit, claimed = self._pool, self.permit, self.claimed
        assert permit is not None and claimed is not None  # noqa: S101, PT018 - see run
        if claimed.to_sign is not None:
            claimed = await self._signed(permit, claimed, claimed.to_sign)
            if claimed is None:
                return
        ended = await self._upload(permit, claimed)
        if ended is None:
            return
        settlement = ended[0]
        pauses = pool.keep_pauses()  # asked for before the settlement, so they are written before it or with it
        durable = self._ledger.settle(claimed.row, settlement, self._clock.now())
        self.permit = self.claimed = None
        self.settling = Settling(claimed=claimed, settlement=settlement, pauses=pauses, durable=durable)

    async def _upload(self, permit: Permit, claimed: Claimed) -> tuple[Settlement, Outcome] | None:
        """One attempt, and what is decided about it. None: no byte was sent, and the call goes back."""
        pool = self._pool
        started_at = pool.started(claimed)
        try:
            outcome = await pool.upload(claimed)
        except MayNotSend:
            pool.not_begun(claimed)
            self._give_back()
            return None
        except BaseException:
            settlement = pool.broken_off(permit, claimed)
            self.permit = self.claimed = None
            with suppress(TimeoutError, LedgerUnavailable):
                async with asyncio.timeout(_LAST_SETTLE_S):
                    await self._ledger.settle(claimed.row, settlement, self._clock.now())
            raise
        return pool.ended(permit, claimed, outcome, started_at), outcome

    async def _signed(self, permit: Permit, claimed: Claimed, wanted: UrlToSign) -> Claimed | None:
        """The call with its body, for which the URL of its recording is signed first. None: it goes back, or is failed."""
        pool = self._pool
        signed = await pool.signer.sign(wanted, claimed.settled_at)
        now = self._clock.now()
        url: str | AudioEnded = signed.url if isinstance(signed, SignedUrl) else ""
        if isinstance(signed, Ended) and wanted.sends_on_error:
            url = AudioEnded(reason=AudioReason.AUDIO_UNREADABLE, detail=signed.detail)
        elif not isinstance(signed, SignedUrl):
            self.permit = self.claimed = None
            pool.pacing.untouched(permit, claimed.agent, now)
            durable = self._ledger.settle(claimed.row, signed, now)
            self.settling = Settling(claimed=claimed, settlement=signed, pauses=None, durable=durable)
            return None
        frozen: Claimed | FailedCall | None = None
        with suppress(LedgerUnavailable):
            frozen = await self._ledger.freeze_signed(
                claimed.row, pool.freeze(claimed.form), claimed.form, url, getattr(signed, "expires_at", None), now
            )
        if isinstance(frozen, Claimed):
            if isinstance(url, AudioEnded):
                pool.signer.report_without_audio(claimed, url)
            self.claimed = frozen
            return frozen
        if frozen is not None:
            self._tell_failed((frozen,))
        self._give_back()
        return None

    async def _see_settled(self) -> None:
        """Wait until the last call's settlement is durable, and report it. The ledger has it: if this wait is broken off, or
        the ledger closes, a restart finds what was not written."""
        if self.settling is None:
            return
        try:
            await self._pool.pauses_are_kept(self.settling.pauses)
            await self.settling.durable
            self._pool.report_settled(self.settling.claimed, self.settling.settlement)
        except LedgerUnavailable:
            pass
        finally:
            self.settling = None

    async def _rest(self, wait: Blocked, changes: int) -> None:
        if not self._is_over(self._pool):
            await self._pool.parking.park(wait.until, changes)
