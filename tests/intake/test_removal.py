"""Removal: a file goes only if it is what was read and nobody writes to it, and nothing outside the source is ever touched."""

import ctypes
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.descriptors import open_descriptors
from tests.intake.harness import source
from tests.test_source_tree import busy, exchange
from tunerd.intake.aside_names import ASIDE, aside_name
from tunerd.intake.content import content_hash, hash_of
from tunerd.intake.removal import Changed, Ending, Missing, NotRemoved, Removal, Removed, Unfinished
from tunerd.ledger import FileMark
from tunerd.source_tree import SourceTree
from tunerd.writers import has_writer

LONGEST = "x" * 250 + ".json"


def mark_of(path: Path) -> FileMark:
    """As the file is now."""
    with path.open("rb") as file:
        at = os.fstat(file.fileno())
        return FileMark(
            source="agent", path=str(path), device=at.st_dev, inode=at.st_ino, size=at.st_size, mtime_ns=at.st_mtime_ns,
            ctime_ns=at.st_ctime_ns, offset=at.st_size, content=content_hash(file.fileno()),
        )  # fmt: skip


def removal(root: Path, move_to: str | None = None, now: float | None = None) -> Removal:
    chosen = source(root, recursive=True, after_sent="delete" if move_to is None else "move_to", move_to=move_to)
    return Removal(chosen, SourceTree(str(root)), lambda: now if now is not None else root.stat().st_ctime)


def remove(root: Path, mark: FileMark, move_to: str | None = None, *, closed: bool = False) -> Ending:
    relative = os.path.relpath(mark.path, root)
    (ending,) = removal(root, move_to).remove([mark], {relative} if closed else ())
    return ending


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "calls" / "day").mkdir(parents=True)
    return tmp_path / "calls"


def put(path: Path, text: str) -> FileMark:
    path.write_text(text)
    return mark_of(path)


def rewrite(path: Path, text: str) -> None:
    """In place, and its mtime is as before."""
    at = path.stat()
    with path.open("r+") as file:
        file.write(text)
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))


def replace(path: Path, text: str) -> None:
    """By another file of the same mtime, as rsync -t and cp -p do."""
    at = path.stat()
    new = path.with_name(".new")
    new.write_text(text)
    os.utime(new, ns=(at.st_atime_ns, at.st_mtime_ns))
    new.rename(path)


@pytest.mark.parametrize("change", [rewrite, replace])
@pytest.mark.parametrize("move_to", [None, "done/"])
def test_other_content_of_the_same_size_and_time_stays(root: Path, move_to: str | None, change: object) -> None:
    """Size and mtime are no proof that it was read: its content is compared."""
    mark = put(root / "a.json", '{"id": 1}')
    change(root / "a.json", '{"id": 2}')  # type: ignore[operator]
    assert remove(root, mark, move_to) == Changed()
    assert (root / "a.json").read_text() == '{"id": 2}'
    assert sorted(os.listdir(root)) == ["a.json", "day"]


def test_equal_content_goes_whatever_was_done_to_the_file(root: Path) -> None:
    """chmod, touch, and a copy in its place."""
    for act in (lambda p: p.chmod(0o600), lambda p: p.touch(), lambda p: replace(p, '{"id": 1}')):
        mark = put(root / "a.json", '{"id": 1}')
        act(root / "a.json")
        assert remove(root, mark) == Removed("deleted")
        assert os.listdir(root) == ["day"]


def test_a_file_whose_content_is_not_known_goes_only_untouched(root: Path) -> None:
    """Its stat decides then, inode and ctime too."""
    mark = put(root / "a.json", '{"id": 1}')
    (root / "a.json").chmod(0o600)
    unknown = mark_of(root / "a.json")
    for field in ({"inode": 1}, {"ctime_ns": mark.ctime_ns}, {"mtime_ns": 1}):
        assert remove(root, _with(unknown, content=b"", **field)) == Changed()
    assert remove(root, _with(unknown, content=b"")) == Removed("deleted")


