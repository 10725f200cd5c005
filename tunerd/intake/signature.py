"""Tells a changed file from an unchanged one by its stat. Values only."""

import os
from typing import Final

_INODE_BITS: Final = 16


def signature(size: int, mtime_ns: int, ctime_ns: int, inode: int) -> int:
    """One number that tells a changed file from an unchanged one; kept for every known file, so it is small. The inode
    has the lowest bits for itself."""
    times = hash((size, mtime_ns, ctime_ns)) & ((1 << 44) - 1)
    return times << _INODE_BITS | (inode ^ inode >> _INODE_BITS ^ inode >> 2 * _INODE_BITS) & ((1 << _INODE_BITS) - 1)


def signature_of(at: os.stat_result) -> int:
    return signature(at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino)


def differ_in_inode_only(one: int, other: int) -> bool:
    return one != other and one >> _INODE_BITS == other >> _INODE_BITS


def is_unchanged(known: int | None, sign: int, *, by_inode: bool) -> bool:
    """Whether two signatures are of the same file, `by_inode` or whatever the inode is."""
    return known == sign or (not by_inode and known is not None and differ_in_inode_only(known, sign))
