"""Pauses that several instances change at once, as values."""

from tunerd.ledger import NO_PAUSES, StoredPauses
from tunerd.ledger.shared_pauses import merged
from tunerd.outcome import PauseReason

AUTH = StoredPauses(pause=PauseReason.AUTH, paused_since=5.0, detail="401")
AWAY = StoredPauses(pause=PauseReason.UNREACHABLE, paused_since=7.0, detail="nobody there")
AGENT_A = StoredPauses(agents={"a": (PauseReason.AUTH, 5.0)})


def test_what_one_changed_is_put_on_top_of_what_the_other_did() -> None:
    """A pause, and the pause of an agent that began elsewhere meanwhile, are both kept."""
    both = merged(AGENT_A, NO_PAUSES, AUTH)
    assert (both.pause, both.agents) == (PauseReason.AUTH, AGENT_A.agents)


def test_an_instance_that_changed_nothing_takes_all_of_it() -> None:
    """In both directions: a pause that began, and one that ended."""
    assert merged(AWAY, NO_PAUSES, NO_PAUSES) == AWAY
    assert merged(NO_PAUSES, AWAY, AWAY) == NO_PAUSES


def test_a_pause_that_this_instance_ended_ends() -> None:
    """The probe succeeded here; the ledger still has the pause."""
    assert merged(AWAY, AWAY, NO_PAUSES) == NO_PAUSES
    assert merged(AGENT_A, AGENT_A, NO_PAUSES) == NO_PAUSES


def test_the_later_retry_after_counts() -> None:
    """Whoever stores it last: Tuner asked each of them."""
    sooner, later = StoredPauses(closed_until=10.0), StoredPauses(closed_until=60.0)
    assert merged(later, NO_PAUSES, sooner).closed_until == 60.0
    assert merged(sooner, NO_PAUSES, later).closed_until == 60.0
    assert merged(later, sooner, NO_PAUSES).closed_until == 60.0
