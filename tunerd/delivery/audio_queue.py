"""What the workers of a destination that upload audio share: which calls they are at, and what they found out."""

import math

from tunerd.clock import Clock
from tunerd.delivery.parking import WorkerParking


class AudioQueue:
    def __init__(self, clock: Clock) -> None:
        self.parking = WorkerParking(clock)
        self.busy: set[int] = set()
        """Calls that a worker looks at, sends or uploads with their audio."""
        self.limit: int | None = None
        """What the storage takes, as the last target said."""
        self.is_limit_known = False
        """The ledger was asked for what an earlier process was told."""
        self.next_due_at: float | None = None
        """When the next call is due, as of the last look that found none."""
        self._dry_at_change = -1

    def found_nothing(self, next_due_at: float | None, changes: int) -> None:
        """A look into the ledger that began after `changes` found no call that may go out now."""
        self.next_due_at, self._dry_at_change = next_due_at, changes

    def leave(self, row: int) -> None:
        """Nobody is at this call any more: it may be due again, which the last look does not know."""
        self.busy.discard(row)
        self._dry_at_change = -1

    def has_nothing_due(self, by: float = math.inf) -> bool:
        """The last look found nothing that is due `by` then, nothing has happened since, and nobody is at a call."""
        later = self.next_due_at is None or self.next_due_at > by
        return later and not self.busy and self._dry_at_change == self.parking.changes
