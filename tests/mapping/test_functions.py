"""Every function of the rule language: what it gives, what it makes of null, what it refuses."""

from typing import Any

import pytest

from tunerd.mapping.expressions import ExpressionError, compile_text
from tunerd.mapping.functions import FUNCTIONS, Context, Nulls
from tunerd.mapping.functions.times import zone_of
from tunerd.mapping.scope import NameScope, Slot
from tunerd.mapping.values import RuleError

TABLE = {"bot": "agent", "User": "user", "7": "seven", "true": "yes"}
REASONS = {"hang ?up": "hangup", "error|failed": "error", "^end$": "end"}


def run(expression: str, x: Any = None, y: Any = None, zone: str = "UTC") -> Any:
    names = NameScope(slots={"x": Slot(0), "y": Slot(1), "table": Slot(2, TABLE), "reasons": Slot(3, REASONS)})
    return compile_text(expression, names, Context(zone_of(zone))).run([x, y])


@pytest.mark.parametrize(
    ("x", "ms"),
    [
        (1_782_900_000, 1_782_900_000_000),
        (1_782_900_000.6125, 1_782_900_000_613),
        (1_782_900_000_123, 1_782_900_000_123),
        (1_782_900_000_123.5, 1_782_900_000_124),
        (1_782_900_000_123_499, 1_782_900_000_123),
        (1_782_900_000_123_500, 1_782_900_000_124),
        (1_782_900_000_612_345_678, 1_782_900_000_612),
        ("1782900000612345678", 1_782_900_000_612),
        ("1782900000", 1_782_900_000_000),
        (" 1782900000.5 ", 1_782_900_000_500),
        (99_999_999_999, 99_999_999_999_000),
        (100_000_000_000, 100_000_000_000),
        (0, None),
        ("0", None),
        ("", None),
        ("  ", None),
        (None, None),
        ("2026-07-01T10:00:00Z", 1_782_900_000_000),
        ("2026-07-01t10:00:00.1z", 1_782_900_000_100),
        ("2026-07-01T10:00:00.123456789Z", 1_782_900_000_123),
        ("2026-07-01T10:00:00.9995Z", 1_782_900_001_000),
        ("2026-07-01T10:00:00,25Z", 1_782_900_000_250),
        ("2026-07-01T10:00Z", 1_782_900_000_000),
        ("2026-07-01T12:00:00+02:00", 1_782_900_000_000),
        ("2026-07-01T12:00:00+0200", 1_782_900_000_000),
        ("2026-07-01T12:00:00+02", 1_782_900_000_000),
        ("2026-07-01 04:30:00 -05:30", 1_782_900_000_000),
        ("2026-07-01 10:00:00", 1_782_900_000_000),
        ("Wed, 01 Jul 2026 10:00:00 +0000", 1_782_900_000_000),
        ("1 Jul 2026 05:00 -0500", 1_782_900_000_000),
        ("Wed, 01 Jul 2026 10:00:00 GMT", 1_782_900_000_000),
        ("1969-12-31T23:59:59Z", -1000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("2026-07-01 10:00:00 UTC", 1_782_900_000_000),
        ("2026-07-01T10:00:00.5 gmt", 1_782_900_000_500),
        ("20260701T100000Z", 1_782_900_000_000),
        ("20260701T120000.25+0200", 1_782_900_000_250),
        ("20260701T1000", 1_782_900_000_000),
    ],
)
def test_epoch_ms_reads_every_time_form(x: Any, ms: int | None) -> None:
    """An instant in any known form is whole epoch milliseconds, half up; telephony's "never" is null."""
    assert run("epoch_ms(x)", x) == ms


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (12.5, "an offset? use seconds_to_ms"),
        ("99999999", "an offset? use seconds_to_ms"),
        (-5, "an offset? use seconds_to_ms"),
        ("20260701100000", "give a format"),
        (20260701100000, "give a format"),
        ("2026-07-01", "without a time of day"),
        ("2026-W27-3T10:00", "no known time form"),
        ("01.07.2026 10:00", "no known time form"),
        ("2026-02-30T10:00:00Z", "no calendar has"),
        ("2026-07-01T25:00:00Z", "no clock shows"),
        ("Wed, 01 Jul 2026 10:00:00 EST", "no known time form"),
        (1e21, "too large"),
        (float("inf"), "not finite"),
        (True, "got true or false"),
        ([1], "got a list"),
        ({"$numberLong": "1"}, "got an object"),
    ],
)
def test_epoch_ms_refuses_what_it_could_read_wrong(x: Any, says: str) -> None:
    """What could be an offset, a packed date or no time at all is an error, never a guess; the value is not quoted."""
    with pytest.raises(RuleError, match="epoch_ms: ") as caught:
        run("epoch_ms(x)", x)
    assert says in str(caught.value)
    assert not isinstance(x, str) or x not in str(caught.value)


