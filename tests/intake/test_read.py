"""Whole files: one document, many, none, broken, compressed, too large."""

import gzip
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from tunerd.call import Document, RefusedDocument
from tunerd.intake.document_maker import ITEMS_REFUSED, Read
from tunerd.intake.opened import Odd, of_descriptor, opened
from tunerd.intake.read import Incomplete, read_whole
from tunerd.intake.read_again import read_documents, read_place
from tunerd.outcome import FailReason

DOCUMENT = '{"id": "é1", "said": ["\\" }", 1.5], "z": {}}'.encode()


def read(path: Path, *, final: bool = False, most: int = 100_000) -> list[Read]:
    with opened(str(path)) as file:
        found = read_whole(file, source="agent", max_document_bytes=most, settled_at=5.0, final=final)
        return [one for one in found if one is not None]


def ids(documents: list[Read]) -> list[object]:
    return [one.value["id"] if isinstance(one, Document) else one.refusal.reason for one in documents]  # type: ignore[call-overload,index]


@pytest.mark.parametrize("compressed", [False, True])
def test_half_a_document_is_waited_for_then_refused(tmp_path: Path, compressed: bool) -> None:
    """Cut after any byte it is incomplete, and nobody gets half of it; once its time is over it is one visible refusal."""
    whole = gzip.compress(DOCUMENT) if compressed else DOCUMENT
    path = tmp_path / ("a.json.gz" if compressed else "a.json")
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(Incomplete):
            read(path)
        assert ids(read(path, final=True)) == [FailReason.UNREADABLE], length


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_the_file_as_it_is(tmp_path: Path, name: str) -> None:
    """The text without BOM and white space, its place, and the time it was settled."""
    data = b"\xef\xbb\xbf \n" + DOCUMENT + b"\n\n"
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    (document,) = read(path)
    assert isinstance(document, Document)
    assert document.raw == DOCUMENT
    assert document.value == json.loads(DOCUMENT)
    assert (document.origin.offset, document.origin.length, document.settled_at) == (5, len(DOCUMENT), 5.0)
    assert document.origin.mtime_ns == path.stat().st_mtime_ns


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[{"id":1},{"id":2}]', [1, 2]),
        (b'{"id":1}{"id":2}\n{"id":3}', [1, 2, 3]),
        (b"[]", []),
        (b'[{"id":1}] [{"id":2}]', [1, 2]),
        (b'[1, {"id":2}, {"id":NaN}]', [FailReason.UNREADABLE, 2, FailReason.UNREADABLE]),
        (b'{"id":1} oops', [1, FailReason.UNREADABLE]),
        (b"<html></html>", [FailReason.UNREADABLE]),
        (b"null", [FailReason.UNREADABLE]),
        (b'{"id": "\xff"}', [FailReason.UNREADABLE]),
        (b'{"id":NaN}', [FailReason.UNREADABLE]),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, [FailReason.TOO_LARGE]),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, [FailReason.UNREADABLE]),
        (b"id=7&RecordingUrl=https%3A%2F%2Fx", ["7"]),
    ],
)
def test_what_a_complete_file_gives(tmp_path: Path, content: bytes, expected: list[object]) -> None:
    """Documents and refusals, each with its own place; nothing is waited for and nothing is silent."""
    (tmp_path / "a.json").write_bytes(content)
    assert ids(read(tmp_path / "a.json")) == expected


def test_reserved_room_is_not_a_broken_file(tmp_path: Path) -> None:
    """NUL bytes stand where somebody is still going to write."""
    (tmp_path / "a.json").write_bytes(b'{"id":1,\0\0\0\0}')
    with pytest.raises(Incomplete):
        read(tmp_path / "a.json")


