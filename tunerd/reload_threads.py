"""What a reload looks at on disk: a directory that the configuration names may hang, and then the reload is refused."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from tunerd.daemon_threads import DaemonThreads
from tunerd.yaml_location import ConfigError, Problem, YamlLocation

T = TypeVar("T")

ANSWER_S: Final = 30.0


class ReloadThreads:
    def __init__(self, answer_s: float = ANSWER_S) -> None:
        self._threads, self._answer_s = DaemonThreads(1, "tunerd-reload"), answer_s

    async def run(self, file: Path, work: Callable[[], T]) -> T:
        """Blocking work on the configuration of this file. Raises ConfigError when it takes too long."""
        try:
            async with asyncio.timeout(self._answer_s):
                return await self._threads.run(work)
        except TimeoutError:
            what = (
                f"it could not be read within {self._answer_s:g} s: a directory that it names does not answer, as a network "
                "mount whose server is gone; bring the server back, or end what hangs with `umount -f`, then reload"
            )
            raise ConfigError([Problem(location=YamlLocation(file=str(file), line=1, column=1), path="", message=what)]) from None
