"""Decides which log a file is, all of it here because each kind of evidence excludes others: the log that tunerd holds open, the
one that was read at its path, one that was moved or copied here, or one that nobody knows. Synchronous, in turns.

While our descriptor is open an inode is proof, unless the log shrank or was rewritten. Otherwise its content decides, by the
chain of hashes over all that was read of the log (chain.py). What follows from that is decided in inspection.py.
"""

import os
from collections.abc import Callable, Generator, Sequence
from typing import Final, TypeAlias

from tunerd.intake.chain import BLOCK_BYTES, HEAD_BYTES, Chain, ChainState, head_hash
from tunerd.intake.followed_logs import FollowedLog, FollowedLogs
from tunerd.intake.known_logs import may_be_copy
from tunerd.intake.opened import CHUNK_BYTES, GZIP_ERRORS, GZIP_MAGIC, TURN_BYTES, Opened
from tunerd.ledger import FileMark
from tunerd.record import positional_record

_SMALL_BYTES: Final = 1024 * 1024
"""Of a log that grew under our eyes all that was read is compared up to here, or up to four times of what came."""
_RESTARTED_SMALL_BYTES: Final = 16 * 1024 * 1024
"""The same after a restart, where nobody saw what happened. Of a larger log in the same inode, which grew, the first and the
last block decide; in another inode the whole chain does."""
COPY_QUIET_S: Final = 3.0
"""How long a file that looks like a copy of a log that is still there has to be unchanged: a rotation by copying truncates the
log as soon as the copy is complete."""


@positional_record
class LookUp:
    """Ask the ledger which logs of the source had this inode or begin like this."""

    inode: int
    head: bytes


@positional_record
class Wait:
    """Which log it is cannot be decided yet."""

    seconds: float
    log: int = 0
    """This log has to be read to its end first."""


@positional_record
class SameFile:
    """Another name of a log that is at its path, or a copy of its beginning."""


@positional_record
class Identified:
    """`start`: where reading continues; None: at the beginning. The file and the chain are at this offset."""

    chain: Chain
    start: FileMark | None = None
    number: int = 0
    """The log's; 0: it is a new one."""
    is_known: bool = True


Step: TypeAlias = LookUp | None
"""None: a turn is over."""
Answer: TypeAlias = Sequence[FileMark] | None
Identifying: TypeAlias = Generator[Step, Answer, Identified | Wait | SameFile]
Checking: TypeAlias = Generator[Step, Answer, Chain | None]


