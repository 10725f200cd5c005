"""Table audio: the audio of calls that tunerd uploads, and which of those calls is next. Their state is in table call."""

from collections.abc import Collection, Sequence
from typing import Final

from tunerd.ledger.rows import KeptAudio, LedgerRow
from tunerd.ledger.sql.columns import RecordColumns
from tunerd.ledger.sql.database import Database, Execute
from tunerd.ledger.sql.due_calls import agents_of

AUDIO: Final = RecordColumns("audio", KeptAudio, key=("row",))
_OF_A: Final = ", ".join(f"a.{name}" for name in AUDIO.names)
_DUE: Final = "state = 'due' AND audio = 'pending' AND destination"

OF_CALL: Final = f"SELECT {AUDIO.listed} FROM audio WHERE row = ?"
PUT: Final = AUDIO.upsert
DELETE: Final = "DELETE FROM audio WHERE row = ?"
DUE: Final = f"SELECT due_at, row FROM call WHERE {_DUE} = ? AND owner = ? ORDER BY due_at, row LIMIT ?"
DUE_OF_AGENT: Final = f"SELECT due_at, row FROM call WHERE {_DUE} = ? AND owner = ? AND agent = ? ORDER BY due_at, row LIMIT ?"
AGENTS: Final = agents_of(f"owner = :owner AND {_DUE}")
_IS_OURS: Final = (
    "(c.owner = :own OR (c.owner = 0 AND c.holder NOT IN "
    "(SELECT generation FROM instance WHERE is_over = 0 AND heartbeat_at >= :alive_since AND generation <> :holder)))"
)
"""Audio of this instance; and audio that anybody can open, if the instance that sent its call is gone."""
UPLOADING: Final = f"SELECT row FROM call c WHERE audio = 'uploading' AND {_IS_OURS}"
"""At a start: uploads that the last process did not end."""
UNSEEN: Final = (
    f"SELECT {_OF_A} FROM audio a JOIN call c ON c.row = a.row "
    "WHERE a.identity = '' AND a.row > ? AND c.audio = 'pending' AND c.owner IN (0, ?) ORDER BY a.row LIMIT ?"
)
"""Audio that was not looked at yet."""
LEFTOVERS: Final = f"SELECT {_OF_A} FROM audio a JOIN call c ON c.row = a.row WHERE leftover = 1 AND {_IS_OURS}"
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
    "AND c.owner = ? AND a.row <> ? AND c.audio <> 'none' AND (a.identity <> '' OR c.audio = 'pending') LIMIT 1"
)
"""Another call that has, had or will find this very audio: what was not looked at yet is what is there now."""
LIMIT: Final = (
    "SELECT a.max_bytes FROM audio a JOIN call c ON c.row = a.row "
    "WHERE c.destination = ? AND a.max_bytes IS NOT NULL ORDER BY a.row DESC LIMIT 1"
)
"""At a start: what the storage of a destination took last."""
SHIFT: Final = "UPDATE audio SET looked_from = looked_from + ?"


class Audios:
    def __init__(self, ask: Execute, db: Database) -> None:
        """`ask` runs a statement after what the transaction has changed is written."""
        self._ask, self._db = ask, db
        self._owners = sorted({0, db.volumes.own})
        """Whose audio this instance may upload."""

    def get(self, row: int) -> KeptAudio | None:
        columns = self._ask(OF_CALL, (row,)).fetchone()
        return None if columns is None else AUDIO.record(columns)

    def put(self, audio: KeptAudio) -> None:
        """New, or in place of what is known of the call's audio."""
        self._ask(PUT, AUDIO.values(audio))

    def has_spooled(self, location: str) -> bool:
        """Whether some call has the audio at this location in the spool, and may still need it."""
        return self._ask(HAS_SPOOLED, (location,)).fetchone() is not None

    def rival(self, row: LedgerRow, location: str, identity: str) -> str | None:
        """The id of another call that names this very audio."""
        found = self._ask(RIVAL, (location, identity, row.owner, row.row)).fetchone()
        return None if found is None else found[0]

    def delete(self, row: int) -> None:
        self._ask(DELETE, (row,))

    def next_due(
        self, destination: str, busy: Collection[int] = (), not_agents: Collection[str] = ()
    ) -> tuple[float, int] | None:
        """When the call is due that is due first and whose audio is pending, and its row; none of `busy`. `not_agents` are
        paused and may have thousands of due calls, so that the others are asked one by one."""
        limit = len(busy) + 1
        if not not_agents:
            found = [one for owner in self._owners for one in self._ask(DUE, (destination, owner, limit))]
        else:
            found = []
            for owner in self._owners:
                agents = [agent for (agent,) in self._ask(AGENTS, {"destination": destination, "owner": owner})]
                for agent in [agent for agent in agents if agent not in not_agents]:
                    found += self._ask(DUE_OF_AGENT, (destination, owner, agent, limit))
        return min(((due_at, row) for due_at, row in found if row not in busy), default=None)

    def unseen(self, after_row: int, limit: int) -> Sequence[KeptAudio]:
        return [AUDIO.record(columns) for columns in self._ask(UNSEEN, (after_row, self._db.volumes.own, limit))]

    def may_upload(self, row: LedgerRow) -> bool:
        """Whether this instance can open the call's audio."""
        return row.owner in self._owners

    def has_uploader(self, row: LedgerRow) -> bool:
        """Whether this instance can open the call's audio, or one can that lives."""
        return self.may_upload(row) or self._db.others.is_alive(row.owner)

    def _ours(self) -> dict[str, object]:
        return {"own": self._db.volumes.own, "holder": self._db.holder, "alive_since": self._db.others.alive_since()}

    def uploading(self) -> Sequence[int]:
        return [row for (row,) in self._ask(UPLOADING, self._ours())]

    def leftovers(self) -> Sequence[KeptAudio]:
        return [AUDIO.record(columns) for columns in self._ask(LEFTOVERS, self._ours())]

    def shift(self, seconds: float) -> None:
        """Targets expire by the clock of the storage, so their times stay."""
        self._ask(SHIFT, (seconds,))

    def max_bytes(self, destination: str) -> int | None:
        """What the destination's storage took at the last answer that said so."""
        found = self._ask(LIMIT, (destination,)).fetchone()
        return None if found is None else found[0]
