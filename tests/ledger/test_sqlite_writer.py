"""The writer's thread beside the event loop."""

import os

from tunerd.ledger.sqlite import SqliteLedger


async def test_the_writer_does_not_preempt_the_loop(sqlite: SqliteLedger) -> None:
    """To the kernel the writer is a batch job, and the loop's own thread an ordinary one."""
    writer = sqlite._writer._thread.native_id
    assert writer is not None
    assert os.sched_getscheduler(writer) == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
