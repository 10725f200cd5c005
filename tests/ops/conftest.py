"""What the tests of this folder share."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Markers that only this folder uses."""
    config.addinivalue_line("markers", "needs_promtool: asks Prometheus' own linter; skipped without it, except in CI")
