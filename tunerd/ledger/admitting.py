"""What one read of a file brings into the ledger, and how it fared there. Values only."""

from collections.abc import Sequence
from dataclasses import field
from enum import StrEnum

from tunerd.call import Call, Cut, Fragment, IgnoredDocument, KeyStyle, Recording, RefusedDocument, State
from tunerd.ledger.sending import Claimed, FailedCall
from tunerd.record import record


@record
class FileMark:
    """How far a file has been read, and what identifies it."""

    source: str
    path: str
    device: int
    inode: int
    size: int
    """Size on disk when it was read."""
    mtime_ns: int
    ctime_ns: int = 0
    """0: not known."""
    offset: int
    """Bytes of (uncompressed) content that are in the ledger."""
    content: bytes = b""
    """What identifies the content, whatever its name, inode or compression. Of a log: the state of its hash chain at `offset`
    (intake/chain.py). Of a whole file: the hash of its content as it was read; empty: not known."""
    whole: bool = True
    """The file is read as one (json); it is not a log that is followed (ndjson)."""
    log: int = 0
    """The durable number of a log within its source. Numbers grow in the order in which logs are discovered; a log that is
    renamed or compressed keeps its number. A whole file has 0."""
    is_there: bool = True
    """False for a log that is read after it was moved away from its path: another log is there now."""
    carry: str = ""
    """Of a log whose calls are gathered: the key of its last document. Documents without a key of their own belong to that
    call. Empty: they belong to no call."""
    refused: int = 0
    """Of a log: how many of its lines were not documents, or documents without content."""
    summary_at: int = -1
    """Of a log: the offset of the failed row that stands for all such lines after the first; -1: there is none."""
    home: str = ""
    """Of a log whose calls are gathered: the path at which it was first read. The log that follows it begins there."""
    home_inode: int = 0
    """The inode at that path then. A log that begins in the same file was written over it: the file was truncated."""


@record
class WantedFile:
    """A file that calls look for."""

    name: str
    """Absolute; `*` and the like stand for other characters (file_pattern.py)."""
    note: str
    """What was seen of it last."""
    times: tuple[float, float] | None
    """The calls compare the time at which it was last written: it has to be between these (Unix seconds). None: the name is the
    call's own."""


@record
class Continued:
    """A log is read on from the place where reading stopped. A line that was refused there, and that begins like the line which
    is there now, was unfinished."""

    source: str
    path: str
    """Path of the log when reading stopped."""
    offset: int
    begins: bytes
    """The first bytes of the line that is there now (at most KEPT_HEAD_BYTES)."""


@record
class Admission:
    """What one read gave. It becomes durable in one transaction, together with the file's mark."""

    calls: Sequence[Call] = ()
    recordings: Sequence[Recording] = ()
    refused: Sequence[RefusedDocument] = ()
    ignored: Sequence[IgnoredDocument] = ()
    fragments: Sequence[Fragment] = ()
    cuts: Sequence[Cut] = ()
    """Gathered calls that may lack a part, because a document cannot be read."""
    cut_offsets: frozenset[int] | None = None
    """With the mark of a whole file: the offsets at which it cuts calls now. Cuts that an earlier read found elsewhere in it are
    lifted."""
    torn: Sequence[tuple[str, int]] = ()
    """Logs (source, number) of which nobody knows what followed their last document: they were truncated, or are gone and
    were not read to their end. The call that is carried at the end of each may lack a part, wherever its end is by then."""
    lost: Sequence[tuple[str, int]] = ()
    """The same for logs that cannot be found anywhere. It holds until they are read again at their place."""
    key_style: KeyStyle = field(default_factory=KeyStyle)
    """How these documents say to which call they belong."""
    mark: FileMark | None = None
    continued: Continued | None = None
    """The failed row of this line is superseded by what the admission makes of the line."""
    replaces_failed: bool = False
    """The whole file was read anew. Failed rows (without a call id) of this path are removed if their document could not be read
    before, or is read again now. A complete document that no rule could map stays, whatever the file holds now."""


class AdmitVerdict(StrEnum):
    """How a call of an admission fared."""

    NEW = "new"
    DUPLICATE = "duplicate"
    """Same call id, same start (within 1 s). Nothing changed but that the further place is noted."""
    REPLACED = "replaced"
    """As DUPLICATE, but the first document had surely not arrived at Tuner and this one is newer: its payload took over."""
    CONFLICT = "conflict"
    """Same call id, another start: the call is kept as failed(id_conflict)."""
    REVIVED = "revived"
    """The call had failed and had surely not arrived at Tuner; the new document put it to work again."""


@record
class Matched:
    """A call found its recording by manifest."""

    source: str
    call_id: str
    waited_s: float


@record
class Admitted:
    """How each call of an admission fared, in its order."""

    verdicts: Sequence[tuple[AdmitVerdict, State]]
    late: int = 0
    """Fragments that were not kept because the documents of their call are too large together."""
    matched: Sequence[Matched] = ()
    failed: Sequence[FailedCall] = ()
    handed: Sequence[Claimed] = ()
    """Calls that the transaction itself handed to a CallReceiver; nobody else can claim them."""
