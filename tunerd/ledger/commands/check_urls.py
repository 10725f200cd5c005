"""URLs that are only sent once their host has given a byte of them (`verify: get`): what an answer means for the call."""

from collections.abc import Sequence
from dataclasses import replace

from tunerd.call import State
from tunerd.ledger import CheckedUrl, FailedCall, Matched
from tunerd.ledger.commands.join import is_revivable, match, resolve
from tunerd.ledger.sql.store import Store


def checked(store: Store, answers: Sequence[CheckedUrl], now: float) -> Sequence[Matched | FailedCall]:
    """See UrlCheckPath.urls_checked."""
    ended: list[Matched | FailedCall | None] = []
    for answer in answers:
        row, check = store.calls.get(answer.row), store.checks.of(answer.row).get(answer.url)
        if row is None or check is None:
            continue
        if row.state is not State.WAITING and not is_revivable(row):
            store.checks.delete(row.row)
            continue
        store.checks.put(check, replace(check, due_at=answer.again_at, answered=True, detail=answer.detail))
        if answer.again_at is None or row.state is State.FAILED:
            ended.append(resolve(store, row, now))
    ended += match(store, now)[0]
    return [one for one in ended if one is not None]
