"""URLs that are only sent once their host has given a byte of them (`verify: get`): what an answer means for the call."""

from collections.abc import Sequence
from dataclasses import replace

from tunerd.call import State
from tunerd.ledger import CheckedUrl, FailedCall, Matched
from tunerd.ledger.commands.join import is_revivable, match, resolve
from tunerd.ledger.rows import KeptUrlCheck
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
        wait_s = _wait_s(store, row.row)
        if check.answered and not answer.was_asked:
            continue
        newer = _answered(check, answer, wait_s, now)
        store.checks.put(check, newer)
        if newer.due_at is None or newer.absent_at(wait_s) is not None or row.state is State.FAILED:
            ended.append(resolve(store, row, now))
    ended += match(store, now)[0]
    return [one for one in ended if one is not None]


def _wait_s(store: Store, row: int) -> float:
    known = store.bodies.matching(row)
    return 0.0 if known is None else known[2] or 0.0


def _answered(check: KeptUrlCheck, answer: CheckedUrl, wait_s: float, now: float) -> KeptUrlCheck:
    """Until the wait is over, it is asked for again at its end at the latest: only an answer of then ends it."""
    newer = replace(check, answered=True, detail=answer.detail)
    if not answer.was_asked:
        return newer
    since = now if check.since is None else check.since
    due_at = answer.again_at
    if due_at is not None and now < since + wait_s:
        due_at = min(due_at, since + wait_s)
    return replace(newer, since=since, asked_at=now, due_at=due_at)
