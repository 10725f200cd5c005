"""Pacing of a destination: pauses, probes, Retry-After, rate limit, picks."""

from collections import Counter

import pytest

from tests.delivery.made import NOW, SENT
from tunerd.delivery.pacing import Pacing
from tunerd.delivery.permits import Blocked, Permit
from tunerd.delivery.token_bucket import TokenBucket
from tunerd.events import Event, PauseBegan, PauseEnded
from tunerd.ledger import Pick, StoredPauses
from tunerd.outcome import Failed, FailReason, Outcome, PauseReason, Refused, Retry, RetryReason, Scope, Unconfirmed

AUTH = Refused(scope=Scope.DESTINATION, reason=PauseReason.AUTH, status=401, detail="401")
AGENT = Refused(scope=Scope.AGENT, reason=PauseReason.AUTH, status=403, detail="403")
ENDPOINT = Refused(scope=Scope.DESTINATION, reason=PauseReason.ENDPOINT, status=404, detail="404")
ERROR = Retry(reason=RetryReason.SERVER_ERROR, status=500, detail="500")
LOCAL = Refused(scope=Scope.DESTINATION, reason=PauseReason.LOCAL, status=0, detail="no file descriptor is left")
UNCONFIRMED = Unconfirmed(status=200, detail="answered 200, but it has an `error`")
THROTTLED = Retry(reason=RetryReason.THROTTLED, status=429, detail="429")


def rejected(status: int = 422) -> Failed:
    return Failed(reason=FailReason.REJECTED, status=status, detail=str(status))


class PacingBench:
    """A Pacing, driven attempt by attempt."""

    def __init__(self, **changes: float | None) -> None:
        self.pacing = Pacing("tuner", concurrency=int(changes.get("concurrency") or 8), rate_limit=changes.get("rate_limit"))
        self.now = NOW
        self.told: list[Event] = []

    def acquire(self) -> Permit:
        permission = self.pacing.acquire(self.now)
        assert isinstance(permission, Permit)
        return permission

    def attempt(self, outcome: Outcome, row: int = 1, agent: str = "a") -> Permit:
        permit = self.acquire()
        assert self.pacing.pauses.takes_agent(agent, self.now)
        self.told += self.pacing.ended(permit, row=row, agent=agent, outcome=outcome, took_s=0.1, now=self.now)
        return permit

    def waits_until(self) -> float | None:
        permission = self.pacing.acquire(self.now)
        assert isinstance(permission, Blocked)
        return permission.until

    def pauses(self) -> list[str]:
        return [
            f"{'+' if isinstance(e, PauseBegan) else '-'}{e.reason}{'/' + e.agent if e.agent else ''}"
            for e in self.told
            if isinstance(e, PauseBegan | PauseEnded)
        ]


@pytest.mark.parametrize("refusal", [AUTH, ENDPOINT])
def test_a_refusal_pauses_with_a_probe_each_30_s(refusal: Refused) -> None:
    """The first refusal stops everything; one call goes out each 30 s, and the first accepted one ends it."""
    bench = PacingBench()
    bench.attempt(refusal)
    assert bench.waits_until() == NOW + 30
    bench.now += 30
    permit = bench.acquire()
    assert permit.probe
    assert bench.waits_until() is None, "one probe at a time"
    bench.told += bench.pacing.ended(permit, row=2, agent="a", outcome=refusal, took_s=0.1, now=bench.now)
    assert bench.waits_until() == NOW + 60
    bench.now += 30
    bench.attempt(SENT, row=3)
    assert not bench.acquire().probe
    assert bench.pauses() == [f"+{refusal.reason}", f"-{refusal.reason}"]


