"""What a destination and a source say of themselves: the values that delivery and intake give, that metrics count, and that
/status.json and `tunerd status` show as they are. A field that is added here is a field of that JSON (docs/status-json.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final

from tunerd.call import Form
from tunerd.outcome import IntakeReason, PauseReason
from tunerd.record import record


@record
class PauseStatus:
    """Why a destination sends nothing. Instants are Unix seconds."""

    reason: PauseReason
    since: float | None = None
    detail: str = ""
    next_probe_at: float | None = None


@record
class AgentStatus:
    """An agent whose calls are not sent, while the others of its destination are."""

    agent: str
    reason: PauseReason
    since: float | None = None


@record
class DestinationStatus:
    name: str
    label: str = ""
    """What metrics call it; `removed` while the last uploads of a destination that is no longer configured end; empty: no daemon
    runs."""
    pause: PauseStatus | None = None
    closed_until: float | None = None
    """Tuner's Retry-After: nothing goes out before. None: open."""
    agents: Sequence[AgentStatus] = ()
    """The paused ones."""
    in_flight: int = 0
    limit: int | None = None
    """Uploads that may run at once; None: no daemon runs."""
    form: Form | None = None
    """The request form; None: no key tells it, or no daemon runs."""
    dry_run: bool = False
    last_accepted_at: float | None = None
    """When Tuner last accepted a call; None: not since the start."""


@record
class UnreadFile:
    """A file or directory that could not be read, or that a sweep had to leave."""

    source: str
    path: str
    why: str
    """In words for an operator."""


@record
class SourceStatus:
    name: str
    path: str
    paused: IntakeReason | None = None
    """Why the directory is not (fully) read; None: it is."""
    paused_since: float | None = None
    detail: str = ""
    """Why it is paused, in words for an operator."""
    files: int = 0
    """Files known (read, or left out on purpose)."""
    settling: int = 0
    """Files seen that are not read yet."""
    unread_since: float | None = None
    """When the first of those was seen; None: there is none."""
    watching: bool = True
    """Whether kernel events come in; else scans find the files."""
    inotify_fallback: bool = False
    """`watch: events` is wanted, and some directories are only scanned because the kernel gives no watch for them."""
    last_scan_at: float | None = None
    late_parts: int = 0
    """Documents of gathered calls that came after their call was sent, since the start."""
    unreadable: int = 0
    """Files that gave an error when they were last tried, and directories below the root that cannot be listed."""
    unreadable_example: UnreadFile | None = None
    only_ignored: int = 0
    """Documents in a row that `when:` left out while none became a call or a recording; 0: too few to report."""
    rows_dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason (unknown_role, no_role, not_speech) -> rows of transcripts left out since the start."""
    unknown_roles: Sequence[str] = ()
    """Roles that no table of the rules names, since the start."""
    also_read_by: str | None = None
    """Another tunerd with a ledger of its own that reads the same directory; None: none is known."""
    read_by: str | None = None
    """The other instance of the fleet that reads this shared source, so that this one does not; None: it is read here."""


SILENT_S: Final = 30.0
"""Without a heartbeat for so long an instance is given up by the others."""


@record
class InstanceStatus:
    """A tunerd that shares the ledger. Times are by the clock of the database."""

    name: str
    host: str
    version: str
    started_at: float
    heartbeat_age_s: float
    """Since its last heartbeat; over 30 s: it does not answer, and others take over what it was sending."""
    in_flight: int
    """Calls that it is sending."""
