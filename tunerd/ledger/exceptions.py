"""The two ways in which a ledger as a whole can fail. What becomes of a single call is a value, never an exception."""

from typing import Final

LOCKED: Final = 75
UNREACHABLE: Final = 69
MISCONFIGURED: Final = 78


class LedgerUnavailable(Exception):
    """The ledger cannot be written now (disk full, read-only, I/O error). Nothing of the command was done; the caller may wait
    and try the same command again."""


class NotTheReader(LedgerUnavailable):
    """Another instance reads this shared source, or may have read it meanwhile (Fleet.begin_reading). What this one knows of its
    files may be old."""


class LedgerRefused(Exception):
    """The ledger cannot be opened at all: locked by another process, newer schema, network file system, no permission.
    The message is one line for an operator. `exit_code`: LOCKED: another process holds the ledger; UNREACHABLE: its server does
    not answer; MISCONFIGURED: the server has to be set up, or ledger.url has to change; else 1."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
