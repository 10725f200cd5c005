"""Which file belongs to a call that looks for a name, as far as the ledger knows. Reads only.

A name without `*` and the like is one file's, and says whose it is. With them a file may fit the names of several calls, because
the id of one may begin like that of another ("call-1", "call-1-2"). Then it belongs to none of them, and what fits one call
alone is taken after the wait only: until then another call, or a second file, may come. What was not written at the time of the
call is another call's, which the ledger need not know.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from tunerd.call import Choice
from tunerd.ledger.matching import Free, Partner, Standing, Tie, closeness, only
from tunerd.ledger.rows import LedgerRow, Want
from tunerd.ledger.sql.recordings import MANY
from tunerd.ledger.sql.store import Store

_CLOCKS_APART_MS: Final = 60_000
"""How far the clocks of the recorder and of the agent may be apart."""


def file_of(store: Store, row: LedgerRow, want: Want, wait_s: float) -> Partner | Tie | None:
    """What the call gets if nothing else comes."""
    if want.choice is Choice.ONLY:
        return _by_time(store, want)
    found = store.recordings.free_files(want.source, want.key, _time_of(row, wait_s) if want.stem else None)
    if len(found) > MANY:
        return Tie(recordings=tuple(found), others=0)
    own: list[Free] = []
    shared: list[Free] = []
    others = 0
    for one in found:
        rivals = list(_others(store, want, one))
        if any(_is_nearer(rival, want) for rival in rivals):
            continue
        open_ones = {rival.call for rival in rivals if rival.standing is not Standing.SERVED}
        (shared if open_ones else own).append(one)
        others = max(others, len(open_ones))
    if len(own) == 1:
        return Partner(found=own[0], is_near=not want.stem)
    if own or shared:
        return Tie(recordings=tuple(own or shared), others=0 if own else others)
    return None


def _time_of(row: LedgerRow, wait_s: float) -> tuple[int, int]:
    """When a file of the call was last written that only fits a `*`: not before the call, and at most the wait after its end, or
    after its document was written. The second counts for calls without an end, and where calls and files were copied."""
    started_at_ms = row.started_at_ms or 0
    known_ms = max(started_at_ms, row.ended_at_ms or 0, row.mtime_ns // 1_000_000)
    return started_at_ms - _CLOCKS_APART_MS, known_ms + round(wait_s * 1000)


def _by_time(store: Store, want: Want) -> Partner | Tie | None:
    """By the time at which the file was last written, if there is no other file and no other call near it."""
    free, taken = store.recordings.alike_near(want.source, want.key, want.started_at_ms)
    free = [one for one in free if not store.recordings.is_taken_elsewhere(one.row)]
    return only(want.seeker, [rival.seeker for one in free for rival in _others(store, want, one)], free, taken)


def _others(store: Store, want: Want, one: Free) -> Iterator[Want]:
    """What other calls look for, or looked for, and that the file fits, too. A name without `*` is the call's own, and
    is only compared with itself."""
    is_own = want.choice is Choice.NEAREST and not want.stem
    names: Iterable[str] = (want.key,) if is_own else store.wants.names_of(one.path)
    for name in names:
        for rival in store.wants.rivals_near(want.source, name, one.started_at_ms):
            if rival.call != want.call and closeness(rival.seeker, one.started_at_ms) is not None:
                yield rival


def _is_nearer(rival: Want, want: Want) -> bool:
    """Whether the file is the other call's by its whole name; or that call has its file, and this is perhaps a second one."""
    is_whole = want.stem != "" and not rival.stem and rival.choice is Choice.NEAREST
    return is_whole or (rival.standing is Standing.SERVED and len(rival.key) >= len(want.key))