def _with(mark: FileMark, **fields: object) -> FileMark:
    return dataclasses.replace(mark, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("move_to", [None, "done/"])
def test_a_file_that_its_writer_has_open_stays(root: Path, move_to: str | None) -> None:
    """However long it was quiet, and though a close was seen; when the writer has closed it, it goes."""
    with (root / "a.json").open("w") as writer:
        writer.write('{"id": 1}')
        writer.flush()
        mark = mark_of(root / "a.json")
        late = removal(root, move_to, now=root.stat().st_ctime + 1e6)
        assert late.remove([mark], {"a.json"}) == [Unfinished("its writer has it open")]
        assert os.listdir(root / "day") == []
        writer.write(" ")
    mark = mark_of(root / "a.json")
    assert late.remove([mark], ()) == [Removed("deleted" if move_to is None else "moved")]


def test_asking_for_writers_ends_no_process_and_hinders_no_writer(root: Path) -> None:
    """The kernel tells whoever holds a lease by a signal that a writer came: it must be one that does no harm."""
    path = root / "a.json"
    path.write_text("x")
    caught: list[int] = []
    before = {name: signal.signal(name, lambda number, _: caught.append(number)) for name in (signal.SIGIO, signal.SIGURG)}
    try:
        done = threading.Event()

        def write() -> None:
            while not done.is_set():
                os.close(os.open(path, os.O_WRONLY))

        thread = threading.Thread(target=write)
        thread.start()
        seen = set()
        for _ in range(20_000):
            fd = os.open(path, os.O_RDONLY)
            seen.add(has_writer(fd))
            os.close(fd)
            if signal.SIGURG in caught and seen == {True, False}:
                break
        done.set()
        thread.join()
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    assert seen == {True, False}
    assert signal.SIGIO not in caught


class _Capabilities(ctypes.Structure):
    _fields_ = [(f"{kind}{half}", ctypes.c_uint32) for half in (0, 1) for kind in ("effective", "permitted", "inheritable")]


@contextmanager
def without_leases() -> Iterator[None]:
    """This thread loses CAP_LEASE for a moment: of other users' files it gets no lease then."""
    libc, head, have = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(0x20080522, 0), _Capabilities()
    assert libc.capget(head, ctypes.byref(have)) == 0
    all_of_them = have.effective0
    have.effective0 &= ~(1 << 28)
    assert libc.capset(head, ctypes.byref(have)) == 0
    try:
        yield
    finally:
        have.effective0 = all_of_them
        assert libc.capset(head, ctypes.byref(have)) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the owner of files")
def test_where_there_is_no_lease_a_close_or_an_hour_decides(root: Path) -> None:
    """Of another user's file nobody can know whether it is open: it goes when an event said that it was closed, or an hour
    after its last change, by its ctime, which nobody can set back."""
    put(root / "a.json", '{"id": 1}')
    os.chown(root / "a.json", 12345, 12345)
    mark = mark_of(root / "a.json")
    os.utime(root / "a.json", (0, 0))
    changed_at = (root / "a.json").stat().st_ctime
    with without_leases():
        (ending,) = removal(root, now=changed_at + 3599.0).remove([mark], ())
        assert isinstance(ending, Unfinished)
        assert ending.seconds == pytest.approx(1.0, abs=0.01)
        assert "an hour after its last change" in ending.why
        assert removal(root, now=changed_at + 3601.0).remove([mark], ()) == [Removed("deleted")]
        put(root / "a.json", '{"id": 1}')
        os.chown(root / "a.json", 12345, 12345)
        assert removal(root, now=changed_at).remove([mark], {"a.json"}) == [Removed("deleted")]


@pytest.mark.parametrize(
    "name", [LONGEST, "ü" * 125 + ".json", "x" * 255, "a." * 125 + "json.gz"[:5], "a" + ".json" * 50, "a.json"]
)
@pytest.mark.parametrize("move_to", [None, "done/", "../done"])
def test_names_of_any_length_are_deleted_and_moved(root: Path, name: str, move_to: str | None) -> None:
    """Up to the longest that the file system takes; where the name is taken in move_to, the other file stays."""
    target = root / (move_to or "")
    for number in range(3):
        mark = put(root / "day" / name, f"{number}")
        assert remove(root, mark, move_to) == Removed("deleted" if move_to is None else "moved")
        assert os.listdir(root / "day") == []
    if move_to is not None:
        assert (target / "day" / name).read_text() == "0"
        assert sorted(path.read_text() for path in (target / "day").iterdir()) == ["0", "1", "2"]


def test_a_name_that_was_set_aside_fits_and_is_its_own(root: Path) -> None:
    """Two long names that begin alike do not meet, and no name grows beyond what the file system takes."""
    fd = os.open(root, os.O_RDONLY)
    names = ["y" * 254 + end for end in "ab"] + ["ü" * 127, "é.json", "a.json"]
    asides = [aside_name(name, fd) for name in names]
    os.close(fd)
    assert len(set(asides)) == len(names)
    assert max(len(os.fsencode(aside)) for aside in asides) <= 255
    assert all(os.fsencode(aside).decode() for aside in asides)  # cut between characters


@pytest.mark.parametrize("name", ["a.json", "a.b.json.gz", LONGEST, "a." + "b" * 245 + ".json"])
def test_what_is_put_back_beside_a_newer_file_can_be_read(root: Path, name: str) -> None:
    """It keeps its ending, by which it is found, and is not hidden."""
    mark = put(root / name, '{"id": 1}')
    fd = os.open(root, os.O_RDONLY)
    aside = aside_name(name, fd)
    os.close(fd)
    (root / name).rename(root / aside)
    (root / name).write_text('{"id": "newer"}')
    assert removal(root).finish(aside, mark) == Changed()
    assert (root / name).read_text() == '{"id": "newer"}'
    (beside,) = (path for path in root.iterdir() if path.is_file() and path.name != name)
    assert beside.read_text() == '{"id": 1}'
    assert beside.name[0] == name[0]
    assert beside.suffix == Path(name).suffix


@pytest.mark.parametrize("name", ["a.json", LONGEST])
@pytest.mark.parametrize("move_to", [None, "done/"])
def test_what_a_crash_left_is_finished(root: Path, name: str, move_to: str | None) -> None:
    """It was done with when it was set aside: deleted or moved if it still is what was read, else put back."""
    fd = os.open(root, os.O_RDONLY)
    aside = aside_name(name, fd)
    os.close(fd)
    mark = put(root / name, '{"id": 1}')
    (root / name).rename(root / aside)
    assert removal(root, move_to).finish(aside, mark) == Removed("deleted" if move_to is None else "moved")
    put(root / aside, '{"id": 2}')
    assert removal(root, move_to).finish(aside, mark) == Changed()
    assert (root / name).read_text() == '{"id": 2}'
    (root / aside).hardlink_to(root / name)  # it was being put back, on a file system without renameat2
    assert removal(root, move_to).finish(aside, mark_of(root / name)) == Missing()
    assert (root / name).read_text() == '{"id": 2}'
    assert not list(root.glob(ASIDE + "*"))


def test_a_link_for_move_to_is_not_followed(root: Path, tmp_path: Path) -> None:
    """Whoever may write the source's directory must not choose where its files go; outside it the operator may link."""
    (tmp_path / "private").mkdir()
    (tmp_path / "alias").symlink_to("private")
    (root / "done").symlink_to(tmp_path / "private")
    mark = put(root / "a.json", '{"id": 1}')
    for move_to in ("done/", "done/more"):
        ending = remove(root, mark, move_to)
        assert isinstance(ending, NotRemoved)
        assert "symbolic link" in ending.why
    assert os.listdir(tmp_path / "private") == []
    assert os.listdir(root).count("a.json") == 1
    assert remove(root, mark, "../alias") == Removed("moved")
    assert os.listdir(tmp_path / "private") == ["a.json"]


def test_what_is_no_regular_file_stays(root: Path, tmp_path: Path) -> None:
    """A link to what was read, a FIFO, a directory in its place."""
    (tmp_path / "a.json").write_text('{"id": 1}')
    mark = _with(mark_of(tmp_path / "a.json"), path=str(root / "a.json"))
    (root / "a.json").symlink_to(tmp_path / "a.json")
    assert remove(root, mark) == Missing()
    (root / "a.json").unlink()
    os.mkfifo(root / "a.json")
    assert remove(root, mark) == Missing()
    (root / "a.json").unlink()
    assert remove(root, mark) == Missing()
    assert (tmp_path / "a.json").exists()


@pytest.mark.parametrize("move_to", [None, "done/"])
def test_nothing_outside_goes_while_names_change_places(root: Path, tmp_path: Path, move_to: str | None) -> None:
    """The directory, the file and the target change places with links to the outside, thousands of times, and whatever is
    outside is there at the end; the content outside is even what was read."""
    private = tmp_path / "private"
    private.mkdir()
    (private / "a.json").write_text('{"id": 1}')
    kept = (private / "a.json").stat().st_ino
    (root / "trap").symlink_to(private)
    (root / "trap.json").symlink_to(private / "a.json")
    (root / "done").mkdir()
    (root / "trapdone").symlink_to(private)
    before = open_descriptors()

    def swap() -> None:
        exchange(root / "day", root / "trap")
        exchange(root / "done", root / "trapdone")

    mark = put(root / "day" / "a.json", '{"id": 1}')
    acts, gone = removal(root, move_to), 0
    with busy(swap):
        while gone < 20:
            (ending,) = acts.remove([mark], ())
            if isinstance(ending, Removed):
                gone += 1
                with SourceTree(str(root)).opened() as inside:
                    while True:
                        try:
                            with (
                                inside.folder("day") as fd,
                                open(os.open("a.json", os.O_CREAT | os.O_WRONLY, dir_fd=fd), "w") as file,
                            ):
                                file.write('{"id": 1}')
                            break
                        except NotADirectoryError:
                            pass
    assert os.listdir(private) == ["a.json"]
    assert (private / "a.json").stat().st_ino == kept
    assert open_descriptors() == before


def test_a_document_that_takes_the_place_meanwhile_is_not_lost(root: Path) -> None:
    """A writer that puts one new document after the other into the place, and keeps what was there: each of them is kept by
    it, or is there, or was removed as what was read."""
    path, kept, written = root / "a.json", root / "kept", []
    kept.mkdir()

    def write() -> None:
        text = f'{{"id": {len(written):06}}}'
        new = root / ".new"
        new.write_text(text)
        written.append(text)
        while True:
            with suppress(FileNotFoundError):
                exchange(new, path)
                new.rename(kept / str(len(written)))
                return
            with suppress(FileExistsError):
                os.link(new, path)
                new.unlink()
                return

    write()
    acts, removed = removal(root), []
    with busy(write):
        while len(removed) < 100:
            try:
                mark = mark_of(path)
            except FileNotFoundError:
                continue
            if acts.remove([mark], ()) == [Removed("deleted")]:
                removed.append(mark.content)
    assert not list(root.glob(ASIDE + "*"))
    there = [mark_of(one).content for one in (*root.iterdir(), *kept.iterdir()) if one.is_file()]
    assert sorted(there + removed) == sorted(hash_of(text.encode()) for text in written)
