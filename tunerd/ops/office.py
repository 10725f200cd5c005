"""Everything that can be asked of tunerd from outside, in one place: the control socket serves it, its client speaks it,
and a command without a daemon does it with its own hands.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from tunerd.ledger import Gate
from tunerd.ops.answers import CallsPage, ConfigurationDocument, DocumentsPage, IdleDocument, Report, StatusDocument, StoryPage
from tunerd.ops.desk import Choice, OperatorDesk
from tunerd.ops.status import Status
from tunerd.outcome import PauseReason


class OrderRefused(Exception):
    """What was asked cannot be done; the message is one line for an operator."""


class Operations(Protocol):
    """What commands ask. Orders over many calls answer a page at a time: ask again with `next_after_row`."""

    async def status(self) -> StatusDocument: ...
    async def idle(self) -> IdleDocument: ...
    async def look(self) -> int:
        """List every source's directory now; gives a number that `looked` of `idle` reaches when it is done."""
        ...

    async def calls(self, choice: Choice, *, after_row: int = 0, limit: int = 100, newest: bool = False) -> CallsPage: ...
    async def story(self, call_id: str) -> StoryPage: ...
    async def documents(self, *, after_row: int = 0, limit: int = 100) -> DocumentsPage: ...
    async def retry(self, choice: Choice, *, after_row: int = 0) -> Report: ...
    async def remap(self, choice: Choice, *, after_row: int = 0) -> Report: ...
    async def dismiss(self, choice: Choice, *, after_row: int = 0) -> Report: ...
    async def forget(self, call_id: str) -> Report: ...
    async def pause(self, destination: str | None) -> Sequence[str]:
        """Stop sending to one destination (None: to all); gives the names. Raises OrderRefused for an unknown name."""
        ...

    async def resume(self, destination: str | None) -> Sequence[str]: ...
    async def reload(self) -> Sequence[str]:
        """Read the configuration again; gives what is wrong with it (then the old one goes on), or nothing."""
        ...

    async def configuration(self) -> ConfigurationDocument:
        """What the daemon runs with, whatever has become of the file."""
        ...


class Gates(Protocol):
    """Pausing by an operator: Delivery does it in a daemon, StoredGates without one. The names are those of the status."""

    async def pause(self, name: str) -> None: ...
    async def resume(self, name: str) -> None: ...


class Office:
    """Does what is asked, with the ledger and the parts of this process."""

    def __init__(
        self,
        status: Status,
        desk: OperatorDesk,
        gates: Gates,
        reload: Callable[[], Awaitable[Sequence[str]]] | None = None,
        look: Callable[[], int] | None = None,
        configuration: Callable[[], ConfigurationDocument] | None = None,
    ) -> None:
        self._status = status
        self._desk = desk
        self._gates = gates
        self._reload = reload
        self._look = look
        self._configuration = configuration
        self.calls = desk.calls
        self.story = desk.story
        self.documents = desk.documents
        self.retry = desk.retry
        self.remap = desk.remap
        self.dismiss = desk.dismiss
        self.forget = desk.forget
        self.status = status.document

    async def idle(self) -> IdleDocument:
        return self._status.idle()

    async def look(self) -> int:
        if self._look is None:
            raise OrderRefused("there is no daemon that reads directories")
        return self._look()

    async def pause(self, destination: str | None) -> Sequence[str]:
        names = self._named(destination)
        for name in names:
            await self._gates.pause(name)
        return names

    async def resume(self, destination: str | None) -> Sequence[str]:
        names = self._named(destination)
        for name in names:
            await self._gates.resume(name)
        return names

    async def reload(self) -> Sequence[str]:
        if self._reload is None:
            raise OrderRefused("there is no daemon to reload")
        return await self._reload()

    async def configuration(self) -> ConfigurationDocument:
        if self._configuration is None:
            raise OrderRefused("there is no daemon that has loaded a configuration")
        return self._configuration()

    def _named(self, destination: str | None) -> Sequence[str]:
        names = [status.name for status in self._status.destinations()]
        if destination is None:
            return names
        if destination not in names:
            raise OrderRefused(f"there is no destination {destination!r}; there is: {', '.join(names) or 'none'}")
        return [destination]


class GateLedger(Protocol):
    async def gates(self) -> Mapping[str, Gate]: ...
    def set_gate(self, destination: str, gate: Gate, now: float) -> Awaitable[None]: ...


class StoredGates:
    """Pauses written straight into the ledger; the next daemon finds them there."""

    def __init__(self, ledger: GateLedger, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._now = now

    async def pause(self, name: str) -> None:
        gate = (await self._ledger.gates()).get(name, Gate())
        if gate.pause is not PauseReason.OPERATOR:
            paused = Gate(closed_until=gate.closed_until, pause=PauseReason.OPERATOR, paused_since=self._now(),
                          detail="paused by tunerd pause", agents=gate.agents)  # fmt: skip
            await self._ledger.set_gate(name, paused, self._now())

    async def resume(self, name: str) -> None:
        """Every pause ends, whatever its reason; a Retry-After stays, it was the server's wish."""
        gate = (await self._ledger.gates()).get(name, Gate())
        await self._ledger.set_gate(name, Gate(closed_until=gate.closed_until), self._now())
