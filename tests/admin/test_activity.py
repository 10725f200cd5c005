"""What `tap` and `activity` answer: events in order, filters, what a slow reader missed, counts and durations; and no canary."""

import json

import pytest

from tests.admin.benches import Bench
from tests.ops.parts import NOW, every_event, failed, retried, sent
from tests.ops.test_canaries import LEAKY, SECRETS, leaks
from tunerd import events as e
from tunerd.admin.activity_report import durations
from tunerd.admin.api import ActivityOrder, TapOrder
from tunerd.call import State
from tunerd.ops.activity import KEPT, KEPT_DURATIONS
from tunerd.ops.encoding import encoded
from tunerd.ops.mask import keep_out
from tunerd.outcome import FailReason, IntakeReason, PauseReason


def admitted(call_id: str, source: str = "agent", state: State = State.DUE) -> e.CallAdmitted:
    return e.CallAdmitted(source=source, call_id=call_id, state=state)


async def test_a_tap_continues_where_its_page_ended() -> None:
    """Each event comes once, in order, however small the pages are; the first page begins with the next event."""
    bench = Bench()
    bench.activity(admitted("before"))
    page = await bench.ask(TapOrder())
    assert (page.events, page.missed, page.is_more) == ([], 0, False)
    for n in range(5):
        bench.activity(admitted(f"call-{n}"))
    seen = []
    while True:
        page = await bench.ask(TapOrder(after=page.next_after, stream=page.stream, limit=2))
        seen += [row.call_id for row in page.events]
        if not page.is_more:
            break
    assert seen == [f"call-{n}" for n in range(5)]
    assert (await bench.ask(TapOrder(after=page.next_after, stream=page.stream))).events == []


async def test_earlier_events() -> None:
    """`last` begins with the newest of them, and never counts as missed what was not asked for."""
    bench = Bench()
    for n in range(KEPT + 10):
        bench.activity(admitted(f"call-{n}"))
    page = await bench.ask(TapOrder(last=2))
    assert [row.call_id for row in page.events] == [f"call-{KEPT + 8}", f"call-{KEPT + 9}"]
    page = await bench.ask(TapOrder(last=2 * KEPT, limit=1))
    assert (page.missed, page.events[0].call_id) == (0, "call-10")


async def test_what_a_slow_reader_missed_is_counted() -> None:
    """The daemon remembers a fixed number of events, whoever reads; the page after a gap says how long it was."""
    bench = Bench()
    page = await bench.ask(TapOrder())
    for n in range(KEPT + 10):
        bench.activity(admitted(f"call-{n}"))
    page = await bench.ask(TapOrder(after=page.next_after, stream=page.stream, limit=1))
    assert (page.missed, page.events[0].call_id) == (10, "call-10")


@pytest.mark.parametrize("after", [0, 3, 10**9, -5])
async def test_the_pages_of_a_restarted_daemon(after: int) -> None:
    """All its events are new, whatever number the reader had reached."""
    bench = Bench()
    for n in range(3):
        bench.activity(admitted(f"call-{n}"))
    page = await bench.ask(TapOrder(after=after, stream="of another process"))
    assert [row.call_id for row in page.events] == ["call-0", "call-1", "call-2"]


@pytest.mark.parametrize(
    ("order", "whats"),
    [
        (TapOrder(last=9), ["admitted", "retried", "sent", "failed", "admitted", "paused", "paused"]),
        (TapOrder(last=9, sources=frozenset({"other"})), ["admitted", "paused"]),
        (TapOrder(last=9, states=frozenset({State.DUE})), ["admitted", "retried"]),
        (TapOrder(last=9, states=frozenset({State.SENT, State.FAILED})), ["sent", "failed"]),
        (TapOrder(last=9, reasons=frozenset({"server_error"})), ["retried"]),
        (TapOrder(last=9, reasons=frozenset({"auth"})), ["paused"]),
        (TapOrder(last=9, call_ids=frozenset({"call-2"})), ["sent"]),
        (TapOrder(last=9, call_ids=frozenset({"call-1"}), reasons=frozenset({"invalid"})), ["failed"]),
    ],
)
async def test_filters(order: TapOrder, whats: list[str]) -> None:
    """By source, state, reason and id; several narrow each other. What is left out is not missed."""
    bench = Bench()
    for event in (
        admitted("call-1"), retried(), sent("call-2"), failed(FailReason.INVALID), admitted("call-3", "other", State.WAITING),
        e.PauseBegan(destination="d", agent=None, reason=PauseReason.AUTH, detail="401"),
        e.IntakePaused(source="other", reason=IntakeReason.MISSING, detail="gone"),
    ):  # fmt: skip
        bench.activity(event)
    page = await bench.ask(order)
    assert [row.what for row in page.events] == whats
    assert (page.missed, page.next_after) == (0, 7)


async def test_no_canary_in_a_tap() -> None:
    """Of every kind of event, with secrets in each free text."""
    keep_out(SECRETS["own key"])
    bench = Bench()
    for event in every_event(LEAKY):
        bench.activity(event)
    page = await bench.ask(TapOrder(last=KEPT))
    assert {row.what for row in page.events} == {
        "admitted", "duplicate", "matched", "failed", "sent", "retried", "paused", "resumed"
    }  # fmt: skip
    text = encoded(page).decode()
    assert "[redacted]" in text
    assert leaks(text) == []


async def test_activity_counts_and_measures() -> None:
    """Counts since the start by source; durations of the last minute only."""
    bench = Bench()
    bench.activity(sent("old"))
    bench.now += 100
    for event in (admitted("a"), admitted("b", "other"), retried(), failed(), sent("a"), sent("b")):
        bench.activity(event)
    for took_s in (0.1, 0.2, 0.3):
        bench.activity(e.AttemptEnded(destination="d", outcome="sent", took_s=took_s))
    answer = await bench.ask(ActivityOrder())
    assert answer.at == NOW + 100
    assert json.loads(encoded(answer.counts)) == [
        {"source": "agent", "admitted": 1, "retried": 1, "sent": 3, "failed": 1},
        {"source": "other", "admitted": 1, "retried": 0, "sent": 0, "failed": 0},
    ]
    assert (answer.deliveries.count, answer.deliveries.median_s) == (2, 0.5)
    assert (answer.uploads.count, answer.uploads.median_s, answer.uploads.longest_s) == (3, 0.2, 0.3)


def test_durations() -> None:
    """The smallest value that half, or 95 of 100, do not exceed."""
    assert durations([]).median_s is None
    assert durations([7.0]).p95_s == 7.0
    many = durations([float(n) for n in range(100, 0, -1)])
    assert (many.count, many.median_s, many.p95_s, many.longest_s) == (100, 50.0, 95.0, 100.0)
    assert durations([-1.0]).longest_s == 0.0


async def test_memory_is_bounded() -> None:
    """However many events there are."""
    bench = Bench()
    for _ in range(3 * KEPT):
        bench.activity(sent())
        bench.activity(e.AttemptEnded(destination="d", outcome="sent", took_s=0.1))
    assert (await bench.ask(ActivityOrder())).deliveries.count == KEPT_DURATIONS
    page = await bench.ask(TapOrder(last=10 * KEPT, limit=10 * KEPT))
    assert len(page.events) == KEPT
