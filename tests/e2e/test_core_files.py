"""A real daemon that dies of SIGABRT while it has a key, transcripts and an open upload: what is in the core file, if there is one."""

import asyncio
import json
import resource
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.harness import KEY, Daemon
from tests.e2e.test_audio import Studio, studio
from tests.real_parts import needs
from tunerd.sandbox.faults import HoldAnswer

_PATTERN = Path("/proc/sys/kernel/core_pattern")


def _is_plain() -> bool:
    return _PATTERN.exists() and "/" not in (pattern := _PATTERN.read_text()) and not pattern.startswith("|")


pytestmark = needs("core files in the working directory", _is_plain, "kernel.core_pattern must be a plain name, such as `core`")


async def _with_an_open_upload(place: Studio) -> tuple[Daemon, list[str]]:
    """A daemon whose core files may be of any size and would be in the directory `cores`, and secrets that it holds."""
    cores = place.directory / "cores"
    cores.mkdir()
    hold = HoldAnswer(asyncio.Event())
    place.tuner.storage.plan(hold, call_id="a")
    shell = f'ulimit -c unlimited; cd "{cores}"; exec "$@"'
    daemon = await Daemon.run(place.config, under=("bash", "-c", shell, "-"))
    place.record("a")
    await place.tuner.wait_for(lambda _: place.tuner.storage.begun == 1)
    with closing(sqlite3.connect(place.directory / "ledger.db")) as db:
        ((target,),) = db.execute("SELECT target FROM audio")
    return daemon, [KEY, "This is the town library, call a.", str(json.loads(target)["fields"]["policy"])]


async def _core_of(daemon: Daemon, cores: Path) -> bytes:
    daemon.signal(signal.SIGABRT)
    assert await daemon.ended() == -signal.SIGABRT
    return b"".join(path.read_bytes() for path in cores.iterdir())


async def test_a_daemon_that_aborts_leaves_no_core_file(tmp_path: Path) -> None:
    """Whatever limit it was started with."""
    async with studio(tmp_path) as place:
        daemon, _ = await _with_an_open_upload(place)
        assert await _core_of(daemon, tmp_path / "cores") == b""


@pytest.mark.parametrize("shows_memory", [False, True])
async def test_a_core_file_that_is_written_all_the_same_has_no_memory(tmp_path: Path, shows_memory: bool) -> None:
    """A program that the kernel pipes cores to gets one whatever the limit is, as here a process whose limit was raised later.
    Only if an operator asks for the memory (`coredump_filter`), the secrets are in it."""
    async with studio(tmp_path) as place:
        daemon, secrets = await _with_an_open_upload(place)
        resource.prlimit(daemon.pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if shows_memory:
            Path(f"/proc/{daemon.pid}/coredump_filter").write_text("0x33")
        core = await _core_of(daemon, tmp_path / "cores")
        assert core.startswith(b"\x7fELF")
        assert [secret.encode() in core for secret in secrets] == [shows_memory] * 3
