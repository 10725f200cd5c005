"""A PostgreSQL server for the demo and for tests, in a directory of its own: made, started and stopped by its own programs.

Only processes and files belong here. Nothing connects to the server here.
"""

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import quote

_DEBIAN: Final = Path("/usr/lib/postgresql")
"""Debian has the programs of each version here, outside of the PATH."""
_SERVER_USER: Final = "postgres"
_LONGEST_S: Final = 60.0


class NoPostgresql(Exception):
    """A server cannot be made here. The message is one line that says why, and what to do."""


def find_programs() -> Path | None:
    """The directory with initdb and pg_ctl; None: PostgreSQL is not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    versions = [place for place in _DEBIAN.glob("*/bin") if (place / "initdb").exists()]
    return max(versions, key=lambda place: int(place.parent.name) if place.parent.name.isdigit() else 0, default=None)


class PrivatePostgresql:
    """A server that only listens on a socket in its own directory, which only its user and root can enter.

    PostgreSQL refuses to run as root. Then it runs as the user `postgres`. `durable`: False skips fsync: good for a server that
    nobody needs any more after a crash of the machine.
    """

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.directory = directory
        self._durable = durable
        programs = find_programs()
        if programs is None:
            raise NoPostgresql(
                "there is no PostgreSQL here (no initdb on the PATH or in /usr/lib/postgresql): install 14 or newer"
            )
        self._programs = programs
        self._user = _server_user()

    def make(self) -> None:
        """`postgres` owns the cluster, and whoever can reach its socket may be any user of it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        if self._user is not None:
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", str(self._data), "-A", "trust", "--no-sync", "-U", "postgres", "-E", "UTF8")

    def start(self, *settings: str, listen: str = "") -> None:
        """`settings`: more of the server's, as NAME=VALUE. `listen`: an address beside the socket."""
        always = (f"listen_addresses={listen}", f"unix_socket_directories={self.directory}", "max_connections=200")
        durable = () if self._durable else ("fsync=off",)
        options = " ".join(f"-c {setting}" for setting in (*always, *durable, *settings))
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self.directory / "log"), "-o", options, "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "stop")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self.directory), safe='')}"

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _run(self, program: str, *arguments: str) -> None:
        user = self._user
        try:
            done = subprocess.run(  # noqa: S603 - no word comes from outside
                [self._programs / program, *arguments], user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid, cwd=self.directory, env={**os.environ, "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, timeout=_LONGEST_S,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise NoPostgresql(f"{self._programs / program} did not work: {exc}") from None
        if done.returncode != 0:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise NoPostgresql(f"{self._programs / program} failed: {''.join(last) or f'exit code {done.returncode}'}")


def _server_user() -> pwd.struct_passwd | None:
    """Whom the server has to run as; None: as this process."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_SERVER_USER)
    except KeyError:
        raise NoPostgresql(
            f"PostgreSQL does not run as root, and there is no user `{_SERVER_USER}` here: run this as another user"
        ) from None