@pytest.mark.parametrize("answer", [SENT, ERROR, rejected(), THROTTLED])
def test_our_own_trouble_is_tried_each_second_and_ends_with_any_answer(answer: Outcome) -> None:
    """Out of descriptors: nothing of it is Tuner's doing, so a probe goes out each second, whatever Tuner then answers has
    shown that a connection can be made, and however often it happened, no other pause follows from it."""
    bench = PacingBench()
    for row in range(20):
        assert bench.attempt(LOCAL, row).probe is (row > 0)
        assert bench.waits_until() == bench.now + 1
        bench.now += 1
    bench.attempt(answer, row=99)
    assert bench.pacing.pauses.reason is None
    assert not bench.acquire().probe
    assert bench.pauses() == ["+local", "-local"]


@pytest.mark.parametrize("before", [AUTH, ENDPOINT])
def test_our_own_trouble_ends_no_other_pause(before: Refused) -> None:
    """What Tuner was paused for still is; the probe that could not be made is made a second later."""
    bench = PacingBench()
    bench.attempt(before)
    bench.now += 30
    bench.attempt(LOCAL)
    assert bench.pacing.pauses.reason is before.reason
    assert bench.waits_until() == bench.now + 1


def test_our_own_trouble_takes_fewer_connections() -> None:
    """Those that are open go on being used: the limit falls to what there are descriptors for."""
    bench = PacingBench(concurrency=8)
    before = bench.pacing.limit
    bench.attempt(LOCAL)
    assert bench.pacing.limit < before


def test_our_own_trouble_does_not_outlive_the_process() -> None:
    """The next process has descriptors of its own."""
    bench = PacingBench()
    bench.attempt(LOCAL)
    assert bench.pacing.pauses.stored() == StoredPauses()


def test_an_attempt_from_before_the_pause_does_not_end_it() -> None:
    """What was in flight when the key was refused says nothing about the key now."""
    bench = PacingBench()
    early = bench.acquire()
    bench.attempt(AUTH)
    bench.pacing.ended(early, row=2, agent="a", outcome=SENT, took_s=0.1, now=bench.now)
    assert bench.pacing.pauses.reason is PauseReason.AUTH


def test_another_key_is_tried_at_once() -> None:
    """The probe does not wait for its 30 s."""
    bench = PacingBench()
    bench.attempt(AUTH)
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=True)
    assert bench.acquire().probe


def test_without_a_key_nothing_goes_out() -> None:
    """A missing key pauses without any request; when it comes, it is tried at once."""
    bench = PacingBench()
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=False, missing="the key file is missing")
    bench.now += 3600
    assert bench.waits_until() is None
    assert bench.pacing.pauses.views()[0].next_probe_at is None
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=True)
    bench.attempt(SENT)
    assert bench.pauses() == ["+auth", "-auth"]


def test_403_pauses_the_agent_alone() -> None:
    """Other agents go on; the paused one is probed each 30 s with a call of its own, one at a time."""
    bench = PacingBench()
    bench.attempt(AGENT, agent="bad")
    assert bench.acquire().not_agents == {"bad"}
    assert bench.pacing.pauses.next_agent_probe_at() == NOW + 30
    bench.now += 30
    first, second = bench.acquire(), bench.acquire()
    assert first.not_agents == frozenset()
    assert bench.pacing.pauses.takes_agent("bad", bench.now)
    assert not bench.pacing.pauses.takes_agent("bad", bench.now), "somebody probes already"
    assert bench.pacing.pauses.takes_agent("good", bench.now)
    bench.told += bench.pacing.ended(first, row=1, agent="bad", outcome=AGENT, took_s=0.1, now=bench.now)
    bench.pacing.unused(second, bench.now)
    assert bench.acquire().not_agents == {"bad"}
    bench.now += 30
    bench.attempt(SENT, agent="bad")
    assert bench.pauses() == ["+auth/bad", "-auth/bad"]
    assert bench.acquire().not_agents == frozenset()


