"""What `run --once` says at its end beside the counts."""

from tunerd.call import State
from tunerd.cli.run import NAMED, pace_of, troubles
from tunerd.ledger import Gauges
from tunerd.lifecycle import RunResult
from tunerd.statuses import UnreadFile


def test_files_that_after_sent_left_are_named() -> None:
    """The first of them with their reason, the others as a number."""
    kept = [UnreadFile(source="agent", path=f"/calls/{n}.json", why="its writer has it open") for n in range(NAMED + 2)]
    lines = list(
        troubles(
            RunResult(gauges=Gauges(calls=dict.fromkeys(State, 0), oldest_at={}, pending_bytes=0, waiting_bytes=0), kept=kept)
        )
    )
    assert lines[0] == "after_sent left /calls/0.json (source agent): its writer has it open"
    assert len(lines) == NAMED + 1
    assert lines[-1].startswith("after_sent left 2 more files")


def test_the_pace_beside_the_bar() -> None:
    """A rate and a time only where calls end; the time is that of the calls that are known."""
    assert pace_of(None, 10) == pace_of(0.0, 10) == ""
    assert pace_of(34.14, 0) == "34.1/s"
    assert pace_of(34.14, 300) == "34.1/s, 8 s for those read"
    assert pace_of(2.0, 20_000) == "2.0/s, 2 h 46 min for those read"
