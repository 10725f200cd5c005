"""A destination while the daemon runs: its pauses, key, parked workers and open attempts, and what status pages see of it.

worker.py has the order of the steps; this module has what each step needs of the destination.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Final

from tunerd.call import Form
from tunerd.config import Delivery as Settings
from tunerd.config import Destination
from tunerd.config.text_forms import REMOVED
from tunerd.delivery.audio_queue import AudioQueue
from tunerd.delivery.fleet_bucket import FleetBucket
from tunerd.delivery.followed_pauses import follow
from tunerd.delivery.key import Key
from tunerd.delivery.pacing import Pacing
from tunerd.delivery.parking import WorkerParking
from tunerd.delivery.pauses import PROBE_EVERY_S
from tunerd.delivery.permits import Permit
from tunerd.delivery.ports import Ports, Upload, freezer
from tunerd.delivery.retry import decide
from tunerd.delivery.settled_event import outcome_name, settled_event
from tunerd.delivery.token_bucket import RateBucket, TokenBucket
from tunerd.events import AlreadyThereStreak, AttemptEnded, ConcurrencyChanged, Event
from tunerd.ledger import NO_PAUSES, Claimed, Deferred, Freeze, LedgerUnavailable, Settlement, StoredPauses
from tunerd.ledger.shared_pauses import merged, with_own_of
from tunerd.outcome import Outcome, PauseReason, RetryReason, Sent
from tunerd.statuses import AgentStatus, DestinationStatus, PauseStatus

STREAK: Final = 10
LOOK_AT_LEAST_S: Final = 30.0
"""Even if nothing seems due, the ledger is asked this often."""


class DestinationPool:
    def __init__(self, destination: Destination, settings: Settings, ports: Ports) -> None:
        clock = ports.clock
        self.name = destination.name
        self.label = destination.label
        self.key = Key(destination)
        self._fleet = ports.fleet
        self.tokens_wanted = asyncio.Event()
        """A start is wanted that the fleet's rate limit has to allow (fleet_share.py)."""
        self.pacing = Pacing(destination.name, concurrency=settings.concurrency, rate_limit=settings.rate_limit,
                             make_bucket=self._bucket)  # fmt: skip
        self._cap_by(settings)
        self.parking = WorkerParking(clock)
        self.audio = AudioQueue(clock)
        self.base_url = destination.base_url
        self.is_retired = False
        """No longer configured: attempts that are open end, no other begins."""
        self.next_due_at: float | None = None
        """When the next call is due, as of the last claim that found none."""
        self._dry_at_change = -1
        self._dry_at = -math.inf
        self.handed: deque[tuple[Permit, Claimed]] = deque()
        """Calls that were admitted and handed over with a permit each; the next worker that comes by takes one."""
        self.reserved = 0
        """Permits for calls whose admission is being written."""
        self.upload: Upload = ports.connect(destination, self.key, settings)
        self.signer = ports.signer
        self.may_send = ports.fleet.may_send
        self._kept: StoredPauses = NO_PAUSES
        """Pauses as the ledger has them, as far as is known."""
        self.settings = settings
        self._connect, self._ledger, self._clock = ports.connect, ports.ledger, clock
        self._emit, self._chance = ports.emit, ports.chance
        self._freezers = {form: freezer(ports.freeze, form) for form in Form}
        self._streaks: dict[str, int] = {}
        self._open: dict[int, float] = {}
        self.pacing.pauses.are_shared = ports.fleet.is_shared
        self.key.on_change(self.key_changed)

    def restore(self, stored: StoredPauses | None) -> None:
        """Begin where the last process stopped."""
        now = self._clock.now()
        if stored is not None and self._kept is NO_PAUSES:
            self._emit_all(self.pacing.pauses.restore(stored, now))
            self._kept = stored
        self._emit(ConcurrencyChanged(destination=self.name, limit=self.pacing.limit))
        if self.key.value is None:
            self.key_changed()

    def _bucket(self, rate: float | None) -> RateBucket:
        return TokenBucket(rate) if rate is None or not self._fleet.is_shared else FleetBucket(rate, self.tokens_wanted.set)

    def _cap_by(self, settings: Settings) -> None:
        """In a fleet nothing starts before the first share is there."""
        if settings.fleet_concurrency is None or not self._fleet.is_shared:
            self.pacing.cap = settings.fleet_concurrency
        elif self.pacing.cap is None:
            self.pacing.cap = 0

    def follow(self, stored: StoredPauses) -> None:
        """What is in the ledger by now: other instances pause and resume, too."""
        wanted = merged(stored, self._kept, self._own_view())
        is_news, self._kept = stored != self._kept, stored
        self._emit_all(follow(self.pacing.pauses, wanted, self._clock.now()))
        if is_news:
            self.notify_all()

    def _own_view(self) -> StoredPauses:
        """What this instance would store. Trouble of its own says nothing about the pause that the fleet has."""
        pauses = self.pacing.pauses
        mine = pauses.stored()
        return with_own_of(mine, self._kept) if self._fleet.is_shared and pauses.is_for_this_process else mine

    def shares_probe(self, permit: Permit, agent: str) -> bool:
        """Whether this attempt is a probe, of which a fleet makes one at a time."""
        pauses = self.pacing.pauses
        is_probe = permit.probe and pauses.reason is not PauseReason.LOCAL
        return self._fleet.is_shared and (is_probe or agent in pauses.agents)

    async def claim_probe(self, permit: Permit, agent: str) -> float | None:
        """None: this instance sends the probe. Else when to ask again. Raises LedgerUnavailable."""
        own = self.pacing.pauses.own
        for_s = max(PROBE_EVERY_S, self.settings.timeout_s, own.every_s if own is not None and permit.probe else 0.0)
        wait_s = await self._fleet.claim_probe(self.name, "" if permit.probe else agent, for_s)
        return None if not wait_s else self._clock.now() + wait_s

    def change(self, destination: Destination, settings: Settings) -> None:
        """Another configuration for the same destination: from the next attempt on. Raises what `connect` raises, and
        then nothing has changed."""
        upload = self._connect(destination, self.key, settings)
        self.upload, self.settings, self.label = upload, settings, destination.label
        self._cap_by(settings)
        self.pacing.resize(concurrency=settings.concurrency, rate_limit=settings.rate_limit)
        self.key.follow(destination)
        self.notify_all()

    def found_nothing(self, next_due_at: float | None, changes: int) -> None:
        """A look into the ledger that began after `changes` found no call that may go out now."""
        self.next_due_at = next_due_at
        self._dry_at_change = changes
        self._dry_at = self._clock.now()

    def notify_all(self) -> None:
        """Something happened that every worker has to see."""
        self.parking.notify_all()
        self.audio.parking.notify_all()

    def found_no_probe(self) -> None:
        """There is no call with which a key could be tried."""
        self._emit_all(self.pacing.pauses.nothing_to_probe(self._clock.now()))

    def need_not_look(self) -> float | None:
        """Nothing is due, as a look of the last half minute said: until when nobody has to look again. None: look now."""
        now = self._clock.now()
        if not self.has_nothing_due(now) or not 0 <= now - self._dry_at < LOOK_AT_LEAST_S or self.pacing.pauses.are_any:
            return None
        return min(self._dry_at + LOOK_AT_LEAST_S, math.inf if self.next_due_at is None else self.next_due_at)

    def is_idle(self) -> bool:
        """Nothing in flight and, as far as is known, nothing due now."""
        return not self._open and not self.handed and (self.settings.dry_run or self.has_nothing_due())

    def has_nothing_due(self, by: float | None = None) -> bool:
        """The last look found nothing that is due `by` then (now), and nothing has happened since."""
        later = self.next_due_at is None or self.next_due_at > (self._clock.now() if by is None else by)
        return later and self._dry_at_change == self.parking.changes

    def freeze(self, form: Form) -> Freeze:
        return self._freezers[form]

    def key_changed(self) -> None:
        present, before = self.key.value is not None, self._own_view()
        self._emit_all(
            self.pacing.pauses.key_changed(
                self._clock.now(), present=present, missing=self.key.missing, is_local=self.key.is_local
            )
        )
        if self._fleet.is_shared:  # others may have paused it while this instance had no key
            self._emit_all(follow(self.pacing.pauses, before, self._clock.now()))
        self.parking.notify()

    def pause(self, why: str = "") -> None:
        self._emit_all(self.pacing.pauses.operator_pause(self._clock.now(), why))
        self.parking.notify()

    def resume(self) -> None:
        self._emit_all(self.pacing.pauses.operator_resume(self._clock.now(), self.key.missing, is_local=self.key.is_local))
        self.parking.notify()

    def started(self, claimed: Claimed) -> float:
        """An attempt begins; gives its start on the monotonic clock."""
        self._open[claimed.row] = at = self._clock.monotonic()
        return at

    def not_begun(self, claimed: Claimed) -> None:
        """No byte was sent."""
        self._open.pop(claimed.row, None)

    def ended(self, permit: Permit, claimed: Claimed, outcome: Outcome, started_at: float) -> Settlement:
        """The attempt ended: emit it, let pauses, Retry-After and limit follow, and decide about the call."""
        now, took_s = self._clock.now(), self._clock.monotonic() - started_at
        self._open.pop(claimed.row, None)
        self._emit(AttemptEnded(destination=self.name, outcome=outcome_name(outcome), took_s=took_s, status=outcome.status))
        rejecting = self.pacing.pauses.reason is PauseReason.REJECTING
        outcome = self.pacing.attribute(claimed.row, outcome, now)
        self._emit_all(self.pacing.ended(permit, row=claimed.row, agent=claimed.agent, outcome=outcome, took_s=took_s, now=now))
        self._count_already_there(claimed, outcome)
        return decide(
            outcome,
            claimed,
            now=now,
            chance=self._chance(),
            give_up_after_s=self.settings.give_up_after_s,
            last_accepted_at=self.pacing.last_accepted_at,
            probe=permit.probe,
            rejecting=rejecting,
        )

    def broken_off(self, permit: Permit, claimed: Claimed) -> Settlement:
        """The attempt was cancelled by a stop: due again at once, and nobody knows whether it arrived."""
        self._open.pop(claimed.row, None)
        self.pacing.cancelled(permit, claimed.agent)
        self._emit(AttemptEnded(destination=self.name, outcome="retry", took_s=0.0))
        return Deferred(
            due_at=self._clock.now(),
            reason=RetryReason.TIMEOUT,
            status=None,
            detail="broken off by a stop before the answer came",
            counts=False,
            surely_not_arrived=False,
        )

    def report_settled(self, claimed: Claimed, settlement: Settlement) -> None:
        """The settlement is durable: emit what became of the call."""
        if (event := settled_event(claimed, settlement, self._clock.now())) is not None:
            self._emit(event)

    def keep_pauses(self) -> Awaitable[None] | None:
        """Have the ledger keep pauses and Retry-After, if they changed: it is asked at once, and `pauses_are_kept` waits."""
        if not self.pacing.pauses.dirty:
            return None
        self.pacing.pauses.dirty = False
        return self._ledger.store_pauses(self.name, self._own_view(), self._clock.now(), self._kept)

    async def pauses_are_kept(self, kept: Awaitable[None] | None) -> None:
        """Wait until it is durable. A ledger that cannot be written now gets it later."""
        if kept is None:
            return
        try:
            await kept
        except LedgerUnavailable:
            self.pacing.pauses.dirty = True

    def open_attempts(self) -> int:
        return len(self._open)

    def oldest_attempt_at(self) -> float | None:
        """On the monotonic clock."""
        return min(self._open.values(), default=None)

    def status(self) -> DestinationStatus:
        pauses = self.pacing.pauses.views()
        own = next((pause for pause in pauses if pause.agent is None), None)
        return DestinationStatus(
            name=self.name,
            label=REMOVED if self.is_retired else self.label,
            last_accepted_at=self.pacing.last_accepted_at,
            pause=None if own is None else PauseStatus(reason=own.reason, since=own.since, detail=own.detail,
                                                       next_probe_at=own.next_probe_at),
            closed_until=self.pacing.pauses.closed_until,
            agents=[AgentStatus(agent=pause.agent, reason=pause.reason, since=pause.since)
                    for pause in pauses if pause.agent is not None],
            in_flight=self.pacing.in_flight,
            limit=self.pacing.limit,
            form=self.key.form,
            dry_run=self.settings.dry_run,
        )  # fmt: skip

    def _emit_all(self, events: Sequence[Event]) -> None:
        for event in events:
            self._emit(event)

    def _count_already_there(self, claimed: Claimed, outcome: Outcome) -> None:
        """Only first attempts: that a repeated one is there already is as it should be."""
        if claimed.attempts or claimed.first_attempt_at is not None or not isinstance(outcome, Sent):
            return
        if not outcome.already_there:
            self._streaks.pop(claimed.source, None)
            return
        count = self._streaks.get(claimed.source, 0) + 1
        self._streaks[claimed.source] = count
        if count == STREAK:
            self._emit(AlreadyThereStreak(source=claimed.source, count=count))
