"""sd_notify without a library: READY, RELOADING, STOPPING, STATUS, and the watchdog, which is fed only while there is progress.

Outside systemd (no NOTIFY_SOCKET) everything here does nothing.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from tunerd.clock import Clock
from tunerd.ops.health import Health, lag_of

_MAX_STATUS: Final = 200
_MUST_ARRIVE_S: Final = 2.0


class Notifier:
    """Sends to systemd's socket. Never raises, whether or not systemd listens. Messages that must arrive (a service without
    its READY is killed) wait for room in a full socket; the others do not."""

    def __init__(self, address: str | None) -> None:
        # An address that starts with @ is an abstract socket, whose name starts with a zero byte.
        self._address = None if not address else "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> "Notifier":
        return cls(env.get("NOTIFY_SOCKET"))

    @property
    def listens(self) -> bool:
        return self._address is not None

    def ready(self, status: str = "") -> None:
        self._send("READY=1", *_status(status), wait_s=_MUST_ARRIVE_S)

    def reloading(self) -> None:
        """Before a reload; `ready` ends it. The time is CLOCK_MONOTONIC, as systemd requires."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}", wait_s=_MUST_ARRIVE_S)

    def stopping(self, status: str = "") -> None:
        self._send("STOPPING=1", *_status(status), wait_s=_MUST_ARRIVE_S)

    def status(self, status: str) -> None:
        self._send(*_status(status))

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> None:
        """Ask for more time while starting or stopping (a long drain)."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, *lines: str, wait_s: float = 0.0) -> None:
        if self._address is None or not lines:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.settimeout(wait_s)
                out.sendto("\n".join(lines).encode(errors="replace"), self._address)
        except OSError:
            pass


def watchdog_every_s(env: Mapping[str, str], pid: int) -> float | None:
    """A third of the time that systemd's watchdog allows; None when it does not watch this process. Pure."""
    try:
        allowed_us = int(env.get("WATCHDOG_USEC", "0"))
        watched = int(env.get("WATCHDOG_PID", pid))
    except ValueError:
        return None
    return allowed_us / 3_000_000 if allowed_us > 0 and watched == pid else None


async def feed_watchdog(
    notifier: Notifier,
    health: Health,
    every_s: float,
    clock: Clock,
    stop: asyncio.Event,
    status: Callable[[], str] = lambda: "",
) -> None:
    """Until `stop`: feed the watchdog while the process makes progress. Otherwise STATUS says why it is not fed, and systemd
    restarts the process."""
    while (lag_s := await lag_of(clock, stop, every_s)) is not None:
        if ill := await health.ailment(lag_s):
            notifier.status(f"unhealthy: {ill}")
        else:
            notifier.alive()
            notifier.status(status())


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(text.split())[:_MAX_STATUS]}",) if text else ()
