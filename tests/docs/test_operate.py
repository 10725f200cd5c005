"""docs/operate.md: each case is brought about with a real daemon, and the page's commands are typed (tests/docs/service_host.py)."""

import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.docs.fences import DOCS
from tests.docs.service_host import KEY, ServiceHost, call_of, service_host, typed, until_prints
from tests.e2e.harness import put, until
from tests.e2e.test_disk import fill
from tests.real_parts import needs_mount, needs_program
from tunerd.call import Origin, Refusal, RefusedDocument
from tunerd.intake.quarantine import MAPPED_TWICE
from tunerd.ledger import Admission
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.outcome import FailReason

PAGE = DOCS / "operate.md"
LEDGER = "/var/lib/tunerd/ledger.db"
needs_sqlite = needs_program("sqlite3", "it makes the backup (Debian: sqlite3)")


async def _arrivals(host: ServiceHost) -> Counter[str]:
    return Counter(one["call_id"] for one in await host.tuner.arrivals() if one["status"] in (200, 201, 409))


async def test_an_outage(tmp_path: Path) -> None:
    """The page's `status` shows the pause while Tuner refuses connections, and its `resume` sends what has waited."""
    heading = "Tuner does not answer"
    async with service_host(tmp_path) as host:
        await host.tuner.plan({"fail": {"reset": 1.0}})
        for number in range(12):
            host.put_call(f"c-{number}")
        await until_prints(host, "status", "paused (unreachable)")
        await host.play(PAGE, heading, 0)
        await host.tuner.plan({"fail": {}})
        await host.play(PAGE, heading, 1)
        await host.tuner.has(*(f"c-{number}" for number in range(12)))
        await until(lambda: host.said("resumed"))


async def test_a_wrong_key(tmp_path: Path) -> None:
    """`check --online` names the wrong key, calls wait meanwhile, and the right key sends them without a restart."""
    heading = "The API key is wrong"
    async with service_host(tmp_path, running=False) as host:
        host.path("/etc/tunerd/key").write_text("tr_api_old")
        (host.place / "key").write_text(KEY)
        await host.type("systemctl start tunerd")
        await host.play(PAGE, heading, 0)
        for number in range(3):
            host.put_call(f"c-{number}")
        await until_prints(host, "status", "paused (auth)")
        await host.play(PAGE, heading, 1)
        await host.tuner.has(*(f"c-{number}" for number in range(3)))
        await until_prints(host, "status", "sent                3")
        await host.play(PAGE, heading, 2)
        assert host.said("key changed")
        assert host.said("resumed")


@contextmanager
def _own_disk(place: Path) -> Iterator[Path]:
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@needs_mount
async def test_a_full_disk(tmp_path: Path) -> None:
    """`status` says that the source is not read; a call comes meanwhile, and is sent when there is room again."""
    with _own_disk(tmp_path / "var" / "lib" / "tunerd") as disk:
        async with service_host(tmp_path) as host:
            filler = fill(disk, leave=32 << 20)
            host.put_call("meanwhile")
            await until_prints(host, "status", "disk")
            await host.play(PAGE, "The disk is full", 0)
            assert not await host.tuner.accepted()
            filler.unlink()
            await host.tuner.has("meanwhile", ceiling_s=10)
            assert host.said("source resumed")


async def test_a_stuck_file(tmp_path: Path) -> None:
    """A file that ends in the middle is listed; the page's way to write it again sends its call."""
    heading = "A file is stuck"
    async with service_host(tmp_path, more="    settle_timeout: 1s") as host:
        put(host.place / "whole.json", call_of("half"))
        host.path("/var/spool/calls/half.json").write_text('{"call_id": "half-call"')
        await until_prints(host, "failed", "unreadable")
        await host.play(PAGE, heading, 0)
        await host.play(PAGE, heading, 1)
        await host.tuner.has("half")
        await host.play(PAGE, heading, 2)


