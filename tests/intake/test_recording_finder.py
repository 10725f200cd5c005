"""Files that calls wait for: which file is whose, and when it is finished."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.audio import made
from tests.intake.harness import put, source
from tests.mapping.sources import CREATE
from tunerd.audio.directory_threads import DirectoryThreads
from tunerd.call import Choice, ManifestStrategy, State
from tunerd.clock import SystemClock
from tunerd.config import AudioSettings, FileRule, Source
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.events import RecordingAdmitted, RecordingMatched
from tunerd.file_identity import FileIdentity
from tunerd.file_pattern import FILES, escaped
from tunerd.intake.file_search import SeenFile
from tunerd.intake.recording_finder import PATIENCE_S, RecordingFinder, SearchedDirectory, directories_of, settles_in
from tunerd.intake.sources import Intake
from tunerd.ledger import Admission, Filter
from tunerd.mapping import compile_source
from tunerd.testing import FakeClock, MemoryLedger, Recorder, make_call
from tunerd.yaml_location import Node, YamlLocation

SETTLE_S = 5.0
T = TypeVar("T")


class _CountedThreads(DirectoryThreads):
    runs = 0

    async def run(self, directory: str, work: Callable[[], T]) -> T:
        self.runs += 1
        return await super().run(directory, work)


class _Hurrying(FakeClock):
    """Half a second passes at each look at it."""

    def monotonic(self) -> float:
        self.sleep(0.5)
        return super().monotonic()


class Found:
    """A finder on a real directory, with a clock of its own; `look` is one look at every name."""

    def __init__(self, root: Path, clock: FakeClock | None = None) -> None:
        self.root = root
        self.clock = clock or FakeClock(time.time())
        self.threads = _CountedThreads(SystemClock(), lambda _: None)
        self.ledger = MemoryLedger()
        self.told = Recorder()
        self.finder = RecordingFinder(
            self.ledger, self.clock, self.told, {str(root): SearchedDirectory("agent", SETTLE_S)},
            self.threads,
        )  # fmt: skip

    async def wants(self, name: str, call_id: str = "c1", *, within_s: float | None = None, ended_s: float = 0.0) -> None:
        """A call looks for a name; it ended `ended_s` from now."""
        strategy = ManifestStrategy(
            source=FILES, key=f"{self.root}/{name}", within_s=within_s, wait_s=600.0, near_s=0.0,
            choice=Choice.NEAREST if within_s is None else Choice.ONLY,
        )  # fmt: skip
        at_ms = round((self.clock.now() + ended_s) * 1000)
        call = make_call(call_id, started_at_ms=at_ms, strategies=(strategy,))
        await self.ledger.admit(Admission(calls=[call]), self.clock.now())

    async def look(self, later_s: float = 0.0) -> None:
        self.clock.sleep(later_s)
        await self.finder.sweep(patient=False)

    async def settled(self) -> None:
        """Look until what is finished counts as such."""
        await self.look()
        await self.look(SETTLE_S + 0.1)

    async def location(self, call_id: str = "c1") -> str | None:
        (row,) = await self.ledger.calls(Filter(call_ids=frozenset({call_id}), dismissed=None))
        assert (row.recording_location is None) == (row.state is State.WAITING)
        return row.recording_location

    async def why(self, call_id: str = "c1") -> str:
        (story,) = await self.ledger.story(call_id)
        return story.waits_for[0].partition(": ")[2].partition("; waits until")[0]


@pytest.fixture
async def found(tmp_path: Path) -> AsyncIterator[Found]:
    root = tmp_path / "rec"
    root.mkdir()
    found = Found(root)
    yield found
    await found.ledger.close()


def write(root: Path, name: str, content: bytes | None = None) -> Path:
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(made.wav() if content is None else content)
    return path


@pytest.mark.parametrize("call_first", [True, False])
async def test_a_file_is_taken_when_it_is_finished(found: Found, call_first: bool) -> None:
    """Whichever comes first, the call or its file: the file is taken once it was unchanged for `settle`, and not before."""
    if call_first:
        await found.wants("c1.wav")
        await found.look()
        assert await found.why() == "there is no such file yet"
    path = write(found.root, "c1.wav")
    if not call_first:
        await found.wants("c1.wav")
    await found.look()
    await found.look(SETTLE_S - 0.1)
    assert (await found.location(), await found.why()) == (None, f"{path} was changed a moment ago")
    await found.look(0.2)
    assert await found.location() == f"file://{path}"
    assert len(found.told.seen(RecordingMatched)) == 1


async def test_a_thread_gives_back_what_it_has_after_a_second(tmp_path: Path) -> None:
    """A hundred names in a directory of a hundred thousand files take longer than a look may, and it does not hang for that."""
    found = Found(tmp_path, _Hurrying(time.time()))
    names = [f"c{number}.wav" for number in range(6)]
    for name in names:
        write(tmp_path, name)
        await found.wants(name, name)
    await found.look()
    assert found.threads.runs >= len(names) / 2
    await found.settled()
    assert [await found.location(name) for name in names] == [f"file://{tmp_path / name}" for name in names]
    await found.ledger.close()


async def test_a_wav_that_is_being_written_waits(found: Found) -> None:
    """While its header has no sizes, or the file grows, a WAV is no recording yet; once its writer has finished, it is."""
    await found.wants("c1.wav")
    for written in (0, 800, 1600):
        path = write(found.root, "c1.wav", made.unfinished_wav(written=written + 2))
        await found.look(SETTLE_S + 0.1)
    await found.look(SETTLE_S + 0.1)
    assert (await found.location(), await found.why()) == (None, f"{path} is still being written, by its header")
    write(found.root, "c1.wav")
    await found.settled()
    assert await found.location() == f"file://{path}"


@pytest.mark.parametrize("content", [made.unfinished_wav(sizes=0xFFFF_FFFF), made.wav(seconds=1)[:5000]])
async def test_a_header_that_stays_unfinished(found: Found, content: bytes) -> None:
    """A writer that cannot fill in the header (a pipe, a crash) leaves a file that is taken after a minute without a change."""
    await found.wants("c1.wav")
    write(found.root, "c1.wav", content)
    await found.look()
    await found.look(PATIENCE_S - 1)
    assert await found.location() is None
    await found.look(2)
    assert await found.location() is not None


async def test_a_file_that_is_open_for_writing_waits(found: Found) -> None:
    """A recorder that pauses with a file that looks complete still has it open."""
    await found.wants("c1.opus")
    with (found.root / "c1.opus").open("wb") as file:
        file.write(made.opus(1))
        file.flush()
        await found.settled()
        assert "is open for writing in another program" in await found.why()
    await found.look()
    assert await found.location() is not None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b""), "is empty; see why nothing was recorded"),
        (lambda path: path.write_text("{}"), "is no audio"),
        (lambda path: path.mkdir(), "is a directory, not a file"),
        (lambda path: os.mkfifo(path), "is a FIFO, not a file"),
    ],
)
async def test_what_is_no_recording(found: Found, make: Callable[[Path], object], words: str) -> None:
    """Status names each bad thing under the name, which has a minute to become a recording; then it is the call's audio, whose upload
    says what is wrong."""
    await found.wants("c1.wav")
    make(found.root / "c1.wav")
    await found.settled()
    assert words in await found.why()
    assert await found.location() is None
    await found.look(PATIENCE_S)
    assert await found.location() == f"file://{found.root}/c1.wav"


async def test_a_link_out_of_the_directory_is_not_followed(found: Found) -> None:
    """What a link outside leads to is never looked at, and status says why the call has no recording."""
    write(found.root.parent, "private.wav")
    (found.root / "c1.wav").symlink_to("../private.wav")
    await found.wants("c1.wav")
    await found.settled()
    await found.look(2 * PATIENCE_S)
    assert await found.location() is None
    assert "leaves the directory" in await found.why()


async def test_a_directory_that_is_not_there(found: Found) -> None:
    """Status names a directory that is missing, and it is searched as soon as it exists."""
    await found.wants("c1.wav")
    found.root.rmdir()
    await found.look()
    assert f"the directory {found.root} cannot be opened" in await found.why()
    write(found.root.parent, "rec/c1.wav")
    await found.settled()
    assert await found.location() is not None


@pytest.mark.parametrize("call_id", ["*", "?1", "[c]1"])
async def test_ids_of_special_signs_match_nothing_else(found: Found, call_id: str) -> None:
    """An id of `*` finds no file of another call."""
    write(found.root, "c1.wav")
    await found.wants(f"{escaped(call_id)}.wav")
    await found.settled()
    assert (await found.location(), await found.why()) == (None, "there is no such file yet")
    write(found.root, f"{call_id}.wav")
    await found.settled()
    assert await found.location() is not None


async def test_two_files_are_a_tie(found: Found) -> None:
    """Two files that fit are named, and none is taken; the second counts also while it is still being written."""
    await found.wants("c1-*.wav")
    write(found.root, "c1-a.wav")
    await found.look()
    await found.look(SETTLE_S - 1)
    write(found.root, "c1-b.wav")
    await found.look(2)
    assert await found.location() is None
    await found.look(SETTLE_S)
    assert (await found.why()).startswith(f"2 files fit this call: {found.root}/c1-a.wav (last written ")


async def test_a_file_that_fits_two_names_goes_to_nobody(found: Found) -> None:
    """A file that fits what two calls look for is given to neither, and status says so of both."""
    await found.wants("c1-*.wav")
    await found.wants("c1-2-*.wav", "c1-2")
    path = write(found.root, "c1-2-x.wav")
    await found.settled()
    assert [await found.location(call) for call in ("c1", "c1-2")] == [None, None]
    for call in ("c1", "c1-2"):
        assert (await found.why(call)).startswith(f"one file fits this call and 1 other: {path} (last written ")


async def test_a_temporary_name_is_no_recording(found: Found) -> None:
    """A hidden file that a tool has not finished does not fit a star."""
    await found.wants("*c1*")
    write(found.root, ".c1.wav.tmp")
    await found.settled()
    assert await found.why() == "there is no such file yet"


async def test_a_file_of_a_call_that_has_it_is_nobody_elses(found: Found) -> None:
    """A name that fits the file of a sent call finds nothing, and says so."""
    await found.wants("c1.wav")
    path = write(found.root, "c1.wav")
    await found.settled()
    await found.wants("c1*", "other")
    await found.look()
    assert await found.location("other") is None
    assert (
        await found.why("other") == f"{path} is there, but another call has it, or it was written at another time than the call"
    )


async def test_a_file_is_kept_as_it_was_found(found: Found) -> None:
    """The identity that the ledger keeps is that of the file when it was taken; what is written to its place later does not
    change it, and goes to no call that has its file."""
    await found.wants("c1.wav")
    path = write(found.root, "c1.wav")
    await found.settled()
    identity = FileIdentity.of(path.stat())
    write(found.root, "c1.wav", made.wav(seconds=2))
    await found.settled()
    kept = found.ledger.change(lambda store: [one.identity for one in store.recordings.free_near(FILES, str(path), 0)])
    assert kept == []
    (row,) = await found.ledger.calls(Filter(call_ids=frozenset({"c1"}), dismissed=None))
    taken = found.ledger.change(lambda store: [one.identity for one in store.recordings.taken(row.row)])
    assert taken == [str(identity)]


async def test_nothing_is_written_twice(found: Found) -> None:
    """A tie that lasts is admitted once, not at each look, and after a restart it is the same two files."""
    await found.wants("c1*.wav")
    write(found.root, "c1-a.wav")
    write(found.root, "c1-b.wav")
    await found.settled()
    await found.look()
    await found.look()
    assert len(found.told.seen(RecordingAdmitted)) == 2
    again = RecordingFinder(
        found.ledger, found.clock, found.told, {str(found.root): SearchedDirectory("agent", SETTLE_S)}, made.threads()
    )
    await again.sweep(patient=False)
    found.clock.sleep(2 * PATIENCE_S)
    await again.sweep(patient=False)
    assert "2 files" in await found.why()


# Names that several calls have: the times decide.


async def test_the_time_of_the_file_decides(found: Found) -> None:
    """Of two calls the one that ended near the last write gets the file, after its wait; a file outside both windows is not even
    admitted."""
    old = write(found.root, "old.wav")
    os.utime(old, (found.clock.now() - 1000, found.clock.now() - 1000))
    await found.wants("*.wav", "before", within_s=30.0, ended_s=-40.0)
    await found.wants("*.wav", "mine", within_s=30.0, ended_s=-1.0)
    path = write(found.root, "x.wav")
    await found.settled()
    assert len(found.told.seen(RecordingAdmitted)) == 1
    assert "the end of the call; it is taken at" in await found.why("mine")
    found.clock.sleep(601)
    await found.ledger.tick(found.clock.now())
    assert [await found.location(call) for call in ("before", "mine")] == [None, f"file://{path}"]


async def test_two_files_near_a_call_are_left(found: Found) -> None:
    """Both were written within its time: the nearer one is not guessed to be its own."""
    await found.wants("merged_*.wav", within_s=60.0)
    for name, later_s in (("merged_1.wav", 25.0), ("merged_2.wav", 40.0)):
        os.utime(write(found.root, name), (found.clock.now() + later_s,) * 2)
    found.clock.sleep(50.0)
    await found.settled()
    assert "2 files" in await found.why()
    found.clock.sleep(601)
    await found.ledger.tick(found.clock.now())
    (row,) = await found.ledger.calls(Filter(call_ids=frozenset({"c1"}), dismissed=None))
    assert (row.reason, row.recording_location) == ("recording_ambiguous", None)


async def test_many_names_are_looked_at_in_pages(found: Found) -> None:
    """However many calls wait, one look sees every name."""
    for number in range(250):
        await found.wants(f"c{number:03}.wav", f"c{number:03}")
    write(found.root, "c249.wav")
    await found.settled()
    assert await found.location("c249") is not None


@pytest.mark.parametrize(
    ("doubt", "changed_ago_s", "unchanged_s", "wait_s"),
    [
        ("", 0, 0, 5),
        ("", 0, 4, 1),
        ("", 0, 5, 0),
        ("", 59, 0, 5),
        ("", 61, 0, 0),
        ("", -3600, 0, 5),
        ("odd", 0, 5, 55),
        ("odd", 0, 60, 0),
        ("odd", 61, 0, 0),
    ],
)
def test_when_a_file_is_finished(doubt: str, changed_ago_s: float, unchanged_s: float, wait_s: float) -> None:
    """Unchanged for `settle`, or last changed over a minute ago; one that does not look finished needs a minute. A time in the
    future (a clock that is wrong) tells nothing."""
    now = 1_000_000.0
    changed_ns = round((now - changed_ago_s) * 1e9)
    seen = SeenFile("/rec/a.wav", FileIdentity(1, 2, 3, changed_ns, changed_ns), doubt)
    assert settles_in(seen, SETTLE_S, unchanged_s, now) == wait_s


def test_directories_of_strategies() -> None:
    """Each directory of a `file:` strategy once, with the longest `settle`; without `in:` it is the source's own."""
    rule = Node("doc.id", YamlLocation("", 1, 1))
    one = Source(name="one", path="/calls", recording=(FileRule(file=rule), FileRule(file=rule, directory="/rec")))
    two = Source(name="two", path="/other", recording=(FileRule(file=rule, directory="/rec/", settle_s=9.0),))
    assert directories_of([one, two]) == {"/calls": SearchedDirectory("one", 5.0), "/rec": SearchedDirectory("two", 9.0)}


