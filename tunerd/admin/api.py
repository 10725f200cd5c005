"""The table of orders: everything that can be asked of tunerd, with typed arguments and a typed answer. The service, the
control socket, its client and the commands are all made from it: an order is added here and in `service.py`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from tunerd.admin import answer_types as answers
from tunerd.admin.activity_answers import ActivityDocument, TapPage, TapRow
from tunerd.call import AudioState, State
from tunerd.ledger import Filter, StoredCall
from tunerd.record import record

A_co = TypeVar("A_co", covariant=True)
A = TypeVar("A")


@record
class Order(Generic[A_co]):
    """One request; its fields are the arguments. The first paragraph of its docstring describes it to users."""

    name: ClassVar[str]
    """`/v1/NAME` on the socket."""
    answer: ClassVar[type[Any]]
    changes: ClassVar[bool] = True
    """False: it only reads, and the socket answers GET as well as POST."""
    is_quick: ClassVar[bool] = False
    """A daemon that makes progress answers at once: the client gives up after a few seconds."""


class Admin(Protocol):
    """Carries out orders: the service in this process, or the client of a daemon."""

    async def ask(self, order: Order[A]) -> A:
        """The answer. Raises OrderRefused, with one line for an operator, when the order cannot be carried out."""
        ...


class OrderRefused(Exception):
    """An order that cannot be carried out; the message is one line for an operator."""


@record
class Selection:
    """The calls that an order is about, one page of them. An omitted argument does not narrow the selection."""

    states: frozenset[State] = frozenset()
    reasons: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    destinations: frozenset[str] = frozenset()
    call_ids: frozenset[str] = frozenset()
    since: float | None = None
    """Admitted at or after this instant."""
    dismissed: bool | None = False
    """None: dismissed calls and others."""
    path: str | None = None
    """Read from this file."""
    offset: int | None = None
    """Only the document of `path` at this place; None: every document of the file."""
    after_row: int = 0
    """`next_after_row` of the page before; 0: the first page."""

    def filter(self) -> Filter:
        return Filter(states=self.states, reasons=self.reasons, sources=self.sources, destinations=self.destinations,
                      call_ids=self.call_ids, since=self.since, dismissed=self.dismissed)  # fmt: skip

    def fits(self, call: StoredCall) -> bool:
        """What the ledger's filter does not know: the place."""
        return self.path is None or (call.path == self.path and self.offset in (None, call.offset))


@record
class StatusOrder(Order[answers.StatusDocument]):
    """Show the state of the daemon: calls by state, pauses and next probe, sources, last failures."""

    name: ClassVar[str] = "status"
    answer: ClassVar[type[Any]] = answers.StatusDocument
    changes: ClassVar[bool] = False
    is_quick: ClassVar[bool] = True


@record
class IdleOrder(Order[answers.IdleDocument]):
    """Tell whether everything that can be sent has been sent."""

    name: ClassVar[str] = "idle"
    answer: ClassVar[type[Any]] = answers.IdleDocument
    changes: ClassVar[bool] = False


@record
class CallsOrder(Selection, Order[answers.CallsPage]):
    """List calls."""

    name: ClassVar[str] = "calls"
    answer: ClassVar[type[Any]] = answers.CallsPage
    changes: ClassVar[bool] = False
    limit: int = 100
    newest: bool = False
    """Newest first; else in the order in which they were admitted."""


@record
class StoryOrder(Order[answers.StoryPage]):
    """Show everything known about a call id."""

    name: ClassVar[str] = "story"
    answer: ClassVar[type[Any]] = answers.StoryPage
    changes: ClassVar[bool] = False
    is_quick: ClassVar[bool] = True
    call_id: str


@record
class DocumentsOrder(Order[answers.DocumentsPage]):
    """List stored documents, newest first; `tunerd diff` maps them again."""

    name: ClassVar[str] = "documents"
    answer: ClassVar[type[Any]] = answers.DocumentsPage
    changes: ClassVar[bool] = False
    limit: int = 100
    after_row: int = 0


@record
class ConfigurationOrder(Order[answers.ConfigurationDocument]):
    """Show the configuration that the daemon has loaded, whatever has become of the file."""

    name: ClassVar[str] = "configuration"
    answer: ClassVar[type[Any]] = answers.ConfigurationDocument
    changes: ClassVar[bool] = False


