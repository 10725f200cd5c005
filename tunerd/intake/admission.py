"""What one batch of mapped documents becomes: the admission for the ledger, and the facts that are told once it is durable.

Values only: run.py commits the one and emits the others.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from tunerd.call import Document, Mapped, MappingNotes, RefusedDocument
from tunerd.events import (
    CallAdmitted,
    CallDuplicate,
    CallFailed,
    DocumentIgnored,
    DocumentMapped,
    DocumentsRead,
    Event,
    RecordingAdmitted,
    RecordingMatched,
)
from tunerd.intake.visit import Batch
from tunerd.ledger import Admission, Admitted, Verdict

Made: TypeAlias = tuple[Document | RefusedDocument, Mapped]


def admission_of(batch: Batch, made: Sequence[Made]) -> Admission:
    mapped = [one for _, one in made]
    whole = batch.mark is None or batch.mark.whole
    return Admission(
        calls=[one.call for one in mapped if one.call is not None],
        recordings=[one.recording for one in mapped if one.recording is not None],
        refused=[one.refused for one in mapped if one.refused is not None],
        ignored=[one.ignored for one in mapped if one.ignored is not None],
        mark=batch.mark,
        replaces_failed=whole and batch.first,
    )


def events_of(source: str, made: Sequence[Made], admission: Admission, admitted: Admitted) -> Iterator[Event]:
    if made:
        yield DocumentsRead(source=source, count=len(made))
    for document, one in made:
        if isinstance(document, Document) and (one.notes != MappingNotes() or one.refused is None):
            yield DocumentMapped(source=source, notes=one.notes)
    for call, (verdict, state) in zip(admission.calls, admitted.verdicts, strict=True):
        match verdict:
            case Verdict.NEW | Verdict.REVIVED:
                yield CallAdmitted(source=source, call_id=call.call_id, state=state)
            case Verdict.DUPLICATE | Verdict.REPLACED:
                yield CallDuplicate(source=source, call_id=call.call_id, replaced=verdict is Verdict.REPLACED)
            case Verdict.CONFLICT:
                pass  # among `admitted.failed`, with the ledger's words
    for refused in admission.refused:
        yield _failed(source, refused)
    for failed in admitted.failed:
        yield CallFailed(
            source=failed.source,
            reason=failed.refusal.reason,
            call_id=failed.call_id,
            path=failed.path,
            where=failed.refusal.where,
            what=failed.refusal.what,
        )
    for _ in admission.ignored:
        yield DocumentIgnored(source=source)
    for _ in admission.recordings:
        yield RecordingAdmitted(source=source)
    for matched in admitted.matched:
        yield RecordingMatched(source=matched.source, waited_s=matched.waited_s)


def _failed(source: str, refused: RefusedDocument) -> CallFailed:
    return CallFailed(
        source=source,
        reason=refused.refusal.reason,
        call_id=refused.call_id,
        path=str(refused.origin),
        where=refused.refusal.where,
        what=refused.refusal.what,
    )
