"""The heartbeat: a thread with a connection of its own that says every few seconds that this instance is alive."""

import threading
from collections.abc import Callable

import psycopg

from tunerd.clock import Clock
from tunerd.ledger.postgresql.instances import BEAT, END, Instance, boottime
from tunerd.ledger.postgresql.patient_connection import PatientConnection
from tunerd.ledger.postgresql.postgresql_server import Server, connect


class Heartbeat:
    def __init__(self, server: Server, instance: Instance, clock: Clock) -> None:
        self._server, self.pulse = server, server.pulse
        self._instance, self._renewals, self._clock = instance, instance.renewals, clock
        self._connection: PatientConnection | None = None
        self._ended = threading.Event()
        self._is_superseded = False
        self._tell: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._main, name="ledger-heartbeat", daemon=True)
        self._thread.start()

    @property
    def generation(self) -> int:
        return self._instance.generation

    def may_send(self, lease: int | None = None) -> bool:
        """Whether this instance is surely not given up, and was not since it claimed under `lease`. Any thread."""
        return not self._is_superseded and self._renewals.may_send(boottime(), lease)

    def may_judge(self) -> bool:
        """Whether it may call others dead."""
        return not self._is_superseded and self._renewals.may_judge(boottime())

    @property
    def is_superseded(self) -> bool:
        return self._is_superseded

    def on_superseded(self, tell: Callable[[], None]) -> None:
        """Call this, in the thread, when another start took this instance's name (at once if one has)."""
        self._tell = tell
        if self._is_superseded:
            tell()

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
        sent = boottime()
        found = self._say(BEAT)
        if found is None:
            return
        if not found:
            self._is_superseded = True
            self._tell()
        else:
            self._renewals.arrived(sent)
            self._renewals.clock_ahead_s = self._clock.now() - found[0]

    def _say(self, statement: str) -> list[float] | None:
        """The times in the rows that it found; None: the server did not answer."""
        try:
            if self._connection is None:
                self._connection = connect(self._server, self.pulse.every_s)
            with self._connection.transaction():
                self._connection.execute(f"{self._server.set_search_path}; SET LOCAL statement_timeout = 5000")
                found = self._connection.execute(statement, (self._instance.name, self._instance.generation))
                return [at for (at,) in found]
        except psycopg.Error:
            self._close()
            return None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
