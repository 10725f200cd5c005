"""Whose disk a file is on, in a fleet: the volumes that this instance reads, and whom the others belong to (table volume)."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from tunerd.ledger.disks import Disks
from tunerd.ledger.postgresql.instances import NOW, Instance
from tunerd.ledger.postgresql.postgresql_server import Server, connect

SEE: Final = f"""INSERT INTO volume (number, owner, source, identity, seen_at)
VALUES (nextval('volume_number'), %s, %s, %s, {NOW})
ON CONFLICT (owner, source, identity) DO UPDATE SET seen_at = excluded.seen_at RETURNING number"""
COPIED: Final = "copied"
"""Identity of a volume that came with a copy of a ledger in a file: which disk that is shows at the instance's first start."""
ADOPT: Final = f"UPDATE volume SET identity = %s WHERE owner = %s AND source = %s AND identity = '{COPIED}'"
OWNER: Final = "SELECT owner FROM volume WHERE number = ?"


class FleetVolumes:
    """Any thread. What is not known yet is asked for on a connection of its own: it stays true if a transaction is undone."""

    def __init__(self, server: Server, instance: Instance, disks: Disks) -> None:
        """Raises psycopg.Error, as the other methods do."""
        self._server, self._instance, self._disks = server, instance, disks
        self._numbers: dict[str, int] = {}
        """Of each source that this instance reads from its own disk."""
        self._owners: dict[int, int] = {0: 0}
        self._see(disks.volumes)

    @property
    def own(self) -> int:
        return self._instance.number

    @property
    def numbers(self) -> list[int]:
        return list(self._numbers.values())

    def is_shared(self, source: str) -> bool:
        """See sql/volumes.py."""
        return source in self._disks.shared

    def change(self, disks: Disks) -> None:
        """The configuration was read again."""
        self._disks, self._numbers = disks, {}
        self._see(disks.volumes)

    def of(self, source: str) -> int:
        if source in self._disks.shared:
            return 0
        if source not in self._numbers:
            self._see([source])
        return self._numbers[source]

    def owner(self, volume: int, ask: Callable[..., Any]) -> int:
        """0 if the volume is no longer known: then any instance may find that it cannot open the file. It is asked in the open
        transaction, which holds locks: a connection of its own could take long to open."""
        if volume not in self._owners:
            found = ask(OWNER, (volume,)).fetchone()
            self._owners[volume] = 0 if found is None else found[0]
        return self._owners[volume]

    def _absent(self, source: str) -> str:
        """A directory that is not there yet may become any disk: nothing of an earlier start counts for it."""
        return f"absent-{self._instance.generation}" if source in self._disks.volumes else ""

    def _see(self, sources: Iterable[str]) -> None:
        names = [source for source in sources if source not in self._disks.shared]
        if not names:
            return
        with connect(self._server) as connection, connection.transaction():
            connection.execute(self._server.set_search_path)
            for source in sorted(names):
                identity = self._disks.volumes.get(source, "") or self._absent(source)
                connection.execute(ADOPT, (identity, self.own, source))
                found = connection.execute(SEE, (self.own, source, identity)).fetchone()
                if found is not None:
                    self._owners[found[0]] = self.own
                    self._numbers[source] = found[0]
