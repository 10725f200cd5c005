"""Whose disk a file is on: two instances have the same paths, perhaps the same inodes, and nothing of one counts for the other."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.ledger.parts import FORM, NOW, SENT, bring, claimed, egress, file_mark, freeze, put, refused, state, take, waiting
from tests.ledger.postgres_server import Cluster, needs_postgres
from tunerd.call import AudioPlan, Call, Origin, Publish, Recording, State, UrlStrategy
from tunerd.file_pattern import FILES
from tunerd.ledger import Admission, AudioEnded, Claim, Delivered, FileMark, Filter, PreparedAudio, UploadTarget
from tunerd.ledger.disks import Disks
from tunerd.outcome import AudioReason
from tunerd.testing import Recorder, make_call

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
    from tunerd.ledger.postgresql.postgresql_server import Server

pytestmark = needs_postgres

Open = Callable[..., "Awaitable[PostgresqlLedger]"]
PLAN = AudioPlan(publish=Publish.UPLOAD)
FILE = "file:///recordings/r.ogg"


@pytest.fixture
def server(postgres: Cluster) -> "Server":
    return postgres.server()


@pytest.fixture
async def open_instance(server: "Server") -> AsyncIterator[Open]:
    """Start an instance by its name, with its disks; all are closed at the end."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    opened: list[PostgresqlLedger] = []

    async def start(name: str, *, volume: str = "v1", shared: frozenset[str] = frozenset()) -> PostgresqlLedger:
        disks = Disks(volumes={"agent": volume, "egress": volume}, shared=shared)
        opened.append(await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance=name, disks=disks))
        return opened[-1]

    yield start
    for ledger in opened:
        await ledger.close()


@pytest.fixture
async def two(open_instance: Open) -> "tuple[PostgresqlLedger, PostgresqlLedger]":
    return await open_instance("a"), await open_instance("b")


def with_audio(call_id: str = "c1", location: str = FILE) -> Call:
    return make_call(call_id, strategies=(UrlStrategy(location=location),), audio=PLAN)


def audio(location: str = FILE) -> PreparedAudio:
    return PreparedAudio(location=location, identity="7", extension="ogg", size=9)


async def claim_audio(ledger: "PostgresqlLedger", row: int) -> Claim:
    return await ledger.claim("tuner", FORM, freeze, NOW + 5, only=row, audio=audio())


async def row_of(ledger: "PostgresqlLedger", call_id: str = "c1") -> int:
    return (await ledger.calls(Filter(call_ids=frozenset({call_id}))))[0].row


