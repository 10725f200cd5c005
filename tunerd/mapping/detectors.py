"""The built-in detectors: where card numbers, IBANs, e-mail addresses and phone numbers stand in one text. Pure.

Each is a check of the thing itself (issuer and Luhn, country and mod 97, a domain, a dialling form), so that order
numbers, times and ids are left alone: docs/redaction.md has the tables. All of them take time in proportion to the text.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

Span: TypeAlias = tuple[int, int]
"""Start and end in the text."""

GONE: Final = "\0"
"""Stands for each character that no detector may see (again): nothing matches it, and it is a boundary."""

_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s\"'<>\0]+")
_UUID_OR_TIME = re.compile(
    r"(?<!\w)[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}(?!\w)"
    r"|(?<!\d)(?:19|20)\d\d-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)"
    r"|(?<!\d)\d{1,2}(?P<sign>[./-])\d{1,2}(?P=sign)(?:19|20)\d\d(?!\d)"
)
_DIGIT = re.compile(r"\d")


_FEWEST_DIGITS: Final = 7


def may_hold_any(text: str) -> bool:
    """A quick look: without @ and with hardly any digits there is nothing for any detector."""
    if "@" in text:
        return True
    if text.isascii():
        return sum([text.count(digit) for digit in "0123456789"]) >= _FEWEST_DIGITS
    return len(_DIGIT.findall(text)) >= _FEWEST_DIGITS


def without_protected(text: str) -> str:
    """The text with URLs, UUIDs, dates and times blanked by GONE, as long as before."""
    if "://" in text:
        text = _URL.sub(_blank, text)
    return _UUID_OR_TIME.sub(_blank, text) if _DIGIT.search(text) else text


def _blank(found: re.Match[str]) -> str:
    return GONE * len(found[0])


# Card numbers. The issuer decides the length; no issuer has numbers that begin with 1, so epoch times (13 digits in ms,
# 16 in us, 19 in ns, beginning with 1 until 2033) are never one, though a tenth of them passes the Luhn check.

_ISSUERS: Final[Sequence[tuple[int, int, frozenset[int]]]] = (
    (220000, 220499, frozenset({16, 17, 18, 19})),  # Mir
    (222100, 272099, frozenset({16})),  # Mastercard
    (300000, 305999, frozenset({14, 16, 17, 18, 19})),  # Diners
    (309500, 309599, frozenset({14, 16, 17, 18, 19})),
    (340000, 349999, frozenset({15})),  # American Express
    (352800, 358999, frozenset({16, 17, 18, 19})),  # JCB
    (360000, 369999, frozenset({14, 16, 17, 18, 19})),
    (370000, 379999, frozenset({15})),
    (380000, 399999, frozenset({14, 16, 17, 18, 19})),
    (400000, 499999, frozenset({13, 16, 19})),  # Visa
    (500000, 509999, frozenset({16, 17, 18, 19})),  # Maestro, Elo, RuPay
    (510000, 559999, frozenset({16})),  # Mastercard
    (560000, 699999, frozenset({16, 17, 18, 19})),  # Maestro, Discover, UnionPay, RuPay, Troy
    (810000, 829999, frozenset({16, 17, 18, 19})),  # UnionPay, RuPay
)
_NO_ISSUER: Final = frozenset("0179")
"""First digits that no issuer has."""
_SHORTEST_CARD: Final = 13
_LONGEST_CARD: Final = 19
_DIGITS = re.compile(r"\d+")
_ANY_GROUPS: Final = frozenset({" ", "-", "\u00a0", "\u2009", "\u202f", "\u2010", "\u2011", "\u2013", "\n"})
"""Between groups of any size, `4 1 1 1` too."""
_LARGE_GROUPS: Final = frozenset({", ", ". ", ".", "/", " - ", ",", "  ", "; "})
"""Between groups of at least four digits, as speech recognition writes pauses; `4, 5, 6` counts something."""


def is_card(digits: str) -> bool:
    """Whether the ASCII digits are a card number: an issuer's prefix and length, and the Luhn check."""
    if not _SHORTEST_CARD <= len(digits) <= _LONGEST_CARD:
        return False
    prefix = int(digits[:6])
    return any(low <= prefix <= high and len(digits) in lengths for low, high, lengths in _ISSUERS) and _luhn(digits)


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit)
        if place % 2:
            number = number * 2 - 9 if number > 4 else number * 2
        total += number
    return total % 10 == 0


def cards(text: str) -> Iterator[Span]:
    groups = [found.span() for found in _DIGITS.finditer(text)]
    if sum([end - start for start, end in groups]) < _SHORTEST_CARD:
        return
    at = 0
    while at < len(groups):
        first = groups[at][0]
        last = _card_from(text, groups, at) if text[first] not in _NO_ISSUER and _may_begin(text, first) else None
        if last is not None:
            yield first, groups[last][1]
            at = last
        at += 1


