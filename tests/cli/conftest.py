"""The fixture that several test files of the commands share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.live import Live


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A daemon that has just told systemd that it is ready."""
    made = Live(tmp_path)
    try:
        made.hear("READY=1")
        yield made
    finally:
        made.close()