def test_fourteen_digits_that_are_no_date_are_microseconds_or_milliseconds() -> None:
    """Only digits that do read as a date need a format."""
    assert run("epoch_ms(x)", 99_999_999_999_999) == 99_999_999_999_999


@pytest.mark.parametrize(
    ("expression", "x", "zone", "ms"),
    [
        ("epoch_ms(x)", "2026-07-01T12:00:00", "Europe/Berlin", 1_782_900_000_000),
        ("epoch_ms(x)", "2026-01-01T12:00:00", "Europe/Berlin", 1_767_265_200_000),
        ("epoch_ms(x)", "2026-07-01T10:00:00Z", "Europe/Berlin", 1_782_900_000_000),
        ("epoch_ms(x, 'America/New_York')", "2026-07-01T06:00:00", "Europe/Berlin", 1_782_900_000_000),
        ("epoch_ms(x, '+02:00')", "2026-07-01T12:00:00", "UTC", 1_782_900_000_000),
        ("epoch_ms(x, '%Y%m%d%H%M%S')", "20260701120000", "Europe/Berlin", 1_782_900_000_000),
        ("epoch_ms(x, '%Y%m%d%H%M%S')", 20260701100000, "UTC", 1_782_900_000_000),
        ("epoch_ms(x, '%d.%m.%Y %H:%M %z')", "01.07.2026 12:00 +0200", "America/New_York", 1_782_900_000_000),
        ("epoch_ms(x, '%d.%m.%Y')", "", "UTC", None),
        ("epoch_ms(x, y)", "2026-07-01T12:00:00", "UTC", None),
        ("epoch_ms(x)", "2026-07-01 10:00:00 UTC", "Europe/Berlin", 1_782_900_000_000),
        ("epoch_ms(x)", "20260701T100000Z", "Europe/Berlin", 1_782_900_000_000),
        ("epoch_ms(x)", "20260701T120000", "Europe/Berlin", 1_782_900_000_000),
        ("epoch_ms(x, '%Y-%m-%d %H:%M:%S %Z')", "2026-07-01 10:00:00 UTC", "Europe/Berlin", 1_782_900_000_000),
        ("epoch_ms(x, '%Y-%m-%d %H:%M:%S %Z')", "2026-07-01 10:00:00 GMT", "America/New_York", 1_782_900_000_000),
        ("epoch_ms(x, '%Y-%m-%d %H:%M:%S %Z', 'Asia/Tokyo')", "2026-07-01 10:00:00 UTC", "UTC", 1_782_900_000_000),
        ("epoch_ms(x, '%Y-%m-%dT%H:%M:%SZ')", "2026-07-01T10:00:00Z", "Europe/Berlin", 1_782_900_000_000),
        ("epoch_ms(x, '%d.%m.%Y %H:%M (UTC)')", "01.07.2026 10:00 (UTC)", "Europe/Berlin", 1_782_900_000_000),
        ("epoch_ms(x, '%d.%m.%Y %H:%M', 'Europe/Berlin')", "01.07.2026 12:00", "UTC", 1_782_900_000_000),
        ("epoch_ms(x, 'Europe/Berlin', '%d.%m.%Y %H:%M')", "01.07.2026 12:00", "UTC", 1_782_900_000_000),
        ("epoch_ms(x, '%d.%m.%Y %H:%M %%Z', 'Europe/Berlin')", "01.07.2026 12:00 %Z", "UTC", 1_782_900_000_000),
    ],
)
def test_epoch_ms_with_zones_and_formats(expression: str, x: Any, zone: str, ms: int | None) -> None:
    """A naive time is in the zone of the argument, else of the source; an offset in the text wins."""
    assert run(expression, x, zone=zone) == ms