def test_ten_rejections_in_a_row_pause() -> None:
    """Ten different calls, one status, none accepted: the eleventh is not spent."""
    bench = PacingBench()
    for row in (*range(9), 8):
        bench.attempt(rejected(), row)
    assert not bench.pauses(), "nine different calls"
    bench.attempt(rejected(), 9)
    bench.now += 30
    bench.attempt(rejected(), 10)
    assert bench.pacing.pauses.reason is PauseReason.REJECTING
    bench.now += 30
    bench.attempt(SENT, 11)
    assert bench.pauses() == ["+rejecting", "-rejecting"]


@pytest.mark.parametrize(
    ("status", "says"), [(400, "workspace_id or agent_remote_identifier is wrong"), (422, "check the rules")]
)
def test_the_pause_names_what_is_mostly_wrong(status: int, says: str) -> None:
    """With 400 it is the workspace or the agent rather than the calls."""
    bench = PacingBench()
    for row in range(10):
        bench.attempt(rejected(status), row)
    (pause,) = bench.pacing.pauses.views()
    assert says in pause.detail


@pytest.mark.parametrize("between", [SENT, rejected(400)])
def test_rejections_that_are_not_in_a_row_do_not_pause(between: Outcome) -> None:
    """An accepted call, or another status, begins the count anew."""
    bench = PacingBench()
    for row in range(9):
        bench.attempt(rejected(), row)
    bench.attempt(between, 100)
    for row in range(10, 19):
        bench.attempt(rejected(), row)
    assert bench.pacing.pauses.reason is None


@pytest.mark.parametrize(
    ("rows", "spread_s", "outcomes", "paused"),
    [
        (3, 59, [ERROR] * 10, True),
        (2, 59, [ERROR] * 10, False),
        (3, 61, [ERROR] * 10, False),
        (3, 59, [ERROR] * 9, False),
        (3, 59, [ERROR] * 9 + [SENT] + [ERROR] * 9, False),
        (3, 30, [ERROR] * 9 + [THROTTLED] * 5, False),
        (3, 30, [THROTTLED] * 30, False),
    ],
)
def test_when_unreachable_begins(rows: int, spread_s: float, outcomes: list[Outcome], paused: bool) -> None:
    """Ten retryable outcomes, 429 apart, without a success, from three calls or more, within 60 s."""
    bench = PacingBench()
    for number, outcome in enumerate(outcomes):
        bench.attempt(outcome, row=number % rows)
        bench.now += spread_s / (len(outcomes) - 1)
    assert (bench.pacing.pauses.reason is PauseReason.UNREACHABLE) is paused


def unreachable() -> PacingBench:
    bench = PacingBench()
    for row in range(10):
        bench.attempt(ERROR, row)
    assert bench.pacing.pauses.reason is PauseReason.UNREACHABLE
    return bench


def test_probes_take_the_newest_and_now_and_then_the_oldest() -> None:
    """Newest first; should they all be poison, an innocent one has its turn."""
    bench = unreachable()
    picks = []
    for row in range(8):
        bench.now += 30
        picks.append(bench.attempt(ERROR, 100 + row).pick)
    assert picks == [Pick.NEWEST, Pick.NEWEST, Pick.NEWEST, Pick.OLDEST] * 2


@pytest.mark.parametrize(("outcome", "after"), [
    (SENT, None), (rejected(), None), (THROTTLED, None), (AUTH, PauseReason.AUTH), (ERROR, PauseReason.UNREACHABLE),
])  # fmt: skip
def test_any_answer_ends_unreachable(outcome: Outcome, after: PauseReason | None) -> None:
    """Whoever says no, or later, is there."""
    bench = unreachable()
    bench.now += 30
    bench.attempt(outcome, 99)
    assert bench.pacing.pauses.reason is after


def test_an_unused_probe_is_not_spent() -> None:
    """With no call to probe with, the next call that comes is the probe, at once."""
    bench = unreachable()
    bench.now += 30
    bench.pacing.unused(bench.acquire(), bench.now)
    bench.now += 0.001
    assert bench.acquire().probe


