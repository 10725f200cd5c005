"""What a log is known by: a chain of hashes over its content, kept as it is read and continued from where it was left. Pure.

Ends alone never decide: logs with a long prompt in front and a configuration behind differ only in the middle. Which log a
file is, by this and by other evidence, is log_identity.py's business.
"""

from hashlib import blake2b
from typing import Final

from tunerd.record import positional_record

BLOCK_BYTES: Final = 64 * 1024
HEAD_BYTES: Final = 1024
_HEAD_HASH: Final = 8
_HASH: Final = 16
_COUNT: Final = 8
STATE_BYTES: Final = _HEAD_HASH + 4 * _HASH + _COUNT
_NONE: Final = bytes(_HASH)


def _hash(content: bytes) -> bytes:
    return blake2b(content, digest_size=_HASH).digest()


_ZEROS: Final = bytes(BLOCK_BYTES)
_ZEROS_HASH: Final = _hash(_ZEROS)


def head_hash(content: bytes) -> bytes:
    """Of the first line, at most its first KiB: it stays the same while the log grows, so that known logs are found by it."""
    line, _, _ = content[:HEAD_BYTES].partition(b"\n")
    return blake2b(line, digest_size=_HEAD_HASH).digest()


@positional_record
class ChainState:
    """The chain at an offset."""

    offset: int
    head: bytes
    """Hash of the first line, see `head_hash`."""
    first: bytes
    """Hash of the first full block; zeros while there is none, as of the next two."""
    chain: bytes
    """Over the hashes of all full blocks, those of zeros at the end apart."""
    last: bytes
    """Hash of the last full block."""
    tail: bytes
    """Hash of what stands behind the last full block, up to the offset."""
    zeros: int
    """How many full blocks of zeros are at the end: a hole of a terabyte is no work."""

    @classmethod
    def of(cls, content: bytes, offset: int) -> "ChainState | None":
        """Of the bytes that are stored; None where nothing of the log was read."""
        if len(content) != STATE_BYTES or offset <= 0:
            return None
        cuts = [_HEAD_HASH + _HASH * i for i in range(5)]
        first, chain, last, tail = (content[a : a + _HASH] for a in cuts[:4])
        return cls(offset, content[:_HEAD_HASH], first, chain, last, tail, int.from_bytes(content[cuts[4] :]))

    @property
    def blocks_end(self) -> int:
        """Where the last full block ends."""
        return self.offset - self.offset % BLOCK_BYTES

    def stored(self) -> bytes:
        return self.head + self.first + self.chain + self.last + self.tail + self.zeros.to_bytes(_COUNT)


class Chain:
    """Feed content in order; `state` tells what it is known by so far."""

    def __init__(self) -> None:
        self.at = 0
        """Bytes fed."""
        self._head = b""
        self._head_hash: bytes | None = None
        self._first = self._chain = self._last = _NONE
        self._zeros = 0
        self._block = blake2b(digest_size=_HASH)

    @classmethod
    def resumed(cls, state: ChainState) -> "Chain":
        """At the end of the last full block: what stands behind it must be fed again, so that it is compared, too."""
        chain = cls()
        if state.blocks_end > 0:
            chain.at, chain._head_hash = state.blocks_end, state.head
            chain._first, chain._chain, chain._last, chain._zeros = state.first, state.chain, state.last, state.zeros
        return chain

    def feed(self, content: bytes | memoryview) -> None:
        view = memoryview(content)
        if self._head_hash is None:
            self._feed_head(bytes(view[:HEAD_BYTES]))
        while len(view):
            room = BLOCK_BYTES - self.at % BLOCK_BYTES
            part = view[:room]
            self._block.update(part)
            self.at += len(part)
            if len(part) == room:
                self._end_block(self._block.digest())
            view = view[room:]

    def feed_zeros(self, count: int) -> None:
        """`count` NUL bytes that nobody read: a hole of the file system."""
        while count > 0:
            within = self.at % BLOCK_BYTES
            if within == 0 and count >= BLOCK_BYTES and self.at >= BLOCK_BYTES:
                blocks = count // BLOCK_BYTES
                self.at += blocks * BLOCK_BYTES
                self._zeros, self._last = self._zeros + blocks, _ZEROS_HASH
                count -= blocks * BLOCK_BYTES
                continue
            step = min(count, BLOCK_BYTES - within)
            self.feed(_ZEROS[:step])
            count -= step

    def state(self) -> ChainState:
        head = self._head_hash if self._head_hash is not None else head_hash(self._head)
        return ChainState(self.at, head, self._first, self._chain, self._last, self._block.copy().digest(), self._zeros)

    def _feed_head(self, content: bytes) -> None:
        self._head += content[: HEAD_BYTES - len(self._head)]
        if len(self._head) == HEAD_BYTES or b"\n" in self._head:
            self._head_hash, self._head = head_hash(self._head), b""

    def _end_block(self, digest: bytes) -> None:
        self._block = blake2b(digest_size=_HASH)
        if self.at == BLOCK_BYTES:
            self._first = digest
        self._last = digest
        if digest == _ZEROS_HASH:
            self._zeros += 1
            return
        self._chain = _hash(self._chain + self._zeros.to_bytes(_COUNT) + digest)
        self._zeros = 0
