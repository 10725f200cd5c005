"""What every ledger promises, in one long file because the contract is read as a whole.

Ten protocols, one for each kind of consumer: WritePath (the conductors of intake and delivery), AudioPath and UrlCheckPath
(delivery; the latter is in url_checking.py), GatherPath, FileQueries and Positions (intake), Inspection (commands, metrics,
status page), OperatorActions, Maintenance (timers and retention), Stranding. Nothing in here knows SQL. The contract suite
(tests/ledger/test_contract_*.py) runs on every implementation.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from typing import Final, Protocol

from tunerd.call import Call, Form, RefusedDocument, State
from tunerd.ledger.admitting import Admission, Admitted, FileMark, WantedFile
from tunerd.ledger.gathered import Gathered, Group, GroupResult
from tunerd.ledger.inspecting import DiskUse, Filter, Gauges, StoredCall, Story, Stranded
from tunerd.ledger.sending import CallReceiver, Claim, Claimed, FailedCall, Freeze, Pick, Settlement, StoredPauses
from tunerd.ledger.uploading import AudioEnded, AudioUpload, Leftover, PendingAudio, PreparedAudio
from tunerd.ledger.url_checking import UrlCheckPath
from tunerd.record import record
from tunerd.statuses import InstanceStatus


class WritePath(Protocol):
    """Admit, claim, settle: the way of a call."""

    def admit(self, admission: Admission, now: float) -> "asyncio.Future[Admitted]":
        """Make what one read gave durable in one transaction (synced): calls, recordings, refusals, fragments and the file's
        mark, each call matched with its recording. The admission is queued when this returns; the future ends when it is
        durable, or with LedgerUnavailable, and then nothing was written.

        - Idempotent: the same admission again gives DUPLICATE verdicts and changes nothing else.
        - A new call that is due at once goes to the CallReceiver of `set_call_receiver`, if that has a reservation for it.
        - A refused document makes one failed row for each document at a place; admitting it again updates that row.
        - A call removes the refused row that has its call id, or is the same document, or was at its place and could not be
          read. Another document at its path is not removed. In a followed log (a mark that is not `whole`) a place holds
          another document after a rotation; then both rows stay visible.
        - Fragments of one (source, key) make one row, which is `gathering` until `gather` decides. A fragment that comes later
          and matters puts a call that waits, is due or was left out back to `gathering`, unless it may have arrived."""
        ...

    def set_call_receiver(self, receiver: CallReceiver) -> None:
        """Hand calls of later admissions to `receiver`."""

    def claim(
        self,
        destination: str,
        form: Form,
        freeze: Freeze,
        now: float,
        *,
        pick: Pick = Pick.OLDEST,
        not_agents: frozenset[str] = frozenset(),
        due_by: float | None = None,
        only: int | None = None,
        audio: PreparedAudio | None = None,
    ) -> Awaitable[Claim]:
        """Take one call of the destination, freeze its body if it has none, and hand it out as `sending`. Raises
        LedgerUnavailable, and then nothing is claimed. A call is eligible if:

        - its state is `due`, so it neither waits for its recording nor is claimed already;
        - its due time is at or before `due_by` (default: now);
        - its agent is not one of `not_agents`;
        - with `only`, it is the call in this row; then `not_agents` does not apply;
        - its audio is not pending; or, with `only` and `audio`, it is: the claimant has a slot to upload it.

        Among the eligible calls `pick` decides. A call whose recording URL has expired by `now`, or whose body cannot be made,
        is not handed out: the next strategy answers, or the call fails (`Claim.failed`). A call whose recording is an object that
        Tuner gets by a signed URL is handed out without a body (`Claimed.to_sign`). Claims belong to this process: calls that are
        `sending` when the ledger is opened become due again, with their frozen bodies."""
        ...

    def freeze_signed(
        self, row: int, freeze: Freeze, form: Form, url: str | AudioEnded, expires_at: float | None, now: float
    ) -> Awaitable[Claimed | FailedCall | None]:
        """Make the body of a claimed call that had a URL to sign. The URL counts as its recording's until `expires_at`; then,
        if no attempt can have arrived, the next claim has it signed anew. A body that cannot be made fails the call. None: the
        call is not claimed any more, or has a body. Raises LedgerUnavailable, and then the call is still claimed. Why there
        is no URL, instead of one: the body has the placeholder, and its audio is failed."""
        ...

    def settle(self, row: int, settlement: Settlement, now: float) -> Awaitable[None]:
        """Write how an attempt ended. The awaitable ends when it is durable (SQLite: committed, synchronous NORMAL).

        - Idempotent: a row that is not `sending` is left alone.
        - With a target for the call's audio it is synced: once it is durable, a power cut does not lose the target.
        - The result is safe when this returns, whether anybody awaits the end or not: while the ledger cannot be written, it is
          kept in memory and tried again.
        - A claim that is asked for later is answered later."""
        ...

    def release(self, row: int, now: float) -> Awaitable[None]:
        """Give a claim back as it was, because no attempt was started. Queued and retried as with `settle`."""
        ...

    async def stored_pauses(self) -> Mapping[str, StoredPauses]:
        """The stored pauses of every destination that the ledger knows."""
        ...

    def store_pauses(
        self, destination: str, pauses: StoredPauses, now: float, before: StoredPauses | None = None
    ) -> Awaitable[None]:
        """Store a pause or a Retry-After. Time that passes with `pause` set adds to Claimed.paused_s. `before`: the pauses as
        this instance last saw them in the ledger (Fleet.on_pauses); in a fleet only what differs from them is changed. Queued and
        retried as with `settle`; a command that is given later sees the new pauses."""
        ...

    async def sending(self) -> Mapping[int, float]:
        """Rows of the calls in state `sending`, and when each was claimed. Raises LedgerUnavailable."""
        ...

    def unsettled(self) -> frozenset[int]:
        """Rows whose settlement or release is queued and not written yet."""
        ...

    async def reclaim(self, claims: Mapping[int, float], now: float) -> int:
        """Make calls due again that no worker holds, and mark them as calls that may have arrived. Returns how many. Raises
        LedgerUnavailable. A call is eligible if it is still `sending` and was claimed at the time given."""
        ...

    def on_due(self, wake: Callable[[str], None]) -> None:
        """Call `wake(destination)` in the event loop whenever a commit may have made a call of the destination due earlier."""


class AudioPath(Protocol):
    """Audio that tunerd uploads. While it is pending, its call is due and only claimed with it (WritePath.claim)."""

    async def next_audio(
        self, destination: str, now: float, busy: Collection[int], not_agents: Collection[str], first: int | None = None
    ) -> tuple[PendingAudio | None, float | None]:
        """The call of the destination that is due first and whose audio is pending; none of the rows in `busy`, no call of
        `not_agents`. The row `first` goes before all others if it is such a call and due.
        Without one: the earliest due time of such calls, if there are any. Raises LedgerUnavailable."""
        ...

    async def unseen_audio(self, after_row: int, limit: int) -> Sequence[PendingAudio]:
        """Pending audio that nobody has looked at, of calls that are due now or later, in row order. Raises LedgerUnavailable."""
        ...

    def audio_seen(self, row: int, location: str, identity: str) -> Awaitable[str | None]:
        """From now on exactly this audio is meant. Only the first look at a location counts. Gives the id of another call that
        names the same audio: unless one of the two was claimed with it, or a person decides, no call is claimed with it."""
        ...

    def audio_later(self, row: int, due_at: float, detail: str) -> Awaitable[None]:
        """The audio is not there yet: the call is due again at `due_at`. Queued and retried as with `settle`, as are the others
        below."""
        ...

    def audio_unusable(self, row: int, ended: AudioEnded, now: float) -> "asyncio.Future[FailedCall | None]":
        """The audio cannot be used, and the call was not sent. The call fails; or, if its plan says so, it is due without audio,
        with the placeholder. Either way its audio is failed. A call that is not due with pending audio is left alone."""
        ...

    async def open_uploads(self) -> Sequence[AudioUpload]:
        """Audio that is `uploading`. Asked at a start: nobody works at it. Raises LedgerUnavailable."""
        ...

    async def upload(self, row: int) -> AudioUpload | None:
        """The same of one call; patiently."""
        ...

    def upload_tried(self, row: int, detail: str) -> Awaitable[None]:
        """An attempt to upload it was in vain, and is repeated."""
        ...

    def upload_ended(self, row: int, ended: AudioEnded | None, now: float) -> Awaitable[None]:
        """The audio is uploaded (None), or will not be. The target is erased. Idempotent: audio that is not `uploading` is left
        alone."""
        ...

    async def leftovers(self) -> Sequence[Leftover]:
        """Uploaded audio whose `after_upload` is to be carried out. Raises LedgerUnavailable."""
        ...

    def leftover_done(self, row: int) -> Awaitable[None]:
        """`after_upload` was carried out, or never can be."""
        ...

    async def audio_limit(self, destination: str) -> int | None:
        """What the storage of the destination takes, as its last target said. Raises LedgerUnavailable."""
        ...


class GatherPath(Protocol):
    """Calls that are gathered from several documents."""

    async def groups(
        self, source: str, now: float, limit: int = 64, *, ended_by: float | None = None
    ) -> tuple[Sequence[Group], float | None]:
        """Groups of the source to look at, in the order of their look times; and when the next look is due (None: time alone
        makes none due). At most `limit` groups, or 16 MiB of documents. A group is eligible if:

        - its look time is at or before `now`: it may be complete, its wait is over, or documents came after it was mapped;
        - or it was left out (`ignored`) and its documents were kept for long enough (Discard).

        A group that is only due because its wait ended is left out if the wait ended after `ended_by` (default: now)."""
        ...

    async def gathering_sources(self) -> Sequence[str]:
        """Every source that has a group to look at, now or later, in the order of their names. While another instance lives, only
        those of groups that this one has read: what is missing in our configuration may be in that one's."""
        ...

    async def gather(self, results: Sequence[GroupResult], now: float) -> Gathered:
        """Write what looks at groups came to, in one transaction (synced). Raises LedgerUnavailable, and then nothing of it was
        written. For each result:

        - The call is admitted and matched, or refused, in the row of the group. What it was made of becomes its document.
        - The fragments of a group that is ignored are kept for a day; documents that come within it are gathered with them.
        - A group that is not replaceable (any more) is left alone and looked at again.
        - CheckAgain puts a call that has new documents back to `gathering`.
        - Documents of a call that is sent are late: they are counted, noted in its story, and their files stay. If they make
          exactly what was sent, they are not late."""
        ...


