"""Liveness and systemd: when the process counts as well, and what the supervisor is told over a real socket."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunerd.ops.health import Health, Vitals, ailment
from tunerd.ops.systemd import Notifier, feed_watchdog, watchdog_every_s
from tunerd.testing import FakeClock


class Writer:
    def __init__(self) -> None:
        self.answers: bool | None = True
        """None: hangs."""

    async def alive(self) -> bool:
        if self.answers is None:
            await asyncio.Event().wait()
        return bool(self.answers)


@pytest.mark.parametrize(
    ("writer", "attempt_s", "lag_s", "complaint"),
    [
        (True, None, 0.0, None),
        (True, 59.0, 0.0, None),
        (True, 61.0, 0.0, "an upload has been open for 61 s; its timeout is 30 s"),
        (False, None, 0.0, "the ledger's writer did not answer within 5 s"),
        (True, None, 9.0, None),
        (True, None, 11.0, "the event loop was 11 s late"),
    ],
)
def test_what_counts_as_ill(writer: bool, attempt_s: float | None, lag_s: float, complaint: str | None) -> None:
    """Only what a restart would mend: writer, loop, an attempt that outlived its timeout. Nothing about Tuner."""
    vitals = Vitals(writer_answers=writer, oldest_attempt_s=attempt_s, attempt_timeout_s=30.0, loop_lag_s=lag_s)
    assert ailment(vitals) == complaint


@pytest.mark.parametrize(("answers", "well"), [(True, True), (False, False), (None, False)])
async def test_a_writer_that_hangs_is_not_waited_for(answers: bool | None, well: bool) -> None:
    """The probe has a ceiling of its own."""
    writer = Writer()
    writer.answers = answers
    health = Health(writer, lambda: None, lambda: 30.0, answer_s=0.05)
    assert (await health.ailment() is None) is well


@pytest.mark.parametrize(
    ("env", "every_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_how_often_the_watchdog_is_fed(env: dict[str, str], every_s: float | None) -> None:
    """Three times in its interval, and only where it watches this process."""
    assert watchdog_every_s(env, pid=7) == every_s


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """systemd's end of the notify socket."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.setblocking(False)
        yield sock, path


def heard(sock: socket.socket) -> list[str]:
    messages = []
    try:
        while True:
            messages.append(sock.recv(4096).decode())
    except BlockingIOError:
        return messages


def test_what_systemd_is_told(supervisor: tuple[socket.socket, str]) -> None:
    """Ready with a status, reloading with the monotonic time, stopping; a status is one line."""
    sock, path = supervisor
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": path})
    notifier.ready("3 due")
    notifier.reloading()
    notifier.status("two\nlines READY=1")
    notifier.extend_timeout(2.5)
    notifier.stopping()
    ready, reloading, status, extend, stopping = heard(sock)
    assert ready == "READY=1\nSTATUS=3 due"
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert reloading.rpartition("=")[2].isdigit()
    assert status == "STATUS=two lines READY=1"
    assert extend == "EXTEND_TIMEOUT_USEC=2500000"
    assert stopping == "STOPPING=1"


def test_an_abstract_socket() -> None:
    """systemd may hand out an address that starts with @."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0tunerd-test-notify")
        sock.setblocking(False)
        Notifier("@tunerd-test-notify").ready()
        assert heard(sock) == ["READY=1"]


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all"])
def test_without_a_supervisor_nothing_happens(address: str | None) -> None:
    """No socket, or one that nobody listens on: no error, no wait."""
    Notifier(address).ready("x")


async def test_the_watchdog_is_fed_only_while_there_is_progress(supervisor: tuple[socket.socket, str]) -> None:
    """A writer that hangs makes us silent, so that systemd restarts us; STATUS says why."""
    sock, path = supervisor
    writer, clock, stop = Writer(), FakeClock(), asyncio.Event()
    health = Health(writer, lambda: None, lambda: 30.0)
    async with asyncio.TaskGroup() as group:
        group.create_task(feed_watchdog(Notifier(path), health, 20.0, clock, stop, lambda: "7 due"))
        await clock.advance(21)
        assert heard(sock) == ["WATCHDOG=1", "STATUS=7 due"]
        writer.answers = False
        await clock.advance(20)
        assert heard(sock) == ["STATUS=unhealthy: the ledger's writer did not answer within 5 s"]
        writer.answers = True
        await clock.advance(20)
        assert heard(sock)[0] == "WATCHDOG=1"
        stop.set()


def test_ready_waits_for_room(supervisor: tuple[socket.socket, str]) -> None:
    """A full socket (systemd is busy) loses watchdog messages, which come again, but never READY, which does not."""
    sock, path = supervisor
    notifier = Notifier(path)
    for _ in range(1000):
        notifier.alive()
    ready = threading.Thread(target=notifier.ready)
    ready.start()
    sock.settimeout(10)
    while sock.recv(4096) != b"READY=1":
        pass
    ready.join(10)
