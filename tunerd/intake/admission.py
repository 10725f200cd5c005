"""What one batch of mapped documents becomes: the admission for the ledger, and the events to emit once it is durable.

Values only: admitter.py commits the one, file_reader.py emits the others.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from tunerd.call import KEPT_HEAD_BYTES, Document, Mapped, MappingNotes, RefusedDocument
from tunerd.events import (
    CallAdmitted,
    CallDuplicate,
    CallFailed,
    DocumentIgnored,
    DocumentMapped,
    DocumentsRead,
    Event,
    PartsLate,
    RecordingAdmitted,
    RecordingMatched,
)
from tunerd.intake.carry import Carried
from tunerd.intake.looks import Batch
from tunerd.ledger import Admission, Admitted, AdmitVerdict, Continued, FailedCall, Matched

Made: TypeAlias = tuple[Document | RefusedDocument, Mapped]


def admission_of(batch: Batch, carried: Carried) -> Admission:
    mapped = [one for _, one in carried.made]
    whole = batch.mark is None or batch.mark.whole
    return Admission(
        calls=[one.call for one in mapped if one.call is not None],
        recordings=[one.recording for one in mapped if one.recording is not None],
        refused=[one.refused for one in mapped if one.refused is not None],
        ignored=[one.ignored for one in mapped if one.ignored is not None],
        fragments=[one.fragment for one in mapped if one.fragment is not None],
        mark=batch.mark,
        replaces_failed=whole and batch.first,
        continued=_continued(batch),
        cuts=carried.cuts,
        torn=carried.torn,
        cut_offsets=carried.cut_offsets,
        key_style=carried.key_style,
    )


def _continued(batch: Batch) -> Continued | None:
    if batch.same_log is None or not batch.documents:
        return None
    one = batch.documents[0]
    begins = one.raw[:KEPT_HEAD_BYTES] if isinstance(one, Document) else one.head
    return Continued(source=one.origin.source, path=batch.same_log, offset=one.origin.offset, begins=begins)


def events_of(source: str, made: Sequence[Made], admission: Admission, admitted: Admitted) -> Iterator[Event]:
    if made:
        yield DocumentsRead(source=source, count=len(made))
    for document, one in made:
        if isinstance(document, Document) and (one.notes != MappingNotes() or one.refused is None):
            yield DocumentMapped(source=source, notes=one.notes)
    for call, (verdict, state) in zip(admission.calls, admitted.verdicts, strict=True):
        match verdict:
            case AdmitVerdict.NEW | AdmitVerdict.REVIVED:
                yield CallAdmitted(source=source, call_id=call.call_id, state=state)
            case AdmitVerdict.DUPLICATE | AdmitVerdict.REPLACED:
                yield CallDuplicate(source=source, call_id=call.call_id, replaced=verdict is AdmitVerdict.REPLACED)
            case AdmitVerdict.CONFLICT:
                pass  # among `admitted.failed`, with the ledger's words
    for refused in admission.refused:
        yield refused_event(source, refused)
    for ignored in admission.ignored:
        yield DocumentIgnored(source=source, known=ignored.known)
    for _ in admission.recordings:
        yield RecordingAdmitted(source=source)
    yield from failures_of(admitted.failed, admitted.matched)
    if admitted.late:
        yield PartsLate(source=source, count=admitted.late, path=admission.fragments[0].origin.path)  # all of one file


def failures_of(failed: Sequence[FailedCall], matched: Sequence[Matched]) -> Iterator[Event]:
    """What the ledger itself found on the way."""
    for call in failed:
        yield CallFailed(
            source=call.source,
            reason=call.refusal.reason,
            call_id=call.call_id,
            path=call.path,
            where=call.refusal.where,
            what=call.refusal.what,
        )
    for one in matched:
        yield RecordingMatched(source=one.source, call_id=one.call_id, waited_s=one.waited_s)


def refused_event(source: str, refused: RefusedDocument) -> CallFailed:
    return CallFailed(
        source=source,
        reason=refused.refusal.reason,
        call_id=refused.call_id,
        path=str(refused.origin),
        where=refused.refusal.where,
        what=refused.refusal.what,
    )
