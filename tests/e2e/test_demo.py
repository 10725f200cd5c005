"""`tunerd demo` where a person may point it: what it prints is README's (tests/test_readme.py)."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import _plain_environment


async def demo(directory: Path, *arguments: str) -> tuple[int, str]:
    """Run in `directory`: exit code, and everything said."""
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
    """The demo leaves its ledger there; a second one in the same place is refused at once, in one line."""
    code, said = await demo(tmp_path, "--keep", "kept")
    assert code == 0, said
    assert f"ls {tmp_path}/kept\n" in said
    assert (tmp_path / "kept" / "ledger.db").exists()
    code, said = await demo(tmp_path, "--keep", "kept")
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith(f"tunerd: {tmp_path}/kept holds a ledger already: name another directory")


@pytest.mark.parametrize("name", ["file/below", "/proc/nowhere"])
async def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path, name: str) -> None:
    """No traceback for a path that is none."""
    (tmp_path / "file").touch()
    code, said = await demo(tmp_path, "--keep", name)
    assert (code, said.count("\n")) == (1, 1), said
    assert "cannot be used: " in said
