"""Completion in a real bash, with the script that `tunerd completion bash` prints."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.real_parts import needs_program

COMMAND = Path(sys.executable).with_name("tunerd")
TAB = """\
source <("$TUNERD" completion bash)
complete_function=$(complete -p tunerd | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
COMP_WORDS=(tunerd $TYPED)
[[ $TYPED == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"$complete_function" "$TUNERD"
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""What bash does when Tab is pressed after TYPED."""


@needs_program("bash", "it completes words")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("relo", ["reload"]),
        ("re", ["retry", "remap", "resume", "reload"]),
        ("install-service --d", ["--dry-run"]),
        ("failed --reason unread", ["unreadable"]),
        ("completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_tab_offers_commands_options_and_values(typed: str, offered: list[str]) -> None:
    """Commands, the options of a command, and the values that an option or argument may have."""
    environ = {"TUNERD": str(COMMAND), "TYPED": typed, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", TAB], env=environ, capture_output=True, text=True, check=True)
    assert sorted(done.stdout.splitlines()) == sorted(offered), done.stderr


def test_an_unknown_shell_is_refused() -> None:
    """A shell that click has no script for is an error that names those it has."""
    done = subprocess.run([COMMAND, "completion", "csh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr
