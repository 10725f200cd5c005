"""Whether an attempt may begin now: a permit for one, or how long there is none. pacing.py gives them out."""

from typing import TypeAlias

from tunerd.ledger import Pick
from tunerd.record import record


@record
class Permit:
    """Claim a call and make one attempt. Given back by `Pacing.ended` or `Pacing.unused`."""

    pick: Pick = Pick.OLDEST
    probe: bool = False
    """The destination is paused: any call will do, also one that is not due yet."""
    not_agents: frozenset[str] = frozenset()
    """Agents that are paused."""
    row: int | None = None
    """Only this call may be claimed: it may have arrived, and no other is to be put into the same doubt."""


@record
class Blocked:
    """Not now. `until` is Unix seconds; None: until something happens (an attempt ends, a key, an operator)."""

    until: float | None = None


Permission: TypeAlias = Permit | Blocked
