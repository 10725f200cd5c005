"""Splitting bytes into documents: pure rules as tables, and every way of cutting the input."""

import json
from itertools import chain

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tunerd.intake.framing import Lines, NotJson, Slice, Values, looks_like_log, may_be_log, parse, parse_form, values_of_line

TRICKY = b'\xef\xbb\xbf [ {"a": "}]\\"\\\\", "b": [1, {"c": null}]} ,\n[2],{"d":"\\u00e9 \xc3\xa9"} ]'


def split(data: bytes, cuts: list[int], most: int = 10_000) -> tuple[list[Slice], Values]:
    values, found, start = Values(most), [], 0
    for cut in [*sorted(cuts), len(data)]:
        found += list(values.feed(data[start:cut]))
        start = cut
    return found, values


def test_a_cut_between_any_two_bytes_changes_nothing() -> None:
    """Chunks may end anywhere: inside the BOM, an escape, a character, a string."""
    for cut in range(len(TRICKY) + 1):
        found, values = split(TRICKY, [cut])
        assert [orjson.loads(one.raw) for one in found] == [{"a": '}]"\\', "b": [1, {"c": None}]}, [2], {"d": "é é"}], cut
        assert all(TRICKY[one.offset : one.offset + one.length] == one.raw for one in found), cut
        assert not values.incomplete, cut
        assert values.rest() is None, cut


def test_bytes_may_come_one_at_a_time() -> None:
    """The smallest chunks give the same slices as one large one."""
    assert split(TRICKY, list(range(len(TRICKY))))[0] == split(TRICKY, [])[0]


def test_every_prefix_of_a_list_is_incomplete() -> None:
    """Half a file is told apart from a broken one, whatever the half is."""
    assert [length for length in range(len(TRICKY)) if not split(TRICKY[:length], [])[1].incomplete] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=4), JSON, max_size=4)


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(OBJECTS, min_size=1, max_size=5), st.lists(st.integers(0, 400), max_size=6), st.booleans(), st.booleans())
def test_any_objects_come_back_whole(objects: list[object], cuts: list[int], ascii_only: bool, as_list: bool) -> None:
    """A list of objects, or objects right behind each other, split at random, are the objects that were written."""
    texts = [json.dumps(one, ensure_ascii=ascii_only) for one in objects]
    data = ("[" + ",".join(texts) + "]" if as_list else "".join(texts)).encode("utf-8", "replace")
    found, values = split(data, [cut for cut in cuts if cut < len(data)])
    assert [one.raw.decode() for one in found] == [text.encode("utf-8", "replace").decode() for text in texts]
    assert not values.incomplete


def test_a_document_that_is_too_large_is_not_kept() -> None:
    """Of 40 MB only the head stays in memory, and the neighbours are read."""
    values, found = Values(1000), []
    found += list(values.feed(b'[{"id":1},{"x":"'))
    for _ in range(40):
        found += list(values.feed(b"y" * 1_000_000))
        assert sum(map(len, values._parts)) <= 5096
    found += list(values.feed(b'"},{"id":2}]'))
    assert [(one.too_large, one.length > 40_000_000) for one in found] == [(False, False), (True, True), (False, False)]
    assert found[1].raw.startswith(b'{"x":"yyy')
    assert len(found[1].raw) == 4096
    assert found[2].raw == b'{"id":2}'


def test_what_is_no_object_in_a_list_is_one_refusal_for_each_run() -> None:
    """A list of a million numbers is one refusal, not a million; the objects beside it are read."""
    found, values = split(b'[1, 2, "a{b", {"id": 1}, null, 3, {"id": 2}, 4]', [])
    assert [(one.junk, one.raw.strip(b" ,")) for one in found] == [
        (True, b'1, 2, "a{b"'),
        (False, b'{"id": 1}'),
        (True, b"null, 3"),
        (False, b'{"id": 2}'),
        (True, b"4"),
    ]
    assert not values.incomplete


MIXED = b'[1 , "a \\" {b" ,  {"id": 1}, "\\\\", null ,\n 3 ,[2] ]'


@pytest.mark.parametrize("cut", range(len(MIXED) + 1))
def test_chunks_may_end_anywhere_in_what_is_no_object(cut: int) -> None:
    """Also inside a text of the list: the objects beside it are read, and the refused runs are the same text."""
    expected = [(True, b'1 , "a \\" {b"'), (False, b'{"id": 1}'), (True, b'"\\\\", null ,\n 3'), (False, b"[2]")]
    for cuts in ([cut], list(range(cut))):
        found, values = split(MIXED, cuts)
        assert [(one.junk, one.raw.strip(b" ,\n")) for one in found] == expected
        assert all(MIXED[one.offset :].startswith(one.raw) for one in found)
        assert not values.incomplete


