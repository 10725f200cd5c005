"""The heartbeat: a thread with a connection of its own that says every few seconds that this instance is alive."""

import threading
import time
from collections.abc import Callable

import psycopg

from tunerd.ledger.postgresql.instances import BEAT, END, Instance
from tunerd.ledger.postgresql.postgresql_server import Connection, Server, connect


class Heartbeat:
    """`superseded` is called, in the thread, when another start took this instance's name."""

    def __init__(self, server: Server, instance: Instance, superseded: Callable[[], None]) -> None:
        self._server, self.pulse = server, server.pulse
        self._instance = instance
        self._superseded = superseded
        self._connection: Connection | None = None
        self._ended = threading.Event()
        self._last = _boottime()
        """When the last heartbeat that arrived was sent."""
        self._steady_since = self._last
        """Since when each of them has arrived in time."""
        self._is_superseded = False
        self._thread = threading.Thread(target=self._main, name="ledger-heartbeat", daemon=True)
        self._thread.start()

    def may_send(self) -> bool:
        """Whether this instance is surely not given up yet, by a clock that runs while the machine is suspended. Any thread."""
        return not self._is_superseded and _boottime() - self._last < self.pulse.stops_after_s

    def may_judge(self) -> bool:
        """Whether its own heartbeats have arrived for long enough to call others dead: otherwise it may be the database that
        was away."""
        return self.may_send() and self._last - self._steady_since >= self.pulse.dead_after_s

    @property
    def is_superseded(self) -> bool:
        return self._is_superseded

    def end(self) -> None:
        """Say that the instance ends, and stop."""
        self._ended.set()
        self._thread.join()

    # The thread.

    def _main(self) -> None:
        while not self._ended.wait(self.pulse.every_s) and not self._is_superseded:
            self._beat()
        if not self._is_superseded:
            self._say(END)
        self._close()

    def _beat(self) -> None:
        sent = _boottime()
        found = self._say(BEAT)
        if found == 0:
            self._is_superseded = True
            self._superseded()
        elif found is not None:
            if sent - self._last > 2 * self.pulse.every_s:
                self._steady_since = sent
            self._last = sent

    def _say(self, statement: str) -> int | None:
        """How many rows it found; None: the server did not answer."""
        try:
            if self._connection is None:
                self._connection = connect(self._server)
            with self._connection.transaction():
                self._connection.execute(f"{self._server.set_search_path}; SET LOCAL statement_timeout = 5000")
                return self._connection.execute(statement, (self._instance.name, self._instance.generation)).rowcount
        except psycopg.Error:
            self._close()
            return None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
