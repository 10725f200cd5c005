"""What each answer means, and what becomes of the call."""

import pytest

from tests.delivery.made import NOW, SENT, claimed
from tunerd.delivery.retry import HttpAnswer, backoff_s, decide, judge, retry_after_s
from tunerd.ledger import Deferred, Delivered, Ended, Settlement
from tunerd.outcome import Failed, FailReason, Outcome, PauseReason, Refused, Retry, RetryReason, Scope, Sent, Unconfirmed

BODIES = {
    "json": b'{"success": true, "tunerCallId": "tc_1"}',
    "says no": b'{"success": false, "message": "secret"}',
    "html": b"<html>login</html>",
    "empty": b"",
}


def expected(status: int, body: str) -> str:
    """The table of the design, written down once more."""
    if status == 409:
        return "already there"
    if 200 <= status < 300:
        return {"json": "sent", "says no": "failed"}.get(body, "unconfirmed")
    if status in (401, 403):
        return {401: "refused auth destination", 403: "refused auth agent"}[status]
    if 300 <= status < 400 or status in (404, 405, 407, 410):
        return "refused endpoint destination"
    if status == 429:
        return "retry throttled"
    if status in (408, 425) or 500 <= status < 600:
        return "retry server_error"
    if 400 <= status < 500:
        return "failed" if body in ("json", "says no") or status == 413 else "refused endpoint destination"
    return "retry bad_answer"


def said(outcome: Outcome) -> str:
    match outcome:
        case Sent():
            return "already there" if outcome.already_there else "sent"
        case Failed():
            assert outcome.reason is FailReason.REJECTED
            return "failed"
        case Refused():
            return f"refused {outcome.reason} {outcome.scope}"
        case Retry():
            return f"retry {outcome.reason}"
        case Unconfirmed():
            return "unconfirmed"


@pytest.mark.parametrize("body", BODIES)
def test_every_status_has_its_meaning(body: str) -> None:
    """The table of section 8, over every status from 100 to 599 and every kind of body."""
    wrong = {
        status: (got, expected(status, body))
        for status in range(100, 600)
        if (got := said(judge(HttpAnswer(status=status, body=BODIES[body]), now=NOW, retry_after_max_s=3600)))
        != expected(status, body)
    }
    assert not wrong


SUCCESSES = {
    b'{"success": false}': "failed",
    b'{"success": false, "tunerCallId": "tc_1", "error": "x"}': "failed",
    b'{"success": "false"}': "unconfirmed",
    b'{"success": "true", "tunerCallId": "tc_1"}': "unconfirmed",
    b'{"success": null, "tunerCallId": "tc_1"}': "unconfirmed",
    b'{"success": 1}': "unconfirmed",
    b'{"success": 0}': "unconfirmed",
    b'{"success": [], "id": 7, "is_new": true}': "unconfirmed",
    b'{"success": true, "error": "maintenance"}': "unconfirmed",
    b'{"error": "maintenance"}': "unconfirmed",
    b'{"error": null, "tunerCallId": "tc_1"}': "unconfirmed",
    b'{"success": true}': "sent",
    b'{"tunerCallId": "tc_1"}': "sent",
    b'{"tunerCallId": 7}': "sent",
    b'{"tunerCallId": ""}': "unconfirmed",
    b'{"tunerCallId": null}': "unconfirmed",
    b'{"tunerCallId": true}': "unconfirmed",
    b'{"tunerCallId": {}}': "unconfirmed",
    b'{"id": 7, "is_new": true}': "sent",
    b'{"id": 7, "is_new": false}': "sent",
    b'{"id": "c7", "provider_call_id": "call-1"}': "sent",
    b'{"id": 7}': "unconfirmed",
    b'{"id": "", "is_new": true}': "unconfirmed",
    b'{"id": null, "provider_call_id": "call-1"}': "unconfirmed",
    b'{"id": true, "is_new": true}': "unconfirmed",
    b'{"id": 7, "provider_call_id": null, "is_new": null}': "unconfirmed",
    b'{"provider_call_id": "call-1", "is_new": true}': "unconfirmed",
    b'{"callId": "call-1", "message": "Call data received successfully."}': "unconfirmed",
    b'{"status": "ok"}': "unconfirmed",
    b"{}": "unconfirmed",
    b'[{"success": true}]': "unconfirmed",
    b"[]": "unconfirmed",
    b"null": "unconfirmed",
    b"true": "unconfirmed",
    b'"OK"': "unconfirmed",
    b"": "unconfirmed",
    b"\xff\xfe": "unconfirmed",
    b'{"success": true': "unconfirmed",
}


