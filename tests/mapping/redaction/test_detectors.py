"""The detectors one by one: what they find, and the many things that look like it and are none."""

import time
from functools import cache

import pytest

from tunerd.config import Redact
from tunerd.mapping.detectors import is_card
from tunerd.mapping.redaction import MARGIN, WINDOW, Redaction


def found(text: str, *kinds: str) -> list[tuple[str, str]]:
    redaction = Redaction(Redact(detect=kinds or ("card", "email", "phone", "iban")))
    return [(hit.kind, text[hit.start : hit.end]) for hit in redaction.find(text)]


CARDS = [
    ("4111111111111111", "4111111111111111"),
    ("my card is 4111 1111 1111 1111, thanks", "4111 1111 1111 1111"),
    ("4111-1111-1111-1111.", "4111-1111-1111-1111"),
    ("4111, 1111, 1111, 1111", "4111, 1111, 1111, 1111"),
    ("4111. 1111. 1111. 1111.", "4111. 1111. 1111. 1111"),
    ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 right", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
    ("41 11 11 11 11 11 11 11", "41 11 11 11 11 11 11 11"),
    ("4111\u00a01111\u00a01111\u00a01111", "4111\u00a01111\u00a01111\u00a01111"),
    ("378282246310005", "378282246310005"),
    ("3782 822463 10005", "3782 822463 10005"),
    ("5555555555554444", "5555555555554444"),
    ("2223003122003222", "2223003122003222"),
    ("6011111111111117", "6011111111111117"),
    ("3530111333300000", "3530111333300000"),
    ("30569309025904", "30569309025904"),
    ("4222222222222", "4222222222222"),
    ("2201382000000013", "2201382000000013"),
    ("6205500000000000004", "6205500000000000004"),
    ("two 2 and then 4111111111111111", "4111111111111111"),
    ("12 4111 1111 1111 1111", "4111 1111 1111 1111"),
    ("card:4111111111111111;", "4111111111111111"),
    ("٤١١١١١١١١١١١١١١١", "٤١١١١١١١١١١١١١١١"),
]

NO_CARDS = [
    "4111 1111 1111 1112",  # Luhn
    "4111111111111112",
    "1111222233334444",
    "0000 0000 0000 0000",
    "41111111111111111",  # 17 digits are no Visa
    "411111111111111",
    "9111111111111111",
    "1234567812345670",  # Luhn holds, but nobody issues it
    "1767225600000",  # epoch ms
    "1767225600000000",  # us
    "1767225600000000000",  # ns
    "20260701123000",
    "0.4111111111111111",
    "1.4111111111111111",
    "x4111111111111111",
    "4111111111111111a",
    "ORD_4111111111111111",
    "+4111111111111111",
    "41111111111111110000",  # 20 digits
    "550e8400-e29b-41d4-a716-446655440000",
    "https://shop.example/orders/4111111111111111?card=4111111111111111",
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13",
    "4,111,111,111,111",
    "2026-07-01T10:30:00.123456Z",
    "10.0.0.1, 10.0.0.2, 10.0.0.3",
    "",
    "no digits at all",
]

EMAILS = [
    ("write to alice@example.com please", "alice@example.com"),
    ("alice.o'brien+calls@mail.ex-ample.co.uk.", "alice.o'brien+calls@mail.ex-ample.co.uk"),
    ("<bob@example.org>", "bob@example.org"),
    ("mailto:bob@example.org", "bob@example.org"),
    ("'bob@example.org'", "bob@example.org"),
    ("jürgen@müller.example", "jürgen@müller.example"),
    ("a@b.xn--p1ai", "a@b.xn--p1ai"),
    ("BOB@EXAMPLE.ORG", "BOB@EXAMPLE.ORG"),
    ("bob@example.com-now", "bob@example.com"),
    ("bob@example.com,eve@example.com", "bob@example.com"),
    ("x@@bob@example.com", "bob@example.com"),
    ("_b_@example.com", "_b_@example.com"),
]

NO_EMAILS = [
    "alice at example dot com",
    "@alice said hello",
    "meet me @ 5",
    "user@localhost",
    "left-pad@1.3.0",
    "1000@10.0.0.1",
    "alice@example.",
    "alice@.com",
    "@example.com",
    "a@b.c",
    "https://user:word@host.example/path",
    "wss://x.example/?mail=alice@example.com",
    "alice@-example.com",
]

