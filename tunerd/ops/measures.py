"""What metrics show of the ledger beside its counts. Commands and the status have these values without the metrics' library."""

from collections.abc import Mapping
from dataclasses import field

from tunerd.record import record


@record
class LedgerMeasures:
    """What only a look at the disk or a query tells. It is measured now and then, and not at a scrape (measuring.py)."""

    file_bytes: int = 0
    """The ledger's file and its write-ahead log."""
    disk_free_bytes: int = 0
    unmatched: Mapping[str, int] = field(default_factory=dict)
    """Manifest source -> recordings that no call has taken."""


@record
class LedgerLimits:
    """From the configuration, so that alerts can compare."""

    max_pending_bytes: int = 0
    min_free_bytes: int = 0
