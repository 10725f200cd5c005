"""A TCP proxy before a server: it can stop passing anything on while the connections stay open."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class StallingProxy:
    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.connections = 0
        self._stalled_until = 0
        """Connections up to this number pass nothing on."""
        self._tasks: set[asyncio.Task[None]] = set()

    def stall(self) -> None:
        """What is connected now is half-open from now on; new connections work."""
        self._stalled_until = self.connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, to = await asyncio.open_connection("127.0.0.1", self._target)
        with suppress(ConnectionError, asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(number, reader, to))
                group.create_task(self._pass_on(number, there, writer))
        for end in (to, writer):
            end.close()
        self._tasks.discard(task)

    async def _pass_on(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if number > self._stalled_until:
                writer.write(data)
                await writer.drain()
        writer.close()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def stalling_proxy(port: int) -> AsyncIterator[StallingProxy]:
    proxy = StallingProxy(port)
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listening.close()
        await proxy.close()