async def test_a_quarantined_document(tmp_path: Path) -> None:
    """A document that tests/intake/test_crash.py would set aside is listed, and sent by the page's `retry`."""
    heading = "A document was quarantined"
    async with service_host(tmp_path, running=False) as host:
        file = host.put_call("odd")
        ledger = await SqliteLedger.open(host.path(LEDGER), now=time.time(), emit=lambda _: None)
        refusal = Refusal(reason=FailReason.CRASHED, where="mapping", what=MAPPED_TWICE)
        document = file.read_bytes()
        aside = RefusedDocument(origin=Origin(source="agent", path=str(file), length=len(document)), refusal=refusal,
                                document=document, settled_at=time.time())  # fmt: skip
        try:
            await ledger.admit(Admission(refused=[aside]), time.time())
        finally:
            await ledger.close()
        file.unlink()
        await host.type("systemctl start tunerd")
        await host.play(PAGE, heading, 0)
        await host.play(PAGE, heading, 1)
        await host.tuner.has("odd")
        assert "no call matches" in await host.type("tunerd failed --reason crashed")


async def test_another_host(tmp_path: Path) -> None:
    """With ledger, configuration and sources in the archive, the new host knows the sent calls and sends the open ones, each once."""
    heading = "Moving to another host"
    async with service_host(tmp_path) as host:
        host.put_call("before")
        await host.tuner.has("before")
        await host.play(PAGE, heading, 0)
        host.put_call("between")  # not in the archive
        for name in ("/etc/tunerd", "/var/lib/tunerd", "/var/spool/calls"):
            host.path(name).rename(host.place / f"old{name.replace('/', '-')}")
        await host.play(PAGE, heading, 1)
        host.put_call("after")
        await host.tuner.has("after")
        await host.play(PAGE, heading, 2)
        assert await _arrivals(host) == {"before": 1, "after": 1}
        assert "before   sent" in await host.type("tunerd status before")


@needs_sqlite
async def test_an_upgrade_and_the_way_back(tmp_path: Path) -> None:
    """The old version refuses a newer ledger; with the copy it starts, and sends what came after the copy."""
    async with service_host(tmp_path) as host:
        host.put_call("before")
        await host.tuner.has("before")
        await host.play(PAGE, "Upgrade", 0)
        await host.type("systemctl stop tunerd")
        copy = host.path("/var/lib/tunerd/ledger.db.v1-1790000000")
        await host.type(f"cp {LEDGER} {copy}")
        await host.type("systemctl start tunerd")
        host.put_call("with-the-newer")
        await host.tuner.has("with-the-newer")
        await host.type("systemctl stop tunerd")
        with closing(sqlite3.connect(host.path(LEDGER))) as db:
            db.execute("PRAGMA user_version = 99")
        await host.play(PAGE, "Back to the old version", 0)
        await host.play(PAGE, "Back to the old version", 1)
        await until_prints(host, "status", "sent                2")
        assert host.said("the ledger lacks changes that were committed")
        assert await _arrivals(host) == {"before": 1, "with-the-newer": 2}, "the second is answered 409"


@needs_sqlite
async def test_backup_and_restore(tmp_path: Path) -> None:
    """A backup beside the running daemon becomes the ledger again; what came later is read from its files again."""
    async with service_host(tmp_path) as host:
        host.put_call("before")
        await host.tuner.has("before")
        await until_prints(host, "status", "sent                1")
        await host.play(PAGE, "Backup", 0)
        host.put_call("later")
        await host.tuner.has("later")
        await host.type("systemctl stop tunerd")
        await host.play(PAGE, "Restore", 0)
        await until_prints(host, "status", "sent                2")
        assert host.said("the ledger lacks changes that were committed")
        assert await _arrivals(host) == {"before": 1, "later": 2}, "the second is answered 409"
        await host.play(PAGE, "Restore", 1)


def test_every_case_begins_with_what_to_type() -> None:
    """Each section of the page has commands that the tests above type, and begins with them where something is wrong."""
    headings = [line.removeprefix("## ") for line in PAGE.read_text().splitlines() if line.startswith("## ")]
    assert len(headings) == 10
    assert all(typed(PAGE, heading) for heading in headings)