@pytest.mark.parametrize("status", [200, 201, 202, 203, 204, 206, 226, 299])
def test_a_2xx_is_sent_only_if_its_body_says_so(status: int) -> None:
    """The rules in their order, whatever the 2xx: a rejection, then any doubt, then a confirmation, and else nothing."""
    answers = {body: judge(HttpAnswer(status=status, body=body), now=NOW, retry_after_max_s=3600) for body in SUCCESSES}
    assert {body: said(outcome) for body, outcome in answers.items()} == SUCCESSES


@pytest.mark.parametrize("body", SUCCESSES)
def test_with_accept_any_only_a_plain_no_is_one(body: bytes) -> None:
    """`delivery.accept: any` takes every 2xx but `success: false` for sent."""
    outcome = judge(HttpAnswer(status=204, body=body), now=NOW, retry_after_max_s=3600, accept_any=True)
    assert said(outcome) == ("failed" if SUCCESSES[body] == "failed" else "sent")


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        (b'{"success": "canary"}', "`success` is text instead of true"),
        (b'{"success": {"canary": 1}}', "`success` is an object instead of true"),
        (b'{"error": "canary"}', "`error`"),
        (b'{"note": "canary"}', "`tunerCallId`"),
        (b"canary", "not a JSON object"),
    ],
)
def test_an_unconfirmed_answer_says_what_was_missing(body: bytes, missing: str) -> None:
    """With what to check, and without any value of the answer."""
    outcome = judge(HttpAnswer(status=200, body=body), now=NOW, retry_after_max_s=3600)
    assert isinstance(outcome, Unconfirmed)
    assert missing in outcome.detail
    assert "base_url" in outcome.detail
    assert "delivery.accept: any" in outcome.detail
    assert "canary" not in outcome.detail


def test_an_unconfirmed_call_may_have_arrived() -> None:
    """It is due again as one that may have arrived, so its bytes stay; the destination's pause holds it back."""
    outcome = Unconfirmed(status=200, detail="answered 200")
    assert settled(outcome) == Deferred(
        due_at=NOW, reason=PauseReason.ENDPOINT, status=200, detail="answered 200", counts=True, surely_not_arrived=False
    )


@pytest.mark.parametrize(
    ("body", "unread", "expected"),
    [(b'{"success": true}', "its body is longer than 1,024 KiB", "unconfirmed"), (b"", "its body is ...", "unconfirmed")],
)
def test_what_was_not_read_confirms_nothing(body: bytes, unread: str, expected: str) -> None:
    """However it begins."""
    assert said(judge(HttpAnswer(status=200, body=body, unread=unread), now=NOW, retry_after_max_s=3600)) == expected


@pytest.mark.parametrize(("body", "expected"), [(b' {"detail": [', "failed"), (b"<html>", "refused endpoint destination")])
def test_a_rejection_too_long_to_read_is_still_a_rejection(body: bytes, expected: str) -> None:
    """An error that repeats a large call must not pass for a wrong URL and stop every other call."""
    assert (
        said(
            judge(HttpAnswer(status=422, body=body, unread="its body is longer than 1,024 KiB"), now=NOW, retry_after_max_s=3600)
        )
        == expected
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"tunerCallId": "tc_9"}', "tc_9"),
        (b'{"id": 123, "is_new": true}', "123"),
        (b'{"success": true, "id": true}', None),
        (b'{"success": true}', None),
    ],
)
def test_tuners_own_id_is_kept(body: bytes, expected: str | None) -> None:
    """tunerCallId of send-calls, id of create-call."""
    outcome = judge(HttpAnswer(status=201, body=body), now=NOW, retry_after_max_s=3600)
    assert isinstance(outcome, Sent)
    assert outcome.tuner_call_id == expected


def test_a_rejection_names_places_and_never_values() -> None:
    """The detail repeats field names of the API and the kind of error; nothing that could be content."""
    body = (
        b'{"detail": [{"loc": ["body", "transcript_with_tool_calls", 3, "role"], "type": "enum", "msg": "canary"},'
        b' {"loc": ["body", "metadata", "canary-4111"], "type": "CANARY 4111", "input": "canary"}]}'
    )
    outcome = judge(HttpAnswer(status=422, body=body), now=NOW, retry_after_max_s=3600)
    assert isinstance(outcome, Failed)
    assert outcome.detail == "Tuner answered 422: transcript_with_tool_calls[3].role (enum), metadata.?"