PHONES = [
    "+41 44 668 18 00",
    "+41446681800",
    "+41 (0)44 668 18 00",
    "0041 44 668 18 00",
    "044 668 18 00",
    "0446681800",
    "(415) 555-2671",
    "415-555-2671",
    "415.555.2671",
    "415 555 2671",
    "1-800-555-2671",
    "1 415 555 2671",
    "4155552671",
    "555-123-4567",
    "5551234567",
    "+1 (415) 555-2671",
    "(020) 7946 0958",
    "020 7946 0958",
    "030 12345678",
    "0171/1234567",
    "06 12 34 56 78",
    "+33 6 12 34 56 78",
    "+49-30-1234567",
    "(030) 1234567",
]

NO_PHONES = [
    "1767225600",  # epoch s
    "1767225600000",
    "1234567890",
    "01.07.2026 10:30",
    "01/07/2026",
    "2026-07-01 10:30:00",
    "10:30:15",
    "192.168.100.200",
    "0.5551234567",
    "3.4155552671",
    "TCK-4155552671",
    "order4155552671",
    "4155552671abc",
    "41555526711",
    "415555267",
    "550e8400-e29b-41d4-a716-446655440000",
    "https://shop.example/0446681800",
    "$1,234,567,890.12",
    "12 34 56",
    "room 0815",
    "0000000000",
    "flight 447 at 1030",
    "1 2 3 4 5 6 7 8 9 10",
]

IBANS = [
    ("CH9300762011623852957", "CH9300762011623852957"),
    ("CH93 0076 2011 6238 5295 7 please", "CH93 0076 2011 6238 5295 7"),
    ("ch93 0076 2011 6238 5295 7", "ch93 0076 2011 6238 5295 7"),
    ("DE89370400440532013000.", "DE89370400440532013000"),
    ("GB82 WEST 1234 5698 7654 32", "GB82 WEST 1234 5698 7654 32"),
    ("G B 8 2 W E S T 1 2 3 4 5 6 9 8 7 6 5 4 3 2", "G B 8 2 W E S T 1 2 3 4 5 6 9 8 7 6 5 4 3 2"),
    ("NO9386011117947", "NO9386011117947"),
    ("FR14-2004-1010-0505-0001-3M02-606", "FR14-2004-1010-0505-0001-3M02-606"),
    ("MT84MALT011000012345MTLCAST001S", "MT84MALT011000012345MTLCAST001S"),
    ("a CH93 0076 2011 6238 5295 7", "CH93 0076 2011 6238 5295 7"),
]

NO_IBANS = [
    "CH9300762011623852958",  # mod 97
    "CH9400762011623852957",
    "XX9300762011623852957",  # no such country
    "CH930076201162385295",  # too short
    "CH93007620116238529571",  # too long
    "ACH9300762011623852957",
    "CH93  0076 2011 6238 5295 7",
    "IS 12 3456",
    "AB12CD34EF56GH78IJ90",
    "https://bank.example/CH9300762011623852957",
    "de89",
    "at 10 2026",
]


@pytest.mark.parametrize(("text", "part"), CARDS)
def test_cards(text: str, part: str) -> None:
    """Numbers of every issuer, solid, grouped, or as speech recognition writes them."""
    assert found(text, "card") == [("card", part)]


@pytest.mark.parametrize("text", NO_CARDS)
def test_no_cards(text: str) -> None:
    """Nothing but a number that an issuer gives, of its length, that passes the Luhn check and stands alone."""
    assert found(text, "card") == []


@pytest.mark.parametrize(("text", "part"), EMAILS)
def test_emails(text: str, part: str) -> None:
    """The address, without the signs around it."""
    assert found(text, "email")[0] == ("email", part)


@pytest.mark.parametrize("text", NO_EMAILS)
def test_no_emails(text: str) -> None:
    """A name, an @ and a domain with a top level of letters, not in a URL."""
    assert found(text, "email") == []


@pytest.mark.parametrize("number", PHONES)
@pytest.mark.parametrize("text", ["{}", "call {}, please", "it is {}."])
def test_phones(number: str, text: str) -> None:
    """International, North American and national forms."""
    [(kind, part)] = found(text.format(number), "phone")
    assert (kind, part) == ("phone", number)


@pytest.mark.parametrize("text", NO_PHONES)
def test_no_phones(text: str) -> None:
    """Times, dates, amounts, addresses and ids are left alone."""
    assert found(text, "phone") == []


@pytest.mark.parametrize(("text", "part"), IBANS)
def test_ibans(text: str, part: str) -> None:
    """By country, length and check digits, in any grouping and case."""
    assert found(text, "iban") == [("iban", part)]


@pytest.mark.parametrize("text", NO_IBANS)
def test_no_ibans(text: str) -> None:
    """A wrong digit, length or country is none."""
    assert found(text, "iban") == []


