"""A real `tunerd run` that a demo starts on this machine, in a directory of its own: started, watched, given files, and ended."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from tunerd.admin.answer_types import StatusDocument
from tunerd.admin.api import StatusOrder
from tunerd.admin.discovery import find_daemon
from tunerd.call import State
from tunerd.clock import SystemClock

CEILING_S: Final = 30.0
"""A step of a demo that takes longer is stuck."""
_LOOK_S: Final = 0.02


class DemoDaemon:
    """`ledger`: the file of its ledger, or what the local files of an instance with PostgreSQL begin with."""

    def __init__(self, directory: Path, ledger: Path) -> None:
        self.directory = directory
        self._ledger = str(ledger)
        self._clock = SystemClock()
        self._never = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, config: str, stack: AsyncExitStack) -> None:
        """Returns when it has looked at every source once; it ends with the stack. Raises TimeoutError."""
        file = self.directory / "config.yaml"
        file.write_text(config)
        with self.log.open("wb") as log:
            environ = {name: value for name, value in os.environ.items() if not name.startswith(("TUNER", "NOTIFY_", "RUNTIME_"))}
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tunerd", "run", "-c", str(file),
                stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL, env=environ,
            )  # fmt: skip
        stack.push_async_callback(self._stop)
        await self.until(lambda: find_daemon(self._ledger) is not None)
        await self.until(self._has_looked_around)

    async def status(self) -> StatusDocument:
        daemon = await asyncio.to_thread(find_daemon, self._ledger)
        if daemon is None:
            raise TimeoutError
        return await daemon.ask(StatusOrder())

    async def until_counts(self, state: State, count: int) -> None:
        async def reached() -> bool:
            return (await self.status()).calls[state.value].count >= count

        await self.until(reached)

    async def until(self, question: Callable[[], bool | Awaitable[bool]]) -> None:
        """Raises TimeoutError after 30 s, and when the process has ended."""
        async with asyncio.timeout(CEILING_S):
            while True:
                answer = question()
                if answer if isinstance(answer, bool) else await answer:
                    return
                if self._process is not None and self._process.returncode is not None:
                    raise TimeoutError
                await self._clock.wait(self._never, _LOOK_S)

    def put(self, place: str, document: Any) -> None:
        """As a careful writer does: written beside its place, then renamed."""
        target = self.directory / place
        beside = target.with_name(f".{target.name}.tmp")
        beside.write_text(json.dumps(document))
        beside.rename(target)

    async def kill(self) -> None:
        """SIGKILL: it can do nothing about its end."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    @property
    def log(self) -> Path:
        return self.directory / "tunerd.log"

    async def _has_looked_around(self) -> bool:
        return all(source.last_scan_at for source in (await self.status()).sources)

    async def _stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(CEILING_S):
                    await self._process.wait()
            except TimeoutError:
                await self.kill()
