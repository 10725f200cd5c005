"""What an instance may conclude from its own heartbeats: whether it may still send, and whether it may judge others. Pure.

Times are those of a clock that runs while the machine is suspended (CLOCK_BOOTTIME), passed in.
"""

from tunerd.ledger.postgresql.postgresql_server import Pulse


class Renewals:
    """One thread notes what arrived; any thread may ask."""

    lease: int = 1
    """Another number after each time in which others may have given this instance up, so that its claims from before are void."""

    clock_ahead_s: float = 0.0
    """By how much the wall clock here is ahead of the database's."""

    def __init__(self, pulse: Pulse, now: float) -> None:
        """The start counts as a heartbeat that was sent `now`."""
        self._pulse = pulse
        self._last = now
        """When the last heartbeat that arrived was sent."""
        self._steady_since = now
        """Since when each of them has arrived in time."""

    def arrived(self, sent_at: float) -> None:
        if sent_at - self._last >= self._pulse.stops_after_s:
            self.lease += 1
        if sent_at - self._last > 2 * self._pulse.every_s:
            self._steady_since = sent_at
        self._last = sent_at

    def may_send(self, now: float, lease: int | None = None) -> bool:
        """Whether nobody can have given this instance up by now, and nobody has since the claim (`lease`). The lease is looked at
        last: a heartbeat that arrives between the two would give an old claim the time of the new lease."""
        return now - self._last < self._pulse.stops_after_s and (lease is None or lease == self.lease)

    def may_judge(self, now: float) -> bool:
        """Whether its own heartbeats have arrived for long enough to call others dead: otherwise it may be the database that
        was away."""
        return self.may_send(now) and self._last - self._steady_since >= self._pulse.dead_after_s