@positional_record
class LogIdentity:
    """The question, for one file."""

    file: Opened
    own: FileMark | None
    """The log that was read at this path."""
    followed: FollowedLogs
    stat: Callable[[str], os.stat_result | None]
    """Of a path in the source; None: nothing is there."""
    open_file: Callable[[str], int]
    """A descriptor of a path in the source. Raises OSError."""
    quiet_s: float
    """Since when the file is unchanged."""
    is_final: bool
    """No time can be waited for."""
    may_wait: bool = True
    """Another log can be waited for."""

    def identify(self) -> Identifying:
        """Raises OSError and what gzip raises."""
        file, own, at = self.file, self.own, self.file.stat
        rejected: set[int] = set()
        log = self.followed.of_file(at) if not file.gz else None
        if log is not None:
            if log.mark.path != file.path and _is_same(self.stat(log.mark.path), at):
                return SameFile()
            chain = yield from self._continues(log.mark, _limit(log, at.st_size))
            if chain is not None:
                return (yield from self._known(chain, log.mark))
            rejected.add(log.mark.log)
            self.followed.drop(log)
        elif own is not None and not self._is_elsewhere(own):
            is_same = own.inode == at.st_ino and not file.gz
            chain = yield from self._continues(own, _RESTARTED_SMALL_BYTES if is_same and at.st_size > own.offset else None)
            if chain is not None and (is_same or own.offset > 0):
                return (yield from self._known(chain, own))
        if own is not None:
            rejected.add(own.log)
        read_before = self.followed.read_elsewhere
        found = yield from self._among_others(rejected)
        if found is not None:
            return found
        if self.may_wait and read_before != self.followed.read_elsewhere:
            return Wait(0.01)  # the ledger was asked before it knew of that
        return (yield from self._new())

    def _known(self, chain: Chain, mark: FileMark) -> Identifying:
        """It is this log. One of which nothing was read may have been an empty file that a copy is being written to."""
        if mark.offset == 0 and (found := (yield from self._among_others({mark.log}))) is not None:
            return found
        self.file.file.seek(chain.at)
        return Identified(chain, mark, mark.log)

    def _new(self) -> Identifying:
        """Before a log that nobody knows is read, those that are no longer at their paths are: it may be a copy of one, or have
        taken its place, and then its writer has left the other one."""
        yield from ()
        if self.may_wait and self.file.size > 0:
            elsewhere = self.followed.unread_elsewhere(self.file.stat.st_mtime_ns)
            if elsewhere is not None:
                return Wait(0.05, log=elsewhere)
        self.file.file.seek(0)
        return Identified(Chain(), is_known=False)

    def _is_elsewhere(self, mark: FileMark) -> bool:
        """Whether the file of a log is open and has a name, so that it is not this one."""
        log = self.followed.state(mark.log)
        return log is not None and log.at.st_nlink > 0

    # Logs that were read at other paths.

    def _among_others(self, rejected: set[int]) -> Generator[Step, Answer, Identified | Wait | SameFile | None]:
        file = self.file
        if file.size == 0:
            return None
        file.file.seek(0)
        head = head_hash(_read(file, HEAD_BYTES))
        candidates = yield LookUp(file.stat.st_ino, head)
        states: dict[ChainState, FileMark] = {}
        longer: list[FileMark] = []
        for mark in candidates or ():
            state = ChainState.of(mark.content, mark.offset)
            if state is None or state.head != head:
                continue
            if not file.gz and mark.offset > file.size:
                longer.append(mark)
                continue
            if mark.log in rejected and self._is_elsewhere(mark):
                continue
            if state not in states or mark.log > states[state].log:
                states[state] = mark
        fitting = yield from self._fitting(set(states))
        marks = sorted((states[state] for state in fitting), key=lambda mark: -mark.offset)
        for mark in marks:
            if self._is_intact(mark):
                continue
            log = self.followed.state(mark.log)
            if self.may_wait and log is not None and log.at.st_size >= mark.offset and not log.is_read:
                return Wait(0.05, log=mark.log)  # what it had when it was copied is read from itself
            return (yield from self._at(mark, mark.log))
        if marks:
            return (yield from self._copied(marks[0]))
        for mark in longer:
            if may_be_copy(mark.path, file.path) and (yield from self._is_beginning_of(mark)):
                return self._copy_wait() or SameFile()
        return None

    def _copy_wait(self) -> Wait | None:
        """Until a copy is complete: a rotation by copying truncates the log then."""
        is_over = self.is_final or self.quiet_s >= COPY_QUIET_S
        return None if is_over else Wait(min(1.0, COPY_QUIET_S - self.quiet_s + 0.01))

    def _copied(self, mark: FileMark) -> Generator[Step, Answer, Identified | Wait | None]:
        """The content is that of a log that is still there. Either it is being rotated by copying, or this is another one that
        begins alike; by its name it is a copy, of which only what the log does not have is read."""
        if (wait := self._copy_wait()) is not None:
            return wait
        log = self.followed.state(mark.log)
        if self.may_wait and log is not None and not log.is_read:
            return Wait(0.05, log=mark.log)
        there = log.at if log is not None else self.stat(mark.path)
        is_longer = there is not None and self.file.size > there.st_size
        begins_alike = is_longer and mark.offset < HEAD_BYTES  # so short a log may be the same by chance; a copy is no longer
        if begins_alike or not any(may_be_copy(log, self.file.path) for log in (mark.path, mark.home or mark.path)):
            return None
        return (yield from self._at(mark, 0))

    def _at(self, mark: FileMark, number: int) -> Generator[Step, Answer, Identified | None]:
        """`mark` was compared; the chain continues from it."""
        state = ChainState.of(mark.content, mark.offset)
        if state is None:
            return None
        chain = Chain.resumed(state)
        if self.file.gz:  # it cannot be read from the middle
            chain = Chain()
        self.file.file.seek(chain.at)
        yield from self._feed(chain, mark.offset)
        return Identified(chain, mark, number)

    def _is_intact(self, mark: FileMark) -> bool:
        """Whether a log is still where it was read, and complete."""
        fd = self.followed.descriptor(mark.log)
        if fd is not None:
            try:
                at = os.fstat(fd)
                state = ChainState.of(mark.content, mark.offset)
                if at.st_nlink == 0 or at.st_size < mark.offset or _is_same(at, self.file.stat):
                    return False
                return state is None or _begins_and_ends_alike(lambda count, offset: os.pread(fd, count, offset), state)
            finally:
                os.close(fd)
        there = self.stat(mark.path) if mark.path != self.file.path else None
        if there is None or there.st_ino != mark.inode or there.st_size < min(mark.offset, mark.size or mark.offset):
            return False
        state = ChainState.of(mark.content, mark.offset)
        return state is None or there.st_size < mark.offset or self._has(mark.path, state)

    def _has(self, path: str, state: ChainState) -> bool:
        """Whether a log has the content that was read: it may have been truncated, and have grown again."""
        try:
            fd = self.open_file(path)
        except OSError:
            return False
        try:
            is_gz = os.pread(fd, 2, 0) == GZIP_MAGIC
            return is_gz or _begins_and_ends_alike(lambda count, offset: os.pread(fd, count, offset), state)
        finally:
            os.close(fd)

    # Comparing.

    def _continues(self, mark: FileMark, limit: int | None) -> Checking:
        """The chain at the mark's offset, if the file has what was read up to there. `limit`: of a log of which more was read
        only the first and the last block are compared; None: the whole chain is."""
        file = self.file
        state = ChainState.of(mark.content, mark.offset)
        if state is None:
            file.file.seek(0)
            return Chain() if mark.offset == 0 else None
        if not file.gz and mark.offset > file.size:
            return None
        if limit is not None and mark.offset > limit and not file.gz:
            if not _begins_and_ends_alike(lambda count, offset: os.pread(file.raw_fd, count, offset), state):
                return None
            chain = Chain.resumed(state)
        else:
            chain = Chain()
        file.file.seek(chain.at)
        yield from self._feed(chain, mark.offset)
        return chain if chain.state() == state else None

    def _is_beginning_of(self, mark: FileMark) -> Generator[Step, Answer, bool]:
        """Whether a log that is still there begins with all of this file: it is a copy that is not complete yet."""
        try:
            fd = self.followed.descriptor(mark.log)
            fd = self.open_file(mark.path) if fd is None else fd
        except OSError:
            return False
        file, done = self.file, 0
        try:
            if os.fstat(fd).st_size < file.size or _is_same(os.fstat(fd), file.stat):
                return False
            file.file.seek(0)
            while part := file.file.read(CHUNK_BYTES):
                if os.pread(fd, len(part), done) != part:
                    return False
                done += len(part)
                if done % TURN_BYTES < CHUNK_BYTES:
                    yield None
            return True
        finally:
            os.close(fd)

    def _fitting(self, states: set[ChainState]) -> Generator[Step, Answer, set[ChainState]]:
        """Those of the states that the content has at their offsets; it is gone through once."""
        fitting: set[ChainState] = set()
        chain, waiting = Chain(), sorted(states, key=lambda state: state.offset)
        self.file.file.seek(0)
        while waiting:
            if waiting[0].offset > BLOCK_BYTES > chain.at:
                yield from self._feed(chain, BLOCK_BYTES)
                first = chain.state().first
                waiting = [state for state in waiting if state.first == first]
                continue
            yield from self._feed(chain, waiting[0].offset)
            if chain.at < waiting[0].offset:
                break
            found = chain.state()
            fitting |= {state for state in waiting if state == found}
            waiting = [state for state in waiting if state.offset > chain.at]
        return fitting

    def _feed(self, chain: Chain, to: int) -> Generator[Step, Answer, None]:
        """Less where the content ends before."""
        fed = 0
        while chain.at < to and (part := self.file.file.read(min(CHUNK_BYTES, to - chain.at))):
            chain.feed(part)
            fed += len(part)
            if not part.strip(b"\0") and (hole := self.file.skip_hole()):
                chain.feed_zeros(min(hole, to - chain.at))
                self.file.file.seek(chain.at)
            if fed >= TURN_BYTES:
                fed = 0
                yield None


def _limit(log: FollowedLog, size: int) -> int | None:
    """A log that changed and did not grow may have been rewritten: it is compared as a whole."""
    came = size - log.mark.offset
    return max(_SMALL_BYTES, 4 * came) if came > 0 else None


def _begins_and_ends_alike(pread: Callable[[int, int], bytes], state: ChainState) -> bool:
    begins, ends = Chain(), Chain()
    if state.blocks_end == 0:
        begins.feed(pread(state.offset, 0))
        return begins.state() == state
    begins.feed(pread(BLOCK_BYTES, 0))
    ends.feed(pread(state.offset - state.blocks_end + BLOCK_BYTES, state.blocks_end - BLOCK_BYTES))
    found = ends.state()
    return begins.state().first == state.first and found.first == state.last and found.tail == state.tail


def _read(file: Opened, count: int) -> bytes:
    parts: list[bytes] = []
    try:
        while count > 0 and (part := file.file.read(count)):
            parts.append(part)
            count -= len(part)
    except GZIP_ERRORS:
        pass  # whoever reads on meets it again
    return b"".join(parts)


def _is_same(one: os.stat_result | None, other: os.stat_result) -> bool:
    return one is not None and (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
