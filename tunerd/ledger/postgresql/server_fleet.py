"""The Fleet of a ledger on PostgreSQL: from the threads of the heartbeat and the writer into the event loop."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol, TypeVar

from tunerd.ledger import StoredPauses
from tunerd.ledger.fleet import Tokens
from tunerd.ledger.postgresql.fleet_pacing import FleetPacing, claim_probe, take_slots, take_tokens
from tunerd.ledger.postgresql.heartbeat import Heartbeat
from tunerd.ledger.postgresql.hint_listener import HintListener
from tunerd.ledger.sql.store import Store

T = TypeVar("T")


class _InWriter(Protocol):
    async def __call__(self, run: Callable[[Store], T]) -> T: ...


class ServerFleet:
    """Everything but `may_send` is the event loop's."""

    is_shared = True

    in_writer: _InWriter
    """Runs in a transaction of its own, after all that was submitted before. Set once the ledger has its writer."""

    def __init__(self, heartbeat: Heartbeat, loop: asyncio.AbstractEventLoop, pacing: FleetPacing) -> None:
        self._heartbeat, self._loop, self._pacing = heartbeat, loop, pacing
        self._follow: Callable[[Mapping[str, StoredPauses]], None] = lambda pauses: None
        self.listener: HintListener | None = None
        """None: this instance relies on polling, and gives no hints."""

    @property
    def is_superseded(self) -> bool:
        return self._heartbeat.is_superseded

    def may_send(self, lease: int | None = None) -> bool:
        return self._heartbeat.may_send(lease)

    def on_superseded(self, call: Callable[[], None]) -> None:
        def tell() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(call)

        self._heartbeat.on_superseded(tell)

    def on_pauses(self, follow: Callable[[Mapping[str, StoredPauses]], None]) -> None:
        self._follow = follow

    def hint(self) -> None:
        """This instance committed something that others may have to see. Any thread."""
        if self.listener is not None:
            self.listener.hint()

    def pauses_changed(self, pauses: Mapping[str, StoredPauses]) -> None:
        """The writer saw them change."""
        self._follow(pauses)

    async def claim_probe(self, destination: str, agent: str, for_s: float) -> float:
        return await self._pacing.ask(lambda connection: claim_probe(connection, destination, agent, for_s))

    async def take_tokens(self, destination: str, rate: float, count: int) -> Tokens | float:
        return await self._pacing.ask(lambda connection: take_tokens(connection, destination, rate, count))

    async def take_slots(self, destination: str, cap: int, in_use: int) -> int:
        holder, dead_after_s = self._heartbeat.generation, self._heartbeat.pulse.dead_after_s
        return await self._pacing.ask(lambda connection: take_slots(connection, destination, holder, cap, in_use, dead_after_s))

    async def begin_reading(self, source: str) -> str:
        return await self.in_writer(lambda store: store.db.others.begin_reading(source))

    async def still_reads(self, source: str) -> bool:
        return await self.in_writer(lambda store: store.db.others.still_reads(source))

    async def end_reading(self, source: str) -> None:
        await self.in_writer(lambda store: store.db.others.end_reading(source))

    async def close(self) -> None:
        """After the writer: its last hint still goes out."""
        if self.listener is not None:
            await asyncio.to_thread(self.listener.end)
        await self._pacing.close()
