"""A Fleet whose answers a test decides."""

import asyncio
from collections.abc import Callable, Mapping

from tunerd.ledger import StoredPauses
from tunerd.ledger.fleet import Tokens


class Others:
    """The other instances, as this one knows them."""

    is_shared = True

    def __init__(self) -> None:
        self.is_superseded = False
        self.is_given_up = False
        """As of the last heartbeat: nothing may be claimed, and nothing sent."""
        self.lease = 0
        self.asked_for: list[int] = []
        """The leases that were asked for, right before a first byte."""
        self.before_first_byte: Callable[[], None] = lambda: None
        self.follow: Callable[[Mapping[str, StoredPauses]], None] = lambda pauses: None

        self.probes: list[tuple[str, str]] = []
        """The destination and agent of each probe that was asked for."""
        self.probe_free_in_s = 0.0
        """For so long another instance has the probe."""

        self.tokens: Tokens | float = 1.0
        self.slots = 0
        self.tokens_asked = self.slots_asked = 0
        self.never = asyncio.Event()

    def may_send(self, lease: int | None = None) -> bool:
        if lease is not None:
            self.asked_for.append(lease)
            self.before_first_byte()
        return not self.is_given_up and not self.is_superseded and lease in (None, self.lease)

    async def claim_probe(self, destination: str, agent: str, for_s: float) -> float:
        self.probes.append((destination, agent))
        return self.probe_free_in_s

    async def take_tokens(self, destination: str, rate: float, count: int) -> Tokens | float:
        self.tokens_asked += 1
        return self.tokens

    async def take_slots(self, destination: str, cap: int, in_use: int) -> int:
        self.slots_asked += 1
        return min(cap, self.slots)

    def on_superseded(self, call: Callable[[], None]) -> None:
        pass

    def on_pauses(self, follow: Callable[[Mapping[str, StoredPauses]], None]) -> None:
        self.follow = follow
