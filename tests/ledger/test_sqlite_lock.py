"""One process at a time: the lock, who holds it, and where a ledger may lie."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunerd.filesystem import forgets, is_network, kind_of
from tunerd.ledger import LedgerRefused
from tunerd.ledger.lock import holder, lock_path
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.testing import Recorder

from .parts import NOW

HOLD = """
import asyncio, sys
from pathlib import Path
from tunerd.ledger.sqlite import SqliteLedger
async def main():
    ledger = await SqliteLedger.open(Path(sys.argv[1]), now=1767225600.0, emit=print)
    print("held", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await ledger.close()
asyncio.run(main())
"""


def hold(path: Path) -> "subprocess.Popen[str]":
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def end(child: "subprocess.Popen[str]") -> None:
    child.communicate("\n", timeout=20)


async def test_a_second_process_is_refused_at_once_and_told_who_holds_it(tmp_path: Path) -> None:
    """Refused within a second, in one line with host, pid and since when."""
    path = tmp_path / "ledger.db"
    child = hold(path)
    try:
        began = time.monotonic()
        with pytest.raises(LedgerRefused) as refused:
            await SqliteLedger.open(path, now=NOW, emit=Recorder())
        assert time.monotonic() - began < 1
        words = str(refused.value)
        assert f"pid {child.pid} on {os.uname().nodename} since 2026-01-01 00:00:00 UTC" in words
        assert "\n" not in words
    finally:
        end(child)


async def test_waiting_for_the_lock(tmp_path: Path) -> None:
    """With a wait the second process opens as soon as the first has closed; it gives up at its end."""
    path = tmp_path / "ledger.db"
    child = hold(path)
    with pytest.raises(LedgerRefused):
        await SqliteLedger.open(path, now=NOW, emit=Recorder(), wait_for_lock_s=0.2)
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(SqliteLedger.open(path, now=NOW, emit=Recorder(), wait_for_lock_s=20))
        await asyncio.to_thread(end, child)
    await opening.result().close()


async def test_a_lock_of_a_killed_process_never_blocks(tmp_path: Path) -> None:
    """SIGKILL leaves the file, but no lock."""
    path = tmp_path / "ledger.db"
    child = hold(path)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=20)
    assert "pid" in holder(lock_path(path))
    await (await SqliteLedger.open(path, now=NOW, emit=Recorder())).close()


async def test_the_lock_is_given_back_when_opening_fails(tmp_path: Path) -> None:
    """A ledger that cannot be opened is not held either."""
    path = tmp_path / "ledger.db"
    await (await SqliteLedger.open(path, now=NOW, emit=Recorder())).close()
    path.rename(tmp_path / "away")
    with pytest.raises(LedgerRefused, match="there is no ledger at"):
        await SqliteLedger.open(path, now=NOW, emit=Recorder(), create=False)
    assert not path.exists()
    (tmp_path / "away").rename(path)
    await (await SqliteLedger.open(path, now=NOW, emit=Recorder(), create=False)).close()


@pytest.mark.parametrize(
    "said", [b"", b"{", b"[]", b'{"pid": 1}', b'{"pid":1,"host":"h","since":"x"}', b'{"pid":1,"host":"h","since":1e99}']
)
def test_a_half_written_lock_file_names_nobody(tmp_path: Path, said: bytes) -> None:
    """The holder may be writing its name just now."""
    (tmp_path / "l").write_bytes(said)
    assert holder(tmp_path / "l") == "another process"


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/vda rw
23 22 0:5 / /mnt/nfs rw - nfs4 server:/x rw
24 22 0:6 / /mnt/nfs/local rw - xfs /dev/vdb rw
25 22 0:7 / /mnt/my\\040share rw shared:1 - cifs //server/x rw
26 22 0:8 / /mnt/ssh rw - fuse.sshfs host: rw
27 22 0:9 / /run rw - tmpfs none rw
28 22 0:10 / /over rw - ext4 /dev/a rw
29 22 0:11 / /over rw - nfs server:/y rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/var/lib/tunerd/ledger.db", "ext4", False),
        ("/mnt/nfs/ledger.db", "nfs4", True),
        ("/mnt/nfsx/ledger.db", "ext4", False),
        ("/mnt/nfs/local/ledger.db", "xfs", False),
        ("/mnt/my share/ledger.db", "cifs", True),
        ("/mnt/ssh/ledger.db", "fuse.sshfs", True),
        ("/run/ledger.db", "tmpfs", False),
        ("/over/ledger.db", "nfs", True),
    ],
)
def test_network_file_systems_are_recognised(path: str, kind: str, network: bool) -> None:
    """The mount that a path lies on decides, the innermost and the latest of several."""
    assert kind_of(Path(path), MOUNTS) == kind
    assert is_network(kind) is network
    assert forgets(kind) is (kind == "tmpfs")


@pytest.mark.parametrize("kind", ["fuse.mergerfs", "overlay", "btrfs", "zfs", "fuseblk", ""])
def test_local_file_systems_are_not_refused(kind: str) -> None:
    """What is not known to be a network mount is allowed."""
    assert not is_network(kind)


async def test_a_directory_or_an_unusable_place_is_refused(tmp_path: Path) -> None:
    """One line that says what is wrong with the place."""
    with pytest.raises(LedgerRefused, match="is a directory"):
        await SqliteLedger.open(tmp_path, now=NOW, emit=Recorder())
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerRefused, match="cannot be made"):
        await SqliteLedger.open(tmp_path / "file" / "ledger.db", now=NOW, emit=Recorder())


async def test_the_ledger_is_private(tmp_path: Path) -> None:
    """Transcripts lie in it: its files are the owner's alone."""
    ledger = await SqliteLedger.open(tmp_path / "new" / "ledger.db", now=NOW, emit=Recorder())
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "new").iterdir()}
    await ledger.close()
    assert set(modes.values()) == {0o600}
    assert "ledger.db-wal" in modes
