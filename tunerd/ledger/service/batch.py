"""One transaction for a batch of jobs."""

from collections.abc import Sequence
from typing import Any

from tunerd.ledger.commands.claim import claim
from tunerd.ledger.commands.lock_names import expect
from tunerd.ledger.service.jobs import Job
from tunerd.ledger.sql.store import Store


def carry_out(store: Store, batch: Sequence[Job[Any]]) -> tuple[set[str], set[tuple[str, str]]]:
    """Run the jobs and commit them; gives what `Store.commit` does. When it raises, the caller has to roll back."""
    store.begin(full=any(job.full for job in batch))
    store.fleet_claims.expect([job.row for job in batch if job.row is not None])
    expect(store, [job.admission for job in batch if job.admission is not None])
    asking: dict[object, list[Job[Any]]] = {}
    for job in batch:
        if job.ask is None:
            job.result = job.run(store)
        else:  # last, and together: they see what the others of the batch did
            asking.setdefault(job.ask.alike, []).append(job)
    for jobs in asking.values():
        for job, found in zip(jobs, claim(store, [job.ask for job in jobs if job.ask]), strict=True):
            job.result = found
    return store.commit()
