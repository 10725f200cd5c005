"""By what a file that is read whole is known again: the hash of its bytes as they are on disk (compressed or not)."""

import hashlib
import os
from typing import Final

DIGEST_BYTES: Final = 16
_CHUNK_BYTES: Final = 256 * 1024


def hash_of(data: bytes) -> bytes:
    """Of all bytes of a file."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def content_hash(fd: int) -> bytes:
    """The same of an open file, whose place it leaves alone."""
    hashed, at = hashlib.blake2b(digest_size=DIGEST_BYTES), 0
    while chunk := os.pread(fd, _CHUNK_BYTES, at):
        hashed.update(chunk)
        at += len(chunk)
    return hashed.digest()
