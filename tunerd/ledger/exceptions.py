"""The two ways in which a ledger as a whole can fail. What becomes of a single call is a value, never an exception."""


class LedgerUnavailable(Exception):
    """The ledger cannot be written now (disk full, read-only, I/O error). Nothing of the command was done; the caller may wait
    and try the same command again."""


class LedgerRefused(Exception):
    """The ledger cannot be opened at all: locked by another process, newer schema, network file system, no permission.
    The message is one line for an operator. `locked`: another process holds the ledger (exit code 75)."""

    def __init__(self, message: str, *, locked: bool = False) -> None:
        super().__init__(message)
        self.locked = locked