@pytest.mark.parametrize("data", [b"<html>\n<body>{}</body>", b"id,name\n1,2", b'{"a":1} and more {"b":2}'])
def test_text_that_is_not_json_is_one_refusal(data: bytes) -> None:
    """The rest of a file behind something else than JSON is one refusal, not one for each word."""
    found, values = split(data, [3])
    rest = values.rest()
    assert rest is not None
    assert rest.junk
    assert len(found) == data.startswith(b"{")


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b"[" * 100_000 + b"]" * 100_000, "deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "deep"),
        (b"{'a': 1}", "quotes"),
        (b'{"a": 1,}', "not JSON"),
        (b"12", "a number, not an object; a document must be a JSON object"),
        (b"null", "null, not an object"),
        (b"true", "true or false, not an object"),
        (b'"text"', "a text, not an object"),
        (b"", "not JSON"),
    ],
)
def test_what_is_no_document_says_why(raw: bytes, word: str) -> None:
    """Each kind of broken text has its own words, with the place and without its content."""
    with pytest.raises(NotJson) as caught:
        parse(raw)
    assert word in caught.value.what
    assert caught.value.where.startswith("line ")


def test_of_duplicate_keys_the_last_one_wins() -> None:
    """As with the JSON readers of the agents themselves."""
    assert parse(b'{"id": "a", "id": "b"}') == {"id": "b"}


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"CallSid=CA1&RecordingUrl=https%3A%2F%2Fx%2Fr\n", {"CallSid": "CA1", "RecordingUrl": "https://x/r"}),
        (b"Empty=&Plus=a+b", {"Empty": "", "Plus": "a b"}),
        (b"a=1&a=2", {"a": "2"}),
        (b"hello", None),
        (b"a=1 b=2", None),
        (b"<a href=1>", None),
        (b"a=%ff", None),
        (b"a=1\nb=2", None),
    ],
)  # fmt: skip
def test_a_form_is_an_object_of_texts(content: bytes, value: dict[str, str] | None) -> None:
    """A saved form-urlencoded callback reads like a JSON object."""
    assert parse_form(content) == value


LOG = b'\xef\xbb\xbf{"a":1}\r\n\n  {"b":"\xc3\xa9"} \n\x00\x00{"c":3}\n{"d"'


def test_lines_come_whole_wherever_the_chunks_end() -> None:
    """Blank lines, CRLF and a BOM are no documents; a line behind NULs is one, and they are a hole before it; the last half stays."""
    for cut in range(len(LOG) + 1):
        lines = Lines(1000, 0)
        found = [*chain(*lines.feed(LOG[:cut]), *lines.feed(LOG[cut:]))]
        assert [one.raw for one in found] == [b'{"a":1}', b'{"b":"\xc3\xa9"}', b"", b'{"c":3}'], cut
        assert all(LOG[one.offset : one.offset + one.length] == one.raw for one in found if not one.hole), cut
        assert [(one.offset, one.length) for one in found if one.hole] == [(LOG.index(b"\0"), 2)], cut
        (rest,) = lines.rest()
        assert rest.raw == b'{"d"', cut
        assert lines.line_at == LOG.rindex(b"\n") + 1, cut


@pytest.mark.parametrize(
    ("log", "offset", "expected"),
    [
        (b'\0\0\0{"a":1}\n', 0, [(3, b'{"a":1}')]),
        (b'\0\0\0{"a":1}\n', 50, [(50, None), (53, b'{"a":1}')]),
        (b'\0\0\0{"a":1}', 50, [(50, None), (53, b'{"a":1}')]),
        (b"\0\0\0\n", 0, [(0, None)]),
        (b" \0 \r\n", 50, [(50, None)]),
        (b"\0\0\0", 50, [(50, None)]),
        (b" \r\n\t\n", 50, []),
    ],
)
def test_nuls_are_a_hole_unless_copy_truncate_left_them(
    log: bytes, offset: int, expected: list[tuple[int, bytes | None]]
) -> None:
    """In front of the first line of a log they say nothing; anywhere else, or alone on a line, something is lost."""
    for cut in range(len(log) + 1):
        lines = Lines(1000, offset)
        found = [*chain(*lines.feed(log[:cut]), *lines.feed(log[cut:])), *lines.rest()]
        assert [(one.offset, None if one.hole else one.raw) for one in found] == expected