def test_retry_after_closes_the_whole_destination() -> None:
    """Nobody starts before, the longest wish holds, and it is what a restart goes on from."""
    bench = PacingBench()
    first, second = bench.acquire(), bench.acquire()
    for permit, wish in ((first, 60.0), (second, 20.0)):
        wished = Retry(reason=RetryReason.THROTTLED, status=429, detail="", retry_after_s=wish)
        bench.pacing.ended(permit, row=1, agent="a", outcome=wished, took_s=0.1, now=bench.now)
    assert bench.waits_until() == NOW + 60
    again = PacingBench()
    again.pacing.pauses.restore(bench.pacing.pauses.stored(), NOW + 1)
    again.now = NOW + 59.999
    assert again.waits_until() == NOW + 60
    again.now = NOW + 60
    again.acquire()


def test_no_probe_before_retry_after() -> None:
    """A pause's probe waits for the server's wish, too."""
    bench = unreachable()
    bench.now += 30
    bench.attempt(Retry(reason=RetryReason.SERVER_ERROR, status=503, detail="", retry_after_s=300), 50)
    assert bench.waits_until() == NOW + 330


def test_pauses_survive_a_restart_and_are_probed_at_once() -> None:
    """After a restart, the stored pauses are there again, and the next call tries whether their cause is gone."""
    bench = PacingBench()
    bench.attempt(AGENT, agent="bad")
    bench.attempt(AUTH)
    assert bench.pacing.pauses.dirty
    kept = bench.pacing.pauses.stored()
    assert (kept.pause, kept.paused_since, dict(kept.agents)) == (PauseReason.AUTH, NOW, {"bad": (PauseReason.AUTH, NOW)})
    again = PacingBench()
    again.now += 100
    again.told += again.pacing.pauses.restore(kept, again.now)
    assert again.pauses() == ["+auth", "+auth/bad"]
    assert again.acquire().probe
    assert not again.pacing.pauses.dirty


def test_an_operators_pause_holds_until_resume() -> None:
    """No probe, whatever happens; resume ends every pause, and also one that was there before a restart."""
    bench = PacingBench()
    early = bench.acquire()
    bench.told += bench.pacing.pauses.operator_pause(bench.now)
    bench.told += bench.pacing.ended(early, row=1, agent="a", outcome=AUTH, took_s=0.1, now=bench.now)
    bench.now += 86_400
    assert bench.waits_until() is None
    bench.told += bench.pacing.pauses.operator_resume(bench.now)
    assert not bench.acquire().probe
    assert bench.pauses() == ["+operator", "-operator"]
    restarted = Pacing("tuner", concurrency=1, rate_limit=None)
    restarted.pauses.restore(StoredPauses(pause=PauseReason.OPERATOR, paused_since=NOW), NOW)
    assert restarted.acquire(NOW + 1e6) == Blocked()


def test_of_four_claims_one_is_the_newest_and_one_expires_soon() -> None:
    """The share of fresh, expiring and old calls."""
    bench = PacingBench()
    assert Counter(bench.attempt(SENT).pick for _ in range(40)) == {Pick.NEWEST: 10, Pick.EXPIRING: 10, Pick.OLDEST: 20}


def test_a_call_that_is_taken_for_a_wrong_url_twice_backs_off_alone() -> None:
    """If others were accepted since its first refusal, it is not the URL: it must not stop everybody again."""
    pacing = PacingBench()
    assert pacing.pacing.attribute(7, ENDPOINT, pacing.now) is ENDPOINT
    assert pacing.pacing.attribute(7, ENDPOINT, pacing.now) is ENDPOINT
    pacing.attempt(SENT, 8)
    assert isinstance(pacing.pacing.attribute(7, ENDPOINT, pacing.now), Retry)
    assert pacing.pacing.attribute(9, ENDPOINT, pacing.now) is ENDPOINT
    assert pacing.pacing.attribute(7, AUTH, pacing.now) is AUTH


