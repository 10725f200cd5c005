"""Threads for files of recordings, separate for each directory of recordings: a mount that hangs keeps only the threads of its
own directory, and gets no more until they come back.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tunerd.audio.audio_bytes import AudioHangs
from tunerd.audio_events import DirectoryAnswers, DirectoryHangs
from tunerd.clock import Clock
from tunerd.daemon_threads import DaemonThreads
from tunerd.events import Emit

T = TypeVar("T")

ANSWER_S: Final = 10.0
"""A look at a file, or the reading of a part of it, that takes longer than this hangs."""
_MOST: Final = 8
"""Threads for each directory."""


@dataclass(slots=True)
class _Hanging:
    since: float
    works: list[Future[Any]]
    """Those that have not come back."""


class DirectoryThreads:
    """One for the process, so that whoever finds a directory hanging finds it for all."""

    def __init__(self, clock: Clock, emit: Emit, answer_s: float = ANSWER_S) -> None:
        self._clock, self._emit, self._answer_s = clock, emit, answer_s
        self._threads: dict[str, DaemonThreads] = {}
        self._hanging: dict[str, _Hanging] = {}

    async def run(self, directory: str, work: Callable[[], T]) -> T:
        """Blocking work on files below this directory. Raises AudioHangs when it takes too long, and at once while earlier work
        there has not come back."""
        if self._hangs(directory):
            raise self._trouble(directory)
        if directory not in self._threads:
            self._threads[directory] = DaemonThreads(_MOST, "tunerd-recordings")
        future = self._threads[directory].submit(work)
        try:
            async with asyncio.timeout(self._answer_s) as limit:
                return await asyncio.wrap_future(future)
        except TimeoutError:
            if not limit.expired():  # the work's own
                raise
            if not future.cancelled():  # else it has not even begun
                self._found_hanging(directory, future)
            raise self._trouble(directory) from None

    def _hangs(self, directory: str) -> bool:
        hanging = self._hanging.get(directory)
        if hanging is None:
            return False
        hanging.works = [work for work in hanging.works if not work.done()]
        if not hanging.works:
            del self._hanging[directory]
            self._emit(DirectoryAnswers(directory=directory, lasted_s=self._clock.monotonic() - hanging.since))
        return bool(hanging.works)

    def _found_hanging(self, directory: str, work: Future[Any]) -> None:
        if directory not in self._hanging:
            self._hanging[directory] = _Hanging(self._clock.monotonic() - self._answer_s, [])
            self._emit(DirectoryHangs(directory=directory, after_s=self._answer_s))
        self._hanging[directory].works.append(work)

    def _trouble(self, directory: str) -> AudioHangs:
        return AudioHangs(
            f"the directory {directory} has not answered for more than {self._answer_s:g} s, as a network mount whose server is "
            "gone; bring the server back, or end what hangs with `umount -f`",
            may_pass=True,
        )
