"""A PostgreSQL of its own for the tests: a cluster in a temporary directory, started once for each test process."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.real_parts import needs
from tunerd.sandbox.private_postgresql import PrivatePostgresql, find_programs

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_server import Server


def _is_there() -> bool:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return False
    return find_programs() is not None


needs_postgres: Final = needs(
    "PostgreSQL 14 or newer, and psycopg (`tunerd[postgres]`)", _is_there, "it starts a server of its own"
)


class Cluster(PrivatePostgresql):
    """A running server that also listens on a port; `stop` and `start` it as a test needs."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        super().__init__(directory)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = port or free.getsockname()[1]
        self._schemas = 0

    def server(self, schema: str = "", *, user: str = "postgres", database: str = "postgres", options: str = "") -> "Server":
        """A ledger of its own, if no name is given."""
        from tunerd.ledger.postgresql.postgresql_server import Server

        self._schemas += 1
        url = f"postgresql://{user}@127.0.0.1:{self.port}/{database}{options}"
        return Server(url=url, schema=schema or f"ledger{self._schemas}")

    def database(self) -> str:
        """The URL of a new database: the daemon names its schema itself."""
        from tunerd.ledger.postgresql.postgresql_server import connect

        self._schemas += 1
        name = f"database{self._schemas}"
        with connect(self.server()) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def make(self) -> None:
        super().make()
        hba = self.directory / "data" / "pg_hba.conf"
        hba.write_text(f"host all needs_password,changes_password 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")

    @contextmanager
    def standby(self) -> Iterator["Cluster"]:
        """A server that follows this one, asynchronously."""
        with tempfile.TemporaryDirectory(prefix="tunerd-standby-") as place:
            other = Cluster(Path(place))
            if self._user is not None:
                os.chown(place, self._user.pw_uid, self._user.pw_gid)
            program = (self._programs / "initdb").resolve().with_name("pg_basebackup")  # initdb may be a link on the PATH
            other._run(str(program), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-D", f"{place}/data", "-R",
                       "--checkpoint=fast", "--no-sync")  # fmt: skip
            other.start()
            try:
                yield other
            finally:
                other.stop()

    def start(self, *settings: str, listen: str = "127.0.0.1") -> None:
        super().start(f"port={self.port}", "autovacuum=off", *settings, listen=listen)


@contextmanager
def cluster(port: int | None = None) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="tunerd-postgres-") as place:
        made = Cluster(Path(place), port)
        made.make()
        made.start()
        try:
            yield made
        finally:
            made.stop()
