"""Which file it is, and in which state: what tells a recording from whatever is written to its name later. Pure."""

import json
import os
from dataclasses import asdict

from tunerd.record import positional_record


@positional_record
class FileIdentity:
    """Two that differ in anything are two files, or one that was changed."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, at: os.stat_result) -> "FileIdentity":
        return cls(at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns)

    @classmethod
    def parse(cls, text: str) -> "FileIdentity":
        """Of `str()`, as the ledger keeps it."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))
