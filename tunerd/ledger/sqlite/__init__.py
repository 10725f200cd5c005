"""The ledger on one SQLite file: a writer thread that owns the connection, a reader thread beside it."""

from tunerd.ledger.sqlite.ledger import SqliteLedger

__all__ = ["SqliteLedger"]
