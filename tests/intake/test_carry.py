"""Whose call the documents of a file are, from batch to batch, and what cannot be read between them."""

import pytest

from tunerd.call import Cut, CutBy, Document, Fragment, KeyStyle, Mapped, Origin, Recording, Refusal, RefusedDocument
from tunerd.intake.carry import Carried, Carry
from tunerd.intake.looks import Batch
from tunerd.ledger import FileMark
from tunerd.outcome import FailReason


def at(offset: int) -> Origin:
    return Origin(source="agent", path="/calls/log", offset=offset, log=1)


def part(offset: int, key: str = "") -> Fragment:
    return Fragment(origin=at(offset), source="agent", key=key, part=None, newest=None, document=b"{}", settled_at=1.0)


def document(offset: int) -> Document:
    return Document(origin=at(offset), raw=b"{}", value={}, settled_at=1.0)


def mark(carry: str = "", *, whole: bool = False, offset: int = 100) -> FileMark:
    return FileMark(
        source="agent", path="/calls/log", device=1, inode=1, size=1, mtime_ns=1, offset=offset, whole=whole, carry=carry,
        home="" if whole else "/calls/log", home_inode=0 if whole else 1,
    )  # fmt: skip


def read(lines: str, begin: int = 0) -> list[tuple[Document | RefusedDocument, Mapped]]:
    """`a`: a line with the key a; `-`: one without a key; `!`: one that cannot be read; `?`: one whose key rule fails."""
    made: list[tuple[Document | RefusedDocument, Mapped]] = []
    for offset, line in enumerate(lines.split(), begin):
        refused = RefusedDocument(origin=at(offset), refusal=Refusal(reason=FailReason.UNREADABLE, where="", what="no"))
        if line in "!?":
            made.append((refused if line == "!" else document(offset), Mapped(refused=refused)))
        else:
            made.append((document(offset), Mapped(fragment=part(offset, line.strip("-")))))
    return made


def keys(carried: Carried) -> str:
    found = [mapped.fragment.key if mapped.fragment else "!" if mapped.refused else "?" for _, mapped in carried.made]
    return " ".join(found)


@pytest.mark.parametrize(
    ("lines", "before", "expected", "after", "cut"),
    [
        ("a - -", None, "a a a", "a", ""),
        ("- b -", "a", "a b b", "b", ""),
        ("- b", None, "! b", "b", ""),
        ("- -", "a", "a a", "a", ""),
        ("- ! - b -", "a", "a ! ! b b", "b", "a"),
        ("a ? - -", None, "a ! ! !", "", "a"),
        ("! -", "a", "! !", "", "a"),
        ("a ! b !", None, "a ! b !", "", "ab"),
    ],
)
def test_a_batch(lines: str, before: str | None, expected: str, after: str, cut: str) -> None:
    """A document without a key goes with the one before it. Behind one that cannot be read, and where there is none before it,
    it is refused, and seen; the call before that may lack a part. The mark takes the key along, or that there is none."""
    batch = Batch([], mark(), first=True, last=True, continues=None if before is None else mark(before))
    carried = Carry().into(batch, read(lines), stores=True)
    assert keys(carried) == expected
    assert batch.mark == mark(after)
    assert "".join(one.key for one in carried.cuts) == cut


def test_what_is_refused_says_why() -> None:
    """The place of what cannot be read; or that there was nothing before it."""
    for lines, words in (("a ! -", "/calls/log@1 cannot be read"), ("-", "no document before it")):
        carried = Carry().into(Batch([], mark(), first=True, last=True), read(lines), stores=True)
        refused = carried.made[-1][1].refused
        assert refused is not None
        assert words in refused.refusal.what


def test_a_line_that_is_not_finished_is_cut_but_carried_on() -> None:
    """It stands refused, and is read again with its end before anything that stands behind it."""
    batch = Batch([], mark(offset=2), first=True, last=True)
    carried = Carry().into(batch, read("a - !"), stores=True)
    assert carried.cuts == [Cut(source="agent", key="a", by=CutBy.UNREADABLE, origin=at(2))]
    assert batch.mark == mark("a", offset=2)


def test_from_batch_to_batch() -> None:
    """Within one visit the mark of the batch before is not asked: it may be of a whole file, that has none. With the end of a
    whole file come the places at which it cuts calls."""
    carry = Carry()
    carry.into(Batch([], None, first=True, last=False), read("a ! b"), stores=True)
    last = Batch([], mark(whole=True), first=False, last=True)
    carried = carry.into(last, read("- !", 3), stores=True)
    assert keys(carried) == "b !"
    assert last.mark == mark(whole=True)
    assert carried.cut_offsets == {1, 4}


def test_how_documents_say_whose_they_are() -> None:
    """Of each batch what it shows."""
    carry = Carry()
    assert carry.into(Batch([], None, first=True, last=False), read("a"), stores=True).key_style == KeyStyle()
    assert carry.into(Batch([], None, first=False, last=False), read("b"), stores=True).key_style == KeyStyle(own=True)
    assert carry.into(Batch([], None, first=False, last=False), read("-"), stores=True).key_style == KeyStyle(keyless=True)


def test_a_recording_without_a_key_is_only_that() -> None:
    """A manifest among the documents of calls is no part of one."""
    recording = Recording(origin=at(0), source="agent", key="k", location="https://a.example/x.wav")
    batch = Batch([], None, first=True, last=True)
    carried = Carry().into(batch, [(document(0), Mapped(fragment=part(0), recording=recording))], stores=True)
    ((_, mapped),) = carried.made
    assert (mapped.fragment, mapped.refused, mapped.recording) == (None, None, recording)
    assert carried.key_style == KeyStyle()
