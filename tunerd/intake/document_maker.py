"""Makes documents and refusals of the slices of a file. Values only: where a document ends is framing.py's business."""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from tunerd.call import KEPT_HEAD_BYTES, Document, Origin, Refusal, RefusedDocument
from tunerd.intake.framing import NotJson, Slice, parse, values_of_line
from tunerd.outcome import FailReason
from tunerd.record import positional_record

Read: TypeAlias = Document | RefusedDocument

ITEMS_REFUSED: Final = 20
"""Bare values in a row that are refused one by one."""
_ITEM: Final = re.compile(rb'(?:"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[^,"\s])(?:"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[^,"])*+', re.DOTALL)


@positional_record
class DocumentMaker:
    """Makes documents and refusals of slices of one file."""

    source: str
    path: str
    mtime_ns: int
    settled_at: float
    log: int = 0
    """The number of the log that it is."""

    def document(self, found: Slice, value: object) -> Document:
        origin = self._origin(found.offset, found.length)
        return Document(origin=origin, raw=found.raw, value=value, settled_at=self.settled_at)  # type: ignore[arg-type]

    def made_of(self, found: Slice) -> Read:
        if found.too_large:
            return self.too_large(found)
        if found.hole:
            return self.hole(found)
        if found.junk:
            return next(self.of_junk(found))
        try:
            return self.document(found, parse(found.raw))
        except NotJson as exc:
            return self.refuse(found.offset, found.length, found.raw, exc.where, exc.what)

    def of_value(self, found: Slice) -> Iterator[Read]:
        """One document or refusal, or several refusals where bare values follow each other in a list."""
        if found.junk:
            yield from self.of_junk(found)
        else:
            yield self.made_of(found)

    def of_junk(self, found: Slice) -> Iterator[RefusedDocument]:
        """A refusal; in a list one for each item. A list of a million numbers must not fill the ledger: of a long run
        one for each of the first items, and one for all others."""
        if not found.in_list or found.raw.startswith(b"\0"):
            yield self.not_a_document(found)
            return
        is_cut = len(found.raw) == KEPT_HEAD_BYTES < found.length
        for count, item in enumerate(_ITEM.finditer(found.raw)):
            if count == ITEMS_REFUSED or (is_cut and item.end() == len(found.raw)):
                what = "from here on the list has no objects for a while; each call document must be a JSON object"
                at = found.offset + item.start()
                yield self.refuse(at, found.length - item.start(), found.raw[item.start() :], f"byte {at}", what)
                return
            text = item[0].rstrip()
            yield self.not_a_document(Slice(found.offset + item.start(), text, len(text), junk=True))

    def of_line(self, line: Slice, max_bytes: int) -> list[Read]:
        """The documents of a log's line: one, or several that stand in it without a newline between."""
        made = self.made_of(line)
        if isinstance(made, Document) or line.too_large or line.hole:
            return [made]
        several = values_of_line(line, max_bytes)
        return [made] if len(several) < 2 else [self.made_of(found) for found in several]

    def too_large(self, found: Slice) -> RefusedDocument:
        what = f"{found.length:,} bytes are more than max_document; raise it for this source, or write smaller documents"
        return self.refuse(found.offset, found.length, found.raw, f"byte {found.offset}", what, FailReason.TOO_LARGE)

    def hole(self, found: Slice) -> RefusedDocument:
        """NUL bytes. They are not kept: nothing can be read of them, and more of them are the same failure."""
        what = (
            "NUL bytes stand here, where documents should: a crash of the machine lost what was written, or room was "
            "reserved and is not written yet. If their writer still has them, let it write them again; then dismiss this"
        )
        return self.refuse(found.offset, found.length, b"", f"byte {found.offset}", what)

    def not_a_document(self, found: Slice) -> RefusedDocument:
        if found.raw.startswith(b"\0"):
            return self.hole(found)
        try:
            parse(found.raw)
        except NotJson as exc:
            where = f"byte {found.offset}" if found.offset else exc.where
            return self.refuse(found.offset, found.length, found.raw, where, exc.what)
        return self.refuse(found.offset, found.length, found.raw, f"byte {found.offset}", "not a JSON object")

    def refuse(
        self, offset: int, length: int, raw: bytes, where: str, what: str, reason: FailReason = FailReason.UNREADABLE
    ) -> RefusedDocument:
        return RefusedDocument(
            origin=self._origin(offset, length),
            refusal=Refusal(reason=reason, where=where, what=what),
            head=raw[:KEPT_HEAD_BYTES],
            settled_at=self.settled_at,
        )

    def _origin(self, offset: int, length: int) -> Origin:
        return Origin(source=self.source, path=self.path, offset=offset, length=length, mtime_ns=self.mtime_ns, log=self.log)
