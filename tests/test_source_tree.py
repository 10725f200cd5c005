"""SourceTree: what is outside a source's directory is never opened, listed or changed, whatever its writer links or exchanges."""

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.descriptors import open_descriptors
from tunerd.source_tree import LeavesSource, SourceTree

_RENAME_EXCHANGE = 2
_C = ctypes.CDLL(None, use_errno=True)
ROUNDS = 3_000


def exchange(one: Path, other: Path) -> None:
    """Let two names change places in one step."""
    if _C.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def busy(act: Callable[[], None]) -> Iterator[None]:
    """Somebody does this again and again meanwhile."""
    done, trouble = threading.Event(), []

    def work() -> None:
        try:
            while not done.is_set():
                act()
        except OSError as exc:
            trouble.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert not trouble


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "calls"
    (root / "day").mkdir(parents=True)
    (root / "day" / "a.json").write_text("inside")
    (root / "a.json").write_text("inside")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.json").write_text("outside")
    return root


def read(tree: SourceTree, relative: str) -> str:
    with tree.opened() as inside:
        fd = inside.open(relative)
        with open(fd) as file:
            return file.read()


def test_a_file_is_read_by_the_descriptors_of_its_directories(root: Path) -> None:
    """At any depth, and the descriptors are given back when nobody uses the tree: they would hold a mount."""
    tree, before = SourceTree(str(root)), open_descriptors()
    assert (read(tree, "a.json"), read(tree, "day/a.json")) == ("inside", "inside")
    with tree.opened() as inside:
        assert inside.stat("day/a.json").st_ino == (root / "day" / "a.json").stat().st_ino
        with inside.listed("day") as entries:
            assert [entry.name for entry in entries] == ["a.json"]
        assert inside.is_in_place()
    assert open_descriptors() == before


@pytest.mark.parametrize(
    "target",
    ["../a.json", "./../day/a.json", "{root}/a.json", "../../calls/a.json", "../loop/../a.json", "{parent}/alias/a.json"],
)
def test_a_link_that_stays_inside_is_followed(root: Path, target: str) -> None:
    """Relative, absolute, by way of other links, and by another name of the root."""
    (root.parent / "alias").symlink_to("calls")
    (root / "loop").symlink_to("day")
    (root / "day" / "link.json").symlink_to(target.format(root=root, parent=root.parent))
    tree = SourceTree(str(root))
    assert read(tree, "day/link.json") == "inside"
    with tree.opened() as inside:
        assert inside.stat("day/link.json", follow_links=True).st_size == len("inside")


@pytest.mark.parametrize(
    "target", ["../private/a.json", "{parent}/private/a.json", "/etc/hostname", "/", "day/../../private/a.json"]
)
def test_a_link_that_leaves_is_not_followed(root: Path, target: str) -> None:
    """It says so, for a file as for a directory on the way, and for a path that leaves by itself."""
    (root / "out.json").symlink_to(target.format(parent=root.parent))
    (root / "out").symlink_to("../private")
    (root / "by.json").symlink_to("out/a.json")
    with SourceTree(str(root)).opened() as inside:
        for name in ("out.json", "out/a.json", "by.json", "../private/a.json"):
            with pytest.raises(LeavesSource, match="leaves the directory"):
                inside.open(name)
            with pytest.raises(LeavesSource):
                inside.stat(name, follow_links=True)
        assert inside.stat("out.json").st_size > 0  # the link's own


def test_links_in_a_circle_end(root: Path) -> None:
    """As the kernel ends them."""
    (root / "one.json").symlink_to("two.json")
    (root / "two.json").symlink_to("one.json")
    (root / "itself").symlink_to("itself/x")
    with SourceTree(str(root)).opened() as inside:
        for name in ("one.json", "itself", "itself/y"):
            with pytest.raises(OSError) as caught:
                inside.open(name)
            assert caught.value.errno == errno.ELOOP


def test_where_files_are_moved_and_deleted_no_link_is_followed(root: Path) -> None:
    """Not even one that stays inside: what is done to a name is done to that name."""
    (root / "alias").symlink_to("day")
    with SourceTree(str(root)).opened() as inside:
        with pytest.raises(NotADirectoryError), inside.folder("alias"):
            pass
        with pytest.raises(NotADirectoryError), inside.folder("alias/x", make=True):
            pass
        with pytest.raises(LeavesSource), inside.folder("../private"):
            pass
        with inside.folder("done/2026", make=True) as fd:
            os.rename(root / "a.json", "a.json", dst_dir_fd=fd)
    assert (root / "done" / "2026" / "a.json").read_text() == "inside"
    assert not (root / "day" / "x").exists()


