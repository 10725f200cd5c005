"""What an admission reads and writes that another instance may read and write at the same time, by name.

A fleet locks these names before the transaction reads anything; what turns out later to be needed besides (Database.hold) makes
it run once more.
"""

from collections.abc import Iterator

from tunerd.call import ManifestStrategy
from tunerd.ledger import Admission


def names_of(admission: Admission) -> Iterator[tuple[str, ...]]:
    for call in admission.calls:
        yield ("call", call.workspace, call.agent, call.call_id)
        for strategy in call.strategies:
            if isinstance(strategy, ManifestStrategy):
                yield ("key", strategy.source, strategy.key or "")
    for recording in admission.recordings:
        yield from (("key", recording.source, wanted) for wanted in (recording.key, recording.match) if wanted)
        if recording.id:
            yield ("recording", recording.source, recording.id)
    for fragment in admission.fragments:
        yield ("group", fragment.source, fragment.key)