def test_the_zone_may_come_from_the_document() -> None:
    """A column with the zone's name counts as one in the rule; an unknown name is an error, not UTC."""
    assert run("epoch_ms(x, '%d.%m.%Y %H:%M', y)", "01.07.2026 12:00", "Europe/Berlin") == 1_782_900_000_000
    with pytest.raises(RuleError, match="no such time zone"):
        run("epoch_ms(x, y)", "2026-07-01T12:00:00", "Mars/Olympus")


@pytest.mark.parametrize("name", ["CEST", "EST", "CST", "IST"])
def test_a_zone_name_that_stands_for_several_zones_is_refused(name: str) -> None:
    """strptime reads `%Z` and forgets it: the zone of the source would be put in its place, hours off and silently."""
    with pytest.raises(RuleError, match="%Z"):
        run("epoch_ms(x, '%Y-%m-%d %H:%M %Z')", f"2026-07-01 12:00 {name}", zone="Europe/Berlin")


@pytest.mark.parametrize("given", ["'%Y', '%m'", "'UTC', 'Europe/Berlin'"])
def test_two_formats_or_two_zones_are_an_error_at_load(given: str) -> None:
    """One of each is taken, in either order."""
    with pytest.raises((RuleError, ExpressionError), match="takes one"):
        run(f"epoch_ms(x, {given})", "2026")


