"""Threads for blocking work that may never come back: a network mount may hang for as long as it likes, and a process that ends
does not wait for it. (It does wait for the threads of concurrent.futures.)
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

T = TypeVar("T")

_IDLE_S: Final = 10.0
"""A thread ends when there was nothing to do for so long."""


class DaemonThreads:
    """At most `most` threads, each started when there is work for it."""

    def __init__(self, most: int, name: str, idle_s: float = _IDLE_S) -> None:
        self._most, self._name, self._idle_s = most, name, idle_s
        self._changed = threading.Condition(threading.Lock())
        self._todo: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._count = self._idle = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Cancelled, the work is not begun; if it was begun already, nobody waits for it."""
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._changed:
            self._todo.append((future, work))
            if self._idle >= len(self._todo):
                self._changed.notify()
            elif self._count < self._most:
                self._start()
        return future

    def _start(self) -> None:
        """Raises RuntimeError where the system gives no thread at all; the threads that there are do without another one."""
        self._count += 1
        try:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        except RuntimeError:
            self._count -= 1
            if self._count == 0:
                self._todo.pop()
                raise

    def close(self) -> None:
        """What is not begun is cancelled."""
        with self._changed:
            left, self._todo = self._todo, deque()
        for future, _ in left:
            future.cancel()

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            _carry_out(*job)
            del job  # what it holds goes at once, not with the next one

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._changed:
            self._idle += 1
            came = self._changed.wait_for(lambda: bool(self._todo), self._idle_s)
            self._idle -= 1
            if came:
                return self._todo.popleft()
            self._count -= 1
            return None


def _carry_out(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as exc:  # handed to whoever waits
        future.set_exception(exc)
    else:
        future.set_result(result)
