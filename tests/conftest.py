"""Tests that need a part of the machine are skipped without it, and fail in CI (real_parts.py lists the parts)."""

import os
import signal

import pytest

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell's background job ignores it, and so would every process that a test starts
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Runs before any fixture, because fixtures would already use the part."""
    for mark in item.iter_markers("needs"):
        part, is_there, why = mark.args
        if not is_there():
            if os.environ.get("CI"):
                pytest.fail(f"needs {part}: {why}. With CI=true nothing is skipped", pytrace=False)
            pytest.skip(f"needs {part}: {why}")
