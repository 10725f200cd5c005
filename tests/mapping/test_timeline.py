"""The timeline, step by step: one table a step, each repair by its name."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from tunerd.call import Form, Refusal
from tunerd.mapping.timeline import Placed, place
from tunerd.outcome import FailReason
from tunerd.tuner_fields import ROWS

START = 1_782_900_000_000
LENGTH = 60_000

CREATE, SEND = Form.CREATE_CALL, Form.SEND_CALLS


def fields(*rows: Any, **edits: Any) -> dict[str, Any]:
    whole = {"start_timestamp": START, "end_timestamp": START + LENGTH, ROWS: list(rows), **edits}
    return {name: value for name, value in whole.items() if value is not None}


def placed(*rows: Any, form: Form | None = CREATE, untimed: Any = "reject", **edits: Any) -> Placed:
    result = place(fields(*rows, **edits), form=form, untimed=untimed)
    assert isinstance(result, Placed), result
    return result


def refused(*rows: Any, form: Form | None = CREATE, untimed: Any = "reject", **edits: Any) -> Refusal:
    result = place(fields(*rows, **edits), form=form, untimed=untimed)
    assert isinstance(result, Refusal), result
    return result


def say(text: str, start: int | None = None, end: int | None = None, role: str = "agent", **more: Any) -> dict[str, Any]:
    row = {"role": role, "text": text, "start_ms": start, "end_ms": end, **more}
    return {name: value for name, value in row.items() if value is not None}


def call(start: int | None = None, request_id: str = "r1", **tool: Any) -> dict[str, Any]:
    row = {"role": "agent_function", "tool": {"name": "look", "request_id": request_id, **tool}}
    return row if start is None else {**row, "start_ms": start}


def result(start: int | None = None, request_id: str = "r1", **tool: Any) -> dict[str, Any]:
    row = {"role": "agent_result", "tool": {"request_id": request_id, "result": {"ok": True}, **tool}}
    return row if start is None else {**row, "start_ms": start}


HELLO = say("hello", 0, 900)


def words(*times: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"word": f"w{at}", "start_ms": start, "end_ms": end} for at, (start, end) in enumerate(times)]


# Step 1


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (say("  padded \n", 0, 1), "padded"),
        ({"role": "agent", "content": "from content", "start_ms": 0, "end_ms": 1}, "from content"),
        ({"role": "agent", "text": ["a ", "", "b"], "start_ms": 0, "end_ms": 1}, "a b"),
        ({"role": "agent", "content": [{"type": "text", "text": "a"}, {"type": "image"}], "start_ms": 0, "end_ms": 1}, "a"),
        ({"role": "user", "text": 42, "start_ms": 0, "end_ms": 1}, "42"),
        ({"role": "user", "words": words((0, 100), (200, 300))}, "w0 w1"),
    ],
)
def test_text_is_joined_and_stripped(row: Any, text: str) -> None:
    """A row's text comes from text, content, a list of texts, or else its words."""
    assert placed(row).rows[0]["text"] == text


@pytest.mark.parametrize(
    "row",
    [
        say("", 1, 2),
        say(" \t", 1, 2),
        {"role": "user", "start_ms": 5},
        {"role": "user", "words": []},
        {"role": "user", "words": [{"word": "a"}, {"start_ms": 1, "end_ms": 2}, "b"]},
        {"role": "agent_function", "tool": {}},
        {"role": "agent_function", "tool": {"request_id": "r1"}},
        {"role": "agent_result", "tool": {"name": None, "result": {}}},
        {"role": "node_transition", "node": {"from": "a"}},
        {"role": "node_transition"},
    ],
)
def test_a_row_that_says_nothing_is_no_row(row: Any) -> None:
    """Rows without text, words, tool or node vanish; a call of nothing else is refused."""
    assert [kept["text"] for kept in placed(row, HELLO).rows] == ["hello"]
    assert refused(row).reason is FailReason.INVALID


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ([], {"result": {"value": []}}),
        ({}, {"result": {}}),
        (0, {"result": {"value": 0}}),
        (False, {"result": {"value": False}}),
        ("", {}),
        (None, {}),
    ],
)
def test_a_tool_row_with_a_name_stays(value: Any, kept: Any) -> None:
    """0, false, an empty list and an empty object are answers; a result of null or empty text is just not there."""
    tool = placed(HELLO, result(5, name="look", result=value)).rows[1]["tool"]
    assert {name: tool[name] for name in ("result",) if name in tool} == kept