def test_forty_megabytes_are_refused_in_little_memory(tmp_path: Path) -> None:
    """A document over max_document is one refusal with its head, and is never held whole."""
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.write(b'{"id": 1, "x": "')
        for _ in range(40):
            file.write(b"y" * 1_000_000)
        file.write(b'"}')
    tracemalloc.start()
    (refused,) = read(path, most=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(refused, RefusedDocument)
    assert refused.refusal.reason is FailReason.TOO_LARGE
    assert len(refused.head) == 4096
    assert refused.origin.length == 40_000_018
    assert peak < 8_000_000


@pytest.mark.parametrize("compressed", [False, True])
def test_a_large_list_is_read_element_by_element(tmp_path: Path, compressed: bool) -> None:
    """More than max_document together, each less: all are read; without its end nothing of it is, until its time is over."""
    elements = [{"id": i, "x": "y" * 500} for i in range(2000)]
    data = json.dumps(elements).encode()
    path = tmp_path / "a.json"
    pack = gzip.compress if compressed else bytes
    path.write_bytes(pack(data))
    assert ids(read(path)) == list(range(2000))
    path.write_bytes(pack(data[:-700]))
    with pytest.raises(Incomplete):
        read(path)
    assert ids(read(path, final=True)) == [*range(1998), FailReason.UNREADABLE]


def test_a_place_is_read_again(tmp_path: Path) -> None:
    """Each document of a file is found again at its place, also after a repair changed its length."""
    path = tmp_path / "a.ndjson"
    path.write_bytes(b'{"id":1}\n{"id":2, oops}\n{"id":3}\n')
    first, broken, third = list(read_documents(str(path)))
    assert isinstance(broken, RefusedDocument)
    for one, value in ((first, {"id": 1}), (third, {"id": 3})):
        again = read_place(str(path), one.origin.offset, one.origin.length)
        assert isinstance(again, Document)
        assert again.value == value
    assert isinstance(read_place(str(path), broken.origin.offset, broken.origin.length), RefusedDocument)
    path.write_bytes(b'{"id":1}\n{"id":2}\n{"id":3}\n')
    again = read_place(str(path), broken.origin.offset, broken.origin.length)
    assert isinstance(again, Document)
    assert again.value == {"id": 2}


@pytest.mark.parametrize("kind", ["fifo", "directory", "socket"])
def test_what_is_no_regular_file_never_blocks(tmp_path: Path, kind: str) -> None:
    """Opening a FIFO nobody writes to returns at once with a refusal."""
    path = tmp_path / "a.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        os.mknod(path, 0o140600)
    with pytest.raises(Odd), opened(str(path)):
        pass


def test_a_damaged_archive_says_so(tmp_path: Path) -> None:
    """A .gz with flipped bytes is refused at once: it will not become complete."""
    data = bytearray(gzip.compress(os.urandom(3000)))
    data[500:900] = b"\0" * 400
    (tmp_path / "a.json.gz").write_bytes(data)
    (refused,) = read(tmp_path / "a.json.gz")
    assert isinstance(refused, RefusedDocument)
    assert "damaged" in refused.refusal.what


@pytest.mark.parametrize("name", ["a.json.gz", "a.ndjson.gz"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "it is no gzip file"),
        (gzip.compress(b'{"id":1}\n{"id":2}\n')[:-9], "ends in the middle"),
        (gzip.compress(b'{"id":1}\n')[:12], "ends in the middle"),
    ],
    ids=["other", "cut", "begun"],
)
def test_what_is_no_whole_gzip_says_so(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """Not that it is no UTF-8: bytes that were never decompressed say nothing about the text."""
    (tmp_path / name).write_bytes(content)
    for found in (list(read_documents(str(tmp_path / name))), [read_place(str(tmp_path / name), 0, 0)]):
        refused = found[-1]
        assert isinstance(refused, RefusedDocument)
        assert refused.refusal.where == "gzip"
        assert words in refused.refusal.what
        assert "again" in refused.refusal.what


@pytest.mark.parametrize("name", ["a.json.gz", "a.ndjson.gz"])
def test_plain_text_named_gz_is_read(tmp_path: Path, name: str) -> None:
    """Something on its way has decompressed it, and kept the name."""
    (tmp_path / name).write_bytes(b'{"id":1}\n')
    assert ids(list(read_documents(str(tmp_path / name)))) == [1]


def test_each_item_of_a_list_that_is_no_object_is_refused(tmp_path: Path) -> None:
    """At its own place, as what it is."""
    (tmp_path / "a.json").write_bytes(b'[1,2,"x, y" , null, {"id": 3}, true, oops]')
    found = read(tmp_path / "a.json")
    told = [
        (one.origin.offset, one.origin.length, one.refusal.what.split(",")[0].split(":")[0])
        for one in found
        if isinstance(one, RefusedDocument)
    ]
    assert told == [
        (1, 1, "a number"), (3, 1, "a number"), (5, 6, "a text"), (14, 4, "null"), (31, 4, "true or false"), (37, 4, "not JSON"),
    ]  # fmt: skip
    assert all(one.refusal.where == f"byte {one.origin.offset}" for one in found if isinstance(one, RefusedDocument))
    assert ids(found)[4] == 3


@pytest.mark.parametrize("junk", [b"1," * 500_000 + b"1", b'"' + b"x, " * 30_000 + b'", 1', b'" \\' * 1365])
def test_a_list_of_a_million_numbers_is_few_refusals(tmp_path: Path, junk: bytes) -> None:
    """The first items one by one, then one refusal for all of the run, whatever is in it; the objects behind it are read. (The
    last text never ends: such a list is not complete.)"""
    (tmp_path / "a.json").write_bytes(b"[" + junk + b', {"id": 1}]')
    found = read(tmp_path / "a.json", final=True)
    assert len(found) <= ITEMS_REFUSED + 2
    if junk.startswith(b"1"):
        assert ids(found) == [FailReason.UNREADABLE] * (ITEMS_REFUSED + 1) + [1]


def test_nul_bytes_are_told_as_what_they_are(tmp_path: Path) -> None:
    """A file that a crash of the machine left behind, and its place read again."""
    (tmp_path / "a.json").write_bytes(bytes(5000))
    for refused in (*read(tmp_path / "a.json", final=True), read_place(str(tmp_path / "a.json"), 0, 0)):
        assert isinstance(refused, RefusedDocument)
        assert refused.refusal.what.startswith("NUL bytes")


def test_the_hole_of_a_log_is_read_again_as_a_hole(tmp_path: Path) -> None:
    """`retry` finds NULs where NULs were, not the line behind them."""
    (tmp_path / "a.ndjson").write_bytes(b'{"id":1}\n' + bytes(5000) + b'{"id":2}\n')
    first, hole, second = read_documents(str(tmp_path / "a.ndjson"))
    assert ids([first, second]) == [1, 2]
    again = read_place(str(tmp_path / "a.ndjson"), hole.origin.offset, 0)
    for one in (hole, again):
        assert isinstance(one, RefusedDocument)
        assert one.refusal.what.startswith("NUL bytes")
        assert one.origin.offset == 9


def test_a_place_in_a_file_that_is_an_empty_list_now(tmp_path: Path) -> None:
    """`retry` reads the place again: there is no document, and that is a refusal."""
    path = tmp_path / "a.json"
    path.write_text("[]")
    found = read_place(str(path), 0, 0)
    assert isinstance(found, RefusedDocument)
    assert "empty list" in found.refusal.what


def test_two_readers_of_one_descriptor(tmp_path: Path) -> None:
    """Duplicates of a descriptor share their position in the file: whoever opens a second one moves nobody's place."""
    file = tmp_path / "log.ndjson"
    file.write_bytes(b"one\ntwo\n")
    fd = os.open(file, os.O_RDONLY)
    with of_descriptor(os.dup(fd), str(file)) as first:
        assert first.file.read(4) == b"one\n"
        with of_descriptor(os.dup(fd), str(file)) as second:
            assert first.file.read(4) == b"two\n"
            assert second.file.read() == b"one\ntwo\n"
        assert first.file.read(4) == b""
    os.close(fd)