def test_500s_do_not_lower_the_limit_and_503s_do() -> None:
    """Poison is not back-pressure."""
    poisoned, pressed = PacingBench(), PacingBench()
    for row in range(30):
        poisoned.now += 1
        pressed.now += 1
        poisoned.attempt(ERROR if row % 2 else SENT, row)
        pressed.attempt(Retry(reason=RetryReason.SERVER_ERROR, status=503, detail="") if row % 2 else SENT, row)
    assert poisoned.pacing.limit >= 4
    assert pressed.pacing.limit == 1


def test_no_more_than_the_limit_are_in_flight() -> None:
    """Permits end at the limit and come back with each attempt."""
    bench = PacingBench(concurrency=3)
    permits = [bench.acquire() for _ in range(3)]
    assert bench.waits_until() is None
    bench.pacing.unused(permits[0], bench.now)
    bench.acquire()


def test_the_rate_limit_spaces_starts() -> None:
    """At 4 a second, a minute holds 240 starts and one to begin with; a permit that is not used costs nothing."""
    bucket = TokenBucket(4.0)
    now, starts = NOW, 0
    while now < NOW + 60:
        until = bucket.take(now)
        if until is None:
            starts += 1
        else:
            assert until > now
            now = until
    assert starts in (240, 241)
    bench = PacingBench(rate_limit=1.0)
    bench.pacing.unused(bench.acquire(), bench.now)
    bench.acquire()
    assert bench.waits_until() == pytest.approx(NOW + 1)


def test_a_jump_of_the_wall_clock_moves_every_wait_with_it() -> None:
    """A day forward is no permission to probe; a day back does not wait a day longer."""
    bench = PacingBench()
    bench.attempt(AUTH)
    for seconds in (86_400.0, -86_400.0):
        bench.now += seconds
        bench.pacing.shift(seconds)
        assert bench.waits_until() == bench.now + 30


# A call that may have arrived.


def test_an_unconfirmed_call_is_the_only_probe() -> None:
    """After 30 s, then twice as long each time up to 10 min, and never another call; its acceptance ends the pause."""
    bench = PacingBench()
    bench.attempt(UNCONFIRMED, row=7)
    waits = []
    for _ in range(7):
        until = bench.waits_until()
        assert until is not None
        waits.append(until - bench.now)
        bench.now = until
        assert bench.attempt(UNCONFIRMED, row=7).row == 7
    assert waits == [30, 60, 120, 240, 480, 600, 600]
    bench.now = bench.waits_until() or 0.0
    permit = bench.attempt(SENT, row=7)
    assert (permit.probe, permit.row) == (True, 7)
    assert not bench.acquire().probe
    assert bench.pauses() == ["+endpoint", "-endpoint"]
    (began,) = [event for event in bench.told if isinstance(event, PauseBegan)]
    assert began.detail == "answered 200, but it has an `error`; only this call is tried again, in 30 s"


def test_the_first_of_several_unconfirmed_calls_is_the_probe() -> None:
    """The others were open when the pause began; they wait, and one probe in vain of any kind changes nothing."""
    bench = PacingBench()
    open_calls = [bench.acquire() for _ in range(3)]
    for row, permit in enumerate(open_calls, 1):
        bench.told += bench.pacing.ended(permit, row=row, agent="a", outcome=UNCONFIRMED, took_s=0.1, now=bench.now)
    for outcome in (ERROR, THROTTLED, UNCONFIRMED, ENDPOINT):
        bench.now = bench.waits_until() or 0.0
        assert bench.attempt(outcome, row=1).row == 1
    bench.now = bench.waits_until() or 0.0
    assert bench.acquire().row == 1
    assert bench.pauses() == ["+endpoint"]


def test_an_accepted_call_that_was_open_does_not_end_the_doubt() -> None:
    """It says nothing about the one whose answer was not understood."""
    bench = PacingBench()
    doubtful, fine = bench.acquire(), bench.acquire()
    bench.told += bench.pacing.ended(doubtful, row=1, agent="a", outcome=UNCONFIRMED, took_s=0.1, now=bench.now)
    bench.told += bench.pacing.ended(fine, row=2, agent="a", outcome=SENT, took_s=0.1, now=bench.now)
    assert bench.pauses() == ["+endpoint"]


