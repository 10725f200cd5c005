"""Table audio: the audio of calls that tunerd uploads, and which of those calls is next. Their state is in table call."""

from collections.abc import Collection, Sequence
from typing import Final

from tunerd.ledger.rows import KeptAudio
from tunerd.ledger.sql.columns import RecordColumns
from tunerd.ledger.sql.database import Execute

AUDIO: Final = RecordColumns("audio", KeptAudio, key=("row",))
_DUE: Final = "state = 'due' AND audio = 'pending' AND destination"

OF_CALL: Final = f"SELECT {AUDIO.listed} FROM audio WHERE row = ?"
PUT: Final = AUDIO.upsert
DELETE: Final = "DELETE FROM audio WHERE row = ?"
DUE: Final = f"SELECT due_at, row FROM call WHERE {_DUE} = ? ORDER BY due_at, row LIMIT ?"
DUE_OF_AGENT: Final = f"SELECT due_at, row FROM call WHERE {_DUE} = ? AND agent = ? ORDER BY due_at, row LIMIT ?"
FIRST_DUE: Final = f"SELECT row, admitted_at FROM call WHERE {_DUE} = ? ORDER BY due_at, row LIMIT 1"
"""For the gauges: of the call that is due first, which is nearly always the one that was admitted first."""
UPLOADING: Final = "SELECT row FROM call WHERE audio = 'uploading'"
"""At a start: uploads that the last process did not end."""
UNSEEN: Final = (
    f"SELECT {', '.join(f'a.{name}' for name in AUDIO.names)} FROM audio a JOIN call c ON c.row = a.row "
    "WHERE a.identity = '' AND a.row > ? AND c.audio = 'pending' ORDER BY a.row LIMIT ?"
)
"""Audio that was not looked at yet."""
LEFTOVERS: Final = f"SELECT {AUDIO.listed} FROM audio WHERE leftover = 1"
"""At a start: `after_upload` is still to be carried out."""
MAY_UPLOAD: Final = "c.dismissed = 0 AND NOT (c.state = 'sent' AND c.audio IN ('failed', 'uploaded'))"
"""Of a call: not if Tuner has it and its audio is uploaded, or failed, as Tuner names a target only once; nor if an operator
dismissed it."""
HAS_SPOOLED: Final = (
    "SELECT 1 FROM audio a JOIN call c ON c.row = a.row WHERE a.location = ? AND a.location LIKE 'embedded:%' "
    f"AND (c.audio <> 'none' OR c.state = 'waiting') AND {MAY_UPLOAD} LIMIT 1"
)
"""Whether a call has this entry of the spool, and may still need it. One that was rewritten, and has no audio, may find it again
while it waits."""
RIVAL: Final = (
    "SELECT coalesce(c.call_id, c.path) FROM audio a JOIN call c ON c.row = a.row WHERE a.location = ? AND a.identity IN (?, '') "
    "AND a.row <> ? AND c.audio <> 'none' AND (a.identity <> '' OR c.audio = 'pending') LIMIT 1"
)
"""Another call that has, had or will find this very audio: what was not looked at yet is what is there now."""
LIMIT: Final = (
    "SELECT a.max_bytes FROM audio a JOIN call c ON c.row = a.row "
    "WHERE c.destination = ? AND a.max_bytes IS NOT NULL ORDER BY a.row DESC LIMIT 1"
)
"""At a start: what the storage of a destination took last."""
SHIFT: Final = "UPDATE audio SET looked_from = looked_from + ?"


class Audios:
    def __init__(self, ask: Execute) -> None:
        """`ask` runs a statement after what the transaction has changed is written."""
        self._ask = ask

    def get(self, row: int) -> KeptAudio | None:
        columns = self._ask(OF_CALL, (row,)).fetchone()
        return None if columns is None else AUDIO.record(columns)

    def put(self, audio: KeptAudio) -> None:
        """New, or in place of what is known of the call's audio."""
        self._ask(PUT, AUDIO.values(audio))

    def has_spooled(self, location: str) -> bool:
        """Whether some call has the audio at this location in the spool, and may still need it."""
        return self._ask(HAS_SPOOLED, (location,)).fetchone() is not None

    def rival(self, row: int, location: str, identity: str) -> str | None:
        """The id of another call that names this very audio."""
        found = self._ask(RIVAL, (location, identity, row)).fetchone()
        return None if found is None else found[0]

    def delete(self, row: int) -> None:
        self._ask(DELETE, (row,))

    def next_due(
        self, destination: str, busy: Collection[int], agents: Collection[str] | None = None
    ) -> tuple[float, int] | None:
        """When the call is due that is due first and whose audio is pending, and its row; none of `busy`. `agents`: of these
        alone (the others are paused, and may have thousands of due calls, so that these are asked one by one)."""
        limit = len(busy) + 1
        if agents is None:
            found = list(self._ask(DUE, (destination, limit)))
        else:
            found = [one for agent in agents for one in self._ask(DUE_OF_AGENT, (destination, agent, limit))]
        return min(((due_at, row) for due_at, row in found if row not in busy), default=None)

    def first_due(self, destination: str) -> tuple[int, float] | None:
        """Row and admission."""
        found: tuple[int, float] | None = self._ask(FIRST_DUE, (destination,)).fetchone()
        return found

    def unseen(self, after_row: int, limit: int) -> Sequence[KeptAudio]:
        return [AUDIO.record(columns) for columns in self._ask(UNSEEN, (after_row, limit))]

    def uploading(self) -> Sequence[int]:
        return [row for (row,) in self._ask(UPLOADING)]

    def leftovers(self) -> Sequence[KeptAudio]:
        return [AUDIO.record(columns) for columns in self._ask(LEFTOVERS)]

    def shift(self, seconds: float) -> None:
        """Targets expire by the clock of the storage, so their times stay."""
        self._ask(SHIFT, (seconds,))

    def max_bytes(self, destination: str) -> int | None:
        """What the destination's storage took at the last answer that said so."""
        found = self._ask(LIMIT, (destination,)).fetchone()
        return None if found is None else found[0]