class FileQueries(Protocol):
    """Recordings that are files: the ledger knows what calls look for, and intake looks."""

    async def files_wanted(self, after: str = "", limit: int = 500) -> Sequence[WantedFile]:
        """Names that calls look for, in their order, after the name `after`. A call looks for its file while it waits, and after
        it failed without its recording."""
        ...

    async def known_locations(self, locations: Sequence[str]) -> Collection[str]:
        """Those of these locations in the spool at which audio of a recording or a call is that may still be uploaded."""
        ...

    async def note_files(self, notes: Mapping[str, str]) -> None:
        """Name -> what was seen of such a file, for `status CALL_ID`. Raises LedgerUnavailable."""
        ...


class Positions(Protocol):
    """How far each file has been read."""

    async def mark(self, source: str, path: str) -> FileMark | None:
        """The mark of a path. A path that had vanished counts as back, and its mark stays."""
        ...

    async def marks(self, source: str, after_path: str = "", limit: int = 1000, *, vanished: bool = False) -> Sequence[FileMark]:
        """The marks of a source in path order, at most `limit` after `after_path`: of paths that are there, or with `vanished`
        of whole files that vanished and were not disposed of. Unlike `mark` this does not bring a vanished path back."""
        ...

    async def moved_logs(self, source: str, limit: int = 1000) -> tuple[Sequence[FileMark], int]:
        """Marks of the source's logs that are at no known path, newest first; and the greatest log number of the source."""
        ...

    async def logs_like(self, source: str, inode: int, head: bytes, limit: int = 200) -> Sequence[FileMark]:
        """Marks of the source's logs that had this inode, or whose content begins like this (`head`: intake/chain.py), newest
        first, whether their paths are there or not."""
        ...

    async def set_mark(self, mark: FileMark, now: float) -> None:
        """Store that the file is there, as the mark says. A log has one mark: the mark that it had under another path is
        removed. Another log that was at this path counts as vanished: it keeps its mark, under this path, until it is found."""
        ...

    async def vanished(self, source: str, paths: Sequence[str], now: float) -> None:
        """These paths are gone while their root was readable. Their marks are removed after 7 days unless they come back."""

    async def disposable(
        self, source: str, limit: int = 100, *, to_the_end: bool = False, leave: Container[str] = ()
    ) -> Sequence[FileMark]:
        """Files that `after_sent` may take. Their calls' ends are synced to disk before this returns. A file is eligible if:

        - it was read whole, and its path is there;
        - every call of it is sent or ignored; none is open or failed;
        - no documents came for a sent call of it that nobody has looked at;
        - it is not held back (it once held a call that was removed without having been sent);
        - its path is not in `leave`.

        One call may look through a part of the files and find none; with `to_the_end` an empty answer means that there is none
        (or that the ledger cannot be written)."""
        ...

    async def disposed(self, source: str, path: str, now: float) -> None:
        """The file was removed or moved away by `after_sent`."""


