"""What a transaction reads and writes that another instance may read and write at the same time, by name.

A fleet locks these names before the transaction reads anything; what turns out later to be needed besides (Database.hold) makes
it run once more.
"""

from collections.abc import Iterator, Sequence

from tunerd.call import Call, ManifestStrategy
from tunerd.ledger import Admission, GroupResult
from tunerd.ledger.sql.store import Store


def names_of(admission: Admission) -> Iterator[tuple[str, ...]]:
    for call in admission.calls:
        yield from _names_of_call(call)
    for recording in admission.recordings:
        yield from (("key", recording.source, wanted) for wanted in (recording.key, recording.match) if wanted)
        if recording.id:
            yield ("recording", recording.source, recording.id)
    for fragment in admission.fragments:
        yield ("group", fragment.source, fragment.key)


def _names_of_call(call: Call) -> Iterator[tuple[str, ...]]:
    yield ("call", call.workspace, call.agent, call.call_id)
    for strategy in call.strategies:
        if isinstance(strategy, ManifestStrategy):
            yield ("key", strategy.source, strategy.key or "")


def hold(store: Store, results: Sequence[GroupResult]) -> None:
    """Hold together what these will need one by one, so that the transaction is run again once and not for each."""
    if store.db.holder:
        calls = [one.result for one in results if isinstance(one.result, Call)]
        groups = store.groups.names([one.row for one in results])
        store.db.hold(*groups, *(name for call in calls for name in _names_of_call(call)))


def expect(store: Store, admissions: Sequence[Admission]) -> None:
    """Ask together for the rows that these will ask for one by one: those with their call ids, and those of documents at the same
    places that became no call. (The same place of a log that rotated is another document.)"""
    ids = {(call.workspace, call.agent, call.call_id) for one in admissions for call in one.calls}
    whole = [one for one in admissions if one.mark is None or one.mark.whole]
    origins = [call.origin for one in whole for call in one.calls]
    origins += [document.origin for one in whole for documents in (one.refused, one.ignored) for document in documents]
    if ids or origins:
        store.calls.expect(ids, {(origin.source, origin.path, origin.offset) for origin in origins})