# A running intake.

RULES = """
call:
  call_id: doc.id
  call_type: {const: phone_call}
  start_timestamp: 1782900000000
  end_timestamp: 1782900060000
  transcript_with_tool_calls: {for_each: {m: doc.said}, role: {const: user}, text: m, start_ms: 0}
"""


@pytest.mark.parametrize("final", [False, True])
async def test_a_document_and_its_file_in_one_directory(tmp_path: Path, final: bool) -> None:
    """A running intake, and the sweep of a `run --once`, find the file beside the document with nobody's help."""
    members = parse_yaml(RULES, "config.yaml").value
    assert isinstance(members, dict)
    name = Node("concat(doc.id, '.wav')", YamlLocation("", 1, 1))
    agent = source(
        tmp_path, call=members["call"], recording=(FileRule(file=name, settle_s=0.2),), agent_remote_identifier="bot",
        audio=AudioSettings(publish="upload"),
    )  # fmt: skip
    mapping = compile_source(agent, CREATE, manifests={}, environ={})
    ledger, told, stop = MemoryLedger(), Recorder(), asyncio.Event()
    intake = Intake([agent], ledger, {"agent": mapping.map}, SystemClock(), told)
    put(tmp_path / "c1.json", {"id": "c1", "said": ["hello"]})
    write(tmp_path, "c1.wav")
    async with asyncio.timeout(30):
        if final:
            await intake.sweep()
            intake.close()
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(intake.run(stop))
                await told.until(RecordingMatched)
                stop.set()
    (row,) = await ledger.calls(Filter(call_ids=frozenset({"c1"}), dismissed=None))
    assert (row.state, row.recording_location) == (State.DUE, f"file://{tmp_path}/c1.wav")