def test_a_run_of_nuls_is_not_kept_and_no_part_of_its_line() -> None:
    """A line behind more NULs than a document may have bytes is read, and nothing of them stays in memory."""
    lines, found = Lines(100, 0), []
    for chunk in [*[bytes(10_000)] * 100, b'{"id":1}\n{"id":2}\n']:
        found += chain(*lines.feed(chunk))
        assert sum(map(len, lines._parts)) <= 100
    assert [(one.offset, one.raw) for one in found] == [(1_000_000, b'{"id":1}'), (1_000_009, b'{"id":2}')]


def test_a_line_that_is_too_long_is_skipped_without_being_kept() -> None:
    """Only its head stays; the next line is read."""
    lines, found = Lines(100, 0), []
    for chunk in [b'{"x":"', *[b"y" * 10_000] * 100, b'"}\n{"id":1}\n']:
        found += chain(*lines.feed(chunk))
        assert sum(map(len, lines._parts)) <= 4196
    assert [(one.too_large, one.length) for one in found] == [(True, 1_000_008), (False, 8)]


@pytest.mark.parametrize(
    ("head", "is_log"),
    [
        (b'{"a":1}\n{"b":2}\n', True),
        (b'\xef\xbb\xbf{"a":1}\n{"b"', True),
        (b'\0\0{"a":1}\n{"b"', True),
        (b'{"a":1}\n', False),
        (b'{\n"a":1}\n{', False),
        (b'[{"a":1}\n,{"b":1}]', False),
        (b'{"a":1}', False),
        (b'hello\n{"a":1}\n', False),
        (b"", False),
    ],
)
def test_a_log_is_recognised_by_its_lines(head: bytes, is_log: bool) -> None:
    """Where the name does not say it: a whole object in the first line, and another one behind it."""
    assert looks_like_log(head) is is_log


@pytest.mark.parametrize(
    ("head", "is_log"),
    [
        (b'{"a":1}\n', True),
        (b'\0\0\xef\xbb\xbf{"a":1}\nanything', True),
        (b'{"a":', True),
        (b'{"a":\n', False),
        (b'["a"]\n', False),
        (b'["a"', False),
        (b"hello", False),
        (b"hello\n", False),
        (b"", False),
    ],
)
def test_a_log_may_begin_with_half_a_line(head: bytes, is_log: bool) -> None:
    """Of content that was only read in part: its first line is an object, or begins like one."""
    assert may_be_log(head) is is_log


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a":1}', [(50, b'{"a":1}')]),
        (b'{"a":1}{"b":2} {"c":3}', [(50, b'{"a":1}'), (57, b'{"b":2}'), (65, b'{"c":3}')]),
        (b'[{"a":1},{"b":2}]', [(50, b'[{"a":1},{"b":2}]')]),
        (b'{"a":1}{"b":', [(50, b'{"a":1}{"b":')]),
        (b'{"a":1} and more', [(50, b'{"a":1} and more')]),
        (b"hello", [(50, b"hello")]),
    ],
)
def test_a_line_may_hold_several_objects(text: bytes, expected: list[tuple[int, bytes]]) -> None:
    """Each where it stands in the log. A line with anything else in it is one document, which its parser refuses."""
    found = values_of_line(Slice(50, text, len(text)), 1000)
    assert [(one.offset, one.raw) for one in found] == expected


def test_a_hole_of_the_file_system_counts_as_what_it_is_read_as() -> None:
    """The bytes of a hole are NUL; they need not be read, and what stands behind them has its right offset."""
    lines = Lines(100, 50)
    assert not lines.in_hole
    assert [*lines.feed(b"\0\0")] == []
    assert lines.in_hole
    lines.skip(1_000_000)
    found = [*chain(*lines.feed(b'{"a":1}'))]
    assert (found, lines.in_hole) == ([], False)
    assert [(one.offset, one.length, one.hole) for one in lines.rest()] == [(50, 1_000_002, True), (1_000_052, 7, False)]


def test_a_line_without_newline_may_be_taken_as_a_document() -> None:
    """The log continues right behind it, wherever its newline comes later."""
    lines = Lines(100, 50)
    assert [*lines.feed(b'{"a":1}')] == []
    lines.take_rest()
    assert (lines.line_at, lines.rest()) == (57, [])
    assert [*chain(*lines.feed(b'\n{"b":2}\n'))] == [Slice(58, b'{"b":2}', 7)]


def test_content_of_white_space_is_blank() -> None:
    """As nothing at all is; anything else is not."""
    values = Values(100)
    assert (values.blank, values.incomplete) == (True, True)
    assert [*values.feed(b" \r\n\t")] == []
    assert (values.blank, values.incomplete) == (True, True)
    assert [one.raw for one in values.feed(b"{}")] == [b"{}"]
    assert (values.blank, values.incomplete) == (False, False)