@pytest.mark.parametrize(
    ("expression", "x", "result"),
    [
        ("seconds_to_ms(x)", 1.25, 1250),
        ("seconds_to_ms(x)", 3, 3000),
        ("seconds_to_ms(x)", 0, 0),
        ("seconds_to_ms(x)", "1.2345", 1235),
        ("seconds_to_ms(x)", "3.84s", 3840),
        ("seconds_to_ms(x)", "200ms", 200),
        ("seconds_to_ms(x)", "2m", 120_000),
        ("seconds_to_ms(x)", "1 h", 3_600_000),
        ("seconds_to_ms(x)", "", None),
        ("minutes_to_ms(x)", 0.75, 45_000),
        ("minutes_to_ms(x)", "30s", 30_000),
        ("minutes_to_ms(x)", "1.5", 90_000),
        ("add(x, 1)", 2, 3),
        ("add(x, '1.5', 1)", "2", 4.5),
        ("add(x, 1)", "", None),
        ("subtract(x, 1)", 3, 2),
        ("multiply(x, 100)", 0.25, 25.0),
        ("multiply(x, -1)", "-0.0085", 0.0085),
        ("divide(x, 4)", 10, 2.5),
        ("divide(x, 5)", 10, 2),
        ("divide(x, 0)", 10, None),
        ("round(x)", 2.5, 3),
        ("round(x, 2)", 5.705, 5.71),
        ("round(x, 2)", "1.005", 1.01),
        ("round(x, 1)", 7, 7),
        ("abs(x)", "-0.5", 0.5),
        ("if(x, 'a', 'b')", 0, "a"),
        ("if(x, 'a', 'b')", "", "b"),
        ("if(x, 'a')", None, None),
        ("lookup(x, table)", "bot", "agent"),
        ("lookup(x, table)", "BOT", "agent"),
        ("lookup(x, table)", "user", "user"),
        ("lookup(x, table)", 7, "seven"),
        ("lookup(x, table)", 7.0, "seven"),
        ("lookup(x, table)", True, "yes"),
        ("lookup(x, table)", "nobody", None),
        ("lookup(x, table, x)", "nobody", "nobody"),
        ("lookup(x, table, 'd')", None, "d"),
        ("lookup(x, y, 'd')", "a", "d"),
        ("lookup(x, [5, 6])", 1, 6),
        ("lookup(x, [5, 6])", "1", 6),
        ("lookup(x, [5, 6], 'd')", -1, "d"),
        ("lookup(x, [5, 6], 'd')", 2, "d"),
        ("classify(x, reasons)", "User HANGUP", "hangup"),
        ("classify(x, reasons)", "call failed: hangup", "hangup"),
        ("classify(x, reasons, 'other')", "bend", "other"),
        ("classify(x, reasons, 'other')", None, None),
        ("find(x, 'id', 2).n", [{"id": 1}, {"id": 2, "n": "B"}, {"id": 2}], "B"),
        ("find(x, 'id', 1)", [{"id": True}, 1, {"id": "1"}], None),
        ("find(x, 'id', y)", [{"id": None}], None),
        ("from_pairs(x, 'name', 'value')", [{"name": "a", "value": 1}, {"value": 2}, {"name": "b"}], {"a": 1, "b": None}),
        ("regex(x, 'b+')", "abbc", {"match": "bb"}),
        ("regex(x, '^(?P<k>\\w+):(?P<v>.*)?$')", "a:1", {"k": "a", "v": "1"}),
        ("regex(x, 'z')", "abc", None),
        ("concat('a', x, 1, true)", "b", "ab1true"),
        ("concat('a', x)", None, None),
        ("lower(x)", "ÄB", "äb"),
        ("upper(x)", "äb", "ÄB"),
        ("strip(x)", " a ", "a"),
        ("strip(x, '+')", "+49+", "49"),
        ("replace(x, 'a', 'b')", "aa", "bb"),
        ("split(x, '-')", "a-b", ["a", "b"]),
        ("truncate(x, 2)", "abc", "ab"),
        ("lines(x)", " a \r\n\n b", ["a", "b"]),
        ("from_json(x)", '{"a": [1]}', {"a": [1]}),
        ("from_json(x)", "{'a': 1}", "{'a': 1}"),
        ("from_json(x)", {"a": 1}, {"a": 1}),
        ("from_json(x)", "[" * 5000, "[" * 5000),
        ("from_json(x)", " \t\r\n[1]", [1]),
        ("from_json(x)", '"said"', "said"),
        ("from_json(x)", " true", True),
        ("from_json(x)", "false", False),
        ("from_json(x)", " null ", None),
        ("from_json(x)", "-1.5", -1.5),
        ("from_json(x)", "7", 7),
        ("from_json(x)", "true enough", "true enough"),
        ("from_json(x)", "\ufeff[1]", "\ufeff[1]"),
        ("to_bool(x)", " Yes ", True),
        ("to_bool(x)", "0", False),
        ("to_bool(x)", 1, True),
        ("to_bool(x)", 7, None),
        ("to_bool(x)", "maybe", None),
        ("to_bool(x)", False, False),
        ("url_quote(x)", "a b/ü+", "a%20b/%C3%BC%2B"),
        ("url_decode(x)", "a%20b%2B", "a b+"),
        ("to_number(x)", "1e3", 1000.0),
        ("to_number(x)", "nan", None),
        ("contains(x, 5)", "a5", False),
        ("sum(x)", [1, 2.5], 3.5),
        ("avg(x)", [], None),
        ("max_by(x, &a).b", [{"a": 1, "b": 1}, {"a": 2, "b": 2}], 2),
        ("map(&a, x)", [{"a": 1}, {}], [1, None]),
        ("reverse(x)", "abc", "cba"),
    ],
)
def test_functions(expression: str, x: Any, result: Any) -> None:
    """The table of functions, by example."""
    got = run(expression, x)
    assert got == result
    assert type(got) is type(result)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_null_goes_in_and_null_comes_out(name: str) -> None:
    """Every function gives null for null arguments, but those that look at nulls themselves."""
    function = FUNCTIONS[name]
    arguments = ", ".join("&a" if at in function.expressions else "x" for at in range(function.least))
    assert run(f"{name}({arguments})") == ("null" if name == "type" else None)
    if function.nulls is Nulls.GIVE_NULL and function.least == 2 and not function.expressions:
        assert run(f"{name}('a', x)") is None


