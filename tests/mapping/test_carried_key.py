"""Whose call a document is, what cannot be read between them, and the order of documents over generations of a log."""

from collections.abc import Sequence

import orjson
import pytest

from tunerd.call import Document, Fragment, KeyStyle, Origin, Refusal, RefusedDocument
from tunerd.carried_key import CarriedKey, keyed
from tunerd.mapping.gathering import in_order, merged, pack, unpack
from tunerd.outcome import FailReason

LOG = "/calls/app.log"


def at(offset: int, *, path: str = LOG, log: int = 1, mtime_ns: int = 1) -> Origin:
    return Origin(source="agent", path=path, offset=offset, length=2, mtime_ns=mtime_ns, log=log)


def fragment(offset: int, key: str = "") -> Fragment:
    return Fragment(origin=at(offset), source="agent", key=key, part=None, newest=None, document=b"{}", settled_at=1.0)


def broken(offset: int) -> RefusedDocument:
    return RefusedDocument(origin=at(offset), refusal=Refusal(reason=FailReason.UNREADABLE, where="", what="not JSON"))


def read(lines: Sequence[str]) -> list[Fragment | RefusedDocument]:
    """`A`: a line with the key A; `-`: one without a key; `!`: one that cannot be read."""
    return [broken(n) if line == "!" else fragment(n, line.strip("-")) for n, line in enumerate(lines)]


@pytest.mark.parametrize(
    ("lines", "calls", "cut"),
    [
        ("A - - B -", {"A": [0, 1, 2], "B": [3, 4]}, ""),
        ("A - ! - - B -", {"A": [0, 1], "": [3, 4], "B": [5, 6]}, "A"),
        ("A ! - B -", {"A": [0], "": [2], "B": [3, 4]}, "A"),
        ("A - ! ! C -", {"A": [0, 1], "C": [4, 5]}, "A"),
        ("! - A -", {"": [1], "A": [2, 3]}, ""),
        ("A - ! A - ! -", {"A": [0, 1, 3, 4], "": [6]}, "A"),
        ("A - B - ! C - !", {"A": [0, 1], "B": [2, 3], "C": [5, 6]}, "BC"),
        ("A B A ! B ! A", {"A": [0, 2, 6], "B": [1, 4]}, ""),
        ("A ! A B", {"A": [0, 2], "B": [3]}, ""),
        ("A !", {"A": [0]}, "A"),
    ],
)
def test_what_cannot_be_read_ends_the_key(lines: str, calls: dict[str, list[int]], cut: str) -> None:
    """Behind a document that cannot be read nothing belongs to the call before it, and that call may lack a part, unless
    all documents have keys of their own."""
    found = keyed(read(lines.split()))
    assert {key: [one.origin.offset for one in together] for key, together in found.calls.items()} == calls
    assert "".join(sorted(found.cuts)) == cut
    assert {one.reason for one in found.cuts.values()} <= {FailReason.INCOMPLETE}


def test_the_place_of_what_cannot_be_read_is_told() -> None:
    """In the refusal of the documents that are nobody's and in that of the call that may lack a part."""
    carried = CarriedKey("A")
    carried.break_at(at(7))
    assert carried.of(fragment(9)) == ""
    assert f"{LOG}@7 cannot be read" in carried.why_nobody
    assert "`tunerd retry` sends what is there" in keyed(read(["A", "-", "!"])).cuts["A"].what


def test_a_document_that_is_read_again_clears_nothing() -> None:
    """A line that was not finished: the call may lack it, and what is behind it comes after it was read again."""
    carried = CarriedKey("A")
    cut = carried.cut_at(at(7))
    assert cut is not None
    assert cut.key == carried.of(fragment(9)) == "A"


def test_how_documents_say_whose_they_are() -> None:
    """Known only from what was read: a document without a key, or one that brings a key where there was one."""
    carried = CarriedKey()
    carried.of(fragment(0, "A"))
    assert carried.style == KeyStyle()
    carried.of(fragment(1, "B"))
    assert carried.style == KeyStyle(own=True)
    carried.of(fragment(2))
    assert carried.style == KeyStyle(own=True, keyless=True)


# Order.


def line(offset: int, path: str = LOG, log: int = 1, mtime_ns: int = 1) -> Document:
    raw = b'{"role": "user", "text": "%d.%d"}' % (log, offset)
    return Document(origin=at(offset, path=path, log=log, mtime_ns=mtime_ns), raw=raw, value={"log": log}, settled_at=1.0)


def places(documents: Sequence[Document]) -> list[tuple[int, int]]:
    return [(one.origin.log, one.origin.offset) for one in in_order(documents)]


def test_generations_of_a_log_stand_in_their_order() -> None:
    """Whatever the names they were read under, and whatever the times of their files: a tick of the file system's clock is
    longer than a rotation, and clocks go back."""
    older = [line(0, mtime_ns=9), line(50, f"{LOG}.1", mtime_ns=9), line(90, f"{LOG}.1", mtime_ns=8)]
    newer = [line(0, log=2, mtime_ns=9), line(10, log=2, mtime_ns=3)]
    assert places([*newer, *reversed(older)]) == [(1, 0), (1, 50), (1, 90), (2, 0), (2, 10)]
    moved = [line(40, "/old/app.log-2026", mtime_ns=9)]
    assert places([*newer, *moved]) == [(1, 40), (2, 0), (2, 10)]


def test_logs_of_two_writers_stand_by_time() -> None:
    """Neither is a generation of the other: which was found first says nothing."""
    here, there = [line(0, "/calls/a.log", 1, 2), line(9, "/calls/a.log", 1, 6)], [line(0, "/calls/b.log", 2, 4)]
    assert places([*here, *there]) == [(1, 0), (2, 0), (1, 9)]


def test_a_place_is_a_place_of_the_log() -> None:
    """Read under another name it is the same document; the same offset of another generation is another."""
    kept = [line(0), line(50)]
    fresh = [line(50, f"{LOG}.1"), line(50, log=2)]
    assert [(one.origin.path, one.origin.log) for one in merged(kept, fresh)] == [(LOG, 1), (f"{LOG}.1", 1), (LOG, 2)]


def test_what_is_kept_of_a_call_knows_the_logs() -> None:
    """So that documents that come later find their places among it."""
    documents = [line(0), line(50, log=2)]
    kept = unpack(orjson.loads(pack(documents)), "agent")
    assert [one.origin for one in kept or ()] == [one.origin for one in documents]
