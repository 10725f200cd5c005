"""How long the beginning of a log waits for the log before it."""

from tunerd.intake.due_queue import Due, DueQueue


def test_waiting_in_vain_counts_by_time() -> None:
    """Each line that is written makes a file due again, so the number of looks says nothing; what is read meanwhile starts anew."""
    due = Due("live.ndjson", 0.0, 0.0)
    assert due.waited_s(7.0) == 0.0
    for look in range(100):
        due.wait_for(10, 1.0 + look / 100)
    assert due.waited_s(2.0) == 1.0
    due.wait_for(11, 2.0)
    assert due.waited_s(2.5) == 0.5
    due.wait_for(3, 3.0)  # one of the logs that it waits for is read to its end, and the next one is begun
    assert due.waited_s(3.5) == 0.5
    due.wait_for(4, 4.0)
    assert due.waited_s(4.5) == 0.5


def test_a_file_that_grew_meanwhile_goes_on_waiting() -> None:
    """It was seen to grow while it was in hand: the wait is the same."""
    queue = DueQueue()
    queue.add("live.ndjson", now=0.0, wall=0.0, closed=False)
    due = queue.pop(0.0)
    assert due is not None
    due.wait_for(10, 1.0)
    queue.add("live.ndjson", now=1.0, wall=1.0, closed=False)
    queue.put_back(due)
    queue.done("live.ndjson")
    again = queue.pop(3.0)
    assert again is not None
    assert again.waited_s(3.0) == 2.0
