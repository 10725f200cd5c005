"""`tunerd demo` in different directories; tests/test_readme.py checks its output."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import _plain_environment


async def demo(directory: Path, *arguments: str) -> tuple[int, str]:
    """Run the demo in `directory`; return its exit code and all its output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunerd", "demo", *arguments, cwd=directory,
        env={**_plain_environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(90):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_a_relative_directory_is_kept_and_not_used_twice(tmp_path: Path) -> None:
    """The demo leaves its ledger in the directory; a second demo there is refused at once, in one line."""
    code, said = await demo(tmp_path, "--keep", "kept")
    assert code == 0, said
    assert f"ls {tmp_path}/kept\n" in said
    assert (tmp_path / "kept" / "ledger.db").exists()
    code, said = await demo(tmp_path, "--keep", "kept")
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith(f"tunerd: {tmp_path}/kept already contains a ledger: choose another directory")


@pytest.mark.parametrize("name", ["file/below", "/proc/nowhere"])
async def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path, name: str) -> None:
    """A directory that cannot be created gives one line and no traceback."""
    (tmp_path / "file").touch()
    code, said = await demo(tmp_path, "--keep", name)
    assert (code, said.count("\n")) == (1, 1), said
    assert "cannot be used: " in said
