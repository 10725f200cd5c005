"""The orders about calls, in one file because they share how a call is mapped again: list, retry, remap, dismiss, forget; carried
out on the ledger, with the rules and the files on disk.

An order over many calls handles one page of rows and answers where the next page begins, so that no request takes long and an
operator can stop half way. Nothing here speaks HTTP or draws.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

import orjson

from tunerd.admin.answer_types import CallProblem, CallsPage, DocumentRow, DocumentsPage, Report, StoryPage, call_row, story_row
from tunerd.admin.api import (
    CallsOrder,
    DismissOrder,
    DocumentsOrder,
    ForgetOrder,
    OrderRefused,
    RemapOrder,
    RetryOrder,
    Selection,
    StoryOrder,
)
from tunerd.call import AudioState, Document, Fragment, Mapped, Origin, Recording, RefusedDocument, State
from tunerd.ledger import Admission, Admitted, Filter, Inspection, OperatorActions, StoredCall
from tunerd.location import BadLocation, url_location
from tunerd.ops.mask import redact
from tunerd.outcome import FailReason

MAX_PAGE: Final = 1000
ORDER_PAGE: Final = 100
"""Rows an order handles before it reports: mapping a hundred documents takes well under a second."""

DOCUMENTS_BYTES: Final = 8 * 1024 * 1024
"""Documents in one answer; the last one may exceed this."""

_SAME_START_MS: Final = 1000
_LARGE_BYTES: Final = 256 * 1024

_AUDIO_IS_LOST: Final = (
    "Tuner has the call, and names a target for its audio only once: the audio cannot be uploaded any more. `tunerd dismiss` "
    "removes it from the list"
)

_NEVER_MAPPED: Final = frozenset(
    reason.value
    for reason in (
        FailReason.UNREADABLE, FailReason.TOO_LARGE, FailReason.UNMAPPABLE, FailReason.INVALID, FailReason.REFUSED,
        FailReason.CRASHED, FailReason.INCOMPLETE,
    )
)  # fmt: skip
"""Such a call has no payload that could be sent again: without a stored document, its file must be read again."""


class SourceRules(Protocol):
    """The rules of one source (mapping/)."""

    def map(self, document: Document) -> Mapped: ...

    def location(self, text: str) -> str: ...


ReadPlace = Callable[[str, str, int], Document | RefusedDocument]
"""(source, path, offset) -> the document at that place now, or why there is none. Blocking: it is called in a thread. Raises
OSError, and ValueError where the path is not a regular file, or there is no room for its audio."""

KeepAudio = Callable[[Recording], Recording]
"""Puts the audio that a document holds where it stays until it is uploaded. Blocking. Raises OSError, and ValueError where there
is no room."""


class CallsLedger(Inspection, OperatorActions, Protocol):
    def admit(self, admission: Admission, now: float) -> Awaitable[Admitted]: ...


class CallOrders:
    def __init__(
        self,
        ledger: CallsLedger,
        rules: Callable[[], Mapping[str, SourceRules]],
        read_place: ReadPlace,
        now: Callable[[], float],
        keep_audio: KeepAudio,
    ) -> None:
        """`rules` is called for each page, as a reload changes them."""
        self._ledger = ledger
        self._rules = rules
        self._read_place = read_place
        self._now = now
        self._keep_audio = keep_audio

    async def calls(self, order: CallsOrder) -> CallsPage:
        """One page of rows."""
        found, next_row = await self._page(order, max(1, min(order.limit, MAX_PAGE)), newest=order.newest)
        return CallsPage(calls=[call_row(call) for call in found], next_after_row=next_row)

    async def story(self, order: StoryOrder) -> StoryPage:
        return StoryPage(stories=[story_row(story) for story in await self._ledger.story(_call_id(order))])

    async def documents(self, order: DocumentsOrder) -> DocumentsPage:
        """Up to `limit` calls or DOCUMENTS_BYTES at a time."""
        page = max(1, min(order.limit, ORDER_PAGE))
        rows = await self._ledger.calls(Filter(dismissed=None), after_row=order.after_row, limit=page, newest=True)
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
        return DocumentsPage(documents=found, without=without, next_after_row=next_row)

    async def retry(self, order: RetryOrder) -> Report:
        report, rules = Report(), self._rules()
        found, report.next_after_row = await self._page(order, ORDER_PAGE)
        for call in found:
            if order.recording is not None:
                await self._use_recording(call, order.recording, rules, report)
            elif call.state is State.FAILED:
                await self._try(call, rules, report, may_send_as_it_is=True)
            elif call.audio is AudioState.FAILED:
                report.skip(call, call.reason or "", _AUDIO_IS_LOST)
            else:
                report.skip(call, call.state.value, f"it has not failed; its state is {call.state.value}")
        return report

    async def _use_recording(self, call: StoredCall, location: str, rules: Mapping[str, SourceRules], report: Report) -> None:
        try:
            named = rules[call.source].location(location) if call.source in rules else url_location(location).text
        except BadLocation as bad:
            raise OrderRefused(f"--recording: it {bad}") from None
        try:
            state = await self._ledger.use_recording(call.row, named, self._now())
        except LookupError:
            report.skip(call, "gone", "it is no longer in the ledger")
            return
        if state is State.DUE and call.state is not State.DUE:
            report.count(state.value)
        else:
            what = "only a call that waits for its recording, or failed for want of one, takes a recording by hand"
            report.skip(call, call.reason or call.state.value, f"{what}; its state is {state.value}")

    async def remap(self, order: RemapOrder) -> Report:
        report, rules = Report(), self._rules()
        found, report.next_after_row = await self._page(order, ORDER_PAGE)
        for call in found:
            if call.state in (State.WAITING, State.DUE, State.FAILED):
                await self._try(call, rules, report, may_send_as_it_is=False)
            else:
                report.skip(call, call.state.value, f"it cannot be mapped again; its state is {call.state.value}")
        return report

    async def dismiss(self, order: DismissOrder) -> Report:
        report = Report()
        found, report.next_after_row = await self._page(order, MAX_PAGE)
        failed = [call for call in found if _has_failed(call)]
        for call in found:
            if not _has_failed(call):
                report.skip(call, call.state.value, f"it has not failed; its state is {call.state.value}")
        if failed:
            report.count("dismissed", await self._ledger.dismiss([call.row for call in failed], self._now()))
        return report

    async def forget(self, order: ForgetOrder) -> Report:
        """Refused while the call is being sent."""
        report, call_id = Report(), _call_id(order)
        try:
            report.count("forgotten", await self._ledger.forget(call_id, self._now()))
        except ValueError:
            what = "it is being sent right now; try again in a moment"
            report.skipped.append(CallProblem(row=0, call_id=call_id, path="", offset=0, reason=State.SENDING.value, what=what))
        return report

    async def _page(self, order: Selection, limit: int, *, newest: bool = False) -> tuple[Sequence[StoredCall], int | None]:
        """Up to `limit` rows that fit, and `next_after_row`."""
        fetch = limit if order.path is None else MAX_PAGE
        rows = await self._ledger.calls(order.filter(), after_row=order.after_row, limit=fetch, newest=newest)
        return [row for row in rows if order.fits(row)], rows[-1].row if len(rows) == fetch else None

    async def _try(self, call: StoredCall, rules: Mapping[str, SourceRules], report: Report, *, may_send_as_it_is: bool) -> None:
        try:
            await self._again(call, rules, report, may_send_as_it_is=may_send_as_it_is)
        except LookupError:  # retention, or `forget`, was quicker
            report.skip(call, "gone", "it is no longer in the ledger")

    async def _again(
        self, call: StoredCall, rules: Mapping[str, SourceRules], report: Report, *, may_send_as_it_is: bool
    ) -> None:
        document = await self._document(call)
        has_payload = call.call_id is not None and call.reason not in _NEVER_MAPPED
        if (document is None or call.source not in rules) and may_send_as_it_is and has_payload:
            _landed(
                report, call, await self._ledger.requeue(call.row, self._now()), "the ledger holds nothing that could be sent"
            )
        elif call.source not in rules:
            report.skip(call, "source", f"source {call.source!r} is no longer in the configuration")
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
            return None  # what is stored of a refused document need not be JSON: its file is read again
        origin = Origin(source=call.source, path=call.path, offset=call.offset, length=len(stored), mtime_ns=call.mtime_ns)
        return Document(origin=origin, raw=stored, value=value, settled_at=call.admitted_at)

    async def _read_again(self, call: StoredCall, rules: SourceRules, report: Report) -> None:
        try:
            found = await asyncio.to_thread(self._read_place, call.source, call.path, call.offset)
        except FileNotFoundError:
            report.skip(call, "gone", "its file is gone, and the ledger holds no copy")
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else str(exc)
            report.skip(call, "gone", f"its file cannot be read: {why}")
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
            # The redacted payload is all that is left of the call (its document is not stored): nothing else may replace it.
            what = "its place on disk now holds another document, or none that can be mapped; the call is unchanged"
            report.skip(call, "gone", what)
            return
        if (recording := mapped.recording) is not None:
            if recording.embedded:
                try:
                    recording = await asyncio.to_thread(self._keep_audio, recording)
                except (OSError, ValueError) as exc:
                    why = exc.strerror if isinstance(exc, OSError) else str(exc)
                    report.skip(call, "spool", f"its audio cannot be kept: {why}")
                    return
            await self._ledger.admit(Admission(recordings=[recording]), now)
            report.count("recording")
        if mapped.call is not None:
            state = await self._ledger.replace(call.row, mapped.call, now)
            _landed(report, call, state, "another call has the same id and a different start")
        elif mapped.refused is not None:
            await self._ledger.replace(call.row, mapped.refused, now)
            _still_refused(report, call, mapped.refused)
        elif mapped.fragment is not None:
            await self._join(call, mapped.fragment, report)
        elif call.state is State.FAILED:
            # It is a recording, or the rules now ignore it on purpose: nothing is left that could be sent.
            report.count("dismissed", await self._ledger.dismiss([call.row], now))
        else:
            report.skip(call, "ignored", "the current rules ignore this document; the call is unchanged")

    async def _join(self, call: StoredCall, fragment: Fragment, report: Report) -> None:
        """One document of a call that is gathered from several."""
        if call.call_id is not None:
            what = (
                "the ledger holds no copy of the documents it was gathered from: run `tunerd forget`, then write its files again"
            )
            report.skip(call, "gone", what)
        elif not fragment.key:
            what = "gather.key gave no value; only the documents before it in its file could tell which call it belongs to"
            report.fail(call, FailReason.UNMAPPABLE.value, what)
        else:  # this also removes its failed row
            await self._ledger.admit(Admission(fragments=[fragment]), self._now())
            report.count(State.GATHERING.value)


def _has_failed(call: StoredCall) -> bool:
    return call.state is State.FAILED or call.audio is AudioState.FAILED


def _was_mapped(call: StoredCall) -> bool:
    return call.started_at_ms is not None


def _is_same(call: StoredCall, mapped: Mapped) -> bool:
    """Rules may have changed since: the id or the start may differ, but not both."""
    again = mapped.call
    return again is not None and (
        again.call_id == call.call_id or abs(again.started_at_ms - (call.started_at_ms or 0)) <= _SAME_START_MS
    )


def _landed(report: Report, call: StoredCall, state: State, if_failed: str) -> None:
    if state is State.FAILED:
        report.fail(call, call.reason or "", if_failed)
    else:
        report.count(state.value)


def _still_refused(report: Report, call: StoredCall, refused: RefusedDocument) -> None:
    refusal = refused.refusal
    what = f"{refusal.where}: {refusal.what}" if refusal.where else refusal.what
    report.fail(call, refusal.reason.value, redact(what))


def _call_id(order: StoryOrder | ForgetOrder) -> str:
    if not order.call_id:
        raise OrderRefused("call_id is missing")
    return order.call_id