@pytest.mark.parametrize(
    ("expression", "x", "says"),
    [
        ("seconds_to_ms(x)", {"a": 1}, "seconds_to_ms: takes a number or text, got an object"),
        ("seconds_to_ms(x)", "soon", "seconds_to_ms: got text that is no duration"),
        ("seconds_to_ms(x)", True, "got true or false"),
        ("multiply(x, 100)", {"total": 1}, "multiply: takes a number or text of digits, got an object"),
        ("multiply(x, 100)", "secret words", "multiply: takes a number or text of digits, got text"),
        ("multiply(x, 100)", float("nan"), "not finite"),
        ("lookup(x, table)", {"a": 1}, "lookup: takes text, a number, true or false as key, got an object"),
        ("lookup(x, y)", "secret", "lookup: takes a table"),
        ("classify(x, reasons)", ["secret"], "classify: takes text, got a list"),
        ("find(x, 'a', 1)", {"a": 1}, "find: takes a list, got an object"),
        ("from_pairs(x, 'a', 'b')", ["secret"], "from_pairs: takes a list of objects"),
        ("concat('a', x)", ["secret"], "concat: takes text, got a list"),
        ("regex('a', x)", "(", "regex: the pattern '(' is not a regular expression"),
        ("truncate('abc', x)", "2", "truncate: takes a whole number of characters, got text"),
        ("split('abc', x)", "", "split: cannot split at empty text"),
        ("to_bool(x)", [1], "to_bool: takes"),
        ("length(x)", 5, "length: takes text, a list or an object, got a number"),
        ("max(x)", [1, "a"], "max: takes a list of numbers or a list of text, got text in it"),
        ("sum(x)", [1, None], "sum: takes a list of numbers, got null in it"),
        ("sort_by(x, &a)", [{"a": 1}, {"a": "b"}], "sort_by: orders by numbers or by text, got both"),
        ("join(',', x)", ["a", 1], "join: takes a list of text, got a number in it"),
    ],
)
def test_wrong_kinds_are_named_and_values_are_not(expression: str, x: Any, says: str) -> None:
    """An error names the function and the kind of the value, never the value."""
    with pytest.raises(RuleError) as caught:
        run(expression, x, y=5)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_every_function_is_documented() -> None:
    """The registry has what the documentation's table is made of, and knows its arities."""
    for name, function in FUNCTIONS.items():
        assert function.signature.startswith(f"{name}(")
        assert function.does
        assert function.most is None or function.most >= function.least
    assert (FUNCTIONS["lookup"].least, FUNCTIONS["lookup"].most) == (2, 3)
    assert (FUNCTIONS["add"].least, FUNCTIONS["add"].most) == (2, None)
    assert (FUNCTIONS["concat"].least, FUNCTIONS["concat"].most) == (1, None)
    assert FUNCTIONS["sort_by"].expressions == {1}


def test_a_constant_that_can_never_work_is_told_at_load() -> None:
    """Constants are computed at load, and their errors come then."""
    with pytest.raises(ExpressionError, match="use seconds_to_ms"):
        run("epoch_ms(12)")