def test_the_configured_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    """And may lead elsewhere from one moment to the next; who is at work keeps the directory that was there."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.json").write_text("other")
    link = tmp_path / "current"
    link.symlink_to("calls")
    tree = SourceTree(str(link))
    with tree.opened() as inside:
        link.unlink()
        link.symlink_to("other")
        assert not inside.is_in_place()
        os.close(inside.open("day/a.json"))
        assert read(tree, "a.json") == "other"
    (root / "day" / "x.json").symlink_to(root / "a.json")
    link.unlink()
    with pytest.raises(FileNotFoundError), tree.opened():
        pass


def test_a_directory_that_was_replaced_is_opened_anew(root: Path) -> None:
    """A kept descriptor is not believed: the directory may have been moved away, out of the source."""
    tree = SourceTree(str(root), kept_directories=2)
    with tree.opened() as inside:
        os.close(inside.open("day/a.json"))
        (root / "day").rename(root.parent / "moved")
        with pytest.raises(FileNotFoundError):
            inside.open("day/a.json")
        (root / "day").mkdir()
        (root / "day" / "a.json").write_text("new")
        assert read(tree, "day/a.json") == "new"
        for depth in range(1, 8):  # more than are kept
            (root / Path(*"abcdefgh"[:depth])).mkdir()
        (root / "a/b/c/d/e/f/g/x.json").write_text("deep")
        assert read(tree, "a/b/c/d/e/f/g/x.json") == "deep"
        assert read(tree, "day/a.json") == "new"


def test_nothing_outside_is_read_while_a_directory_and_a_link_change_places(root: Path, tmp_path: Path) -> None:
    """RENAME_EXCHANGE, thousands of times: each read gives what is inside, or an error."""
    (root / "trap").symlink_to(tmp_path / "private")
    (root / "trap.json").symlink_to(tmp_path / "private" / "a.json")
    tree, before, seen = SourceTree(str(root)), open_descriptors(), set()

    def swap() -> None:
        exchange(root / "day", root / "trap")
        exchange(root / "a.json", root / "trap.json")

    with busy(swap):
        for number in range(ROUNDS):
            name = ("day/a.json", "a.json", "trap/a.json", "trap.json")[number % 4]
            try:
                seen.add(read(tree, name))
            except LeavesSource:
                seen.add("refused")
            except NotADirectoryError:
                pass  # it was a link when it was opened, and none when it was asked where it leads
    assert seen == {"inside", "refused"}
    assert open_descriptors() == before


def test_nothing_outside_is_deleted_while_a_directory_and_a_link_change_places(root: Path, tmp_path: Path) -> None:
    """The same for a deletion by the directory's descriptor; and files are not listed that are outside."""
    (root / "trap").symlink_to(tmp_path / "private")
    tree, deleted, listed = SourceTree(str(root)), 0, set()
    with busy(lambda: exchange(root / "day", root / "trap")):
        while deleted < ROUNDS // 10:
            with tree.opened() as inside:
                try:
                    with inside.folder("day") as fd:
                        os.unlink("a.json", dir_fd=fd)
                        deleted += 1
                        os.close(os.open("a.json", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
                    with inside.listed("day") as entries:
                        listed |= {entry.stat().st_ino for entry in entries}
                except NotADirectoryError:
                    pass
    assert (tmp_path / "private" / "a.json").read_text() == "outside"
    assert (tmp_path / "private" / "a.json").stat().st_ino not in listed


def test_many_threads_share_the_descriptors(root: Path) -> None:
    """While directories come and go no descriptor is closed under a thread that uses it, and none is left open."""
    tree, before, trouble = SourceTree(str(root), kept_directories=2), open_descriptors(), []
    for number in range(6):
        (root / f"d{number}").mkdir()
        (root / f"d{number}" / "a.json").write_text(str(number))

    def work(first: int) -> None:
        for number in range(first, first + 300):
            if (text := read(tree, f"d{number % 6}/a.json")) != str(number % 6):
                trouble.append(text)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble
    assert open_descriptors() == before
