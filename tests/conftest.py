"""Tests that need a part of the machine: skipped without it, or failed in CI (real_parts.py says what there is)."""

import os

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: those would already use the part."""
    for mark in item.iter_markers("needs"):
        part, is_there, why = mark.args
        if not is_there():
            if os.environ.get("CI"):
                pytest.fail(f"needs {part}: {why}. With CI=true nothing is skipped", pytrace=False)
            pytest.skip(f"needs {part}: {why}")