def test_errors_in_a_rejection_that_have_no_place_are_left_out() -> None:
    """A list of errors that looks different from the API's still says that the call was rejected; the first three are read."""
    for errors, expected in {
        b'["canary", {"loc": "canary", "type": "enum"}, {"loc": ["body", "call_id"]}]': ": call_id",
        b'["canary", 4, null, {"loc": ["body", "call_id"], "type": "missing"}]': "",
        b'[{"loc": ["call_id"], "type": "missing"}, {}, {}, {}, {}]': ": call_id (missing) and 2 more",
    }.items():
        outcome = judge(HttpAnswer(status=422, body=b'{"detail": %s}' % errors), now=NOW, retry_after_max_s=3600)
        assert isinstance(outcome, Failed)
        assert outcome.detail == f"Tuner answered 422{expected}"


DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "date", "expected"),
    [
        ("7", None, 7.0),
        (" 1.5 ", None, 1.5),
        ("86400", None, 3600.0),
        ("0", None, None),
        ("-5", None, None),
        ("soon", None, None),
        ("", None, None),
        ("nan", None, None),
        ("1e9", None, 3600.0),
        ("1767225600000", None, 3600.0),
        ("9" * 400, None, 3600.0),
        ("0.5", None, 0.5),
        (".5", None, 0.5),
        ("7.", None, 7.0),
        ("+7", None, 7.0),
        ("7.0000000000000000001", None, 7.0),
        ("1e3", None, 1000.0),
        ("1e400", None, 3600.0),
        ("1e-9", None, 1e-9),
        ("00000000000000000007", None, 7.0),
        ("7, 7", None, 7.0),
        ("5, 9", None, 9.0),
        ("7s", None, 7.0),
        ("120 seconds", None, 120.0),
        ("0x10", None, None),
        ("1_000", None, None),
        ("١٢", None, None),
        ("inf", None, None),
        ("infinity", None, None),
        ('"30"', None, 30.0),
        ("2026-01-01T00:02:00Z", DATE, 120.0),
        ("2026-01-01T00:02:00+00:00", "2026-01-01T00:01:00Z", 60.0),
        (None, DATE, None),
        ("Thu, 01 Jan 2026 00:02:00 +0000", DATE, 120.0),
        ("Thursday, 01-Jan-26 00:02:00 GMT", DATE, 120.0),
        ("Thu Jan  1 00:02:00 2026", DATE, 120.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DATE, 3600.0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", DATE, 3600.0),
        ("Thu, 01 Jan 2026 00:02:00 GMT", DATE, 120.0),
        ("Thu, 01 Jan 2026 00:02:00 GMT", None, 120.0),
        ("Thu, 01 Jan 2026 00:02:00 GMT", "Thu, 01 Jan 2026 00:01:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 00:02:00 GMT", "nonsense", 120.0),
        ("Thu, 01 Jan 2026 09:00:00 GMT", DATE, 3600.0),
        ("Thu, 01 Jan 2025 00:00:00 GMT", DATE, None),
        ("Thu, 01 Jan 0000 00:00:00 GMT", DATE, None),
    ],
)
def test_retry_after(value: str | None, date: str | None, expected: float | None) -> None:
    """Seconds, or a date against the answer's own Date; at most the limit; what cannot be meant is ignored."""
    assert retry_after_s(value, date, now=NOW, longest_s=3600.0) == expected


def settled(outcome: Outcome, **changes: object) -> Settlement:
    context = {"chance": 0.5, "give_up_after_s": 7 * 86_400.0, "last_accepted_at": None}
    call = claimed(**{name: changes.pop(name) for name in ("attempts", "first_attempt_at", "paused_s") if name in changes})
    return decide(outcome, call, now=NOW, **{**context, **changes})  # type: ignore[arg-type]


