"""The claims of this instance in a fleet: which claim of a row its worker holds, and what that worker posts.

Another instance may give this one up while it still works. Where one process owns the ledger this is empty.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

from tunerd.call import State
from tunerd.ledger.rows import LedgerRow
from tunerd.ledger.sql.calls import Calls
from tunerd.ledger.sql.database import Database


class FleetClaims:
    def __init__(self, db: Database, calls: Calls) -> None:
        self._db = db
        self._calls = calls
        self._held: dict[int, tuple[int, bytes]] = {}
        """Of each row: the number of the claim, and the digest of the body that is posted."""
        self._asked: Iterator[LedgerRow] = iter(())
        self._read: dict[int, LedgerRow] = {}
        """What `expect` has asked for, and what of it was read and not changed since."""

    def note(self, row: int, number: int, body: bytes) -> None:
        self._held[row] = number, digest_of(body)

    def end(self, row: int) -> bytes:
        """The claim is over. Returns the digest of what was posted; empty if it is not known."""
        return self._held.pop(row, (0, b""))[1]

    def expect(self, rows: Sequence[int]) -> None:
        """Workers will give these back in this transaction: they are read together."""
        if self._db.holder and rows:
            self._asked = self._calls.among(rows)

    def changed(self, row: int) -> None:
        self._expected(row)

    def row(self, row: int) -> LedgerRow | None:
        """The row of a claim that this instance still has."""
        found, (number, _) = self._expected(row) or self._calls.get(row), self._held.get(row, (0, b""))
        if found is not None and (found.state, found.holder, found.claims) == (State.SENDING, self._db.holder, number):
            return found
        return None

    def _expected(self, row: int) -> LedgerRow | None:
        self._read |= {found.row: found for found in self._asked}
        return self._read.pop(row, None)

    def forget_read(self) -> None:
        """The transaction ends."""
        self._asked, self._read = iter(()), {}

    def snapshot(self) -> Mapping[int, tuple[int, bytes]]:
        return dict(self._held)

    def restore(self, before: Mapping[int, tuple[int, bytes]]) -> None:
        self._held = dict(before)


def digest_of(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).digest()
