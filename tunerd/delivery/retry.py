"""The one place that decides about retries: what an HTTP answer means, and what becomes of the call. Pure.

`judge` reads an answer, `decide` turns an outcome into what is written to the ledger. What an answer means for the
whole destination (pauses, Retry-After, concurrency) is pacing.py's.
"""

import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, assert_never

from tunerd.call import Json
from tunerd.delivery.confirmation import judge_success, parse_json, tuner_call_id, upload_offer
from tunerd.ledger import Claimed, Deferred, Delivered, Ended, Settlement
from tunerd.outcome import Failed, FailReason, Outcome, PauseReason, Refused, Retry, RetryReason, Scope, Sent, Unconfirmed
from tunerd.record import record
from tunerd.tuner_fields import KNOWN_NAMES

BACKOFF_FIRST_S: Final = 1.0
BACKOFF_LONGEST_S: Final = 300.0
ACCEPTED_LATELY_S: Final = 3600.0
"""A call may only be given up while its destination accepted another one in this time: a backlog never expires."""
PROBE_REST_S: Final = 120.0
"""How long a call that was a probe in vain rests at least, so that the next probes are other calls."""

_ENDPOINT_STATUSES: Final = frozenset({404, 405, 407, 410})
_SECONDS: Final = re.compile(r"\+?(?P<s>(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?)\s*(s|secs?|seconds?)?", re.ASCII | re.IGNORECASE)
_YEAR_BEYOND: Final = re.compile(r"\b[a-z]{3}[ -]\d{5,}\b", re.ASCII | re.IGNORECASE)
_ERROR_TYPE: Final = re.compile(r"[a-z]{2,20}(_[a-z]{2,20}){0,4}")


@record
class HttpAnswer:
    """An HTTP answer, as far as it was read."""

    status: int
    body: bytes = b""
    """Decompressed."""
    unread: str = ""
    """Why the body was not read to its end (too long, a compression that is not understood), if it was not."""
    retry_after: str | None = None
    date: str | None = None


def judge(answer: HttpAnswer, *, now: float, retry_after_max_s: float, accept_any: bool = False) -> Outcome:
    """What an answer means (docs/delivery.md has the table). Total: every status has a meaning. `accept_any`: a 2xx
    needs no confirmation in its body (`delivery.accept: any`).

    Beside the table: 413 is about this call whoever says it (proxies answer it in HTML), 407 is always the proxy's,
    and a JSON answer is an object (of an error also an array), so that a captive portal's `"OK"` is none.
    """
    status = answer.status
    if status == 409:
        parsed = _parsed(answer)
        return Sent(status=status, tuner_call_id=tuner_call_id(parsed), already_there=True, offer=upload_offer(parsed))
    if 200 <= status < 300:
        success = judge_success(status, _parsed(answer), accept_any=accept_any, unread=answer.unread)
        return replace(success, detail=success.detail + _places(answer)) if isinstance(success, Failed) else success
    if status == 401:
        detail = "Tuner does not accept the API key (401); put a valid one in place, it is tried at once"
        return Refused(scope=Scope.DESTINATION, reason=PauseReason.AUTH, status=status, detail=detail)
    if status == 403:
        detail = "the API key may not send calls for this agent (403); check agent_remote_identifier and the key's workspace"
        return Refused(scope=Scope.AGENT, reason=PauseReason.AUTH, status=status, detail=detail)
    if status in (408, 425, 429) or not 300 <= status < 500:
        return _judge_trouble(answer, now, retry_after_max_s)
    if status < 400 or status in _ENDPOINT_STATUSES:
        detail = f"answered {status}: check base_url and proxy (a redirect is never followed)"
        return Refused(scope=Scope.DESTINATION, reason=PauseReason.ENDPOINT, status=status, detail=detail)
    if status == 413 or _looks_like_json(answer):
        return Failed(reason=FailReason.REJECTED, status=status, detail=f"Tuner answered {status}{_places(answer)}")
    detail = f"answered {status} without JSON: this is not Tuner, check base_url and proxy"
    return Refused(scope=Scope.DESTINATION, reason=PauseReason.ENDPOINT, status=status, detail=detail)


def decide(
    outcome: Outcome,
    claimed: Claimed,
    *,
    now: float,
    chance: float,
    give_up_after_s: float,
    last_accepted_at: float | None,
    probe: bool = False,
    rejecting: bool = False,
) -> Settlement:
    """What is written about the call whose attempt ended at `now`.

    `chance` is uniform in [0, 1): full jitter. `last_accepted_at`: when its destination last accepted a call.
    `probe`: the attempt was a probe of a paused destination; in vain, it makes room for other calls. `rejecting`:
    the destination stood paused because it rejects everything; no further call is spent on it.
    """
    rest_s = PROBE_REST_S if probe else 0.0
    match outcome:
        case Sent():
            return Delivered(status=outcome.status, tuner_call_id=outcome.tuner_call_id, already_there=outcome.already_there)
        case Failed() if rejecting and outcome.reason is FailReason.REJECTED:
            return _paused(outcome, PauseReason.REJECTING, due_at=now + rest_s)
        case Failed():
            return Ended(reason=outcome.reason, status=outcome.status, detail=outcome.detail)
        case Refused():
            is_any_calls = outcome.reason in (PauseReason.AUTH, PauseReason.LOCAL)
            return _paused(outcome, outcome.reason, due_at=now if is_any_calls else now + rest_s)
        case Unconfirmed():
            return Deferred(due_at=now, reason=PauseReason.ENDPOINT, status=outcome.status, detail=outcome.detail, counts=True,
                            surely_not_arrived=False)  # fmt: skip
        case Retry() if _is_over(claimed, now, give_up_after_s, last_accepted_at):
            detail = f"given up after {_days(give_up_after_s)} while other calls were accepted; at last: {outcome.detail}"
            return Ended(reason=FailReason.GAVE_UP, status=outcome.status, detail=detail)
        case Retry():
            delay_s = outcome.retry_after_s
            if delay_s is None:
                delay_s = max(backoff_s(claimed.attempts + 1, chance), rest_s)
            return Deferred(due_at=now + delay_s, reason=outcome.reason, status=outcome.status, detail=outcome.detail,
                            counts=True, surely_not_arrived=outcome.surely_not_arrived)  # fmt: skip
        case _:
            assert_never(outcome)