def _card_from(text: str, groups: Sequence[Span], first: int) -> int | None:
    """The last group of the longest card that begins with the first one."""
    digits, found = "", None
    for at in range(first, len(groups)):
        start, end = groups[at]
        if (at > first and not _linked(text, groups[at - 1], groups[at])) or len(digits) + end - start > _LONGEST_CARD:
            break
        digits += _ascii(text[start:end])
        if not (text[end : end + 1].isalnum() or text[end : end + 1] == "_") and is_card(digits):
            found = at
    return found


def _may_begin(text: str, start: int) -> bool:
    before = text[max(0, start - 2) : start]
    if not before:
        return True
    if before[-1].isalnum() or before[-1] in "_+":
        return False
    return not (before[-1] in ".," and len(before) == 2 and before[0].isdecimal())  # the decimals of a number


def _linked(text: str, left: Span, right: Span) -> bool:
    gap = text[left[1] : right[0]] if right[0] - left[1] <= 3 else ""
    return gap in _ANY_GROUPS or (gap in _LARGE_GROUPS and min(left[1] - left[0], right[1] - right[0]) >= 4)


def _ascii(digits: str) -> str:
    """Digits of any script as 0-9."""
    return digits if digits.isascii() else "".join([str(int(digit)) for digit in digits])


# IBANs.

_IBAN_COUNTRIES: Final = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 "
    "FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 "
    "LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 "
    "RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
_IBAN_LENGTHS: Final[Mapping[str, int]] = {entry[:2]: int(entry[2:]) for entry in _IBAN_COUNTRIES.split()}
_IBAN_START = re.compile(r"(?<![^\W_])(?=[A-Za-z][ -]?[A-Za-z][ -]?[0-9][ -]?[0-9])")
_IBAN_SIGNS: Final = " -.\u00a0\u202f\n"


def ibans(text: str) -> Iterator[Span]:
    past = 0
    for found in _IBAN_START.finditer(text):
        start = found.start()
        if start >= past and (end := _iban_end(text, start)) is not None:
            yield start, end
            past = end


def _iban_end(text: str, start: int) -> int | None:
    country = "".join([char for char in text[start : start + 3] if char.isalpha()])[:2].upper()
    length, kept, at = _IBAN_LENGTHS.get(country), "", start
    if length is None:
        return None
    while len(kept) < length:
        char = text[at : at + 1]
        if char.isascii() and char.isalnum():
            kept += char
        elif not char or char not in _IBAN_SIGNS or text[at - 1] in _IBAN_SIGNS:
            return None
        at += 1
    if text[at : at + 1].isalnum():
        return None
    number = "".join([str(int(char, 36)) for char in kept[4:] + kept[:4]])
    return at if int(number) % 97 == 1 else None


# E-mail addresses: from each @ to both sides.

_LOCAL_PART = re.compile(r"[\w.%+'-]")
_DOMAIN_RUN = re.compile(r"[\w.-]+")
_TOP_LEVEL = re.compile(r"xn--[a-z0-9-]+|[^\W\d_]{2,}", re.IGNORECASE)


def emails(text: str) -> Iterator[Span]:
    past, sign = 0, text.find("@")
    while sign >= 0:
        start = sign
        while start > past and _LOCAL_PART.match(text[start - 1]):
            start -= 1
        while start < sign and text[start] in ".'-":
            start += 1
        end = _domain_end(text, sign + 1)
        if start < sign and end is not None:
            yield start, end
            past = end
        else:
            past = sign + 1
        sign = text.find("@", past)


def _domain_end(text: str, start: int) -> int | None:
    """Where the domain that begins here ends: at least two labels, the last of letters."""
    run = _DOMAIN_RUN.match(text, start)
    at, best = start, None
    for number, label in enumerate(run[0].split(".") if run is not None else ()):
        if not label or label[0] in "_-":
            break
        if number and (top := _TOP_LEVEL.match(label)) is not None:
            best = at + top.end()
        at += len(label) + 1
    return best


# Phone numbers: international; North American; national with a leading 0.

_PHONE = re.compile(
    r"(?<!\w)(?<!\w-)(?<!\d[.,:/])"
    r"(?:(?:(?<!\+)\+\(?|00[ .-]?(?=[1-9](?:[ ().\-/\u00a0]{0,2}\d){8}))[1-9](?:[ ().\-/\u00a0]{0,2}\d){6,14}"
    r"|(?:1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .\-/\u00a0])\d{3}[ .\-\u00a0]?\d{4}"
    r"|1?(?:[2-9]\d\d[2-9]|555\d)\d{6}"
    r"|\(?0[1-9](?:[ )./\-\u00a0]{0,2}\d){7,9})"
    r"(?!\w)"
)


def phones(text: str) -> Iterator[Span]:
    for found in _PHONE.finditer(text):
        yield found.span()


DETECTORS: Final[Mapping[str, Callable[[str], Iterator[Span]]]] = {
    "iban": ibans,
    "card": cards,
    "email": emails,
    "phone": phones,
}
"""By kind, the surest first: what one of them took, the next does not see."""
