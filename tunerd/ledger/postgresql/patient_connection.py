"""A connection that waits for an answer of the server only for a while: a proxy or a network that holds everything back keeps a
connection open, and no timeout of the server's reaches its client then.
"""

import time
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen

T = TypeVar("T")

PATIENCE_S: Final = 35.0
"""A little more than the longest statement may take on the server."""
_INTERVAL_S: Final = 0.1
"""As psycopg's own: how soon it notices Ctrl-C."""


class PatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """One thread uses it; any thread may read `is_waiting`."""

    patience_s: float = PATIENCE_S
    is_waiting: bool = False
    """Its thread waits for the server right now."""

    def wait(self, gen: PQGen[T], interval: float = _INTERVAL_S, timeout: float | None = None) -> T:
        """As psycopg's: every answer of the server is waited for here. Raises psycopg.OperationalError after `patience_s`, and
        closes the connection then."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        began, self.is_waiting = time.monotonic(), True
        try:
            return super().wait(gen, interval, self.patience_s)
        except psycopg.OperationalError:
            if time.monotonic() - began >= self.patience_s:
                self.pgconn.finish()  # what was asked may still be answered: nothing else may be asked here
            raise
        finally:
            self.is_waiting = False
