"""Tests that need a part of the machine are skipped without it, and fail in CI (real_parts.py lists the parts)."""

import os

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Runs before any fixture, because fixtures would already use the part."""
    for mark in item.iter_markers("needs"):
        part, is_there, why = mark.args
        if not is_there():
            if os.environ.get("CI"):
                pytest.fail(f"needs {part}: {why}. With CI=true nothing is skipped", pytrace=False)
            pytest.skip(f"needs {part}: {why}")