def test_the_only_probe_outlives_a_restart_and_another_pause() -> None:
    """The next process knows the call, and how long to wait: it does not begin with 30 s, or at once. A key that is gone
    in between makes it another pause with the same probe."""
    bench = PacingBench()
    bench.attempt(UNCONFIRMED, row=7)
    bench.now += 30
    bench.attempt(UNCONFIRMED, row=7)
    assert bench.pacing.pauses.dirty
    kept = bench.pacing.pauses.stored()
    bench.pacing = Pacing("tuner", concurrency=8, rate_limit=None)
    bench.now += 10
    bench.told += bench.pacing.pauses.restore(kept, bench.now)
    assert bench.waits_until() == bench.now + 50
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=False, missing="no key")
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=True)
    assert bench.attempt(UNCONFIRMED, row=7).row == 7
    assert bench.waits_until() == bench.now + 120


def test_a_probe_that_is_gone_leaves_its_place_to_others() -> None:
    """Dismissed, forgotten or moved: then any call is the probe, as of any pause."""
    bench = PacingBench()
    bench.attempt(UNCONFIRMED, row=7)
    bench.now += 30
    permit = bench.acquire()
    bench.pacing.pauses.probe_is_gone(permit.row)
    bench.pacing.unused(permit, bench.now)
    assert bench.acquire() == Permit(pick=Pick.NEWEST, probe=True)


def test_a_resumed_destination_leaves_the_doubtful_call_alone() -> None:
    """After `tunerd resume` ten others are accepted: then the same call's next unconfirmed answer is its own trouble,
    before that it pauses everybody again."""
    bench = PacingBench()
    bench.attempt(UNCONFIRMED, row=7)
    assert bench.pacing.attribute(7, UNCONFIRMED, bench.now) is UNCONFIRMED
    bench.told += bench.pacing.pauses.operator_resume(bench.now)
    for row in range(100, 109):
        bench.now += 1
        bench.attempt(SENT, row=row)
    assert bench.pacing.attribute(7, UNCONFIRMED, bench.now) is UNCONFIRMED, "nine are not enough"
    for row in range(110, 120):
        bench.now += 1
        bench.attempt(SENT, row=row)
    alone = bench.pacing.attribute(7, UNCONFIRMED, bench.now)
    assert isinstance(alone, Retry)
    assert not alone.surely_not_arrived


# Keys while nothing is due.


def test_a_pause_for_want_of_a_key_ends_with_the_key() -> None:
    """Although nothing is due: nobody has refused this key. While a call is there, it is tried first."""
    bench = PacingBench()
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=False, missing="gone")
    bench.told += bench.pacing.pauses.nothing_to_probe(bench.now)
    assert bench.pauses() == ["+auth"]
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=True)
    assert bench.acquire().probe
    bench.told += bench.pacing.pauses.nothing_to_probe(bench.now)
    assert bench.pauses() == ["+auth", "-auth"]


def test_a_refused_key_stays_refused_while_nothing_is_due() -> None:
    """Until it changes, or until the next process: neither of the two is known to be bad."""
    for again in ("key", "restart"):
        bench = PacingBench()
        bench.attempt(AUTH)
        bench.told += bench.pacing.pauses.nothing_to_probe(bench.now)
        assert bench.pacing.pauses.reason is PauseReason.AUTH
        if again == "key":
            bench.told += bench.pacing.pauses.key_changed(bench.now, present=True)
        else:
            kept, bench.pacing = bench.pacing.pauses.stored(), Pacing("tuner", concurrency=8, rate_limit=None)
            bench.told += bench.pacing.pauses.restore(kept, bench.now)
        bench.told += bench.pacing.pauses.nothing_to_probe(bench.now)
        assert bench.pacing.pauses.reason is None


