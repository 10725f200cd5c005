"""`tunerd completion`: the script that lets a shell complete commands, options and their values. click makes it."""

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from tunerd.cli.terminal import say_lines

_EPILOG = """\b
Examples:
  tunerd completion bash > /etc/bash_completion.d/tunerd
  tunerd completion zsh > /usr/local/share/zsh/site-functions/_tunerd
  tunerd completion fish > ~/.config/fish/completions/tunerd.fish
"""
_SHELLS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command("completion", epilog=_EPILOG)
@click.argument("shell", type=click.Choice(tuple(_SHELLS)))
def command(shell: str) -> None:
    """Print the completion script of tunerd for a shell. `tunerd install-service` and the Debian package install it."""
    say_lines(script(shell).removesuffix("\n"))


def script(shell: str) -> str:
    from tunerd.cli import main

    made = _SHELLS[shell](main, {}, "tunerd", "_TUNERD_COMPLETE")
    # click's `source()` would also check the version of the bash that is first on the PATH.
    return made.source_template % made.source_vars() + "\n"
