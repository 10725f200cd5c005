"""audio/directory_threads.py: a directory that hangs keeps only its own threads, and is left alone until they come back."""

import threading

import pytest

from tunerd.audio.audio_bytes import AudioHangs
from tunerd.audio.directory_threads import DirectoryThreads
from tunerd.audio_events import DirectoryAnswers, DirectoryHangs
from tunerd.testing import FakeClock, Recorder


class Work:
    """Blocks until it is let go, or for ever."""

    def __init__(self) -> None:
        self.begun = 0
        self._over = threading.Event()
        self.ended = threading.Semaphore(0)

    def __call__(self) -> str:
        self.begun += 1
        self._over.wait()
        self.ended.release()
        return "late"

    def come_back(self, count: int) -> None:
        self._over.set()
        for _ in range(count):
            assert self.ended.acquire(timeout=10)


async def answers(threads: DirectoryThreads, directory: str) -> bool:
    try:
        return await threads.run(directory, lambda: "here") == "here"
    except AudioHangs:
        return False


async def test_a_directory_that_hangs_gets_no_more_threads_until_it_comes_back() -> None:
    """The first work that takes too long is reported once. From then on no work is begun there, and work in other directories is
    done. That the work has come back is reported once, too; then the directory is used as before."""
    told, work = Recorder(), Work()
    threads = DirectoryThreads(FakeClock(), told, answer_s=0.05)
    for _ in range(3):
        with pytest.raises(AudioHangs, match=r"the directory /nfs has not answered for more than 0.05 s"):
            await threads.run("/nfs", work)
    assert work.begun == 1
    assert await answers(threads, "/disk")
    assert not await answers(threads, "/nfs")
    assert [one.directory for one in told.seen(DirectoryHangs)] == ["/nfs"]
    work.come_back(1)
    while not await answers(threads, "/nfs"):  # its thread still says that it is done
        pass
    assert await answers(threads, "/nfs")
    assert [one.directory for one in told.seen(DirectoryAnswers)] == ["/nfs"]
    assert len(told.seen(DirectoryHangs)) == 1


async def test_what_the_work_raises_is_its_own() -> None:
    """A network file system answers with ETIMEDOUT, which Python calls TimeoutError: that is an answer."""
    told = Recorder()

    def work() -> None:
        raise TimeoutError("60 s")

    with pytest.raises(TimeoutError, match="60 s"):
        await DirectoryThreads(FakeClock(), told).run("/nfs", work)
    assert told.events == []
