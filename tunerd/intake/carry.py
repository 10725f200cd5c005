"""Whose call the documents of a file are, from batch to batch: those without a key of their own go with the one before them,
and what cannot be read between them cuts the call before it. Values only; the rules are in carried_key.py.
"""

from collections.abc import Sequence
from dataclasses import field, replace

from tunerd.call import KEPT_HEAD_BYTES, Cut, Document, Fragment, KeyStyle, Mapped, Refusal, RefusedDocument
from tunerd.carried_key import CarriedKey
from tunerd.intake.looks import Batch
from tunerd.intake.succession import Follows, UnknownPredecessor
from tunerd.ledger import FileMark
from tunerd.outcome import FailReason
from tunerd.record import positional_record


@positional_record
class Carried:
    """A batch's documents, each with a key or refused, and what else they say."""

    made: Sequence[tuple[Document | RefusedDocument, Mapped]]
    cuts: Sequence[Cut] = ()
    key_style: KeyStyle = field(default_factory=KeyStyle)
    torn: Sequence[tuple[str, int]] = ()
    """Logs whose end is not known."""
    cut_offsets: frozenset[int] | None = None
    """Of a whole file that is read to its end: where it cuts calls. What it cut elsewhere, when it was read before, it no
    longer does."""


class Carry:
    """The key of the last document of one file; with its mark it lasts over restarts."""

    def __init__(self) -> None:
        self._key = CarriedKey()
        self._log: FileMark | None = None
        """As it was before this look."""
        self._cut_offsets: set[int] = set()

    def into(
        self,
        batch: Batch,
        made: Sequence[tuple[Document | RefusedDocument, Mapped]],
        *,
        stores: bool,
        beginning: Follows | UnknownPredecessor | None = None,
    ) -> Carried:
        """The next batch of the file. Its mark takes the key along that the documents behind it get. `beginning`: of the first
        batch of a new log that begins with documents without a key."""
        if not batch.first:
            beginning = None
        else:
            self._log = batch.continues
            before = beginning.log if isinstance(beginning, Follows) else batch.continues
            self._key = CarriedKey(before.carry if before is not None else "")
        self._key.style = KeyStyle()
        mark, cuts = batch.mark, list[Cut]()
        carried: list[tuple[Document | RefusedDocument, Mapped]] = []
        for document, mapped in made:
            if mapped.fragment is None and mapped.refused is not None:
                origin = document.origin
                is_read_again = mark is not None and not mark.whole and origin.offset >= mark.offset
                cut = self._key.cut_at(origin) if is_read_again else self._key.break_at(origin)
                if cut is not None:
                    cuts.append(cut)
            carried.append((document, self._of(mapped, stores)))
        self._cut_offsets.update(cut.origin.offset for cut in cuts)
        if mark is not None and not mark.whole:
            batch.mark = self._mark(mark)
        is_read = mark is not None and mark.whole
        return Carried(
            made=carried,
            cuts=cuts,
            key_style=self._key.style,
            cut_offsets=frozenset(self._cut_offsets) if is_read else None,
            torn=[(log.source, log.log) for log in beginning.torn] if isinstance(beginning, UnknownPredecessor) else (),
        )

    def _mark(self, mark: FileMark) -> FileMark:
        is_same = self._log is not None and (self._log.log == mark.log or self._log.offset == 0)  # else it is a copy of that one
        home, inode = (self._log.home, self._log.home_inode) if self._log is not None and is_same else ("", 0)
        return replace(mark, carry=self._key.key, home=home or mark.path, home_inode=inode or mark.inode)

    def _of(self, mapped: Mapped, stores: bool) -> Mapped:
        fragment = mapped.fragment
        if fragment is None:
            return mapped
        if mapped.recording is not None and not fragment.key and not self._key.key:
            return replace(mapped, fragment=None)  # a recording, and nothing of a call
        if key := self._key.of(fragment):
            return replace(mapped, fragment=replace(fragment, key=key))
        return replace(mapped, fragment=None, refused=_without_key(fragment, self._key.why_nobody, stores))


def _without_key(fragment: Fragment, what: str, stores: bool) -> RefusedDocument:
    return RefusedDocument(
        origin=fragment.origin,
        refusal=Refusal(reason=FailReason.UNMAPPABLE, where="gather.key", what=what),
        head=fragment.document[:KEPT_HEAD_BYTES] if stores else b"",
        document=fragment.document if stores else None,
        settled_at=fragment.settled_at,
    )
