"""After a crash: batches split into single documents, and how a document that ends the process is reported. Values, and one
stat; crash_journal.py counts the deaths, admitter.py and file_reader.py act on them.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tunerd.call import Document, Origin, Refusal, RefusedDocument
from tunerd.intake.crash_journal import Section
from tunerd.intake.document_maker import Read
from tunerd.intake.looks import Batch
from tunerd.ledger import FileMark
from tunerd.outcome import FailReason

TWICE: Final = (
    "tunerd crashed more than once while it read this document, so it set the document aside; please report this, "
    "and run `tunerd retry` when the defect is fixed"
)
MAPPED_TWICE: Final = (
    "tunerd crashed more than once while the rules mapped this document, so it set the document aside; please report "
    "this, and run `tunerd retry` when the defect is fixed"
)


def section_of(one: Read) -> Section:
    return Section(offset=one.origin.offset, length=max(0, one.origin.length))


def split(batch: Batch) -> Iterator[Batch]:
    """A batch for each document; the file's mark goes with the last."""
    documents = batch.documents or ()
    for index, one in enumerate(documents[:-1]):
        yield Batch(
            [one], None, batch.first and index == 0, last=False, same_log=batch.same_log if index == 0 else None,
            continues=batch.continues,
        )  # fmt: skip
    yield replace(
        batch,
        documents=list(documents[-1:]),
        first=batch.first and len(documents) < 2,
        same_log=batch.same_log if len(documents) < 2 else None,
    )


def crashed(document: Document, what: str = MAPPED_TWICE) -> RefusedDocument:
    return refused_as(document, Refusal(reason=FailReason.CRASHED, where="mapping", what=what))


def refused_as(document: Document, refusal: Refusal) -> RefusedDocument:
    """The document with its text, so that `retry` can map it again."""
    return RefusedDocument(origin=document.origin, refusal=refusal, document=document.kept, settled_at=document.settled_at)


def unread(source: str, path: str, log: FileMark | None, now: float) -> Batch:
    """The refusal of a file whose bytes are not looked at, and its mark. `log`: the mark of the log that it is.
    Raises OSError where it is gone."""
    at = os.stat(path)
    mark = FileMark(
        source=source,
        path=path,
        device=at.st_dev,
        inode=at.st_ino,
        size=at.st_size,
        mtime_ns=at.st_mtime_ns,
        ctime_ns=at.st_ctime_ns,
        offset=at.st_size,
    )
    if log is not None:
        mark = replace(mark, offset=log.offset, content=log.content, whole=False, log=log.log)
    offset = log.offset if log is not None else 0
    origin = Origin(
        source=source,
        path=path,
        offset=offset,
        length=max(0, at.st_size - offset),
        mtime_ns=at.st_mtime_ns,
        log=log.log if log is not None else 0,
    )
    refusal = Refusal(reason=FailReason.CRASHED, where="reading", what=TWICE)
    refused = RefusedDocument(origin=origin, refusal=refusal, settled_at=now)
    return Batch([refused], mark, first=True, last=True, continues=log)
