"""The desk: what an operator asks of the ledger (list, retry, remap, dismiss, forget). The third, small conductor.

Orders over many calls go page by page: each call handles up to `limit` rows and says where to go on, so that no request
lasts long and an operator can stop in the middle. Nothing here speaks HTTP or draws.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import orjson

from tunerd.call import Document, Fragment, Mapped, Origin, RefusedDocument, State
from tunerd.ledger import Admission, Admitted, Filter, Inspection, OperatorActions, StoredCall
from tunerd.ops.answers import (
    VERSION,
    CallsPage,
    DocumentRow,
    DocumentsPage,
    Report,
    StoryPage,
    Trouble,
    call_row,
    new_report,
    story_row,
)
from tunerd.ops.redact import redact
from tunerd.outcome import FailReason

MAX_PAGE: Final = 1000
ORDER_PAGE: Final = 100
"""Rows an order handles before it reports: mapping a hundred documents takes well under a second."""

DOCUMENTS_BYTES: Final = 8 * 1024 * 1024
"""Of documents in one answer; the last one may go over it."""

_SAME_START_MS: Final = 1000
_LARGE_BYTES: Final = 256 * 1024

_NEVER_MAPPED: Final = frozenset(
    reason.value
    for reason in (
        FailReason.UNREADABLE, FailReason.TOO_LARGE, FailReason.UNMAPPABLE, FailReason.INVALID, FailReason.REFUSED,
        FailReason.CRASHED, FailReason.INCOMPLETE,
    )
)  # fmt: skip
"""There is no payload to send again: without a stored document only the place itself can be read again."""


class SourceRules(Protocol):
    """The rules of one source (mapping/)."""

    def map(self, document: Document) -> Mapped: ...


ReadPlace = Callable[[str, str, int], Document | RefusedDocument]
"""(source, path, offset) -> the document that stands at that place now, or why there is none. Blocking: it is called in
a thread. Raises OSError, and ValueError where the path is no regular file."""


class DeskLedger(Inspection, OperatorActions, Protocol):
    def admit(self, admission: Admission, now: float) -> Awaitable[Admitted]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which calls an order is about. `place` (path, offset or None for every document of the file) narrows further."""

    where: Filter
    place: tuple[str, int | None] | None = None

    def fits(self, call: StoredCall) -> bool:
        if self.place is None:
            return True
        path, offset = self.place
        return call.path == path and (offset is None or call.offset == offset)


