"""The rules of matching, as tables: decisions over strategies, and who gets which recording."""

import math
from dataclasses import replace
from itertools import permutations

import pytest

from tunerd.call import Fail, Hold, OnMissing, SendAnyway, Strategy, UrlStrategy
from tunerd.ledger import FarRule
from tunerd.ledger.decision import Absence, Closing, Decision, Exhausted, Use, WaitUntil, brings_location, decide, wants_of
from tunerd.ledger.matching import Candidate, Free, Partner, Seeker, Standing, Tie, partners, taken_from
from tunerd.ledger.matching_words import looks_for
from tunerd.outcome import FailReason

from .parts import NOW, egress

URL = UrlStrategy(location="https://a/doc.wav")
NO_URL = UrlStrategy(location=None)
HOLD = Hold(hold_s=1000)
MISSING, EXPIRED = FailReason.RECORDING_MISSING, FailReason.RECORDING_EXPIRED
AMBIGUOUS = FailReason.RECORDING_AMBIGUOUS


def free(row: int, at_ms: int | None, url: str | None = "", expires_at: float | None = None) -> Free:
    return Free(row=row, location=f"https://a/{row}" if url == "" else url, started_at_ms=at_ms, expires_at=expires_at)


F1 = free(1, 0)
ABSENT = free(2, 0, url=None)
GONE = free(3, 0, expires_at=50.0)
TIE = Tie(recordings=(F1, free(4, 0)), others=0)


