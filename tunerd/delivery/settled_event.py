"""What is reported of an attempt, and of a call whose settlement is durable. Pure."""

from tunerd.events import CallFailed, CallRetried, CallSent, Event
from tunerd.ledger import Claimed, Deferred, Delivered, Ended, Settlement
from tunerd.outcome import Failed, Outcome, Refused, Retry, RetryReason, Sent, Unconfirmed


def settled_event(claimed: Claimed, settlement: Settlement, now: float) -> Event | None:
    """None: the destination is paused, which is one event for all its calls."""
    match settlement:
        case Delivered():
            return CallSent(
                source=claimed.source,
                call_id=claimed.call_id,
                tuner_call_id=settlement.tuner_call_id,
                already_there=settlement.already_there,
                delivery_s=now - claimed.settled_at,
                attempts=claimed.attempts + 1,
                lag_s=None if claimed.ended_at_ms is None else now - claimed.ended_at_ms / 1000,
            )
        case Deferred(reason=RetryReason() as reason):
            if not settlement.counts and reason is not RetryReason.UNSIGNED:
                return None
            return CallRetried(
                source=claimed.source,
                call_id=claimed.call_id,
                reason=reason,
                status=settlement.status,
                due_in_s=max(0.0, settlement.due_at - now),
                attempts=claimed.attempts + settlement.counts,
                detail=settlement.detail,
            )
        case Deferred():
            return None
        case Ended():
            return CallFailed(
                source=claimed.source,
                reason=settlement.reason,
                call_id=claimed.call_id,
                path=claimed.read_from,
                where="",
                what=settlement.detail,
                status=settlement.status,
            )


def outcome_name(outcome: Outcome) -> str:
    match outcome:
        case Sent():
            return "sent"
        case Retry():
            return "retry"
        case Failed():
            return "failed"
        case Refused():
            return "refused"
        case Unconfirmed():
            return "unconfirmed"
