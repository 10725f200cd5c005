"""A PgBouncer of its own for a test, in transaction mode, in front of the test process's PostgreSQL."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.ledger.postgres_server import Cluster
from tests.real_parts import needs

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_server import Server

_PROGRAM: Final = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
needs_pgbouncer: Final = needs("PgBouncer", lambda: Path(_PROGRAM).exists(), "it starts one in front of its PostgreSQL")


class PgBouncer:
    def __init__(self, cluster: Cluster, port: int) -> None:
        self._cluster, self.port = cluster, port

    def server(self) -> "Server":
        """A ledger of its own behind the pooler, as `ledger.notify: off` makes it."""
        url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        return replace(self._cluster.server(), url=url, prepares=False)


@contextmanager
def pgbouncer(cluster: Cluster, port: int = 0) -> Iterator[PgBouncer]:
    """Six server connections for however many clients: each transaction of a client may get another one."""
    if not port:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="tunerd-pgbouncer-") as place, _running(cluster, port, Path(place)):
        yield PgBouncer(cluster, port)


@contextmanager
def _running(cluster: Cluster, port: int, directory: Path) -> Iterator[None]:
    users, config = directory / "users", directory / "pgbouncer.ini"
    users.write_text('"postgres" ""\n')
    config.write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={cluster.port} dbname=postgres user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\n"
        "pool_mode = transaction\ndefault_pool_size = 6\nmax_client_conn = 200\nserver_round_robin = 1\n"
    )
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None  # it refuses to run as root
    if user is not None:
        for place in (directory, users, config):
            shutil.chown(place, user.pw_uid, user.pw_gid)
    process = subprocess.Popen(
        [_PROGRAM, "-q", str(config)], user=None if user is None else user.pw_uid, group=None if user is None else user.pw_gid,
        cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _until_it_listens(port)
        yield
    finally:
        process.terminate()
        process.wait()


def _until_it_listens(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < end, "PgBouncer does not listen"
        else:
            return