def test_an_empty_list_that_answers_a_call_is_a_row() -> None:
    """A search that found nothing has answered."""
    assert placed(call(0), result(5, result=[])).rows[1]["tool"]["result"] == {"value": []}


@pytest.mark.parametrize("role", ["bot", "assistant", "User", "system"])
def test_create_call_takes_five_roles(role: str) -> None:
    """Any other role refuses the call for create-call, and only for it; the row is named, the role is not quoted."""
    refusal = refused(HELLO, say("x", 1, 2, role=role))
    assert (refusal.reason, refusal.where) == (FailReason.INVALID, f"{ROWS}[1].role")
    assert role not in refusal.what.split(":")[-1]
    for form in (SEND, None):
        result = placed(HELLO, say("x", 1, 2, role=role), form=form)
        assert [row["role"] for row in result.rows] == ["agent", role]
        assert not result.fits_create_call


@pytest.mark.parametrize("role", [None, "", 1, [], {}])
def test_no_form_takes_a_row_without_a_role(role: Any) -> None:
    """A role is text, in every form."""
    for form in (CREATE, SEND, None):
        assert refused(HELLO, {"role": role, "text": "x"}, form=form).where == f"{ROWS}[1].role"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [(None, "unmappable"), ([], "unmappable"), ("", "unmappable"), ({"0": HELLO}, "invalid"), ("x", "invalid"), ([1], "invalid")],
)
def test_the_transcript_is_a_list_of_rows(rows: Any, reason: str) -> None:
    """Nothing there is unmappable, something else is invalid; neither raises."""
    for form in (CREATE, SEND, None):
        refusal = place({**fields(), ROWS: rows}, form=form, untimed="reject")
        assert isinstance(refusal, Refusal)
        assert refusal.reason == reason


def test_more_joins_streamed_tokens() -> None:
    """A row with `more` goes on in the next of its role; the joined row has the first start and the last end."""
    rows = placed(
        say("Good", 0, more=True), say(" mor", 400, more=True), call(450), say("ning.", 500, 800), say("Yes?", 900, 1000)
    ).rows
    assert [(row.get("text"), row["start_ms"], row.get("end_ms")) for row in rows] == [
        ("Good morning.", 0, 800),
        (None, 450, None),
        ("Yes?", 900, 1000),
    ]


def test_more_ends_where_someone_else_speaks() -> None:
    """An interrupted stream that never ended is not glued to what is said after the interruption."""
    rows = placed(say("I was say", 0, more=True), say("Stop", 300, 500, "user"), say("Okay", 600, 900)).rows
    assert [row["text"] for row in rows] == ["I was say", "Stop", "Okay"]


# Step 2


@pytest.mark.parametrize(
    ("edits", "rows", "expected", "repairs"),
    [
        ({}, [HELLO], (START, START + LENGTH), {}),
        ({"start_timestamp": None, "duration_ms": 60_000}, [HELLO], (START, START + LENGTH), {}),
        ({"end_timestamp": None, "duration_ms": 5000.4}, [HELLO], (START, START + 5000), {}),
        ({"start_timestamp": START + 0.5}, [HELLO], (START + 1, START + LENGTH), {}),
        (
            {"start_timestamp": None},
            [say("a", start_at=START + 70), say("b", 500, 700, start_at=START + 600)],
            (START + 100, START + LENGTH),
            {"call_start_from_rows": 1},
        ),
        (
            {"start_timestamp": None},
            [say("a" * 8, end_at=START + 1000, duration_ms=400), say("b", start_at=START + 700)],
            (START + 600, START + LENGTH),
            {"call_start_from_rows": 1},
        ),
        (
            {"start_timestamp": None},
            [say("a" * 8, end_at=START + 1000)],
            (START + 400, START + LENGTH),
            {"call_start_from_rows": 1},
        ),
        (
            {"start_timestamp": None},
            [say("b", start_at=START + 600), say("a", start_at=START + 70)],
            (START + 70, START + LENGTH),
            {"call_start_from_rows": 1},
        ),
        ({"end_timestamp": None}, [say("a", 0, 4000), say("b", 1000, 2000)], (START, START + 4000), {"call_end_from_rows": 1}),
        ({"end_timestamp": None}, [say("a", 0, 900), say("bcde", 1000)], (START, START + 1300), {"call_end_from_rows": 1}),
        ({"start_timestamp": START, "end_timestamp": START}, [say("a", 0, 0)], (START, START), {}),
    ],
)
def test_the_times_of_the_call(edits: Any, rows: Any, expected: tuple[int, int], repairs: Any) -> None:
    """Start and end from the fields, the duration, or the rows."""
    result = placed(*rows, **edits)
    assert (result.start_ms, result.end_ms) == expected
    assert {name: n for name, n in result.repairs.items() if name.startswith("call_")} == repairs