def test_a_paused_agent_without_calls_is_free_with_another_key() -> None:
    """As the destination is."""
    bench = PacingBench()
    bench.attempt(AGENT)
    bench.told += bench.pacing.pauses.nothing_to_probe(bench.now)
    assert bench.pauses() == ["+auth/a"]
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=True)
    bench.told += bench.pacing.pauses.nothing_to_probe(bench.now)
    assert bench.pauses() == ["+auth/a", "-auth/a"]


def test_no_descriptor_for_the_key_file_is_our_single_call_faults() -> None:
    """The pause is `local`, and ends when the file can be read."""
    bench = PacingBench()
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=False, missing="no descriptor", is_local=True)
    assert bench.waits_until() is None
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=True)
    assert bench.pauses() == ["+local", "-local"]


def test_while_others_have_connections_nothing_pauses() -> None:
    """The fourth finds no descriptor for a connection: the limit becomes three, and the three go on; only when nobody has a
    connection it is a pause."""
    bench = PacingBench()
    open_calls = [bench.acquire() for _ in range(4)]
    bench.told += bench.pacing.ended(open_calls.pop(), row=4, agent="a", outcome=LOCAL, took_s=0.0, now=bench.now)
    assert (bench.pacing.limit, bench.pacing.in_flight) == (3, 3)
    assert bench.waits_until() is None
    for permit in open_calls:
        bench.told += bench.pacing.ended(permit, row=1, agent="a", outcome=SENT, took_s=0.1, now=bench.now)
    assert not bench.pauses()
    bench.attempt(LOCAL)
    assert bench.pauses() == ["+local"]


# Permits that come back without an attempt, and changes from outside.


def test_a_permit_comes_back_from_a_call_that_cannot_go_out() -> None:
    """The call of a paused agent was claimed and is given back: the permit is free, and the agent can be probed again."""
    bench = PacingBench(concurrency=1)
    bench.attempt(AGENT)
    bench.now += 30
    permit = bench.acquire()
    assert bench.pacing.pauses.takes_agent("a", bench.now)
    bench.pacing.untouched(permit, "a", bench.now)
    assert bench.pacing.in_flight == 0
    assert bench.pacing.pauses.takes_agent("a", bench.now)


def test_after_permits_were_forgotten_another_call_is_the_probe() -> None:
    """Nobody holds the probe's permit any more: without this the destination would wait for it for good."""
    bench = PacingBench()
    bench.attempt(AUTH)
    bench.now += 30
    assert bench.acquire().probe
    bench.pacing.forget_permits(0)
    assert bench.waits_until() is None
    bench.pacing.forget_permits(1)
    assert bench.acquire().probe


def test_while_a_permit_is_held_the_probe_may_be_the_one_that_is_left() -> None:
    """One of two permits was forgotten: it is not known which, so no second probe goes out."""
    bench = PacingBench()
    early = bench.acquire()
    bench.attempt(AUTH)
    bench.now += 30
    assert bench.acquire().probe
    bench.pacing.forget_permits(1)
    assert bench.waits_until() is None
    assert bench.pacing.ended(early, row=1, agent="a", outcome=AUTH, took_s=0.1, now=bench.now) == []
    assert bench.pacing.in_flight == 0


def test_a_reload_changes_concurrency_and_rate() -> None:
    """A changed concurrency applies at once. An unchanged rate keeps its state; a changed rate starts anew."""
    bench = PacingBench(rate_limit=1.0)
    bench.acquire()
    bench.pacing.resize(concurrency=2, rate_limit=1.0)
    assert bench.pacing.limit == 2
    assert bench.waits_until() == pytest.approx(NOW + 1)
    bench.pacing.resize(concurrency=2, rate_limit=None)
    bench.acquire()
    assert bench.waits_until() is None, "two are in flight"


