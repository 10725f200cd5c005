"""The rules of matching, as tables: decisions over strategies, and who gets which recording."""

import pytest

from tunerd.call import Fail, Hold, OnMissing, SendAnyway, Strategy, UrlStrategy
from tunerd.ledger.matching import (
    Answer,
    Closing,
    Decision,
    Exhausted,
    Free,
    Seeker,
    Use,
    WaitUntil,
    decide,
    looks_for,
    nearest_call,
    offer,
    wants_of,
)
from tunerd.outcome import FailReason

from .parts import egress

URL = UrlStrategy(url="https://a/doc.wav")
NO_URL = UrlStrategy(url=None)
HOLD = Hold(hold_s=1000)
MISSING, EXPIRED = FailReason.RECORDING_MISSING, FailReason.RECORDING_EXPIRED


def free(row: int, at_ms: int | None, url: str | None = "", expires_at: float | None = None) -> Free:
    return Free(row=row, url=f"https://a/{row}" if url == "" else url, started_at_ms=at_ms, expires_at=expires_at)


F1 = free(1, 0)
ABSENT = free(2, 0, url=None)
GONE = free(3, 0, expires_at=50.0)


# strategies, on_missing, offers, answers, now (waits count from 100) -> decision
DECISIONS: list[tuple[str, tuple[Strategy, ...], OnMissing, dict[int, Free], dict[int, Answer], float, Decision]] = [
    ("a URL in the document is used", (URL,), HOLD, {}, {}, 100, Use(url="https://a/doc.wav")),
    ("its expiry goes with it", (UrlStrategy(url="u", expires_at=200.0),), HOLD, {}, {}, 100, Use(url="u", expires_at=200.0)),
    ("an expired URL is not used", (UrlStrategy(url="u", expires_at=100.0),), HOLD, {}, {}, 100, Exhausted(reason=EXPIRED)),
    ("the next strategy answers for an expired URL", (UrlStrategy(url="u", expires_at=9.0), URL), HOLD, {}, {}, 100, Use(url="https://a/doc.wav")),
    ("no URL: the next strategy is asked", (NO_URL, URL), HOLD, {}, {}, 100, Use(url="https://a/doc.wav")),
    ("an unanswered manifest waits", (egress(wait_s=60),), HOLD, {}, {}, 100, WaitUntil(at=160)),
    ("a null key matches nothing and is an absence", (egress(None), URL), HOLD, {}, {}, 100, Use(url="https://a/doc.wav")),
    ("an empty key too", (egress(""), URL), HOLD, {}, {}, 100, Use(url="https://a/doc.wav")),
    ("an offer is used", (egress(),), HOLD, {0: F1}, {}, 100, Use(url="https://a/1", recording=1, position=0)),
    ("an offer is used after the wait too", (egress(wait_s=1),), HOLD, {0: F1}, {}, 500, Use(url="https://a/1", recording=1, position=0)),
    ("a later strategy waits for the earlier one", (egress(wait_s=60), URL), HOLD, {}, {}, 159.9, WaitUntil(at=160)),
    ("and answers when its wait is over", (egress(wait_s=60), URL), HOLD, {}, {}, 160, Use(url="https://a/doc.wav")),
    ("and at once when it is absent", (egress(wait_s=60), URL), HOLD, {}, {0: Answer(at=110)}, 120, Use(url="https://a/doc.wav")),
    (
        "a manifest that says never ends the wait at once",
        (egress(wait_s=60), URL),
        HOLD,
        {0: ABSENT},
        {},
        110,
        Use(url="https://a/doc.wav", closes=(Closing(position=0, recording=2, expired=False),)),
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
    ("side by side: both over", (egress(wait_s=60), egress("b", wait_s=30), URL), HOLD, {}, {}, 160, Use(url="https://a/doc.wav")),
    ("a later offer does not overtake an open wait", (egress(wait_s=60), egress("b", wait_s=90)), HOLD, {1: F1}, {}, 100, WaitUntil(at=160)),
    (
        "it is taken when the earlier wait is over",
        (egress(wait_s=60), egress("b", wait_s=90)),
        HOLD,
        {1: F1},
        {},
        160,
        Use(url="https://a/1", recording=1, position=1),
    ),
    ("an earlier offer after its wait still comes first", (egress(wait_s=1), URL), HOLD, {0: F1}, {}, 160, Use(url="https://a/1", recording=1, position=0)),
    ("after all waits a call is held", (egress(wait_s=60),), HOLD, {}, {}, 160, WaitUntil(at=1160)),
    ("hold ends", (egress(wait_s=60),), HOLD, {}, {}, 1160, Exhausted(reason=MISSING)),
    ("hold counts from the longest wait", (egress(wait_s=60), egress("b", wait_s=30)), HOLD, {}, {}, 160, WaitUntil(at=1160)),
    ("hold counts from the answer", (egress(wait_s=60),), HOLD, {}, {0: Answer(at=120)}, 130, WaitUntil(at=1120)),
    ("hold without any strategy", (), HOLD, {}, {}, 100, WaitUntil(at=1100)),
    ("fail at the end of the waits", (egress(wait_s=60),), Fail(), {}, {}, 160, Exhausted(reason=MISSING)),
    ("fail, but not before", (egress(wait_s=60),), Fail(), {}, {}, 159, WaitUntil(at=160)),
    ("send anyway at the end of the waits", (egress(wait_s=60),), SendAnyway(url="none"), {}, {}, 160, Use(url="none")),
    (
        "an expired offer is used up and fails",
        (egress(wait_s=0),),
        HOLD,
        {0: GONE},
        {},
        100,
        Exhausted(reason=EXPIRED, closes=(Closing(position=0, recording=3, expired=True),)),
    ),
    ("expired before, nothing else", (egress(wait_s=60),), HOLD, {}, {0: Answer(at=100, expired=True)}, 110, Exhausted(reason=EXPIRED)),
    (
        "expired before, but a fresh one came",
        (egress(wait_s=60),),
        HOLD,
        {0: F1},
        {0: Answer(at=100, expired=True)},
        110,
        Use(url="https://a/1", recording=1, position=0),
    ),
    ("send anyway, also when it expired", (UrlStrategy(url="u", expires_at=1.0),), SendAnyway(url="none"), {}, {}, 100, Use(url="none")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("strategies", "on_missing", "offers", "answers", "now", "decision"),
    [row[1:] for row in DECISIONS],
    ids=[row[0] for row in DECISIONS],
)
def test_decide(
    strategies: tuple[Strategy, ...],
    on_missing: OnMissing,
    offers: dict[int, Free],
    answers: dict[int, Answer],
    now: float,
    decision: Decision,
) -> None:
    """Each row of the table: strategies, what is known of them, the time, and the decision."""
    assert decide(strategies, on_missing, offers=offers, answers=answers, waits_from=100, now=now) == decision


def seeker(call: int, at_ms: int, within_ms: int | None = 600_000) -> Seeker:
    return Seeker(call=call, started_at_ms=at_ms, within_ms=within_ms)


NEAREST: list[tuple[str, int | None, list[Seeker], int | None]] = [
    ("nobody looks", 0, [], None),
    ("one call in the window", 5000, [seeker(1, 0)], 1),
    ("the window's edge counts", 600_000, [seeker(1, 0)], 1),
    ("one past the window", 600_001, [seeker(1, 0)], None),
    ("the window reaches both ways", -600_000, [seeker(1, 0)], 1),
    ("the nearest of two", 5000, [seeker(1, 0), seeker(2, 9000)], 2),
    ("an exact tie is not guessed", 5000, [seeker(1, 0), seeker(2, 10_000)], None),
    ("a tie further away does not matter", 5000, [seeker(1, 4000), seeker(2, 0), seeker(3, 10_000)], 1),
    ("one call with two strategies is no tie", 5000, [seeker(1, 0), seeker(1, 0)], 1),
    ("any window, known start", 10**9, [seeker(1, 0, None)], 1),
    ("no start: only for `within: any`", None, [seeker(1, 0)], None),
    ("no start, one call with any", None, [seeker(1, 0), seeker(2, 0, None)], 2),
    ("no start, two calls: not guessed", None, [seeker(1, 0, None), seeker(2, 500, None)], None),
]


@pytest.mark.parametrize(("started_at_ms", "seekers", "call"), [row[1:] for row in NEAREST], ids=[row[0] for row in NEAREST])
def test_a_recording_goes_to_the_nearest_call(started_at_ms: int | None, seekers: list[Seeker], call: int | None) -> None:
    """One recording to one call: the nearest start inside the window, and nobody where two are equally near."""
    assert nearest_call(started_at_ms, seekers) == call


ME = seeker(1, 0)
OFFERS: list[tuple[str, Seeker, list[Free], dict[int, list[Seeker]], int | None]] = [
    ("nothing there", ME, [], {}, None),
    ("out of the window", ME, [free(1, 600_001)], {}, None),
    ("the nearest of two", ME, [free(1, 5000), free(2, -3000)], {}, 2),
    ("an exact tie is not guessed", ME, [free(1, 3000), free(2, -3000)], {}, None),
    ("the same URL twice is no tie", ME, [free(1, 3000, "u"), free(2, -3000, "u")], {}, 1),
    ("another call is nearer to it", ME, [free(1, 5000)], {1: [ME, seeker(2, 6000)]}, None),
    ("then the next one that nobody is nearer to", ME, [free(1, 5000), free(2, -9000)], {1: [ME, seeker(2, 6000)], 2: [ME]}, 2),
    ("another call is equally near", ME, [free(1, 5000)], {1: [ME, seeker(2, 10_000)]}, None),
    ("a nearer call whose window is too small does not count", ME, [free(1, 5000)], {1: [ME, seeker(2, 6000, 500)]}, 1),
    ("no start fits any window only", ME, [free(1, None)], {}, None),
    ("no start, any", seeker(1, 0, None), [free(1, None)], {}, 1),
    ("no start, two of them: not guessed", seeker(1, 0, None), [free(1, None), free(2, None)], {}, None),
    ("a known start goes before an unknown", seeker(1, 0, None), [free(1, None), free(2, 10**9)], {}, 2),
    ("no start, another call wants it too", seeker(1, 0, None), [free(1, None)], {1: [seeker(2, 5, None)]}, None),
]


@pytest.mark.parametrize(("me", "found", "rivals", "row"), [row[1:] for row in OFFERS], ids=[row[0] for row in OFFERS])
def test_offer(me: Seeker, found: list[Free], rivals: dict[int, list[Seeker]], row: int | None) -> None:
    """Of several recordings the nearest that no other waiting call is nearer to; a doubt gives none."""
    taken = offer(me, found, rivals)
    assert (None if taken is None else taken.row) == row


def test_null_keys_are_never_looked_up() -> None:
    """A null or empty key matches nothing: it is not even asked for."""
    strategies = (egress(None), egress(""), URL, egress("k"))
    assert [(position, s.key) for position, s in wants_of(strategies)] == [(3, "k")]


def test_a_story_names_no_url() -> None:
    """What a call waits for is shown without URLs, whose queries may be secrets."""
    lines = [looks_for(UrlStrategy(url="https://a/x?token=1"), None, 0), looks_for(egress("room"), None, 160.0)]
    lines += [
        looks_for(egress("room"), Answer(at=1, expired=True), 0),
        looks_for(egress(None), None, 0),
        looks_for(NO_URL, None, 0),
    ]
    assert lines == [
        "url: in the document",
        "manifest egress, key 'room': no answer yet, waits until 1970-01-01 00:02:40Z",
        "manifest egress, key 'room': expired",
        "manifest egress: absent (null key)",
        "url: absent",
    ]
