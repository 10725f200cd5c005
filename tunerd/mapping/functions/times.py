"""Times: whatever a platform calls an instant as epoch milliseconds, whatever it calls a duration as milliseconds.

Strict patterns first, arithmetic on whole numbers after: Python's own lenient parsers read some of these hours off.
"""

import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from tunerd.mapping.functions.registry import UNKNOWN, Code, Context, Registry, Run
from tunerd.mapping.values import RuleError, is_number, lost_digits, refuse

REGISTRY: Final = Registry()
_floor: Final = math.floor

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DIGITS: Final = re.compile(r"([+-]?)(\d{1,40})(?:\.(\d{1,40}))?", re.ASCII)
_ZONE: Final = r"\s?([Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?"
_ISO: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?" + _ZONE, re.ASCII | re.IGNORECASE
)
_ISO_BASIC: Final = re.compile(
    r"(\d{4})(\d\d)(\d\d)[Tt](\d\d)(\d\d)(?:(\d\d)(?:[.,](\d{1,9}))?)?" + _ZONE, re.ASCII | re.IGNORECASE
)
"""ISO 8601's form without separators: `20260701T100000Z`."""
_RFC2822: Final = re.compile(
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),\s+)?(\d{1,2})\s+(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\s+(\d{4})\s+"
    r"(\d\d):(\d\d)(?::(\d\d))?\s+([+-]\d{4}|GMT|UTC|UT|Z)",
    re.ASCII | re.IGNORECASE,
)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DURATION: Final = re.compile(
    r"([+-]?\d{1,20}(?:\.\d{1,20})?)\s*(ns|us|µs|ms|s|sec|secs|m|min|mins|h)?", re.ASCII | re.IGNORECASE
)
_UNIT_MS: Final = {
    "ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1, "s": 1000, "sec": 1000, "secs": 1000,
    "m": 60_000, "min": 60_000, "mins": 60_000, "h": 3_600_000,
}  # fmt: skip


def half_up(value: float) -> int:
    """To the nearest whole number, halves upwards."""
    return math.floor(value + 0.5)


def _from_number(value: int | float) -> int | None:
    if value == 0:
        return None  # telephony writes 0 for "never"
    if value.__class__ is float and not math.isfinite(value):
        raise RuleError("epoch_ms", "got a number that is not finite")
    if value < 1e8:
        raise RuleError("epoch_ms", "got a number too small for a date: an offset? use seconds_to_ms")
    if value.__class__ is int and 10**13 <= value < 10**14 and _reads_as_date(str(value)):
        raise _FOURTEEN
    if value < 1e11:
        return value * 1000 if value.__class__ is int else half_up(value * 1000)
    if value < 1e14:
        return value if value.__class__ is int else half_up(value)
    per_ms = 1000 if value < 1e17 else 1_000_000
    if value >= 1e20:
        raise RuleError("epoch_ms", "got a number too large for a date")
    return (int(value) + per_ms // 2) // per_ms


_FOURTEEN: Final = RuleError("epoch_ms", "got 14 digits that read as a date: give a format, epoch_ms(x, '%Y%m%d%H%M%S')")


def _reads_as_date(digits: str) -> bool:
    try:
        datetime(int(digits[:4]), int(digits[4:6]), int(digits[6:8]), int(digits[8:10]), int(digits[10:12]), int(digits[12:]))  # noqa: DTZ001
    except ValueError:
        return False
    return 1970 <= int(digits[:4]) < 2100


def _from_text(text: str, zone: tzinfo) -> int | None:
    found = _ISO.fullmatch(text) or _ISO_BASIC.fullmatch(text)
    if found:
        year, month, day, hour, minute, second, fraction, offset = found.groups()
        return _ms(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), fraction, offset, zone)
    if not text:
        return None
    if found := _DIGITS.fullmatch(text):
        sign, whole, fraction = found.groups()
        if len(whole) == 14 and not fraction and _reads_as_date(whole):
            raise _FOURTEEN
        return _from_number(float(text) if fraction else int(sign + whole))
    if found := _RFC2822.fullmatch(text):
        day, name, year, hour, minute, second, offset = found.groups()
        month_number = _MONTHS.index(name.lower()) + 1
        return _ms(int(year), month_number, int(day), int(hour), int(minute), int(second or 0), None, offset, zone)
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        raise RuleError("epoch_ms", "got a date without a time of day")
    raise RuleError("epoch_ms", "got text in no known time form: give a format, for example epoch_ms(x, '%d.%m.%Y %H:%M:%S')")


