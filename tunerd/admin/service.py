"""Carries out orders: in the daemon with its parts, in a command without a daemon on the ledger alone."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from tunerd.admin.activity_answers import ActivityDocument, TapPage
from tunerd.admin.activity_report import ActivityReport
from tunerd.admin.answer_types import (
    ConfigurationDocument,
    DestinationNames,
    IdleDocument,
    ReloadResult,
    RescanStarted,
    StatusDocument,
)
from tunerd.admin.api import (
    ActivityOrder,
    CallsOrder,
    ConfigurationOrder,
    DismissOrder,
    DocumentsOrder,
    ForgetOrder,
    IdleOrder,
    Order,
    OrderRefused,
    PauseOrder,
    ReloadOrder,
    RemapOrder,
    RescanOrder,
    ResumeOrder,
    RetryOrder,
    StatusOrder,
    StoryOrder,
    TapOrder,
)
from tunerd.admin.call_orders import CallOrders
from tunerd.admin.status_report import StatusReport
from tunerd.ledger import StoredPauses
from tunerd.outcome import PauseReason
from tunerd.record import record

A = TypeVar("A")


class OperatorPauses(Protocol):
    """Pausing by an operator: Delivery does it in a daemon, LedgerPauses without one. The names are those of the status."""

    async def pause(self, name: str) -> None: ...
    async def resume(self, name: str) -> None: ...


@record
class DaemonOrders:
    """What only a running daemon can do."""

    reload: Callable[[], Awaitable[Sequence[str]]]
    rescan: Callable[[], int]
    configuration: Callable[[], ConfigurationDocument]
    activity: ActivityReport


class AdminService:
    def __init__(
        self, status: StatusReport, calls: CallOrders, pauses: OperatorPauses, daemon: DaemonOrders | None = None
    ) -> None:
        """`daemon` is None in a command that works on the ledger itself."""
        self._status = status
        self._pauses = pauses
        self._daemon = daemon
        self._carry_out: Mapping[type[Order[Any]], Callable[[Any], Awaitable[Any]]] = {
            StatusOrder: self._status_document,
            IdleOrder: self._idle,
            CallsOrder: calls.calls,
            StoryOrder: calls.story,
            DocumentsOrder: calls.documents,
            ConfigurationOrder: self._configuration,
            RetryOrder: calls.retry,
            RemapOrder: calls.remap,
            DismissOrder: calls.dismiss,
            ForgetOrder: calls.forget,
            PauseOrder: self._pause,
            ResumeOrder: self._resume,
            ReloadOrder: self._reload,
            RescanOrder: self._rescan,
            TapOrder: self._tap,
            ActivityOrder: self._activity,
        }

    async def ask(self, order: Order[A]) -> A:
        """See api.Admin."""
        return cast(A, await self._carry_out[type(order)](order))

    async def _status_document(self, _: StatusOrder) -> StatusDocument:
        return await self._status.document()

    async def _idle(self, _: IdleOrder) -> IdleDocument:
        return self._status.idle()

    async def _pause(self, order: PauseOrder) -> DestinationNames:
        names = self._named(order.destination)
        for name in names:
            await self._pauses.pause(name)
        return DestinationNames(destinations=names)

    async def _resume(self, order: ResumeOrder) -> DestinationNames:
        names = self._named(order.destination)
        for name in names:
            await self._pauses.resume(name)
        return DestinationNames(destinations=names)

    async def _reload(self, _: ReloadOrder) -> ReloadResult:
        return ReloadResult(problems=list(await self._running().reload()))

    async def _rescan(self, _: RescanOrder) -> RescanStarted:
        return RescanStarted(look=self._running().rescan())

    async def _configuration(self, _: ConfigurationOrder) -> ConfigurationDocument:
        return self._running().configuration()

    async def _tap(self, order: TapOrder) -> TapPage:
        return self._running().activity.page(order)

    async def _activity(self, _: ActivityOrder) -> ActivityDocument:
        return self._running().activity.document()

    def _running(self) -> DaemonOrders:
        if self._daemon is None:
            raise OrderRefused("no daemon is running")
        return self._daemon

    def _named(self, destination: str | None) -> Sequence[str]:
        names = [status.name for status in self._status.destinations()]
        if destination is None:
            return names
        if destination not in names:
            raise OrderRefused(f"there is no destination {destination!r}; there is: {', '.join(names) or 'none'}")
        return [destination]


class KeepsPauses(Protocol):
    async def stored_pauses(self) -> Mapping[str, StoredPauses]: ...
    def store_pauses(
        self, destination: str, pauses: StoredPauses, now: float, before: StoredPauses | None = None
    ) -> Awaitable[None]: ...


class LedgerPauses:
    """Pauses written straight into the ledger, where the next daemon finds them."""

    def __init__(self, ledger: KeepsPauses, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._now = now

    async def pause(self, name: str) -> None:
        pauses = (await self._ledger.stored_pauses()).get(name, StoredPauses())
        if pauses.pause is not PauseReason.OPERATOR:
            paused = StoredPauses(closed_until=pauses.closed_until, pause=PauseReason.OPERATOR, paused_since=self._now(),
                          detail="an operator paused it", agents=pauses.agents)  # fmt: skip
            await self._ledger.store_pauses(name, paused, self._now(), pauses)

    async def resume(self, name: str) -> None:
        """Ends every pause, whatever its reason. A Retry-After stays: Tuner asked for it."""
        pauses = (await self._ledger.stored_pauses()).get(name, StoredPauses())
        await self._ledger.store_pauses(name, StoredPauses(closed_until=pauses.closed_until), self._now(), pauses)