class OperatorDesk:
    def __init__(
        self,
        ledger: DeskLedger,
        rules: Callable[[], Mapping[str, SourceRules]],
        read_place: ReadPlace,
        now: Callable[[], float],
    ) -> None:
        """`rules` is asked for each page: a reload changes them."""
        self._ledger = ledger
        self._rules = rules
        self._read_place = read_place
        self._now = now

    async def calls(self, choice: Choice, *, after_row: int = 0, limit: int = 100, newest: bool = False) -> CallsPage:
        """One page of rows."""
        found, next_row = await self._page(choice, after_row, max(1, min(limit, MAX_PAGE)), newest=newest)
        return CallsPage(version=VERSION, calls=[call_row(call) for call in found], next_after_row=next_row)

    async def story(self, call_id: str) -> StoryPage:
        """Everything known about a call id."""
        return StoryPage(version=VERSION, stories=[story_row(story) for story in await self._ledger.story(call_id)])

    async def documents(self, *, after_row: int = 0, limit: int = 100) -> DocumentsPage:
        """Stored documents, newest first, up to `limit` calls or DOCUMENTS_BYTES at a time: what `tunerd diff` maps again."""
        page = max(1, min(limit, ORDER_PAGE))
        rows = await self._ledger.calls(Filter(dismissed=None), after_row=after_row, limit=page, newest=True)
        found: list[DocumentRow] = []
        size = without = 0
        next_row = rows[-1].row if len(rows) == page else None
        for call in rows:
            document = await self._document(call)
            if document is None:
                without += 1
                continue
            text = document.raw.decode("utf-8", "replace")
            found.append(DocumentRow(row=call.row, source=call.source, path=call.path, offset=call.offset,
                                     mtime_ns=call.mtime_ns, admitted_at=call.admitted_at, document=text))  # fmt: skip
            size += len(document.raw)
            if size >= DOCUMENTS_BYTES:
                next_row = call.row
                break
        return DocumentsPage(version=VERSION, documents=found, without=without, next_after_row=next_row)

    async def retry(self, choice: Choice, *, after_row: int = 0) -> Report:
        """Send failed calls again, mapped with today's rules; a document that was refused while reading is read again."""
        report, rules = new_report(), self._rules()
        found, report["next_after_row"] = await self._page(choice, after_row, ORDER_PAGE)
        for call in found:
            if call.state is State.FAILED:
                await self._try(call, rules, report, may_send_as_it_is=True)
            else:
                report["skipped"].append(_trouble(call, call.state.value, f"it has not failed: it is {call.state.value}"))
        return report

    async def remap(self, choice: Choice, *, after_row: int = 0) -> Report:
        """Map calls again that are not sent yet; what is being sent, or is sent, stays as it is."""
        report, rules = new_report(), self._rules()
        found, report["next_after_row"] = await self._page(choice, after_row, ORDER_PAGE)
        for call in found:
            if call.state in (State.WAITING, State.DUE, State.FAILED):
                await self._try(call, rules, report, may_send_as_it_is=False)
            else:
                report["skipped"].append(_trouble(call, call.state.value, f"it cannot be mapped again: it is {call.state.value}"))
        return report

    async def dismiss(self, choice: Choice, *, after_row: int = 0) -> Report:
        """Mark failed calls as handled."""
        report = new_report()
        found, report["next_after_row"] = await self._page(choice, after_row, MAX_PAGE)
        failed = [call for call in found if call.state is State.FAILED]
        for call in found:
            if call.state is not State.FAILED:
                report["skipped"].append(_trouble(call, call.state.value, f"it has not failed: it is {call.state.value}"))
        if failed:
            _count(report, "dismissed", await self._ledger.dismiss([call.row for call in failed], self._now()))
        return report

    async def forget(self, call_id: str) -> Report:
        """Erase everything about a call; refused while it is being sent."""
        report = new_report()
        try:
            _count(report, "forgotten", await self._ledger.forget(call_id, self._now()))
        except ValueError:
            report["skipped"].append(Trouble(row=0, call_id=call_id, path="", offset=0, reason=State.SENDING.value,
                                             what="it is being sent right now; try again in a moment"))  # fmt: skip
        return report

    async def _page(
        self, choice: Choice, after_row: int, limit: int, *, newest: bool = False
    ) -> tuple[Sequence[StoredCall], int | None]:
        """Up to `limit` rows that fit, and where to go on."""
        fetch = MAX_PAGE if choice.place else limit
        rows = await self._ledger.calls(choice.where, after_row=after_row, limit=fetch, newest=newest)
        return [row for row in rows if choice.fits(row)], rows[-1].row if len(rows) == fetch else None

    async def _try(self, call: StoredCall, rules: Mapping[str, SourceRules], report: Report, *, may_send_as_it_is: bool) -> None:
        try:
            await self._again(call, rules, report, may_send_as_it_is=may_send_as_it_is)
        except LookupError:  # retention, or `forget`, was quicker
            report["skipped"].append(_trouble(call, "gone", "it is no longer in the ledger"))

    async def _again(
        self, call: StoredCall, rules: Mapping[str, SourceRules], report: Report, *, may_send_as_it_is: bool
    ) -> None:
        document = await self._document(call)
        has_payload = call.call_id is not None and call.reason not in _NEVER_MAPPED
        if (document is None or call.source not in rules) and may_send_as_it_is and has_payload:
            _landed(report, call, await self._ledger.requeue(call.row, self._now()), "the ledger kept nothing that could be sent")
        elif call.source not in rules:
            report["skipped"].append(_trouble(call, "source", f"source {call.source!r} is no longer in the configuration"))
        elif document is not None:
            await self._replace(call, document, rules[call.source], report)
        else:
            await self._read_again(call, rules[call.source], report)

    async def _document(self, call: StoredCall) -> Document | None:
        stored = await self._ledger.document(call.row)
        if stored is None:
            return None
        try:
            value = orjson.loads(stored)
        except orjson.JSONDecodeError:
            return None  # what is kept of a refused document need not be JSON: its place is read again
        origin = Origin(source=call.source, path=call.path, offset=call.offset, length=len(stored), mtime_ns=call.mtime_ns)
        return Document(origin=origin, raw=stored, value=value, settled_at=call.admitted_at)

    async def _read_again(self, call: StoredCall, rules: SourceRules, report: Report) -> None:
        try:
            found = await asyncio.to_thread(self._read_place, call.source, call.path, call.offset)
        except FileNotFoundError:
            report["skipped"].append(_trouble(call, "gone", "its file is no longer there, and the ledger keeps no copy"))
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else str(exc)
            report["skipped"].append(_trouble(call, "gone", f"its file cannot be read: {why}"))
        else:
            if isinstance(found, Document):
                await self._replace(call, found, rules, report, from_disk=True)
            elif _was_mapped(call):
                _still_refused(report, call, found)
            else:
                await self._ledger.replace(call.row, found, self._now())
                _still_refused(report, call, found)

    async def _replace(
        self, call: StoredCall, document: Document, rules: SourceRules, report: Report, *, from_disk: bool = False
    ) -> None:
        # A large document is mapped off the loop: an operator's order must not make uploads wait.
        off_loop = len(document.raw) > _LARGE_BYTES
        mapped = await asyncio.to_thread(rules.map, document) if off_loop else rules.map(document)
        now = self._now()
        if from_disk and _was_mapped(call) and not _is_same(call, mapped):
            # Its payload (redacted, the document not stored) is all there is of the call: nothing else may take its place.
            what = "its place on disk holds another document now, or none that can be mapped; the call stays as it was"
            report["skipped"].append(_trouble(call, "gone", what))
            return
        if mapped.recording is not None:
            await self._ledger.admit(Admission(recordings=[mapped.recording]), now)
            _count(report, "recording")
        if mapped.call is not None:
            state = await self._ledger.replace(call.row, mapped.call, now)
            _landed(report, call, state, "another call has the same id and another start")
        elif mapped.refused is not None:
            await self._ledger.replace(call.row, mapped.refused, now)
            _still_refused(report, call, mapped.refused)
        elif mapped.fragment is not None:
            await self._join(call, mapped.fragment, report)
        elif call.state is State.FAILED:
            # It is a recording, or the rules leave it out on purpose now: nothing is left that could be sent.
            _count(report, "dismissed", await self._ledger.dismiss([call.row], now))
        else:
            report["skipped"].append(_trouble(call, "ignored", "today's rules leave this document out; it stays as it was"))

    async def _join(self, call: StoredCall, fragment: Fragment, report: Report) -> None:
        """One document of a call that is gathered from several."""
        if call.call_id is not None:
            what = "the ledger keeps no copy of the documents it was gathered from; `tunerd forget` it, then write its files anew"
            report["skipped"].append(_trouble(call, "gone", what))
        elif not fragment.key:
            what = "gather.key gave nothing; whose call it is, only the documents before it in its file could say"
            report["failed"].append(_trouble(call, FailReason.UNMAPPABLE.value, what))
        else:  # its failed row goes with it
            await self._ledger.admit(Admission(fragments=[fragment]), self._now())
            _count(report, State.GATHERING.value)


def _was_mapped(call: StoredCall) -> bool:
    return call.started_at_ms is not None


def _is_same(call: StoredCall, mapped: Mapped) -> bool:
    """Rules may have changed since: the id or the start may differ, but not both."""
    again = mapped.call
    return again is not None and (
        again.call_id == call.call_id or abs(again.started_at_ms - (call.started_at_ms or 0)) <= _SAME_START_MS
    )


def _count(report: Report, state: str, count: int = 1) -> None:
    if count:
        report["done"][state] = report["done"].get(state, 0) + count


def _landed(report: Report, call: StoredCall, state: State, if_failed: str) -> None:
    if state is State.FAILED:
        report["failed"].append(_trouble(call, call.reason or "", if_failed))
    else:
        _count(report, state.value)


def _trouble(call: StoredCall, reason: str, what: str) -> Trouble:
    return Trouble(row=call.row, call_id=call.call_id, path=call.path, offset=call.offset, reason=reason, what=what)


def _still_refused(report: Report, call: StoredCall, refused: RefusedDocument) -> None:
    refusal = refused.refusal
    what = f"{refusal.where}: {refusal.what}" if refusal.where else refusal.what
    report["failed"].append(_trouble(call, refusal.reason.value, redact(what)))