def _paused(outcome: Failed | Refused, reason: PauseReason, due_at: float) -> Deferred:
    """The destination is paused, and this was no attempt that counts."""
    return Deferred(
        due_at=due_at, reason=reason, status=outcome.status, detail=outcome.detail, counts=False, surely_not_arrived=True
    )


def backoff_s(attempts: int, chance: float) -> float:
    """Seconds to wait after that many attempts in vain: anywhere between 1 s and a ceiling that doubles to 5 min."""
    ceiling_s = min(BACKOFF_LONGEST_S, BACKOFF_FIRST_S * 2.0 ** min(attempts, 20))
    return BACKOFF_FIRST_S + chance * (ceiling_s - BACKOFF_FIRST_S)


def retry_after_s(value: str | None, date: str | None, *, now: float, longest_s: float) -> float | None:
    """A Retry-After header in seconds from now, at most `longest_s`; None if it is absent, unreadable or not ahead.

    A number may be of any length, with a fraction, an exponent or a unit of seconds behind it; of several (two proxies
    that both wrote the header) the longest counts. A date is measured against the answer's own Date header, so that two
    clocks that disagree do no harm.
    """
    if value is None:
        return None
    text = value.strip().strip('"')
    numbers = [_SECONDS.fullmatch(part.strip()) for part in text.split(",")]
    if all(numbers):
        seconds = max(float(number["s"]) for number in numbers if number)
    else:
        until = _date(text)
        if until is None:
            return None
        said_at = _date(date) if date is not None else None
        seconds = until - (now if said_at is None else said_at)
    return min(seconds, longest_s) if seconds > 0 else None


def _judge_trouble(answer: HttpAnswer, now: float, retry_after_max_s: float) -> Retry:
    status = answer.status
    wish = retry_after_s(answer.retry_after, answer.date, now=now, longest_s=retry_after_max_s)
    if status == 429:
        reason = RetryReason.THROTTLED
    elif status in (408, 425) or 500 <= status < 600:
        reason = RetryReason.SERVER_ERROR
    else:
        reason = RetryReason.BAD_ANSWER
    return Retry(
        reason=reason,
        status=status,
        detail=f"answered {status}",
        retry_after_s=wish,
        surely_not_arrived=status in (425, 429),
    )


def _is_over(claimed: Claimed, now: float, give_up_after_s: float, last_accepted_at: float | None) -> bool:
    if claimed.first_attempt_at is None or last_accepted_at is None:
        return False
    tried_s = now - claimed.first_attempt_at - claimed.paused_s
    return tried_s >= give_up_after_s and now - last_accepted_at <= ACCEPTED_LATELY_S


def _parsed(answer: HttpAnswer) -> Json:
    return None if answer.unread else parse_json(answer.body)


def _looks_like_json(answer: HttpAnswer) -> bool:
    """Of an error that is too long to be read whole (one that repeats the call) the beginning has to do."""
    if answer.unread:
        return answer.body.lstrip()[:1] in (b"{", b"[")
    return isinstance(_parsed(answer), dict | list)


def _places(answer: HttpAnswer) -> str:
    """`: transcript_with_tool_calls[3].role (enum)` where the answer lists its errors by place; never a value."""
    parsed = _parsed(answer)
    errors = parsed.get("detail") if isinstance(parsed, dict) else None
    if not isinstance(errors, list):
        return ""
    places = [place for error in errors[:3] if (place := _place(error))]
    more = f" and {len(errors) - 3} more" if len(errors) > 3 and places else ""
    return f": {', '.join(places)}{more}" if places else ""


def _place(error: Json) -> str:
    if not isinstance(error, dict) or not isinstance(steps := error.get("loc"), list):
        return ""
    place = ""
    for step in steps[:8]:
        if isinstance(step, int):
            place += f"[{step}]"
        elif isinstance(step, str) and step != "body":
            place += ("." if place else "") + (step if step in KNOWN_NAMES else "?")
    kind = error.get("type")
    return f"{place} ({kind})" if isinstance(kind, str) and _ERROR_TYPE.fullmatch(kind) else place


def _date(text: str) -> float | None:
    """Of HTTP's three forms, or ISO 8601. Later than the calendar reaches is infinitely far ahead."""
    if _YEAR_BEYOND.search(text):
        return math.inf
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            at = parse(text)
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:.3g} days" if seconds >= 86_400 else f"{seconds:.0f} s"
