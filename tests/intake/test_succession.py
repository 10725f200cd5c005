"""Which call the first lines of a new log belong to, when they have no key."""

from dataclasses import replace

import pytest

from tunerd.intake.succession import Follows, NotYet, Seen, UnknownPredecessor, succession
from tunerd.ledger import FileMark

LOG = "/calls/app.ndjson"
NEW = Seen(LOG, inode=9, size=50, mtime_ns=900)


def log(number: int, *, path: str = f"{LOG}.1", home: str = LOG, mtime_ns: int = 500, size: int = 100) -> FileMark:
    """A log that was read to its end; its inode is its number."""
    return FileMark(
        source="agent", path=path, device=1, inode=number, size=size, mtime_ns=mtime_ns, offset=100, whole=False, log=number,
        carry=f"k{number}", home=home, home_inode=number,
    )  # fmt: skip


def there(mark: FileMark, **other: int) -> Seen:
    return replace(Seen(mark.path, inode=mark.inode, size=100, mtime_ns=mark.mtime_ns), **other)


def ends(found: Follows | UnknownPredecessor | NotYet) -> str | list[str]:
    if isinstance(found, NotYet):
        return "not yet"
    return found.log.carry if isinstance(found, Follows) else [mark.carry for mark in found.torn]


def test_a_log_that_was_renamed_is_followed() -> None:
    """Whatever it is called, and whatever older generations there are; empty files and other logs say nothing."""
    for path in (f"{LOG}.1", f"{LOG}-20260101T120000Z", "/calls/app-1.ndjson", f"{LOG}.1.gz"):
        known = [log(1, path=f"{LOG}.2", mtime_ns=300), log(2, path=path), log(3, path="/calls/other", home="/calls/other")]
        listing = [NEW, *(there(mark) for mark in known), Seen(f"{LOG}.x", inode=77, size=0, mtime_ns=600)]
        assert ends(succession(NEW, listing, known, may_wait=True)) == "k2"


@pytest.mark.parametrize("change", [{"size": 120}, {"mtime_ns": 501}])
def test_it_has_to_be_read_to_its_end(change: dict[str, int]) -> None:
    """It is waited for, for a while; an unfinished last line is no end (a mark has no size while something is behind it)."""
    known = log(1)
    assert ends(succession(NEW, [there(known, **change)], [known], may_wait=True)) == "not yet"
    assert ends(succession(NEW, [there(known, **change)], [known], may_wait=False)) == ["k1"]
    assert ends(succession(NEW, [there(known)], [replace(known, size=0)], may_wait=False)) == ["k1"]


def test_another_log_may_have_been_between() -> None:
    """It came and went between two looks: it is read first, and then it is the one whose end is not known."""
    before, between = log(1, path=f"{LOG}.2"), log(2, home=f"{LOG}.1", mtime_ns=700)
    listing = [there(before), there(between)]
    assert ends(succession(NEW, listing, [before], may_wait=True)) == "not yet"
    assert ends(succession(NEW, listing, [before, between], may_wait=True)) == ["k2"]
    assert ends(succession(NEW, listing, [before], may_wait=False)) == ["k1"]
    assert ends(succession(there(between), [NEW, there(before)], [before], may_wait=True)) == ["k1"]


def test_a_file_that_is_no_log_is_not_waited_for() -> None:
    """It is not read as it is, so it may have been between; another one that is not read is waited for all the same."""
    before, odd = log(1), Seen(f"{LOG}.x", inode=77, size=10, mtime_ns=600, is_left_out=True)
    assert ends(succession(NEW, [there(before), odd], [before], may_wait=True)) == ["k1"]
    assert (
        ends(succession(NEW, [there(before), odd, replace(odd, inode=78, is_left_out=False)], [before], may_wait=True))
        == "not yet"
    )


def test_in_one_tick_of_the_clock() -> None:
    """The one that was found later was there later; one that is not known is no proof."""
    one, two = log(1, path=f"{LOG}.2"), log(2)
    assert ends(succession(NEW, [there(one), there(two)], [one, two], may_wait=True)) == "k2"
    assert ends(succession(NEW, [there(one), there(two)], [one], may_wait=False)) == ["k1"]


def test_a_log_that_is_gone_tells_nothing() -> None:
    """It was deleted, or moved elsewhere, and others may have been after it. An older one is not what was before."""
    gone, older = log(2, path=LOG), log(1, mtime_ns=300)
    assert ends(succession(NEW, [], [gone], may_wait=True)) == ["k2"]
    assert ends(succession(NEW, [there(older)], [older, gone], may_wait=True)) == ["k2"]


def test_logs_that_were_never_seen_at_this_path() -> None:
    """The first start on a directory with rotated logs: the oldest is read first, and none is taken for another's beginning."""
    first, second = log(1, path=f"{LOG}.2", home=f"{LOG}.2", mtime_ns=300), log(2, home=f"{LOG}.1")
    listing = [NEW, there(first), there(second)]
    assert ends(succession(NEW, listing, [], may_wait=True)) == "not yet"
    assert ends(succession(there(second), listing, [], may_wait=True)) == "not yet"
    assert ends(succession(there(first), listing, [], may_wait=True)) == []
    assert ends(succession(there(second), listing, [first], may_wait=True)) == ["k1"]
    assert ends(succession(NEW, listing, [first, second], may_wait=True)) == ["k2"]


def test_a_log_that_was_written_over() -> None:
    """It was truncated: what stood behind its last lines nobody knows, and a copy of it, read to its end, does not either."""
    copied = replace(log(1), home_inode=NEW.inode)
    assert ends(succession(NEW, [there(copied)], [copied], may_wait=True)) == ["k1"]


def test_an_inode_that_was_used_again() -> None:
    """The mark of a deleted log is not that of the file that has its inode now."""
    stale, now = log(1, mtime_ns=100), Seen(f"{LOG}.1", inode=1, size=44, mtime_ns=500)
    assert ends(succession(NEW, [now], [stale], may_wait=True)) == "not yet"
    assert ends(succession(NEW, [now], [stale, replace(log(4, size=44), inode=1)], may_wait=True)) == "k4"


def test_an_inode_that_another_log_had() -> None:
    """A log that is gone leaves its inode to a later one: the later one's mark counts, in whatever order they stand."""
    gone, before = replace(log(1, path="/calls/app.ndjson.9", mtime_ns=100, size=40), inode=2), log(2)
    for marks in ([gone, before], [before, gone]):
        assert ends(succession(NEW, [there(before)], marks, may_wait=True)) == "k2"


def test_how_far_the_logs_that_are_waited_for_were_read() -> None:
    """While that becomes more it is worth waiting."""
    known = log(1)
    found = succession(NEW, [there(known, size=120), Seen(f"{LOG}.x", inode=77, size=10, mtime_ns=600)], [known], may_wait=True)
    assert found == NotYet(read_up_to=100)