def _ms(
    year: int, month: int, day: int, hour: int, minute: int, second: int, fraction: str | None, offset: str | None, zone: tzinfo
) -> int:
    if hour > 23 or minute > 59 or second > 60:
        raise RuleError("epoch_ms", "got text with an hour, minute or second that no clock shows")
    try:
        days = date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        raise RuleError("epoch_ms", "got text with a day that no calendar has") from None
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second
    if offset is None:
        if zone is not UTC:
            seconds -= _offset_at(year, month, day, hour, minute, zone)
    elif offset[0] in "+-":
        digits = offset[1:].replace(":", "")
        away = int(digits[:2]) * 3600 + int(digits[2:] or 0) * 60
        seconds += away if offset[0] == "-" else -away
    ms = seconds * 1000
    if fraction:
        ms += int(fraction) if len(fraction) == 3 else (int(fraction.ljust(9, "0")) + 500_000) // 1_000_000
    return ms


def _offset_at(year: int, month: int, day: int, hour: int, minute: int, zone: tzinfo) -> int:
    away = datetime(year, month, day, hour, minute, tzinfo=zone).utcoffset()
    return int(away.total_seconds()) if away else 0


@lru_cache(maxsize=64)
def zone_of(name: str) -> tzinfo:
    """A zone by its name in the time zone database, or `+02:00`. Raises RuleError if there is none."""
    if name.upper() in ("UTC", "Z"):
        return UTC
    if found := re.fullmatch(r"([+-])(\d\d):?(\d\d)", name, re.ASCII):
        away = timedelta(hours=int(found[2]), minutes=int(found[3]))
        if away < timedelta(hours=24):
            return timezone(-away if found[1] == "-" else away)
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise RuleError("epoch_ms", "knows no such time zone: write a name like Europe/Berlin") from None


def epoch_ms(value: Any, zone: tzinfo = UTC) -> int | None:
    """Any form of an instant as whole epoch milliseconds; null, 0, "0" and "" as None. Raises RuleError."""
    if value.__class__ is str:
        return _from_text(value.strip(), zone)
    if value is None:
        return None
    if is_number(value):
        return _from_number(value)
    raise refuse("epoch_ms", "a number or text", value)


def _by_format(value: Any, form: str, zone: tzinfo) -> int | None:
    text = str(value) if is_number(value) else value
    if text.__class__ is not str:
        raise refuse("epoch_ms", "a number or text", value)
    text = text.strip()
    if not text or text == "0":
        return None
    if _NAMED_ZONE.search(form):
        moment = _by_named_zone(text, form)
    else:
        try:
            moment = datetime.strptime(text, form)  # noqa: DTZ007 (the zone comes next)
        except ValueError:
            raise RuleError("epoch_ms", "got text that does not have the format") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC if _ENDS_WITH_ZONE.search(form) else zone)
    away = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (away.days * 86_400 + away.seconds) * 1000 + (away.microseconds + 500) // 1000


_NAMED_ZONE: Final = re.compile(r"(?<!%)((?:%%)*)%Z")
"""`%Z` of a format, `%%Z` not."""


_ENDS_WITH_ZONE: Final = re.compile(r"(?:%[A-Za-z]|[\s(\[])(?:Z|UTC|GMT)[)\]]?\s*$")
"""A format that wants the zone's name as text: `%Y-%m-%dT%H:%M:%SZ`."""


def _by_named_zone(text: str, form: str) -> datetime:
    """What strptime itself does with `%Z` is of no use: it reads the name and forgets it, so that the zone of the source
    would be put in its place. Names but UTC and GMT stand for several zones each (`CST`)."""
    for name in ("UTC", "GMT", "Z"):
        try:
            return datetime.strptime(text, _NAMED_ZONE.sub(rf"\1{name}", form)).replace(tzinfo=UTC)
        except ValueError:
            continue
    what = (
        "got text that does not have the format, or `%Z` stands for a zone other than UTC, GMT or Z: names like CST mean several "
        "zones; read an offset with %z, or take the name out of the text and give the zone: epoch_ms(x, format, 'Europe/Berlin')"
    )
    raise RuleError("epoch_ms", what)


