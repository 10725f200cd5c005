"""Commands that show something again and again: on a terminal in place, until `q` or Ctrl-C; elsewhere as further lines.

Without a library: a few escape sequences and one setting of the terminal are all that it takes (docs/decisions/terminal.md).
"""

import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from tunerd.cli.terminal import close_screen, collected, open_screen, paint, say

INTERRUPTED: Final = 130
_TERMINATED: Final = 128 + signal.SIGTERM
_QUIT: Final = frozenset(b"qQ\x04")
"""`q` and Ctrl-D."""
_ROWS_AT_LEAST: Final = 4


class Display:
    """Where a repeated text appears."""

    is_screen: bool = False

    def show(self, draw: Callable[[], None]) -> None:
        """Show what `draw` says."""
        draw()

    def wait(self, seconds: float) -> bool:
        """Wait for the next time; True: the user has asked for the end."""
        select.select([], [], [], seconds)
        return False


class Screen(Display):
    """A terminal, filled from its top; what does not fit below is left out, and a last line says so."""

    is_screen = True

    def show(self, draw: Callable[[], None]) -> None:
        with collected() as lines:
            draw()
        rows = max(_ROWS_AT_LEAST, shutil.get_terminal_size().lines)
        if len(lines) > rows:
            hidden = len(lines) - (rows - 1)
            with collected() as rest:
                say(f"({hidden} more lines; make the window higher, or run the command without a terminal)")
            lines = lines[: rows - 1] + rest
        paint(lines)

    def wait(self, seconds: float) -> bool:
        readable, _, _ = select.select([sys.stdin], [], [], seconds)
        return bool(readable) and not _QUIT.isdisjoint(os.read(sys.stdin.fileno(), 64) or b"\x04")


@contextmanager
def display(*, in_place: bool = True) -> Iterator[Display]:
    """The screen, if this is a terminal and `in_place`; its settings are restored at the end, also after SIGTERM. Ctrl-C ends the
    command with 130, and a closed stdout as in every command."""
    if not (in_place and sys.stdin.isatty() and sys.stdout.isatty()):
        with _interruptible():
            yield Display()
        return
    before = termios.tcgetattr(sys.stdin)
    earlier = signal.signal(signal.SIGTERM, _end)
    try:
        with _interruptible():
            _take_keys()
            open_screen()
            yield Screen()
    finally:
        close_screen()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, earlier)


def _take_keys() -> None:
    """Each key comes at once and is not shown. Ctrl-Z does nothing: it would leave the shell on this screen."""
    tty.setcbreak(sys.stdin)
    settings = termios.tcgetattr(sys.stdin)
    settings[6][termios.VSUSP] = b"\0"
    termios.tcsetattr(sys.stdin, termios.TCSANOW, settings)


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _end(_: int, __: FrameType | None) -> None:
    sys.exit(_TERMINATED)
