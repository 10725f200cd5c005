"""A PostgreSQL of its own for the tests: a cluster in a temporary directory, started once for each test process."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.real_parts import needs

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_server import Server

_DEBIAN: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def _bin() -> Path | None:
    """Where the server's programs are."""
    found = shutil.which("initdb")
    return Path(found).parent if found else next(iter(reversed(_DEBIAN)), None)


def _is_there() -> bool:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return False
    return _bin() is not None


needs_postgres: Final = needs(
    "PostgreSQL 14 or newer, and psycopg (`tunerd[postgres]`)", _is_there, "it starts a server of its own"
)


class Cluster:
    """A running server; `stop` and `start` it as a test needs."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory
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
        self._run("initdb", "-D", str(self.directory / "data"), "-A", "trust", "--no-sync", "-U", "postgres", "-E", "UTF8")

        hba = self.directory / "data" / "pg_hba.conf"
        hba.write_text(f"host all needs_password 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.directory} -c fsync=off "
            "-c max_connections=200 -c autovacuum=off"
        )
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-l", str(self.directory / "log"), "-o", options, "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-m", mode, "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        """The server refuses to run as root: then it runs as another user."""
        place = _bin()
        assert place is not None
        user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if user is not None and not (self.directory / "data").exists():
            shutil.chown(self.directory, user.pw_uid, user.pw_gid)
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [place / program, *arguments], user=None if user is None else user.pw_uid, group=None if user is None else user.pw_gid,
            cwd=self.directory, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()


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
