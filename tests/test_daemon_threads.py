"""daemon_threads.py: blocking work in threads that keep no process alive."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import CancelledError

import pytest

from tunerd.daemon_threads import DaemonThreads


def test_at_most_so_many_work_at_once() -> None:
    """The threads that there may be all work at the same time; what comes then waits for one of them."""
    threads, both, over = DaemonThreads(2, "test"), threading.Barrier(3), threading.Event()

    def work() -> None:
        both.wait(10)
        over.wait(10)

    working = [threads.submit(work) for _ in range(2)]
    both.wait(10)
    third = threads.submit(threading.get_ident)
    assert not third.running()
    assert not third.done()
    over.set()
    assert third.result(10) != threading.get_ident()
    assert [one.result(10) for one in working] == [None, None]


def test_each_work_is_done_however_soon_threads_end() -> None:
    """Threads that end as soon as they find nothing to do lose no work."""
    threads = DaemonThreads(3, "test", idle_s=0.0)
    assert [threads.submit(lambda number=number: number).result(10) for number in range(2000)] == list(range(2000))


async def test_what_the_work_raises_is_handed_on() -> None:
    """...and the thread takes the next work."""
    threads = DaemonThreads(1, "test")
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    assert await threads.run(lambda: 1) == 1


async def test_what_has_not_begun_can_be_cancelled() -> None:
    """By whoever waits for it, and by `close`; what has begun ends."""
    threads, begun, over = DaemonThreads(1, "test"), threading.Event(), threading.Event()
    done: list[int] = []

    def work() -> int:
        begun.set()
        over.wait(10)
        return 1

    first = threads.submit(work)
    begun.wait(10)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await threads.run(lambda: done.append(2))
    third = threads.submit(lambda: done.append(3))
    threads.close()
    over.set()
    assert first.result(10) == 1
    with pytest.raises(CancelledError):
        third.result(10)
    assert await threads.run(lambda: 4) == 4
    assert done == []


def test_a_process_ends_while_a_thread_hangs() -> None:
    """Nobody waits for the work at the end of the process."""
    code = "import threading; from tunerd.daemon_threads import DaemonThreads as T; T(1, 'x').submit(threading.Event().wait)"
    assert subprocess.run([sys.executable, "-c", code], timeout=20, check=False).returncode == 0


def test_when_the_system_gives_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are there do the work; without any it is refused, and later there may be one again."""
    daemon, over = DaemonThreads(2, "test"), threading.Event()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                daemon.submit(over.wait)
    first = daemon.submit(over.wait)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        second = daemon.submit(lambda: 2)
    over.set()
    assert (first.result(10), second.result(10)) == (True, 2)