TROUBLE = Retry(reason=RetryReason.SERVER_ERROR, status=503, detail="answered 503")
REJECTED = Failed(reason=FailReason.REJECTED, status=422, detail="Tuner answered 422")
NO_KEY = Refused(scope=Scope.DESTINATION, reason=PauseReason.AUTH, status=401, detail="no")
WRONG_URL = Refused(scope=Scope.DESTINATION, reason=PauseReason.ENDPOINT, status=404, detail="no")


def test_sent_is_delivered() -> None:
    """An accepted call is done, with Tuner's id."""
    assert settled(SENT) == Delivered(status=200, tuner_call_id="tc_1", already_there=False)


def test_backoff_is_full_jitter_between_a_second_and_five_minutes() -> None:
    """The ceiling doubles from 2 s to 300 s, the floor stays, and chance spreads evenly between."""
    assert [backoff_s(n, 0.999999) for n in (1, 2, 3, 8, 9, 5000)] == pytest.approx([2, 4, 8, 256, 300, 300], rel=1e-3)
    assert {backoff_s(n, 0.0) for n in range(1, 50)} == {1.0}


def test_retry_counts_and_backs_off() -> None:
    """A retryable outcome costs an attempt and delays the call by its backoff."""
    later = settled(TROUBLE, attempts=2)
    assert isinstance(later, Deferred)
    assert (later.due_at, later.counts, later.surely_not_arrived) == (NOW + 4.5, True, False)


def test_retry_after_is_obeyed_exactly() -> None:
    """Neither jitter nor backoff changes what the server asked for."""
    later = settled(Retry(reason=RetryReason.THROTTLED, status=429, detail="", retry_after_s=17.25), attempts=9, probe=True)
    assert isinstance(later, Deferred)
    assert later.due_at == NOW + 17.25


def test_a_refusal_costs_no_attempt() -> None:
    """A wrong key is not the call's fault: due at once, when the pause is over."""
    later = settled(NO_KEY)
    assert isinstance(later, Deferred)
    assert (later.due_at, later.counts, later.surely_not_arrived, later.reason) == (NOW, False, True, PauseReason.AUTH)


def test_our_own_trouble_costs_no_attempt_and_no_rest() -> None:
    """A probe that found no descriptor says nothing about its call: due again at once."""
    local = Refused(scope=Scope.DESTINATION, reason=PauseReason.LOCAL, status=0, detail="no file descriptor is left")
    later = settled(local, probe=True)
    assert isinstance(later, Deferred)
    assert (later.due_at, later.counts, later.surely_not_arrived, later.reason) == (NOW, False, True, PauseReason.LOCAL)


@pytest.mark.parametrize("outcome", [TROUBLE, WRONG_URL])
def test_a_probe_in_vain_rests(outcome: Outcome) -> None:
    """The next probes are other calls; of a wrong key any call can tell, so none has to wait after it is mended."""
    later = settled(outcome, probe=True)
    assert isinstance(later, Deferred)
    assert later.due_at >= NOW + 120
    later = settled(NO_KEY, probe=True)
    assert isinstance(later, Deferred)
    assert later.due_at == NOW


def test_rejected_ends_unless_everything_is_rejected() -> None:
    """While the destination stands paused for rejecting everything, no further call is spent on it."""
    assert isinstance(settled(REJECTED), Ended)
    held = settled(REJECTED, rejecting=True)
    assert isinstance(held, Deferred)
    assert (held.counts, held.reason) == (False, PauseReason.REJECTING)


DAY = 86_400.0


@pytest.mark.parametrize(
    ("first", "paused", "accepted", "ends"),
    [
        (NOW - 8 * DAY, 0.0, NOW - 60, True),
        (NOW - 7 * DAY, 0.0, NOW - 3600, True),
        (NOW - 7 * DAY + 1, 0.0, NOW - 60, False),
        (NOW - 8 * DAY, 2 * DAY, NOW - 60, False),
        (NOW - 8 * DAY, 0.0, NOW - 3601, False),
        (NOW - 8 * DAY, 0.0, None, False),
        (None, 0.0, NOW - 60, False),
    ],
)
def test_giving_up(first: float | None, paused: float, accepted: float | None, ends: bool) -> None:
    """Only a call that was tried for give_up_after, pauses apart, while others were accepted in the last hour."""
    ended = settled(TROUBLE, first_attempt_at=first, paused_s=paused, last_accepted_at=accepted)
    assert isinstance(ended, Ended if ends else Deferred)
    if isinstance(ended, Ended):
        assert ended.reason is FailReason.GAVE_UP