def test_each_thing_is_what_it_is() -> None:
    """With all detectors at work, each number counts as one kind: the surest."""
    text = "IBAN DE89 3704 0044 0532 0130 00, card 4111 1111 1111 1111, tel +41 44 668 18 00, mail bob@example.org"
    assert [kind for kind, _ in found(text)] == ["iban", "card", "phone", "email"]


@pytest.mark.parametrize("digits_after_seconds", [0, 3, 6, 9])
def test_no_epoch_time_is_ever_a_card_or_a_phone(digits_after_seconds: int) -> None:
    """A tenth of all epoch times in ms passes the Luhn check; none begins like a number that an issuer gives."""
    redaction = Redaction(Redact())
    scale = 10**digits_after_seconds
    times = [seconds * scale + (seconds * 7919) % scale for seconds in range(1_000_000_000, 2_000_000_000, 99_991)]
    assert not [time for time in times if redaction.find(str(time)) or redaction.number(time)]
    luhn = [time for time in times if _luhn(str(time))]
    assert len(luhn) > 800, "the times must hold many that only the issuer's prefix keeps from being a card"


def _luhn(digits: str) -> bool:
    doubled = [int(d) * 2 if place % 2 else int(d) for place, d in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def test_the_check_of_a_card_is_the_issuers() -> None:
    """Every single wrong digit of a real number is noticed."""
    number = "4111111111111111"
    wrong = [f"{number[:at]}{digit}{number[at + 1 :]}" for at in range(1, 16) for digit in "0123456789" if digit != number[at]]
    assert is_card(number)
    assert not [each for each in wrong if is_card(each)]


@pytest.mark.parametrize(
    "unit", ["1 ", "41", "a@", "@", "a.b-", "0 ", "+1", "(", "https://", "a://", "CH93 ", "1.", "0-", "2026-", "4111 ", "4 "]
)
def test_time_grows_with_the_text_alone(unit: str) -> None:
    """What a detector likes best, over and over: ten times the text takes about ten times as long, not a hundred times."""
    redaction = Redaction(Redact())

    def took(length: int) -> float:
        began = time.process_time()
        redaction.find(unit * (length // len(unit)))
        return time.process_time() - began

    took(1_000)
    assert took(40_000) < 40 * max(took(4_000), 0.01)


BAD_INPUTS = [
    "4 ", "4", "1 ", "41", "a@", "@", "a.b-", "0 ", "+1", "(", "https://", "a://", "CH93 ", "1.", "0-", "2026-", "4111 ",
    "5555 5555 5555 4444 ", "4111111111111111,", "+49 170 1234567 ", "a@b.cc ", "a@b.cc", "415 555 2671 ", "00 1", "+(1", "x@",
    "DE89370400440532013000 ", "4111111111111111,0170 1234567,", "a.b@c.", "12345678-", "2026-01-01T",
]  # fmt: skip


@pytest.mark.parametrize("unit", BAD_INPUTS)
def test_no_text_costs_much_more_than_plain_speech(unit: str) -> None:
    """Over the end of a window: a detector does a bounded number of steps a character, whatever it is led on with. (Digits and blanks
    took four hundred times as long as words; commas between card numbers took the square of their number.)"""
    redaction = Redaction(Redact())
    length = WINDOW + 20_000

    def took(text: str) -> float:
        began = time.process_time()
        redaction.find(text)
        return time.process_time() - began

    assert took(unit * (length // len(unit))) < 200 * max(_speech_takes(length), 0.03)


@cache
def _speech_takes(length: int) -> float:
    redaction = Redaction(Redact())
    speech = "please call me back at noon about order 4711, said he. " * (length // 55)
    redaction.find(speech[:1000])
    began = time.process_time()
    redaction.find(speech)
    return time.process_time() - began


def test_hits_over_the_ends_of_windows_are_found_whole() -> None:
    """Wherever one begins, and however many there are, each is found once."""
    redaction = Redaction(Redact())
    for offset in (0, 1, 7, 13, MARGIN - 3, MARGIN, MARGIN + 5):
        for near in ("4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "anna.b@example.com", "+49 170 1234567"):
            text = "x " * ((WINDOW - offset) // 2) + f" {near} " + "y " * WINDOW
            (hit,) = redaction.find(text)
            assert text[hit.start : hit.end] == near
    many = "4111111111111111," * 20_000
    assert len(redaction.find(many)) == 20_000


def test_what_comes_to_light_beside_what_is_gone_is_found_too() -> None:
    """Each hit is a boundary for the next one, however long the chain is."""
    redaction = Redaction(Redact())
    text = ",".join(["4111111111111111", "0170 1234567"] * 500)
    hits = redaction.find(text)
    left = list(text)
    for hit in hits:
        left[hit.start : hit.end] = "\0" * (hit.end - hit.start)
    assert redaction.find("".join(left)) == []