def test_a_jump_of_the_wall_clock_moves_when_a_call_was_last_accepted() -> None:
    """As every other moment: how long ago it was stays the same."""
    bench = PacingBench()
    bench.pacing.shift(5.0)
    assert bench.pacing.last_accepted_at is None
    bench.attempt(SENT)
    bench.pacing.shift(86_400.0)
    assert bench.pacing.last_accepted_at == NOW + 86_400


def test_a_403_shows_that_the_key_is_known_again() -> None:
    """The key was refused, another one came: that its agent is refused is no longer a pause of the whole destination."""
    bench = PacingBench()
    bench.attempt(AUTH)
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=True)
    bench.attempt(AGENT)
    assert bench.pauses() == ["+auth", "-auth", "+auth/a"]


def test_a_403_ends_a_pause_for_a_wrong_url() -> None:
    """It is an answer of Tuner about one agent, so the destination is there."""
    bench = PacingBench()
    bench.attempt(ENDPOINT)
    bench.now += 30
    bench.attempt(AGENT)
    assert bench.pauses() == ["+endpoint", "-endpoint", "+auth/a"]


def test_a_call_that_becomes_doubtful_while_the_key_is_missing_is_the_probe() -> None:
    """Its request was open when the key went away. With the next key only this call is tried, and a restart knows it."""
    bench = PacingBench()
    permit = bench.acquire()
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=False, missing="no key")
    bench.pacing.pauses.dirty = False
    assert bench.pacing.ended(permit, row=7, agent="a", outcome=UNCONFIRMED, took_s=0.1, now=bench.now) == []
    assert bench.pacing.pauses.dirty
    assert bench.pacing.pauses.stored().probe_row == 7
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=True)
    assert bench.acquire().row == 7
    assert bench.pauses() == ["+auth"]


def test_a_missing_key_says_each_new_reason_once() -> None:
    """The file is missing, then it is empty: one pause, and a word for each; an operator's pause stays what it is."""
    bench = PacingBench()
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=False, missing="the file is missing")
    bench.pacing.pauses.dirty = False
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=False, missing="the file is missing")
    assert not bench.pacing.pauses.dirty
    bench.told += bench.pacing.pauses.key_changed(bench.now + 5, present=False, missing="the file is empty")
    assert bench.pacing.pauses.dirty
    began = [event for event in bench.told if isinstance(event, PauseBegan)]
    assert [(event.reason, event.detail) for event in began] == [
        (PauseReason.AUTH, "the file is missing"),
        (PauseReason.AUTH, "the file is empty"),
    ]
    assert [(view.since, view.detail) for view in bench.pacing.pauses.views()] == [(NOW, "the file is empty")]
    bench.told += bench.pacing.pauses.operator_pause(bench.now)
    assert bench.pacing.pauses.key_changed(bench.now, present=False, missing="the file is missing") == []
    assert bench.pacing.pauses.reason is PauseReason.OPERATOR


@pytest.mark.parametrize(("is_local", "reason"), [(False, PauseReason.AUTH), (True, PauseReason.LOCAL)])
def test_a_resume_without_a_key_pauses_for_the_key(is_local: bool, reason: PauseReason) -> None:
    """`auth`, unless it is our own machine that cannot read the file."""
    bench = PacingBench()
    bench.told += bench.pacing.pauses.key_changed(bench.now, present=False, missing="no key", is_local=is_local)
    bench.told += bench.pacing.pauses.operator_pause(bench.now)
    bench.told += bench.pacing.pauses.operator_resume(bench.now, "no key", is_local=is_local)
    assert bench.pacing.pauses.reason is reason
    assert bench.pauses() == [f"+{reason}", f"-{reason}", "+operator", "-operator", f"+{reason}"]


def test_a_resume_ends_the_pauses_of_agents_too() -> None:
    """The operator says that everything may be tried again."""
    bench = PacingBench()
    bench.attempt(AGENT)
    bench.told += bench.pacing.pauses.operator_resume(bench.now)
    assert bench.pauses() == ["+auth/a", "-auth/a"]