class Inspection(Protocol):
    """What is in the ledger. Questions run beside the writer and see the last commit."""

    def gauges(self) -> Gauges:
        """As of the last commit; in a fleet the times, and what other instances did, may be a second older. Does not wait."""
        ...

    async def calls(self, where: Filter, *, after_row: int = 0, limit: int = 100, newest: bool = False) -> Sequence[StoredCall]:
        """Rows in row order (or newest first); at most 1,000 at a time."""
        ...

    async def story(self, call_id: str) -> Sequence[Story]:
        """Every row with this call id (several agents, or conflicts), with its last events."""
        ...

    async def document(self, row: int) -> bytes | None:
        """The stored JSON text; None if it is no longer kept, or never was."""
        ...

    async def unmatched_recordings(self) -> Mapping[str, int]:
        """Source -> recordings that no call has taken; sources without any are left out. Raises LedgerUnavailable."""
        ...

    async def instances(self) -> Sequence[InstanceStatus]:
        """The instances that share the ledger, those included that do not answer; none where one process owns it. Raises
        LedgerUnavailable."""
        ...

    async def disk_use(self) -> DiskUse:
        """What the ledger uses of its disk. Asked of the disk in a thread. Raises OSError."""
        ...

    async def alive(self) -> bool:
        """Whether the writer answers (liveness)."""
        ...