def _with_more(value: Any, given: Sequence[Any], zone: tzinfo) -> int | None:
    """`given`: a zone, a format, or both in either order."""
    form = None
    for one in given:
        if one.__class__ is not str:
            raise refuse("epoch_ms", "a zone or a format after its first argument", one)
        if "%" not in one:
            zone = zone_of(one)
        elif form is None:
            form = one
        else:
            raise _TWO_FORMATS
    return epoch_ms(value, zone) if form is None else _by_format(value, form, zone)


_TWO_FORMATS: Final = RuleError("epoch_ms", "takes one format and one zone, not two formats")
_TWO_ZONES: Final = RuleError("epoch_ms", "takes one zone and one format, not two zones")


def _check_given(known: Sequence[Any]) -> None:
    """A zone that does not exist, or two formats, are an error at load. Raises RuleError."""
    texts = [str(one) for one in known if one is not UNKNOWN and one is not None]
    for text in texts:
        if "%" not in text:
            zone_of(text)
    if len(texts) == 2 and ("%" in texts[0]) == ("%" in texts[1]):
        raise _TWO_FORMATS if "%" in texts[0] else _TWO_ZONES


def _prepare_epoch(codes: Sequence[Code], context: Context) -> Run:
    moment, zone = codes[0].run, context.zone
    if len(codes) > 1:
        more = [code.run for code in codes[1:]]
        _check_given([code.value for code in codes[1:]])

        def run_with_more(scope: Any) -> Any:
            value, given = moment(scope), [one(scope) for one in more]
            return None if value is None or None in given else _with_more(value, given, zone)

        return run_with_more
    return instants(codes[0], zone)


def instants(code: Code, zone: tzinfo) -> Run:
    """The instant in any form as epoch ms. Whole epoch ms stay as they are: most rows have them."""
    moment = code.run
    index, name = code.direct() or (0, None)

    def run(scope: Any) -> Any:
        if name is None:
            value = moment(scope)
        else:  # most are a field of the row: read here, without a call
            value = scope[index]
            value = value.get(name) if value.__class__ is dict else None
        if value.__class__ is int and 100_000_000_000 <= value < 10_000_000_000_000:
            return value
        return None if value is None else epoch_ms(value, zone)

    return run


@REGISTRY.add(
    "epoch_ms(x[, zone or format[, the other]])",
    "a point in time as epoch milliseconds, from epoch s, ms, us or ns (recognised by size; 0 is null), ISO 8601 or RFC 2822. "
    "`%...` is a strptime format. If the text names a zone, that zone is used",
    prepare=_prepare_epoch,
)
def _epoch_ms(value: Any, *given: Any) -> Any:
    return _with_more(value, given, UTC)


def _duration(function: str, value: Any, per_unit: int) -> int | None:
    if is_number(value):
        if lost_digits(value):
            raise RuleError(function, "got a number that is too large for a duration")
        return half_up(value * per_unit) if value.__class__ is float else value * per_unit
    if value.__class__ is not str:
        raise refuse(function, "a number or text", value)
    text = value.strip()
    if not text:
        return None
    found = _DURATION.fullmatch(text)
    if found is None:
        raise RuleError(function, "got text that is no duration: digits, or digits with ms, s, m or h")
    unit = found[2]
    return half_up(float(found[1]) * (_UNIT_MS[unit.lower()] if unit else per_unit))


@REGISTRY.add(
    "seconds_to_ms(x)",
    'milliseconds from seconds: a number, a text of digits, or "3.84s" "200ms" "2m" "1h" (a unit in the text is used)',
)
def _seconds_to_ms(value: Any) -> Any:
    if value.__class__ is float and -1e15 < value < 1e15:
        return _floor(value * 1000 + 0.5)
    if value.__class__ is int:
        return value * 1000
    return _duration("seconds_to_ms", value, 1000)


@REGISTRY.add("minutes_to_ms(x)", "milliseconds from minutes, from the same forms")
def _minutes_to_ms(value: Any) -> Any:
    return _duration("minutes_to_ms", value, 60_000)