@pytest.mark.parametrize(
    ("edits", "where", "reason"),
    [
        ({"start_timestamp": None}, "start_timestamp", FailReason.UNMAPPABLE),
        ({"end_timestamp": START - 1}, "end_timestamp", FailReason.INVALID),
        ({"start_timestamp": "soon"}, "start_timestamp", FailReason.INVALID),
        ({"start_timestamp": True}, "start_timestamp", FailReason.INVALID),
        ({"start_timestamp": -5}, "start_timestamp", FailReason.INVALID),
        ({"end_timestamp": 10**30}, "start_timestamp", FailReason.INVALID),
        ({"end_timestamp": float("nan")}, "end_timestamp", FailReason.INVALID),
        ({"start_timestamp": float("inf")}, "start_timestamp", FailReason.INVALID),
    ],
)
def test_a_call_needs_sensible_times(edits: Any, where: str, reason: FailReason) -> None:
    """No start, an end before it or what is no time is refused at that field, in every form."""
    for form in (CREATE, SEND, None):
        refusal = refused(HELLO, form=form, **edits)
        assert (refusal.where, refusal.reason) == (where, reason)


def test_a_row_that_is_no_object_is_refused_at_its_place() -> None:
    """Also where the rows have to tell when the call began."""
    for edits in ({}, {"start_timestamp": None}):
        refusal = refused(HELLO | {"start_at": START}, "bye", **edits)
        assert (refusal.where, refusal.what) == (f"{ROWS}[1]", "a row has to be an object")


def test_an_end_that_no_row_can_tell() -> None:
    """Untimed rows cannot stand in for a missing end."""
    refusal = refused({"role": "user", "text": "a"}, form=SEND, end_timestamp=None)
    assert (refusal.where, refusal.reason) == ("end_timestamp", FailReason.UNMAPPABLE)


# Step 3


@pytest.mark.parametrize(
    ("row", "start", "end", "repairs"),
    [
        ({"start_at": START + 1000, "start_ms": 7, "end_ms": 1500}, 1000, 1500, {}),
        ({"start_ms": 1000, "end_at": START + 1500, "end_ms": 9}, 1000, 1500, {}),
        ({"start_ms": 1000, "duration_ms": 500}, 1000, 1500, {}),
        ({"start_ms": 1000.5, "end_ms": 1500.49}, 1001, 1500, {}),
        ({"start_ms": "1000", "end_ms": "1500.5"}, 1000, 1501, {}),
        ({"start_ms": "", "start_at": None, "end_ms": 1500, "duration_ms": 500}, 1000, 1500, {}),
        ({"words": words((1000, 1200), (1300, 1500))}, 1000, 1500, {}),
        ({"words": words((1100, 1200), (1300, 1400)), "start_ms": 1000, "end_ms": 1500}, 1000, 1500, {}),
        ({"end_ms": 1500}, 1500 - 75 * 10, 1500, {"start_from_end": 1}),
        ({"end_ms": 500}, 0, 500, {"start_from_end": 1}),
        ({"end_ms": 5000, "text": "你好吗"}, 5000 - 75 * 9, 5000, {"start_from_end": 1}),
        ({"start_ms": -200, "end_ms": 1500}, 0, 1500, {"before_start": 1}),
        ({"start_ms": -500, "end_ms": -200}, 0, 0, {"before_start": 1}),
        ({"start_ms": LENGTH - 100, "end_ms": LENGTH + 300}, LENGTH - 100, LENGTH + 300, {"after_end": 1}),
        ({"start_ms": LENGTH + 60_000, "end_ms": LENGTH + 60_000}, LENGTH + 60_000, LENGTH + 60_000, {"after_end": 1}),
        ({"start_ms": 1000, "end_ms": 400}, 1000, 1000, {"end_before_start": 1}),
        ({"start_ms": -60_000, "end_ms": 400}, 0, 400, {"before_start": 1}),
    ],
)
def test_where_a_row_is_placed(row: Mapping[str, Any], start: int, end: int, repairs: Any) -> None:
    """Absolute before relative times, then words, duration and pace; whole milliseconds, half up."""
    result = placed({"role": "user", "text": "0123456789", **row})
    assert (result.rows[0]["start_ms"], result.rows[0]["end_ms"], result.repairs) == (start, end, repairs)
    assert {type(result.rows[0][name]) for name in ("start_ms", "end_ms")} == {int}