async def test_marks_of_the_same_path_are_each_instances_own(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """What a has read b has not, at the same path with the same inode; and vanishing is not told of the other's file."""
    a, b = two
    await a.set_mark(file_mark("/calls/1.json"), NOW)
    assert await b.mark("agent", "/calls/1.json") is None
    assert await b.marks("agent") == []
    await b.set_mark(file_mark("/calls/1.json", offset=50), NOW)
    await b.vanished("agent", ["/calls/1.json"], NOW)
    found = await a.mark("agent", "/calls/1.json")
    assert found is not None
    assert found.offset == 100
    assert [mark.offset for mark in await a.marks("agent")] == [100]
    assert [mark.offset for mark in await b.marks("agent", vanished=True)] == [50]


async def test_log_numbers_are_each_instances_own(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """Each counts for itself: the first log of both is number 1, and they are two logs."""
    a, b = two
    log = {"whole": False, "log": 1, "content": b"head0001rest"}
    await a.set_mark(file_mark("/calls/a.ndjson", **log), NOW)
    assert (await b.moved_logs("agent"))[1] == 0
    assert await b.logs_like("agent", 7, b"head0001") == []
    await b.set_mark(file_mark("/calls/b.ndjson", **log), NOW)
    assert [mark.path for mark in await a.logs_like("agent", 7, b"head0001")] == ["/calls/a.ndjson"]
    assert (await a.moved_logs("agent"))[1] == 1


async def test_a_new_volume_under_the_old_name_knows_nothing(open_instance: Open) -> None:
    """A pod of a StatefulSet comes back with an empty directory: same name, same paths, perhaps the same inodes."""
    first = await open_instance("pod-0", volume="v1")
    await first.admit(Admission(calls=(make_call("c1"),), mark=file_mark()), NOW)
    second = await open_instance("pod-0", volume="v2")
    assert await second.mark("agent", "/calls/call-1.json") is None
    third = await open_instance("pod-0", volume="v1")
    assert isinstance(await third.mark("agent", "/calls/call-1.json"), FileMark)


async def test_a_directory_that_is_not_there_yet_knows_nothing_of_an_earlier_start(server: "Server") -> None:
    """It may become any disk: a pod of a StatefulSet whose agent makes the directory."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    for _ in range(2):
        pod = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="pod-0", disks=Disks(volumes={"agent": ""}))
        assert await pod.mark("agent", "/calls/call-1.json") is None
        await pod.set_mark(file_mark(), NOW)
        assert await pod.mark("agent", "/calls/call-1.json") is not None
        await pod.close()


async def test_whose_disk_a_volume_is_on_is_asked_without_another_connection(postgres: Cluster) -> None:
    """The transaction that asks holds rows: it must not wait until the server takes one more connection."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
    from tunerd.ledger.postgresql.postgresql_server import connect

    name = postgres.database().rpartition("/")[2]
    a, b = [
        await PostgresqlLedger.open(
            postgres.server("fleet", database=name), now=NOW, emit=Recorder(), instance=one, disks=Disks(volumes={"agent": "v1"})
        )
        for one in "ab"
    ]
    (volume,) = a._volumes.numbers
    with connect(postgres.server()) as connection:
        connection.execute("UPDATE pg_database SET datallowconn = false WHERE datname = %s", (name,))
        try:
            assert await b._do(lambda store: store.db.volumes.owner(volume, store.db.execute)) == a._volumes.own
        finally:
            connection.execute("UPDATE pg_database SET datallowconn = true WHERE datname = %s", (name,))
    await a.close()
    await b.close()


async def test_a_refused_document_of_another_instance_stays(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """A good document at the same path on another machine is another document."""
    a, b = two
    await a.admit(Admission(refused=(refused("/calls/1.json"),)), NOW)
    await b.admit(Admission(calls=(make_call("c1", path="/calls/1.json"),), replaces_failed=True), NOW)
    assert {(one.state, one.path) for one in await a.calls(Filter())} == {
        (State.FAILED, "/calls/1.json"),
        (State.DUE, "/calls/1.json"),
    }


async def test_local_audio_is_claimed_by_the_instance_that_has_it(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """Nobody else is offered it, or gets it, whatever it asks for."""
    a, b = two
    await put(a, with_audio())
    row = await row_of(b)
    assert (await b.next_audio("tuner", NOW + 5, (), ()))[0] is None
    assert (await b.next_audio("tuner", NOW + 5, (), ("x",)))[0] is None
    assert await b.unseen_audio(0, 10) == []
    assert (await claim_audio(b, row)).claimed is None
    assert (await take(b, NOW + 5)).claimed is None
    pending, _ = await a.next_audio("tuner", NOW + 5, (), ())
    assert pending is not None
    assert [one.row for one in await a.unseen_audio(0, 10)] == [row]
    assert (await claim_audio(a, row)).claimed is not None


async def test_a_probe_with_audio_on_another_machine_is_left_to_that_machine(server: "Server", open_instance: Open) -> None:
    """It alone may try the paused destination. b looks for no file of its name, and says nothing of the audio; once a is gone,
    another call may be the probe."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    a = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="a", disks=Disks(volumes={"agent": "v1"}))
    b = await open_instance("b")
    await put(a, with_audio())
    row = await row_of(b)
    assert (await b.next_audio("tuner", NOW + 5, (), (), row))[0] is None
    ended = AudioEnded(reason=AudioReason.AUDIO_CHANGED, detail="another file")
    assert await b.audio_unusable(row, ended, NOW + 6) is None
    await b.audio_later(row, NOW + 999, "not there")
    await b.audio_seen(row, FILE, "another")
    assert await state(a, "c1") is State.DUE
    assert (await b.claim("tuner", FORM, freeze, NOW + 6, only=row)).needs_audio
    pending, _ = await a.next_audio("tuner", NOW + 6, (), (), row)
    assert pending is not None
    assert pending.identity == ""
    await a.close()
    assert not (await b.claim("tuner", FORM, freeze, NOW + 7, only=row)).needs_audio


async def test_audio_of_a_shared_source_is_claimed_by_any(open_instance: Open) -> None:
    """Every instance sees the directory; so each has the same marks, too."""
    shared = frozenset({"agent"})
    a, b = await open_instance("a", shared=shared), await open_instance("b", shared=shared)
    await a.fleet.begin_reading("agent")
    await a.admit(Admission(calls=(with_audio(),), mark=file_mark()), NOW)
    assert await b.mark("agent", "/calls/call-1.json") is not None
    assert (await claim_audio(b, await row_of(b))).claimed is not None


async def test_a_call_whose_recording_is_on_another_machine_is_sent_from_there(
    two: "tuple[PostgresqlLedger, PostgresqlLedger]",
) -> None:
    """The manifest was read at b and names a file there: b uploads it, although the call is of a."""
    a, b = two
    call = waiting("c1")
    await put(a, make_call("c1", started_at_ms=call.started_at_ms, strategies=(egress(),), audio=PLAN))
    found = Recording(origin=Origin(source="egress", path="/egress/1.json"), source="egress", key="room", location=FILE,
                      started_at=call.started_at_ms / 1000)  # fmt: skip
    await bring(b, found)
    row = await row_of(a)
    assert await state(a, "c1") is State.DUE
    assert (await claim_audio(a, row)).claimed is None
    assert (await claim_audio(b, row)).claimed is not None


async def test_an_open_upload_is_resumed_by_its_owner_alone(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """A start of one instance does not take what another is uploading; the next start of that other does."""
    a, b = two
    await put(a, with_audio())
    row = await row_of(a)
    assert (await claim_audio(a, row)).claimed is not None
    await a.settle(row, uploading(), NOW + 6)
    assert await b.open_uploads() == []
    assert [one.row for one in await a.open_uploads()] == [row]


async def test_an_open_upload_of_shared_audio_is_resumed_when_its_instance_is_gone(server: "Server", open_instance: Open) -> None:
    """Not while the one that sent the call lives; and then by one instance."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    shared = frozenset({"agent"})
    a = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="a", disks=Disks(shared=shared))
    b = await open_instance("b", shared=shared)
    await put(a, with_audio())
    row = await row_of(a)
    assert (await claim_audio(a, row)).claimed is not None
    await a.settle(row, uploading(), NOW + 6)
    assert await b.open_uploads() == []
    await a.close()
    assert [one.row for one in await b.open_uploads()] == [row]
    c = await open_instance("c", shared=shared)
    assert await c.open_uploads() == []


async def test_a_file_is_looked_for_where_its_call_was_read(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """A file of the same name on another machine is another recording: it is not asked for there, and is not taken from there."""
    a, b = two
    name = "/recordings/c1.ogg"
    await put(a, make_call("c1", strategies=(egress(name, within_s=None, source=FILES),), audio=PLAN))
    assert [one.name for one in await a.files_wanted()] == [name]
    assert await b.files_wanted() == []
    found = Recording(origin=Origin(source="agent", path=name), source=FILES, key=name, location=FILE, started_at=NOW, id="1")
    await bring(b, found)
    assert await state(a, "c1") is State.WAITING
    await bring(a, found)
    assert await state(a, "c1") is State.DUE


async def test_after_sent_is_for_the_instance_that_read_the_file(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """b sends the call that a read. The file is a's to remove, and a finds it."""
    a, b = two
    await a.admit(Admission(calls=(make_call(),), mark=file_mark()), NOW)
    assert not await a.disposable("agent", to_the_end=True)
    held = await claimed(b)
    await b.settle(held.row, SENT, NOW + 1)
    assert not await b.disposable("agent", to_the_end=True)
    assert [mark.path for mark in await a.disposable("agent", to_the_end=True)] == ["/calls/call-1.json"]


def uploading() -> Delivered:
    return replace(SENT, audio=UploadTarget(offer=b"{}", expires_at=NOW + 3600, max_bytes=None))
