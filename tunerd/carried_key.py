"""Whose call a document belongs to: its own key, or else the key of the document before it in its file. Pure.

intake/ asks document by document, commands for a whole file at once. What a key is, and what its documents make, stands
in mapping/gathering.py.
"""

from collections.abc import Iterable
from dataclasses import field, replace

from tunerd.call import Cut, CutBy, Fragment, KeyStyle, Origin, Refusal, RefusedDocument
from tunerd.outcome import FailReason
from tunerd.record import positional_record


class CarriedKey:
    """The key that documents without one of their own get, from document to document of one file."""

    def __init__(self, key: str = "") -> None:
        self.key = key
        """Empty: a document without a key is nobody's."""
        self.style = KeyStyle()
        self.broken_at: Origin | None = None
        """Why there is no key: this document cannot be read."""
        self._lost = ""

    def of(self, fragment: Fragment) -> str:
        """The key of the next document; empty: it has none, and there is none to carry."""
        if not fragment.key:
            self.style |= KeyStyle(keyless=True)
            return self.key
        if self.key or fragment.key == self._lost:
            self.style |= KeyStyle(own=True)
        self.key, self._lost, self.broken_at = fragment.key, "", None
        return self.key

    def break_at(self, origin: Origin) -> Cut | None:
        """The next document cannot be read: it may be a part of the call that was carried, or the first of the next one. So
        nobody knows whose the documents behind it are, until one has a key. Gives the call that is cut by it."""
        cut = self.cut_at(origin)
        if self.key:
            self.key, self._lost = "", self.key
        self.broken_at = origin
        return cut

    def cut_at(self, origin: Origin) -> Cut | None:
        """The same for a document that will be read again before any behind it: the key stays."""
        return Cut(source=origin.source, key=self.key, by=CutBy.UNREADABLE, origin=origin) if self.key else None

    @property
    def why_nobody(self) -> str:
        """For the refusal of a document that is nobody's."""
        if self.broken_at is not None:
            return (
                f"gave no key, and the document at {self.broken_at} cannot be read: nobody knows whose call this one belongs to. "
                "If its writer still has them, write the documents of the call anew"
            )
        return (
            "gave no key, and there is no document before it in its file whose call it could belong to; "
            "`tunerd explain FILE` shows what the rule found"
        )


def incomplete(by: CutBy, place: str, *, sure: bool = True) -> Refusal:
    """Why a call that may lack a part is not sent, and what to do. `sure`: documents of its source are known to have no key
    of their own."""
    if by is CutBy.UNREADABLE:
        what = f"the document at {place} cannot be read, and may be a part of this call"
    else:
        what = f"the log ended at {place} (it was truncated, or is gone before it was read to its end), and this call may go on"
    if not sure:
        what += ", unless each document of this source has a key of its own"
    return Refusal(reason=FailReason.INCOMPLETE, where="gather", what=f"{what}; `tunerd retry` sends what is there")


@positional_record
class Keyed:
    """Which documents make a call, and which calls may lack one."""

    calls: dict[str, list[Fragment]] = field(default_factory=dict)
    """The key "" holds documents that are nobody's."""
    cuts: dict[str, Refusal] = field(default_factory=dict)


def keyed(read: Iterable[Fragment | RefusedDocument]) -> Keyed:
    """For commands that read whole files: documents in the order of their files, and those that cannot be read between."""
    found, cuts, style = Keyed(), list[Cut](), KeyStyle()
    files: dict[str, CarriedKey] = {}
    for one in read:
        carried = files.setdefault(one.origin.path, CarriedKey())
        if isinstance(one, Fragment):
            key = carried.of(one)
            found.calls.setdefault(key, []).append(replace(one, key=key))
        elif (cut := carried.break_at(one.origin)) is not None:
            cuts.append(cut)
    for carried in files.values():
        style |= carried.style
    if style.keyless or not style.own:
        for cut in cuts:
            found.cuts.setdefault(cut.key, incomplete(cut.by, str(cut.origin), sure=style.keyless))
    return found
