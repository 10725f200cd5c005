"""The built-in detectors: they find card numbers, IBANs, e-mail addresses and phone numbers in one text. Pure.

Each is a check of the thing itself (issuer and Luhn, country and mod 97, a domain, a dialling form), so that order
numbers, times and ids are left alone: docs/redaction.md has the tables. All of them take time in proportion to the text,
and are given a window of it at a time (redaction.py): Python's `re` holds the lock of the interpreter while it searches.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
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
    return len(digits) in _lengths(digits[:6]) and _Luhn(digits).holds(0, len(digits))


@lru_cache(maxsize=4096)
def _lengths(prefix: str) -> frozenset[int]:
    """Of the cards whose number begins so."""
    number = int(prefix)
    return frozenset().union(*(lengths for low, high, lengths in _ISSUERS if low <= number <= high))


class _Luhn:
    """The check digits of every part of a long row of digits, each in one step."""

    __slots__ = ("_sums",)

    def __init__(self, digits: str) -> None:
        even, odd = [0], [0]
        for place, digit in enumerate(digits):
            plain = int(digit)
            doubled = plain * 2 - 9 if plain > 4 else plain * 2
            even.append(even[-1] + (doubled if place % 2 else plain))
            odd.append(odd[-1] + (plain if place % 2 else doubled))
        self._sums = (even, odd)
        """By the parity of the last digit's place, which is never doubled: the sums up to each place."""

    def holds(self, start: int, end: int) -> bool:
        sums = self._sums[(end - 1) % 2]
        return (sums[end] - sums[start]) % 10 == 0


class _Groups:
    """The groups of digits of a text, and what each card could be made of."""

    def __init__(self, text: str, spans: Sequence[Span]) -> None:
        self.spans = spans
        self._digits = "".join([_ascii(text[start:end]) for start, end in spans])
        self._luhn = _Luhn(self._digits)
        self._offsets = [0]
        for start, end in spans:
            self._offsets.append(self._offsets[-1] + end - start)
        self._linked = [False, *(_linked(text, left, right) for left, right in pairwise(spans))]
        self._may_end = [not (text[end : end + 1].isalnum() or text[end : end + 1] == "_") for _, end in spans]

    def card_from(self, first: int) -> int | None:
        """The last group of the longest card that begins with this one."""
        start, found = self._offsets[first], None
        for at in range(first, len(self.spans)):
            end = self._offsets[at + 1]
            if (at > first and not self._linked[at]) or end - start > _LONGEST_CARD:
                break
            if end - start >= _SHORTEST_CARD and self._may_end[at] and self._is_card(start, end):
                found = at
        return found

    def _is_card(self, start: int, end: int) -> bool:
        return self._luhn.holds(start, end) and end - start in _lengths(self._digits[start : start + 6])


def cards(text: str) -> Iterator[Span]:
    spans = [found.span() for found in _DIGITS.finditer(text)]
    if sum([end - start for start, end in spans]) < _SHORTEST_CARD:
        return
    groups = _Groups(text, spans)
    at = past = 0
    while at < len(spans):
        first = spans[at][0]
        last = groups.card_from(at) if text[first] not in _NO_ISSUER and _may_begin(text, first, past) else None
        if last is not None:
            past = spans[last][1]
            yield first, past
            at = last
        at += 1


def _may_begin(text: str, start: int, past: int) -> bool:
    """`past`: where the card before it ends; a new number may begin right there."""
    before = text[max(past, start - 2) : start]
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
