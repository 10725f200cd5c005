"""What of a file is no document at all, or a document without content, has rows of its own up to a number; all that comes
behind stands in one row, with its count. A complete document always keeps its row: a wrong rule must stay repairable. Values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tunerd.call import Document, Json, Mapped, Origin, Refusal, RefusedDocument
from tunerd.outcome import FailReason

ROWS_OF_A_FILE: Final = 1_000
_HOLLOW_BYTES: Final = 256
"""An object without any content is no longer than this."""


@dataclass(slots=True)
class RefusedLines:
    """How much of one file was refused so far. Of a log it lasts over restarts, in its mark."""

    count: int = 0
    summary_at: int = -1
    """Where the row of all others begins; -1: there is none."""

    def into(self, made: Sequence[tuple[Document | RefusedDocument, Mapped]]) -> list[tuple[Document | RefusedDocument, Mapped]]:
        """The same, with one refusal in place of all beyond the number."""
        kept: list[tuple[Document | RefusedDocument, Mapped]] = []
        last: RefusedDocument | None = None
        for document, mapped in made:
            refused = mapped.refused
            if refused is None or mapped.recording is not None or not _is_nothing(document):
                kept.append((document, mapped))
                continue
            self.count += 1
            if self.count <= ROWS_OF_A_FILE:
                kept.append((document, mapped))
                continue
            last = refused
            if self.summary_at < 0:
                self.summary_at = refused.origin.offset
        if last is not None:
            summary = self._summary(last)
            kept.append((summary, Mapped(refused=summary)))
        return kept

    def _summary(self, last: RefusedDocument) -> RefusedDocument:
        origin, at = last.origin, self.summary_at
        more = self.count - ROWS_OF_A_FILE
        what = (
            f"from here on {more:,} more are no JSON objects, or objects without content; each of the first {ROWS_OF_A_FILE:,} "
            "has a row of its own. Is this file a log of calls?"
        )
        length = max(0, origin.offset + origin.length - at)
        return RefusedDocument(
            origin=Origin(
                source=origin.source, path=origin.path, offset=at, length=length, mtime_ns=origin.mtime_ns, log=origin.log
            ),
            refusal=Refusal(reason=FailReason.UNREADABLE, where=f"byte {at}", what=what),
            settled_at=last.settled_at,
        )


def is_noise(one: Document | RefusedDocument) -> bool:
    """Whether a line of a log does not even begin like JSON: what libraries print between the lines of a writer. A line that
    begins like an object or a list and is broken is a document that was lost; NUL bytes are what a crash left."""
    if not isinstance(one, RefusedDocument) or one.refusal.reason is not FailReason.UNREADABLE:
        return False
    text = one.head.lstrip()
    return bool(text) and text[:1] not in (b"{", b"[", b"\0")


def _is_nothing(document: Document | RefusedDocument) -> bool:
    if isinstance(document, RefusedDocument):
        return document.refusal.reason is FailReason.UNREADABLE
    return len(document.raw) <= _HOLLOW_BYTES and is_hollow(document.value)


def is_hollow(value: Json) -> bool:
    """Whether there is nothing in it but empty texts, lists and objects."""
    if isinstance(value, dict):
        return all(is_hollow(one) for one in value.values())
    if isinstance(value, list):
        return all(is_hollow(one) for one in value)
    return value is None or value == ""