class OperatorActions(Protocol):
    """What a person changes. Each raises LedgerUnavailable, and then nothing was changed."""

    async def replace(self, row: int, mapped: Call | RefusedDocument, now: float) -> State:
        """Put a call (or a still refused document) that was mapped again in place of what the row holds: unfrozen, due or
        waiting. A call that is sending or sent is left alone. Returns the state after. Raises LookupError without the row."""
        ...

    async def requeue(self, row: int, now: float) -> State:
        """Send the stored payload again as it is: due now, attempts counted from zero. Returns the state after; a row that
        holds no payload, or is sending or sent, is left alone."""
        ...

    async def use_recording(self, row: int, location: str, now: float) -> State:
        """A person says where the recording of a call is (Location.text): the call is due with it. Returns the state after.

        - Eligible is a call that waits, or that failed because it had no recording or none that can be used.
        - If the ledger knows the recording as one that may be the call's, the call takes it; a URL may lack its query then."""
        ...

    async def dismiss(self, rows: Sequence[int], now: float) -> int:
        """Mark failed rows as handled by a person: they are no longer listed or counted as failed. Returns how many."""
        ...

    async def forget(self, call_id: str, now: float) -> int:
        """Erase everything about the call, matched recordings included, so that it cannot be recovered from the file
        (secure_delete). Returns the number of rows erased. Raises ValueError while one of them is sending."""
        ...


@record
class Retention:
    """How long, and how much, is kept."""

    sent_s: float
    failed_s: float
    recordings_s: float
    max_failed_bytes: int
    documents: int = 200
    marks_s: float = 7 * 86_400.0  # of an instance of a fleet that is gone


@record
class FarRule:
    """When a call may take a recording that did not start near to it."""

    not_before: float = -math.inf
    """Not before this time: unread files may bring a nearer one."""
    at_once: bool = False
    """Everything has been read: no nearer one will come. What only the wait decides is taken if it is old enough."""


FAR_NOT_YET: Final = FarRule(not_before=math.inf)
"""While files are read for the first time after a start."""
FAR_AT_ONCE: Final = FarRule(at_once=True)
"""After the sweep of a `run --once`."""


class Maintenance(Protocol):
    """What time does: waits end, kept rows are removed. In a fleet one instance does that for all (`tick`, `trim`)."""

    async def tick(self, now: float) -> tuple[Sequence[FailedCall], float | None]:
        """Decide the waiting calls whose next wait is over. Returns those that failed by it, and when to tick next."""
        ...

    async def set_far_rule(self, rule: FarRule, now: float) -> Sequence[FailedCall]:
        """Set when far recordings may be taken (until it is set again, or the ledger is closed), and match what may be matched
        now. Returns the calls that failed by it, as `tick` does."""
        ...

    async def trim(self, keep: Retention, now: float) -> int:
        """Remove what is past its retention, at most 1,000 rows a call; returns how many (0: done). An open call is never
        removed."""
        ...

    async def shift(self, seconds: float) -> None:
        """The wall clock jumped by `seconds`: move due times and waits with it. Not in a fleet in which others live."""

    async def close(self) -> None:
        """Finish what is queued, checkpoint, close, release the lock."""


class Stranding(Protocol):
    """Calls whose destination or manifest source is no longer configured."""

    async def stranded(self, configured: Collection[str], sources: Collection[str]) -> Sequence[Stranded]:
        """What waits or is due for destinations other than `configured`, and what waits for recordings of sources other than
        `sources`."""
        ...

    async def follow(self, old: str, new: str, workspace: str, now: float) -> int:
        """Move calls of destination `old` to `new` (`workspace`: the base_url/workspace of `new`); their bodies are made anew.
        Returns how many. A call is eligible if it is waiting or due, has surely not arrived, and its id is not taken there."""
        ...


class Ledger(WritePath, AudioPath, UrlCheckPath, GatherPath, FileQueries, Positions, Inspection, OperatorActions, Maintenance,
             Stranding, Protocol):  # fmt: skip
    """Everything; only app.py and the commands hold it whole."""
