"""The help of the commands for people who write rules."""

import pytest
from click.testing import CliRunner

from tunerd.cli import main


@pytest.mark.parametrize("command", ["explain", "test", "diff", "presets", "init"])
def test_help_has_an_example_and_exit_codes_in_eighty_columns(command: str) -> None:
    """What a person sees first."""
    result = CliRunner().invoke(main, [command, "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"  tunerd {command}" in result.stdout
    assert "Exit code" in " ".join(result.stdout.split())
    assert max(map(len, result.stdout.splitlines())) <= 80
