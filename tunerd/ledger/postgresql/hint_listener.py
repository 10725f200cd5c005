"""LISTEN and NOTIFY: a hint that another instance changed something, a few milliseconds after its commit. Polling is the truth.

A thread has a connection of its own for both directions. A NOTIFY inside of a transaction would make commits wait for each other.
"""

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg.pq import ExecStatus

from tunerd.ledger.postgresql.patient_connection import PatientConnection
from tunerd.ledger.postgresql.postgresql_server import Server, connect

PROBE_S: Final = 10.0
"""So often the connection is tried: its own notification has to come back."""
ANSWER_S: Final = 5.0
_HINT: Final = "hint"
_PROBE: Final = "probe"
_HINT_EVERY_S: Final = 0.2
_CONNECT_AGAIN_S: Final = 1.0


class HintListener:
    def __init__(
        self, server: Server, sender: str, heard: Callable[[], None], *, probe_s: float = PROBE_S, answer_s: float = ANSWER_S
    ) -> None:
        """`heard` is called, in the thread, when another sender than this one gave a hint, and after each new connection."""
        self._server, self._heard = server, heard
        self._probe_s, self._answer_s = probe_s, answer_s
        self._channel = f'"{server.schema}"'
        self._sender = sender
        self._has_hint = self._is_over = False
        self._asleep, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._main, name="ledger-listener", daemon=True)
        self._thread.start()

    def hint(self) -> None:
        """Something was committed that others may have to see: they learn of it at once, but at most 5 times a second. Any
        thread."""
        if not self._has_hint:
            self._has_hint = True
            self._wake()

    def end(self) -> None:
        """A hint that was given is sent first."""
        self._is_over = True
        self._ended.set()
        self._wake()
        self._thread.join(self._answer_s)
        if not self._thread.is_alive():  # else it tries to connect, and ends with the process
            os.close(self._asleep)
            os.close(self._waker)

    def _wake(self) -> None:
        try:
            os.write(self._waker, b"!")
        except BlockingIOError:
            pass  # it is awake enough

    # The thread.

    def _main(self) -> None:
        while not self._is_over:
            try:
                self._connected()
            except (psycopg.Error, OSError):
                pass
            self._ended.wait(_CONNECT_AGAIN_S)

    def _connected(self) -> None:
        """Until the end, or until the connection is lost or does not answer."""
        connection = connect(self._server)
        try:
            connection.execute(f"LISTEN {self._channel}")
            self._heard()
            self._exchange(connection)
        finally:
            connection.close()

    def _exchange(self, connection: PatientConnection) -> None:
        sent_at = -_HINT_EVERY_S
        waits = False
        """Its own notification has not come back."""
        while True:
            now = time.monotonic()
            if waits and now - sent_at >= self._answer_s:
                return  # half-open: whoever is on the other side does not answer
            next_at = sent_at + (_HINT_EVERY_S if self._has_hint and not self._is_over else self._probe_s)
            if not waits and (now >= next_at or (self._has_hint and self._is_over)):
                what, self._has_hint = _HINT if self._has_hint else _PROBE, False
                connection.pgconn.send_query(f"NOTIFY {self._channel}, '{self._sender} {what}'".encode())
                sent_at, waits = now, True
                continue
            if self._is_over and not waits:
                return
            until = sent_at + self._answer_s if waits else next_at
            readable, _, _ = select.select([connection.pgconn.socket, self._asleep], [], [], max(0.0, until - now))
            if self._asleep in readable:
                os.read(self._asleep, 4096)
            if connection.pgconn.socket in readable:
                waits = not self._read(connection) and waits

    def _read(self, connection: PatientConnection) -> bool:
        """What has come. True: the own notification is among it."""
        pgconn = connection.pgconn
        pgconn.consume_input()
        while not pgconn.is_busy() and (result := pgconn.get_result()) is not None:
            if result.status == ExecStatus.FATAL_ERROR:
                raise psycopg.OperationalError("the notification was refused")
        is_own = False
        while (notification := pgconn.notifies()) is not None:
            sender, _, what = notification.extra.decode().partition(" ")
            is_own = is_own or sender == self._sender
            if sender != self._sender and what == _HINT:
                self._heard()
        return is_own
