"""What `run --once` says at its end beside the counts."""

from tunerd.call import State
from tunerd.cli.run import NAMED, troubles
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
