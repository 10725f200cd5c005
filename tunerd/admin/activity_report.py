"""Makes the answers of `tap` and `activity` from what the daemon remembers of its events (ops/activity.py). No row has a
transcript, a body or a URL's query: the events carry none, and what they say in words is masked here once more.
"""

from collections.abc import Sequence
from typing import Final, assert_never

from tunerd import events as e
from tunerd.admin.activity_answers import ActivityDocument, Durations, SourceActivity, TapPage, TapRow
from tunerd.admin.api import TapOrder
from tunerd.call import State
from tunerd.ops.activity import Activity, Happened
from tunerd.ops.mask import redact

WINDOW_S: Final = 60.0
"""The durations of this last time are summed up."""


class ActivityReport:
    """Makes the answers."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity

    def page(self, order: TapOrder) -> TapPage:
        activity = self._activity
        missed, happened = activity.after(self._begin(order))
        rows: list[TapRow] = []
        reached = activity.newest
        for one in happened:
            row = row_of(one)
            if order.fits(row):
                rows.append(row)
                if len(rows) >= order.limit:
                    reached = one.number
                    break
        return TapPage(stream=activity.stream, next_after=reached, missed=missed, is_more=reached < activity.newest, events=rows)

    def _begin(self, order: TapOrder) -> int:
        """The number of the last event that the reader knows or does not want."""
        newest = self._activity.newest
        if order.after is None:
            return max(0, newest - max(0, order.last), self._activity.forgotten)
        return min(max(0, order.after), newest) if order.stream == self._activity.stream else 0

    def document(self) -> ActivityDocument:
        activity, at = self._activity, self._activity.now()
        counts = activity.counts()
        sources = sorted({source for _, source in counts})
        return ActivityDocument(
            stream=activity.stream,
            at=at,
            counts=[
                SourceActivity(source=source, **{what: counts.get((what, source), 0)
                                               for what in ("admitted", "retried", "sent", "failed")})
                for source in sources
            ],
            deliveries=durations(activity.delivered_since(at - WINDOW_S)),
            uploads=durations(activity.uploaded_since(at - WINDOW_S)),
        )  # fmt: skip


def durations(seconds: Sequence[float]) -> Durations:
    ordered = sorted(max(0.0, one) for one in seconds)
    if not ordered:
        return Durations(count=0, median_s=None, p95_s=None, longest_s=None)
    return Durations(
        count=len(ordered),
        median_s=ordered[(len(ordered) - 1) // 2],
        p95_s=ordered[(len(ordered) * 95 + 99) // 100 - 1],
        longest_s=ordered[-1],
    )


def row_of(happened: Happened) -> TapRow:
    number, at, event = happened
    match event:
        case e.CallAdmitted():
            return TapRow(number=number, at=at, what="admitted", state=event.state, source=event.source, call_id=event.call_id)
        case e.CallDuplicate():
            detail = "a newer document replaced the one that had not arrived" if event.replaced else "the call is known already"
            return TapRow(number=number, at=at, what="duplicate", source=event.source, call_id=event.call_id, detail=detail)
        case e.RecordingMatched():
            return TapRow(number=number, at=at, what="matched", state=State.DUE, source=event.source, call_id=event.call_id,
                          took_s=event.waited_s)  # fmt: skip
        case e.CallRetried():
            return TapRow(number=number, at=at, what="retried", state=State.DUE, source=event.source, call_id=event.call_id,
                          reason=event.reason.value, http_status=event.status, detail=redact(event.detail),
                          attempts=event.attempts, due_in_s=event.due_in_s)  # fmt: skip
        case e.CallSent():
            detail = "Tuner had it already" if event.already_there else ""
            return TapRow(number=number, at=at, what="sent", state=State.SENT, source=event.source, call_id=event.call_id,
                          detail=detail, attempts=event.attempts, took_s=max(0.0, event.delivery_s),
                          tuner_call_id=event.tuner_call_id)  # fmt: skip
        case e.CallFailed():
            detail = redact(": ".join(part for part in (event.where, event.what) if part))
            return TapRow(number=number, at=at, what="failed", state=State.FAILED, source=event.source, call_id=event.call_id,
                          path=event.path, reason=event.reason.value, http_status=event.status, detail=detail)  # fmt: skip
        case e.PauseBegan():
            return TapRow(number=number, at=at, what="paused", destination=event.destination, agent=event.agent,
                          reason=event.reason.value, detail=redact(event.detail))  # fmt: skip
        case e.PauseEnded():
            return TapRow(number=number, at=at, what="resumed", destination=event.destination, agent=event.agent,
                          reason=event.reason.value, took_s=event.lasted_s)  # fmt: skip
        case e.IntakePaused():
            return TapRow(number=number, at=at, what="paused", source=event.source, reason=event.reason.value,
                          detail=redact(event.detail))  # fmt: skip
        case e.IntakeResumed():
            return TapRow(number=number, at=at, what="resumed", source=event.source, reason=event.reason.value)
        case _:
            assert_never(event)