@pytest.mark.parametrize(
    "row",
    [
        {"start_ms": -60_001, "end_ms": 5},
        {"start_ms": LENGTH + 60_001, "end_ms": LENGTH + 60_002},
        {"start_ms": 0, "end_ms": LENGTH + 60_001},
        {"start_at": START + 3_600_000},
        {"start_at": START // 1000, "end_ms": 5},
        {"start_ms": START},
        {"words": words((5_000_000, 5_100_000))},
        {"start_ms": 10**30},
    ],
)
def test_far_outside_is_another_unit(row: Mapping[str, Any]) -> None:
    """More than a minute outside the call refuses it, in every form, and asks for unit and time zone."""
    for form in (CREATE, SEND, None):
        refusal = refused(HELLO, {"role": "user", "text": "secret words", **row}, form=form)
        assert refusal.reason is FailReason.INVALID
        assert refusal.where == f"{ROWS}[1]"
        assert "unit or time zone?" in refusal.what
        assert "secret" not in refusal.what


@pytest.mark.parametrize("name", ["start_at", "start_ms", "end_at", "end_ms", "duration_ms"])
@pytest.mark.parametrize("value", ["soon", [1], {"a": 1}, True, float("nan"), float("inf"), 10**400, "9" * 400])
def test_a_time_that_is_no_number(name: str, value: Any) -> None:
    """It is refused at its place, and never raises."""
    row = {"role": "user", "text": "x", name: value}
    refusal = refused(row)
    assert refusal.reason is FailReason.INVALID
    assert refusal.where == (f"{ROWS}[0]" if value == 10**400 else f"{ROWS}[0].{name}")


# Step 4


def test_untimed_speech_is_refused_by_default() -> None:
    """`untimed: reject` names the row, and what to do."""
    refusal = refused(HELLO, {"role": "user", "text": "x"})
    assert (refusal.reason, refusal.where) == (FailReason.INVALID, f"{ROWS}[1]")
    assert "untimed: spread" in refusal.what


def test_untimed_speech_is_spread() -> None:
    """Between the end before and the start after, by characters + 10, marked as estimated; the text bounds the length."""
    result = placed(
        say("a", 0, 1000),
        {"role": "user", "text": "0123456789"},
        {"role": "agent", "text": "0" * 30, "metadata": {"e2e_latency": 5}},
        say("b", 7000, 8000),
        {"role": "user", "text": "c"},
        untimed="spread",
    )
    assert [(row["start_ms"], row["end_ms"]) for row in result.rows] == [
        (0, 1000),
        (1000, 3000),
        (3000, 7000),
        (7000, 8000),
        (8000, 8000 + 1000 + 120),
    ]
    assert result.rows[1]["metadata"] == {"timing": "estimated"}
    assert result.rows[2]["metadata"] == {"e2e_latency": 5, "timing": "estimated"}
    assert result.repairs == {"spread": 3}
    assert result.fits_create_call


def test_nothing_timed_is_spread_over_the_call() -> None:
    """With no time at all, the call itself is the room."""
    rows = placed(*({"role": "user", "text": "0" * 20} for _ in range(3)), untimed="spread", end_timestamp=START + 6000).rows
    assert [(row["start_ms"], row["end_ms"]) for row in rows] == [(0, 2000), (2000, 4000), (4000, 6000)]


def test_spread_keeps_rule_order_where_there_is_no_room() -> None:
    """Between rows that overlap, estimated rows have no length and stay between them."""
    rows = placed(say("a", 0, 5000), {"role": "user", "text": "b"}, say("c", 3000, 6000), untimed="spread").rows
    assert [(row["text"], row["start_ms"], row["end_ms"]) for row in rows] == [
        ("a", 0, 5000),
        ("b", 3000, 3000),
        ("c", 3000, 6000),
    ]


def test_spread_leaves_room_for_the_row_before() -> None:
    """A row with only a start has its share before the estimated one."""
    rows = placed(say("0" * 10, 0), {"role": "user", "text": "0" * 10}, say("c", 2000, 6000), untimed="spread").rows
    assert [(row["start_ms"], row["end_ms"]) for row in rows[:2]] == [(0, 1000), (1000, 2000)]


# Step 5


@pytest.mark.parametrize(
    ("rows", "starts"),
    [
        ([say("a", 0, 1000), call(), say("b", 3000, 4000)], [0, 1000, 3000]),
        ([say("a", 0, 5000), call(), say("b", 3000, 4000)], [0, 3000, 3000]),
        ([call(), say("b", 3000, 4000)], [0, 3000]),
        ([say("a", 0, 1000), call(2000), result(), result(), say("b", 9000, 9100)], [0, 2000, 2000, 2000, 9000]),
        ([say("a", 4000, 5000), call(), say("b", 3000, 3500)], [3000, 4000, 4000]),
        ([say("a" * 10, 1000), call()], [1000, 3200]),
        ([say("a" * 10, LENGTH - 50), call()], [LENGTH - 50, LENGTH]),
    ],
)
def test_untimed_tool_rows_are_carried(rows: Any, starts: list[int]) -> None:
    """The end of the row before, not after the next timed start, never backwards; tool.start_ms says the same."""
    result = placed(*rows)
    assert [row["start_ms"] for row in result.rows] == starts
    assert result.repairs["carried_start"] == sum("start_ms" not in row for row in rows)
    assert all(row["tool"]["start_ms"] == row["start_ms"] for row in result.rows if "tool" in row)


def test_a_tool_row_may_be_timed_inside_the_tool() -> None:
    """Bodies of Tuner's own clients have only tool.start_ms."""
    assert placed(HELLO, call(start_ms=4000)).rows[1]["start_ms"] == 4000


def test_a_tool_row_with_an_end_only_is_placed_there() -> None:
    """The moment of an answer is known, its length does not matter."""
    result_row = {"role": "agent_result", "end_at": START + 700, "tool": {"name": "look", "result": 1}}
    placed_rows = placed(HELLO, result_row)
    assert placed_rows.rows[1]["start_ms"] == 700
    assert placed_rows.repairs == {"start_from_end": 1, "wrapped": 1}


# Step 6


def test_rows_are_sorted_by_start() -> None:
    """Stable: ties keep the rules' order, overlaps stay as the interruptions that they are."""
    result = placed(
        say("b", 2000, 4000), say("a", 0, 900), say("c", 2000, 2500, "user"), call(2000), say("d", 3000, 3100, "user")
    )
    assert [row.get("text") for row in result.rows] == ["a", "b", "c", None, "d"]
    assert result.rows[1]["end_ms"] == 4000
    assert result.repairs == {"reordered": 1}


# Step 7


@pytest.mark.parametrize(
    ("rows", "ends", "repairs"),
    [
        ([say("a" * 50, 0), say("b", 2000, 3000)], [2000, 3000], {"end_from_next": 1}),
        ([say("a" * 10, 0), say("b", 30_000, 30_100)], [2200, 30_100], {"end_from_next": 1}),
        ([say("你" * 10, 0), say("b", 30_000, 30_100)], [4600, 30_100], {"end_from_next": 1}),
        ([say("a" * 50, 0), say("b" * 50, 0), say("c", 2000, 3000)], [2000, 2000, 3000], {"end_from_next": 2}),
        ([say("a" * 50, 0), call(1000), say("c", 2000, 3000)], [2000, None, 3000], {"end_from_next": 1}),
        ([say("a" * 50, LENGTH - 500)], [LENGTH], {"end_from_call": 1}),
        ([say("a" * 10, 1000)], [3200], {"end_from_call": 1}),
        ([say("a", LENGTH + 400)], [LENGTH + 400], {"end_from_call": 1, "after_end": 1}),
    ],
)
def test_where_speech_ends(rows: Any, ends: list[int | None], repairs: Any) -> None:
    """With the next speech that starts later, or the call; never longer than the text takes, never before the start."""
    result = placed(*rows)
    assert [row.get("end_ms") for row in result.rows] == ends
    assert result.repairs == repairs


# Step 8


def test_words_far_from_their_row_are_dropped() -> None:
    """More than a second outside: read in another unit. The text stays."""
    times = ((8_999, 9_100), (9_000, 10_000), (12_500, 13_000), (12_900, 13_001), (13_001, 12_000))
    result = placed(say("one two", 10_000, 12_000, words=words(*times)))
    assert [word["word"] for word in result.rows[0]["words"]] == ["w1", "w2"]
    assert result.repairs == {"words_out_of_row": 3}


@pytest.mark.parametrize("unit", [1000, 1 / 1000])
def test_words_in_another_unit_do_not_time_the_row(unit: float) -> None:
    """A row with a start keeps it, and ends as if it had no words."""
    row = say("one two", 10_000, words=words((int(10_000 * unit), int(10_400 * unit)), (int(10_500 * unit), int(11_000 * unit))))
    result = placed(row)
    assert (result.rows[0]["start_ms"], result.rows[0]["end_ms"]) == (10_000, 10_000 + 1000 + 120 * 7)
    assert "words" not in result.rows[0]
    assert result.repairs == {"end_from_call": 1, "words_out_of_row": 2}


def test_words_are_whole_and_not_backwards() -> None:
    """Fractions are rounded half up, words before the call start with it, a word does not end before it starts."""
    row = say(
        "a b", 0, 900, words=[{"word": "a", "start_ms": -20.2, "end_ms": 99.5}, {"word": "b", "start_ms": 300, "end_ms": 200}]
    )
    assert placed(row).rows[0]["words"] == [
        {"word": "a", "start_ms": 0, "end_ms": 100},
        {"word": "b", "start_ms": 300, "end_ms": 300},
    ]


# Step 9


def test_a_result_takes_its_name_from_the_latest_call() -> None:
    """By request_id; a result whose call never came is counted and stays."""
    rows = placed(call(0, name="first"), call(100, name="second"), result(200), call(300, name="third"), result(400, "r9")).rows
    assert [row["tool"].get("name") for row in rows] == ["first", "second", "second", "third", None]
    counted = placed(result(0), call(100), result(400, "r9")).repairs
    assert counted == {"name_from_call": 1, "result_without_call": 1}


def test_nodes_follow_each_other() -> None:
    """A node comes from the node before, the first from "start"."""

    def node(start: int, **names: str) -> dict[str, Any]:
        return {"role": "node_transition", "start_ms": start, "node": names}

    result = placed(node(0, to="a"), node(10, to="b"), {**node(20, to="d"), "node": {"from": "c", "to": "d", "reason": "asked"}})
    assert [row["node"]["from"] for row in result.rows] == ["start", "a", "c"]
    assert result.repairs == {"node_from": 2}


# Step 10


@pytest.mark.parametrize(
    ("value", "there", "wrapped"),
    [
        ({"a": 1}, {"a": 1}, 0),
        ('{"a": 1}', {"a": 1}, 0),
        (' {"a": 1}', {"a": 1}, 0),
        ("[1]", {"value": "[1]"}, 1),
        ("{'a': 1}", {"value": "{'a': 1}"}, 1),
        ([1], {"value": [1]}, 1),
        (0, {"value": 0}, 1),
        (False, {"value": False}, 1),
        ("done", {"value": "done"}, 1),
    ],
)
def test_params_and_results_are_objects(value: Any, there: Any, wrapped: int) -> None:
    """JSON text of an object is parsed, everything else is wrapped and counted."""
    result_ = placed(call(0, params=value), result(1, result=value))
    assert [row["tool"].get("params") or row["tool"].get("result") for row in result_.rows] == [there, there]
    assert result_.repairs.get("wrapped", 0) == 2 * wrapped


@pytest.mark.parametrize(
    ("tool", "kept"),
    [
        ({"is_error": "true"}, {"is_error": True}),
        ({"is_error": 0}, {"is_error": False}),
        ({"is_error": "perhaps"}, {}),
        ({"error": {"code": 5}}, {"error": '{"code":5}'}),
        ({"error": 5}, {"error": "5"}),
        ({"error": ""}, {}),
    ],
)
def test_the_rest_of_a_tool(tool: Any, kept: Any) -> None:
    """Flags become true or false, errors become text."""
    found = placed(call(0), result(0, **tool)).rows[1]["tool"]
    assert {name: found[name] for name in ("is_error", "error") if name in found} == kept


# The forms


@pytest.mark.parametrize("form", [SEND, None])
@pytest.mark.parametrize("untimed", ["reject", "spread"])
def test_bare_messages_need_no_time(form: Form | None, untimed: str) -> None:
    """{role, content} messages with foreign roles map in rule order, whatever `untimed` says."""
    result = placed(
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Hi."},
        {"role": "tool", "content": "42"},
        form=form,
        untimed=untimed,
    )
    assert [(row["role"], row["text"]) for row in result.rows] == [("assistant", "Hello."), ("user", "Hi."), ("tool", "42")]
    assert not any("start_ms" in row for row in result.rows)
    assert (result.fits_create_call, result.repairs) == (False, {})


def test_send_calls_keeps_rule_order_if_any_row_has_no_time() -> None:
    """Times are then only of use for the rows that have them."""
    result = placed(say("b", 5000), {"role": "user", "text": "c"}, say("a", 1000, 1200), form=SEND, untimed="spread")
    assert [row["text"] for row in result.rows] == ["b", "c", "a"]
    assert result.rows[0]["end_ms"] == 5000 + 1120
    assert not result.fits_create_call


def test_send_calls_sorts_where_all_rows_are_timed() -> None:
    """Steps 3 to 8 apply to rows that have times, and the result then suits create-call as well."""
    result = placed(say("b", 5000), say("a", 1000, 1200), form=SEND)
    assert [row["text"] for row in result.rows] == ["a", "b"]
    assert result.fits_create_call


def test_an_unknown_form_gets_what_create_call_asks_where_it_can() -> None:
    """Spreading and carrying are done where roles and `untimed` allow it."""
    rows = (say("a", 0, 1000), call(), {"role": "user", "text": "b"})
    assert placed(*rows, form=None, untimed="spread").fits_create_call
    lenient = placed(*rows, form=None, untimed="reject")
    assert not lenient.fits_create_call
    assert [row.get("start_ms") for row in lenient.rows] == [0, None, None]


def test_the_fields_are_not_changed() -> None:
    """The rows that the rules gave (which may be the document's own) stay as they are."""
    given = fields(say("a", -5.5, words=words((-5, 100), (9_000, 9_100))), call(), result(), {"role": "user", "text": "c"})
    before = copy.deepcopy(given)
    place(given, form=CREATE, untimed="spread")
    assert given == before


# What is doubted, and left as it is

SAID = "a sentence of some length"


@pytest.mark.parametrize(
    ("rows", "length", "doubts"),
    [
        # seconds given as milliseconds, as found in a real configuration
        ([say(SAID, 1), say("hi", 21, role="user"), say("bye", 55)], 60_000, {"spoken_too_fast", "much_shorter_than_call"}),
        ([say(SAID, 1, 3), say("a longer answer", 4, 9, role="user")], 600_000, {"spoken_too_fast"}),
        # minutes given as milliseconds
        (
            [say(SAID, 0), say(SAID, 1, role="user"), say(SAID, 3), say(SAID, 9)],
            540_000,
            {"spoken_too_fast", "much_shorter_than_call"},
        ),
        # a call of one second, from times in another unit than its rows
        ([say(SAID, 0, 4000), say(SAID, 20_000, 24_000, role="user"), say(SAID, 50_000, 59_000)], 60, {"much_longer_than_call"}),
        # what people do say
        ([say(SAID, 0, 1500), say("yes", 2000, 2300, role="user"), say(SAID, 3000, 5000)], 8000, set()),
        ([say(SAID, 500)], 600_000, set()),
        ([say(SAID, 0), say(SAID, 1000, role="user")], 3000, set()),
        ([say(SAID, 1000), say(SAID, 1000, role="user"), say(SAID, 1000)], 3000, set()),
        ([say("hello", 0), say("hi", 10, role="user")], 4000, set()),
    ],
)
def test_times_that_no_conversation_has_are_counted(rows: list[Any], length: int, doubts: set[str]) -> None:
    """Over 60 characters a second, or 50 times shorter or longer than the call: a unit is wrong more often than not."""
    found = placed(*rows, end_timestamp=START + length)
    assert set(found.repairs) & {"spoken_too_fast", "much_shorter_than_call", "much_longer_than_call"} == doubts
    assert [row["start_ms"] for row in found.rows] == [row["start_ms"] for row in rows], "a doubt changes nothing"


def test_estimated_times_are_not_doubted() -> None:
    """`untimed: spread` makes times that fit; only times that were given can be wrong."""
    found = placed(*({"role": "agent", "text": SAID} for _ in range(3)), untimed="spread", end_timestamp=START + 1)
    assert not any("than" in name or "fast" in name for name in found.repairs)