# strategies, on_missing, offers, answers, now (waits count from 100) -> decision
DECISIONS: list[tuple[str, tuple[Strategy, ...], OnMissing, dict[int, Free | Candidate | Tie], dict[int, Absence], float, Decision]] = [
    ("a URL in the document is used", (URL,), HOLD, {}, {}, 100, Use(location="https://a/doc.wav")),
    ("its expiry goes with it", (UrlStrategy(location="u", expires_at=200.0),), HOLD, {}, {}, 100, Use(location="u", expires_at=200.0)),
    ("an expired URL is not used", (UrlStrategy(location="u", expires_at=100.0),), HOLD, {}, {}, 100, Exhausted(reason=EXPIRED)),
    ("the next strategy answers for an expired URL", (UrlStrategy(location="u", expires_at=9.0), URL), HOLD, {}, {}, 100, Use(location="https://a/doc.wav")),
    ("no URL: the next strategy is asked", (NO_URL, URL), HOLD, {}, {}, 100, Use(location="https://a/doc.wav")),
    ("an unanswered manifest waits", (egress(wait_s=60),), HOLD, {}, {}, 100, WaitUntil(at=160)),
    ("a null key matches nothing and is an absence", (egress(None), URL), HOLD, {}, {}, 100, Use(location="https://a/doc.wav")),
    ("an empty key too", (egress(""), URL), HOLD, {}, {}, 100, Use(location="https://a/doc.wav")),
    ("an offer is used", (egress(),), HOLD, {0: F1}, {}, 100, Use(location="https://a/1", recording=1, position=0)),
    ("an offer is used after the wait too", (egress(wait_s=1),), HOLD, {0: F1}, {}, 500, Use(location="https://a/1", recording=1, position=0)),
    ("a later strategy waits for the earlier one", (egress(wait_s=60), URL), HOLD, {}, {}, 159.9, WaitUntil(at=160)),
    ("and answers when its wait is over", (egress(wait_s=60), URL), HOLD, {}, {}, 160, Use(location="https://a/doc.wav")),
    ("and at once when it is absent", (egress(wait_s=60), URL), HOLD, {}, {0: Absence(at=110)}, 120, Use(location="https://a/doc.wav")),
    (
        "a manifest that says never ends the wait at once",
        (egress(wait_s=60), URL),
        HOLD,
        {0: ABSENT},
        {},
        110,
        Use(location="https://a/doc.wav", closes=(Closing(position=0, recording=2, expired=False),)),
    ),
    (
        "waits run side by side: the earliest end counts",
        (egress(wait_s=60), egress("b", wait_s=30)),
        HOLD,
        {},
        {},
        100,
        WaitUntil(at=130),
    ),
    ("side by side: both over", (egress(wait_s=60), egress("b", wait_s=30), URL), HOLD, {}, {}, 160, Use(location="https://a/doc.wav")),
    ("a later offer does not overtake an open wait", (egress(wait_s=60), egress("b", wait_s=90)), HOLD, {1: F1}, {}, 100, WaitUntil(at=160)),
    (
        "it is taken when the earlier wait is over",
        (egress(wait_s=60), egress("b", wait_s=90)),
        HOLD,
        {1: F1},
        {},
        160,
        Use(location="https://a/1", recording=1, position=1),
    ),
    ("an earlier offer after its wait still comes first", (egress(wait_s=1), URL), HOLD, {0: F1}, {}, 160, Use(location="https://a/1", recording=1, position=0)),
    ("after all waits a call is held", (egress(wait_s=60),), HOLD, {}, {}, 160, WaitUntil(at=1160)),
    ("hold ends", (egress(wait_s=60),), HOLD, {}, {}, 1160, Exhausted(reason=MISSING)),
    ("hold counts from the longest wait", (egress(wait_s=60), egress("b", wait_s=30)), HOLD, {}, {}, 160, WaitUntil(at=1160)),
    ("hold counts from the answer", (egress(wait_s=60),), HOLD, {}, {0: Absence(at=120)}, 130, WaitUntil(at=1120)),
    ("hold without any strategy", (), HOLD, {}, {}, 100, WaitUntil(at=1100)),
    ("fail at the end of the waits", (egress(wait_s=60),), Fail(), {}, {}, 160, Exhausted(reason=MISSING)),
    ("fail, but not before", (egress(wait_s=60),), Fail(), {}, {}, 159, WaitUntil(at=160)),
    ("send anyway at the end of the waits", (egress(wait_s=60),), SendAnyway(url="none"), {}, {}, 160, Use(location="none", is_placeholder=True)),
    (
        "an expired offer is used up and fails",
        (egress(wait_s=0),),
        HOLD,
        {0: GONE},
        {},
        100,
        Exhausted(reason=EXPIRED, closes=(Closing(position=0, recording=3, expired=True),)),
    ),
    ("expired before, nothing else", (egress(wait_s=60),), HOLD, {}, {0: Absence(at=100, expired=True)}, 110, Exhausted(reason=EXPIRED)),
    (
        "expired before, but a fresh one came",
        (egress(wait_s=60),),
        HOLD,
        {0: F1},
        {0: Absence(at=100, expired=True)},
        110,
        Use(location="https://a/1", recording=1, position=0),
    ),
    ("one for later keeps the strategy waiting", (egress(wait_s=60), URL), HOLD, {0: Candidate(found=F1, at=300)}, {}, 170, WaitUntil(at=300)),
    ("and is used then", (egress(wait_s=60), URL), HOLD, {0: Candidate(found=F1, at=300)}, {}, 300, Use(location="https://a/1", recording=1, position=0)),
    ("a tie is waited out", (egress(wait_s=60),), HOLD, {0: TIE}, {}, 159, WaitUntil(at=160)),
    ("and then it is one", (egress(wait_s=60),), HOLD, {0: TIE}, {}, 160, Exhausted(reason=AMBIGUOUS, tie=TIE)),
    ("unless a later strategy answers", (egress(wait_s=60), URL), HOLD, {0: TIE}, {}, 160, Use(location="https://a/doc.wav")),
    ("or it is sent anyway", (egress(wait_s=60),), SendAnyway(url="none"), {0: TIE}, {}, 160, Use(location="none", is_placeholder=True)),
    ("send anyway, also when it expired", (UrlStrategy(location="u", expires_at=1.0),), SendAnyway(url="none"), {}, {}, 100, Use(location="none", is_placeholder=True)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("strategies", "on_missing", "offers", "answers", "now", "decision"),
    [row[1:] for row in DECISIONS],
    ids=[row[0] for row in DECISIONS],
)
def test_decide(
    strategies: tuple[Strategy, ...],
    on_missing: OnMissing,
    offers: dict[int, Free | Candidate | Tie],
    answers: dict[int, Absence],
    now: float,
    decision: Decision,
) -> None:
    """Each row of the table: strategies, what is known of them, the time, and the decision."""
    given = {position: Candidate(found=one, at=-math.inf) if isinstance(one, Free) else one for position, one in offers.items()}
    assert decide(strategies, on_missing, offers=given, answers=answers, waits_from=100, now=now) == decision


def seeker(call: int, at_ms: int, within_ms: int | None = 600_000, *, lasts_ms: int | None = None,
           standing: Standing = Standing.OPEN) -> Seeker:  # fmt: skip
    ended_at_ms = None if lasts_ms is None else at_ms + lasts_ms
    return Seeker(call=call, started_at_ms=at_ms, within_ms=within_ms, near_ms=30_000, ended_at_ms=ended_at_ms, standing=standing)


ANY = None
CLOSED, SERVED = Standing.CLOSED, Standing.SERVED
# calls, recordings -> of call 1: its recording and whether it is near; "tie"; or None
PARTNERS: list[tuple[str, list[Seeker], list[Free], tuple[int, bool] | str | None]] = [
    ("nothing there", [seeker(1, 0)], [], None),
    ("near by its start", [seeker(1, 0)], [free(1, 30_000)], (1, True)),
    ("before the start, too", [seeker(1, 0)], [free(1, -30_000)], (1, True)),
    ("farther, in the window", [seeker(1, 0)], [free(1, 30_001)], (1, False)),
    ("the window's edge counts", [seeker(1, 0)], [free(1, 600_000)], (1, False)),
    ("the window reaches both ways", [seeker(1, 0)], [free(1, -600_000)], (1, False)),
    ("one past the window", [seeker(1, 0)], [free(1, 600_001)], None),
    ("during the call is near", [seeker(1, 0, lasts_ms=240_000)], [free(1, 200_000)], (1, True)),
    ("after its end is not", [seeker(1, 0, lasts_ms=240_000)], [free(1, 240_001)], (1, False)),
    ("during the call, but out of the window", [seeker(1, 0, 60_000, lasts_ms=240_000)], [free(1, 200_000)], None),
    ("the nearest of two", [seeker(1, 0)], [free(1, 5000), free(2, -3000)], (2, True)),
    ("an exact tie of recordings", [seeker(1, 0)], [free(1, 3000), free(2, -3000)], "tie"),
    ("the same URL twice is no tie", [seeker(1, 0)], [free(1, 3000, "u"), free(2, -3000, "u")], (1, True)),
    ("another call is nearer to it", [seeker(1, 0), seeker(2, 6000)], [free(1, 5000)], None),
    ("then the next one", [seeker(1, 0), seeker(2, 6000)], [free(1, 5000), free(2, -9000)], (2, True)),
    ("the other has a nearer one", [seeker(1, 0), seeker(2, 6000)], [free(1, 5000), free(2, 6000)], (1, True)),
    ("an exact tie of calls", [seeker(1, 0), seeker(2, 10_000)], [free(1, 5000)], "tie"),
    ("what is in a tie goes to nobody", [seeker(1, 20_000), seeker(2, 0), seeker(3, 10_000)], [free(1, 5000)], None),
    ("a tie further away does not matter", [seeker(1, 4000), seeker(2, 0), seeker(3, 10_000)], [free(1, 5000)], (1, True)),
    ("a nearer call whose window is too small", [seeker(1, 0), seeker(2, 6000, 500)], [free(1, 5000)], (1, True)),
    ("one call with two strategies is no tie", [seeker(1, 0), seeker(1, 0, ANY)], [free(1, 5000)], (1, True)),
    ("during one call is nearer than close to another's start", [seeker(1, 0, lasts_ms=500_000), seeker(2, 520_000)],
     [free(1, 480_000)], (1, True)),
    ("and the other gets nothing of it", [seeker(1, 520_000), seeker(2, 0, lasts_ms=500_000)], [free(1, 480_000)], None),
    ("a call that was sent without keeps its own from others", [seeker(1, 60_000), seeker(2, 0, standing=CLOSED)], [free(1, 1000)], None),
    ("a second recording of a call that has one", [seeker(1, 300_000), seeker(2, 0, standing=SERVED)], [free(1, 100_000)], None),
    ("but a near one it gets", [seeker(1, 25_000), seeker(2, 0, standing=SERVED)], [free(1, 10_000)], (1, True)),
    ("any window, known start", [seeker(1, 0, ANY)], [free(1, 10**9)], (1, True)),
    ("no start fits any window only", [seeker(1, 0)], [free(1, None)], None),
    ("no start, any", [seeker(1, 0, ANY)], [free(1, None)], (1, True)),
    ("no start, two of them", [seeker(1, 0, ANY)], [free(1, None), free(2, None)], "tie"),
    ("no start, two calls", [seeker(1, 0, ANY), seeker(2, 500, ANY)], [free(1, None)], "tie"),
    ("no start, another call has its own already", [seeker(1, 0, ANY), seeker(2, 5, ANY, standing=SERVED)], [free(1, None)], (1, True)),
    ("a known start goes before an unknown", [seeker(1, 0, ANY)], [free(1, None), free(2, 10**9)], (2, True)),
]  # fmt: skip


@pytest.mark.parametrize(("calls", "found", "whose"), [row[1:] for row in PARTNERS], ids=[row[0] for row in PARTNERS])
def test_whose_recording_it_is(calls: list[Seeker], found: list[Free], whose: tuple[int, bool] | str | None) -> None:
    """Each row of the table, in every order in which calls and recordings may be given."""
    for some_calls in permutations(calls):
        for some_found in permutations(found):
            one = partners(some_calls, some_found).get(1)
            told = "tie" if isinstance(one, Tie) else None if one is None else (one.found.row, one.is_near)
            assert told == whose


@pytest.mark.parametrize(
    ("known_at", "expires_at", "far", "at"),
    [
        (NOW - 50, None, FarRule(), NOW + 1800),
        (NOW + 60, None, FarRule(), NOW + 1860),
        (NOW, NOW + 600, FarRule(), NOW + 480),
        (NOW, NOW + 90_000, FarRule(), NOW + 1800),
        (NOW - 9000, None, FarRule(not_before=NOW + 1900), NOW + 1900),
        (NOW, None, FarRule(at_once=True), -math.inf),
    ],
    ids=["known before the call", "known after it", "it expires soon", "it expires late", "after a start", "all is read"],
)
def test_when_a_farther_one_is_taken(known_at: float, expires_at: float | None, far: FarRule, at: float) -> None:
    """When both have known each other for the wait, or two minutes before it expires; near ones at once."""
    found = Free(row=1, location="https://a/1", started_at_ms=0, expires_at=expires_at, known_at=known_at)
    told = [
        taken_from(Partner(found=found, is_near=is_near), waits_from=NOW, wait_s=1800, far=far, now=NOW)
        for is_near in (False, True)
    ]
    assert told == [at, -math.inf]


@pytest.mark.parametrize(("written_at", "at"), [(NOW - 1801, NOW - 1), (NOW - 1799, NOW + 1)])
def test_what_only_the_wait_decides_is_not_taken_at_once(written_at: float, at: float) -> None:
    """Also when all is read: only when the document and the recording are older than the wait."""
    partner = Partner(found=replace(free(1, 0), known_at=NOW), is_near=False)
    far = FarRule(at_once=True)
    assert taken_from(partner, waits_from=NOW, wait_s=1800, far=far, now=NOW, written_at=written_at) == at


def test_while_files_are_unread_a_farther_one_is_not_taken() -> None:
    """In a sweep one is looked for again a minute later."""
    partner = Partner(found=free(1, 0, expires_at=1.0), is_near=False)
    assert taken_from(partner, waits_from=0, wait_s=0, far=FarRule(not_before=math.inf), now=NOW) == NOW + 60


def test_null_keys_are_never_looked_up() -> None:
    """A null or empty key matches nothing: it is not even asked for."""
    strategies = (egress(None), egress(""), URL, egress("k"))
    assert [(position, s.key) for position, s in wants_of(strategies)] == [(3, "k")]


@pytest.mark.parametrize(
    ("strategies", "brings"),
    [
        ((URL,), True),
        ((NO_URL,), False),
        ((NO_URL, URL), True),
        ((UrlStrategy(location="u", expires_at=NOW + 1),), True),
        ((UrlStrategy(location="u", expires_at=NOW),), False),
        ((UrlStrategy(location=None, expires_at=NOW + 1),), False),
        ((UrlStrategy(location="u", expires_at=NOW), URL), True),
        ((URL, egress()), True),
        ((egress(), URL), False),
        ((egress(None), URL), True),
        ((egress(""),), False),
        ((), False),
    ],
)
def test_a_document_that_brings_its_url_looks_for_no_manifest(strategies: tuple[Strategy, ...], brings: bool) -> None:
    """A URL that has not expired, and no manifest before it that has a key to look for."""
    assert brings_location(strategies, NOW) is brings


def test_a_story_names_no_url() -> None:
    """What a call waits for is shown without URLs, whose queries may be secrets."""
    lines = [
        looks_for(UrlStrategy(location="https://a/x?token=1"), None, 0, None, 0),
        looks_for(egress("room"), None, 160.0, None, 0),
    ]
    lines += [
        looks_for(egress("room"), Absence(at=1, expired=True), 0, None, 0),
        looks_for(egress(None), None, 0, None, 0),
        looks_for(NO_URL, None, 0, None, 0),
    ]
    assert lines == [
        "url: in the document",
        "manifest egress, key 'room': no answer yet, waits until 1970-01-01 00:02:40Z",
        "manifest egress, key 'room': expired",
        "manifest egress: absent (null key)",
        "url: absent",
    ]