@record
class RetryOrder(Selection, Order[answers.Report]):
    """Send failed calls again.

    Their stored documents are mapped with the current rules. A document that could not be read is read again from its file."""

    name: ClassVar[str] = "retry"
    answer: ClassVar[type[Any]] = answers.Report
    audio: bool = False
    """Only calls whose audio failed."""
    recording: str | None = None
    """Where the recording of the one call is, as a person decided."""

    def fits(self, call: StoredCall) -> bool:
        return Selection.fits(self, call) and (not self.audio or call.audio is AudioState.FAILED)


@record
class RemapOrder(Selection, Order[answers.Report]):
    """Map unsent calls again, with the rules that are loaded now.

    A call that is being sent, or has been sent, is left as it is."""

    name: ClassVar[str] = "remap"
    answer: ClassVar[type[Any]] = answers.Report


@record
class DismissOrder(Selection, Order[answers.Report]):
    """Mark failed calls as handled: they are no longer listed, nor counted as failed."""

    name: ClassVar[str] = "dismiss"
    answer: ClassVar[type[Any]] = answers.Report


@record
class ForgetOrder(Order[answers.Report]):
    """Erase everything that the ledger holds about a call: document, payload, recording, history. This cannot be undone."""

    name: ClassVar[str] = "forget"
    answer: ClassVar[type[Any]] = answers.Report
    call_id: str


@record
class PauseOrder(Order[answers.DestinationNames]):
    """Stop sending to DESTINATION, or to all destinations if none is named.

    No call is lost: files are still read, and their calls wait in the ledger. The pause survives a restart; end it with
    `tunerd resume`."""

    name: ClassVar[str] = "pause"
    answer: ClassVar[type[Any]] = answers.DestinationNames
    destination: str | None = None


@record
class ResumeOrder(Order[answers.DestinationNames]):
    """Resume sending to DESTINATION, or to all destinations if none is named.

    This ends every pause, whatever its reason. A Retry-After from Tuner is still obeyed."""

    name: ClassVar[str] = "resume"
    answer: ClassVar[type[Any]] = answers.DestinationNames
    destination: str | None = None


@record
class ReloadOrder(Order[answers.ReloadResult]):
    """Load the configuration file again."""

    name: ClassVar[str] = "reload"
    answer: ClassVar[type[Any]] = answers.ReloadResult


@record
class RescanOrder(Order[answers.RescanStarted]):
    """List every source's directory now."""

    name: ClassVar[str] = "look"
    answer: ClassVar[type[Any]] = answers.RescanStarted


@record
class TapOrder(Order[TapPage]):
    """Follow what happens to calls: the events after one that is known, of those that the daemon still remembers.

    An omitted filter does not narrow what is shown. The pause of a destination belongs to no source, state or call."""

    name: ClassVar[str] = "tap"
    answer: ClassVar[type[Any]] = TapPage
    changes: ClassVar[bool] = False
    is_quick: ClassVar[bool] = True
    after: int | None = None
    """`next_after` of the page before; null: begin now."""
    stream: str = ""
    """`stream` of the page before: another one is a restarted daemon, whose events are all new."""
    last: int = 0
    """Without `after`: begin with this many earlier events."""
    limit: int = 200
    sources: frozenset[str] = frozenset()
    states: frozenset[State] = frozenset()
    reasons: frozenset[str] = frozenset()
    call_ids: frozenset[str] = frozenset()

    def fits(self, row: TapRow) -> bool:
        return (
            (not self.sources or row.source in self.sources)
            and (not self.states or row.state in self.states)
            and (not self.reasons or row.reason in self.reasons)
            and (not self.call_ids or row.call_id in self.call_ids)
        )


@record
class ActivityOrder(Order[ActivityDocument]):
    """Show how many calls were admitted, retried, sent and failed since the start, and how long the newest took."""

    name: ClassVar[str] = "activity"
    answer: ClassVar[type[Any]] = ActivityDocument
    changes: ClassVar[bool] = False
    is_quick: ClassVar[bool] = True


ORDERS: Final[Sequence[type[Order[Any]]]] = (
    StatusOrder, IdleOrder, CallsOrder, StoryOrder, DocumentsOrder, ConfigurationOrder, RetryOrder, RemapOrder, DismissOrder,
    ForgetOrder, PauseOrder, ResumeOrder, ReloadOrder, RescanOrder, TapOrder, ActivityOrder,
)  # fmt: skip
