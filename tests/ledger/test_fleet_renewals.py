"""What an instance concludes from its own heartbeats, with the times passed in: the default pulse, no waiting."""

from tunerd.ledger.postgresql.postgresql_server import Pulse
from tunerd.ledger.postgresql.renewals import Renewals

PULSE = Pulse()
"""5, 20 and 30 s."""


def beating(until: float, *, start: float = 0.0) -> Renewals:
    """A heartbeat every 5 s, each arrived at once."""
    renewals, at = Renewals(PULSE, start), start
    while at + PULSE.every_s <= until:
        at += PULSE.every_s
        renewals.arrived(at)
    return renewals


def test_an_instance_stops_sending_when_its_last_heartbeat_is_20_s_old() -> None:
    """10 s before anybody may give it up; the age counts from before the heartbeat was sent."""
    renewals = beating(100)
    assert renewals.may_send(119.9)
    assert not renewals.may_send(120)


def test_after_a_minute_without_the_database_it_sends_again_with_new_claims_only() -> None:
    """In that minute others may have given it up and claimed the same calls: a heartbeat that arrives makes no old claim valid
    (pgqueuer #430, #323)."""
    renewals = beating(100)
    before = renewals.lease
    assert not renewals.may_send(160)
    renewals.arrived(160)
    assert renewals.may_send(160)
    assert renewals.lease != before


def test_a_heartbeat_that_arrives_while_a_claim_is_asked_about_does_not_make_it_valid() -> None:
    """It arrives after the lease was compared, and before the answer."""
    renewals = beating(100)

    class Lease(int):
        __hash__ = int.__hash__

        def __eq__(self, other: object) -> bool:
            is_same = int(self) == other
            renewals.arrived(160)
            return is_same

    assert not renewals.may_send(160, Lease(renewals.lease))


def test_a_late_heartbeat_within_20_s_keeps_the_claims() -> None:
    """Nobody gave the instance up: three heartbeats that were lost are no reason to send nothing."""
    renewals = beating(100)
    before = renewals.lease
    renewals.arrived(119.9)
    assert renewals.lease == before


def test_nobody_judges_others_before_its_own_heartbeats_arrived_for_30_s() -> None:
    """After a start, and again after a gap: it may have been the database that was away."""
    renewals = beating(25)
    assert not renewals.may_judge(25)
    renewals.arrived(30)
    assert renewals.may_judge(30)
    renewals.arrived(41)
    assert not renewals.may_judge(41)
    for at in range(46, 75, 5):
        renewals.arrived(at)
    assert renewals.may_judge(71)
