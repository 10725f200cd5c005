"""reload_threads.py: a configuration that names a directory which hangs is refused."""

import threading
from pathlib import Path

import pytest

from tunerd.reload_threads import ReloadThreads
from tunerd.yaml_location import ConfigError


async def test_a_reload_that_hangs_is_refused() -> None:
    """...in words, also while an earlier one hangs; and when that has come back, the next is as before."""
    threads, over = ReloadThreads(answer_s=0.05), threading.Event()
    for work in (over.wait, over.is_set):
        with pytest.raises(ConfigError, match=r"tunerd.yaml.*it could not be read within 0.05 s: a directory that it names"):
            await threads.run(Path("/etc/tunerd.yaml"), work)
    over.set()
    assert await ReloadThreads().run(Path("/etc/tunerd.yaml"), over.is_set)
