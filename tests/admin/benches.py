"""An AdminService over a ledger in memory, with rules and files that a test decides: what orders, the socket and commands need."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.ops.parts import NOW, destination
from tunerd.admin.activity_report import ActivityReport
from tunerd.admin.answer_types import ConfigurationDocument
from tunerd.admin.call_orders import CallOrders
from tunerd.admin.service import AdminService, DaemonOrders, LedgerPauses
from tunerd.admin.status_report import Facts, StatusReport
from tunerd.audio.spool import AudioSpool
from tunerd.call import Document, Form, Mapped, Origin, Recording, Refusal, RefusedDocument
from tunerd.ledger import Admission, Delivered, Ended
from tunerd.location import url_location
from tunerd.ops.activity import Activity
from tunerd.outcome import FailReason
from tunerd.statuses import DestinationStatus, SourceStatus
from tunerd.testing import MemoryLedger, make_call

Rule: TypeAlias = Callable[[Document], Mapped]


@dataclass
class Rules:
    """The rules of one source: whatever the test says."""

    rule: Rule

    def map(self, document: Document) -> Mapped:
        return self.rule(document)

    def location(self, text: str) -> str:
        return url_location(text).text


def refused(
    path: str = "/calls/broken.json",
    *,
    offset: int = 0,
    reason: FailReason = FailReason.UNREADABLE,
    document: bytes | None = None,
    call_id: str | None = None,
    what: str = "not JSON; mend the file",
) -> RefusedDocument:
    return RefusedDocument(
        origin=Origin(source="agent", path=path, offset=offset),
        refusal=Refusal(reason=reason, where="byte 7", what=what),
        head=b"{secret of the head",
        document=document,
        call_id=call_id,
        destination="tuner",
        agent="support-bot",
        settled_at=NOW,
    )


@dataclass
class Bench:
    """A service and everything behind it."""

    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    rules: dict[str, Rules] = field(default_factory=dict)
    places: dict[tuple[str, int], Document | RefusedDocument | OSError] = field(default_factory=dict)
    destinations: list[DestinationStatus] = field(default_factory=lambda: [destination(name="tuner")])
    sources: list[SourceStatus] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    facts: Facts = field(
        default_factory=lambda: Facts(version="1.2.3", config_file="/etc/tunerd/config.yaml", started_at=NOW - 60, ready=True)
    )
    now: float = NOW
    spool: AudioSpool | None = None
    """For audio that documents hold."""

    def __post_init__(self) -> None:
        self.activity = Activity(lambda: self.now, "stream-1")
        self.status = StatusReport(
            self.ledger, self.facts, lambda: self.now, destinations=lambda: self.destinations, sources=lambda: self.sources
        )
        calls = CallOrders(self.ledger, self._rules, self._read, lambda: self.now, self._keep_audio)
        daemon = DaemonOrders(reload=self._reload, rescan=lambda: 1, configuration=self._configuration,
                              activity=ActivityReport(self.activity))  # fmt: skip
        self.admin = AdminService(self.status, calls, LedgerPauses(self.ledger, lambda: self.now), daemon)
        self.ask = self.admin.ask

    def _configuration(self) -> ConfigurationDocument:
        return ConfigurationDocument(file=self.facts.config_file, text="sources: []", environment={})

    def _rules(self) -> Mapping[str, Rules]:
        return self.rules

    def _read(self, source: str, path: str, offset: int) -> Document | RefusedDocument:
        found = self.places.get((path, offset), FileNotFoundError(2, "No such file or directory"))
        if isinstance(found, OSError):
            raise found
        return found

    def _keep_audio(self, recording: Recording) -> Recording:
        assert self.spool is not None
        return self.spool.keep(recording)

    async def _reload(self) -> Sequence[str]:
        return self.problems

    async def admit(self, *call_ids: str) -> None:
        await self.ledger.admit(Admission(calls=[make_call(call_id) for call_id in call_ids]), self.now)

    async def refuse(self, *documents: RefusedDocument) -> None:
        await self.ledger.admit(Admission(refused=documents), self.now)

    async def fail(
        self, *call_ids: str, reason: FailReason = FailReason.REJECTED, detail: str = "HTTP 422", status: int = 422
    ) -> None:
        """Calls that Tuner did not take."""
        for call_id in call_ids:
            await self.admit(call_id)
            await self.end(Ended(reason=reason, status=status, detail=detail))

    async def deliver(self) -> None:
        """Tuner takes the call that is due."""
        await self.end(Delivered(status=200, tuner_call_id=None, already_there=False))

    async def end(self, settlement: Ended | Delivered) -> None:
        claim = await self.ledger.claim("tuner", Form.SEND_CALLS, lambda unfrozen: unfrozen.payload, self.now)
        assert claim.claimed is not None
        await self.ledger.settle(claim.claimed.row, settlement, self.now)


def remade(text: str = "mended") -> Rule:
    """Rules that make a call of any document; the text tells its payload apart."""

    def rule(document: Document) -> Mapped:
        value = document.value
        assert isinstance(value, Mapping)
        origin = document.origin
        return Mapped(
            call=make_call(str(value["id"]), text=text, path=origin.path, offset=origin.offset, mtime_ns=origin.mtime_ns)
        )

    return rule
