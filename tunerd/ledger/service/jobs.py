"""Jobs: commands on their way from the event loop to the writer thread, and what the writer reports back."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from tunerd.events import Event
from tunerd.ledger import Admission, Gauges, StoredPauses
from tunerd.ledger.commands.claim import ClaimRequest
from tunerd.ledger.sql.store import Store

T = TypeVar("T")


@dataclass(slots=True, kw_only=True, eq=False)
class Job(Generic[T]):
    """A command for the writer. `run` may be called again after a rollback."""

    run: Callable[[Store], T]
    future: "asyncio.Future[T]"
    full: bool = False
    """Its commit has to be synced before the result is given."""
    patient: bool = False
    """It is kept and tried again while the ledger cannot be written."""
    rows: int = 1
    size: int = 0
    admission: Admission | None = None
    """Of an admission: what it brings says which names a fleet has to hold (commands/lock_names.py)."""
    ask: ClaimRequest | None = None
    """Of a claim: claims of one batch that are alike are answered together."""
    row: int | None = None
    """Of a settlement or release: the call that a worker held, and that counts as unsettled until this is written."""
    alone: bool = False
    """Runs outside of any transaction and batch (vacuum, checkpoint)."""
    unwanted: Callable[[T], None] | None = None
    """Called in the event loop with the result if nobody waits for it any more (the future was cancelled)."""
    answered: "Callable[[Job[T]], None] | None" = None
    """Called in the event loop before the future is set, also if nobody waits for it: `result` or `error` is there."""
    result: Any = None
    error: BaseException | None = None

    @property
    def grows(self) -> bool:
        """It brings new rows and bodies."""
        return self.rows > 1 or self.size > 0


@dataclass(slots=True)
class BatchReport:
    """What the writer has to say to the event loop after one batch."""

    jobs: list[Job[Any]] = field(default_factory=list)
    woken: set[str] = field(default_factory=set)
    """Destinations of which a call may be due."""
    disposable: set[tuple[str, str]] = field(default_factory=set)
    """(source, path) of files that may be disposable."""
    events: list[Event] = field(default_factory=list)
    pauses: Mapping[str, StoredPauses] | None = None
    """Of all destinations, where they changed. Only of a ledger that is shared."""


class AcceptsJobs(Protocol):
    """What a ledger needs of a writer."""

    @property
    def gauges(self) -> Gauges: ...
    @property
    def is_troubled(self) -> bool:
        """Nothing can be committed now."""
        ...

    @property
    def waits_for_server(self) -> bool:
        """Its thread may be waiting for a server: that it does not answer is no reason to restart this process."""
        ...

    def submit(self, job: Job[T]) -> "asyncio.Future[T]": ...
    def unsettled(self) -> frozenset[int]: ...
    async def close(self) -> None: ...


class AnswersQuestions(Protocol):
    """What a ledger needs of a reader."""

    async def ask(self, question: Callable[[Store], T]) -> T: ...
    async def close(self) -> None: ...
