"""`python -m tests.e2e.killed_at POINTS python -m tunerd ...` runs tunerd, and kills it (SIGKILL) at a line of its code, before that
line is carried out, as a debugger would stop it at a breakpoint. Nothing of tunerd is replaced. Every thread is traced, so that a
line may be one of the ledger's writer.

POINTS is JSON: a list of [file, line, count]. `line` is the beginning of one line of the file. The lines are waited for one after the
other, each until it is reached for the `count`th time; at the last one the process ends.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import tunerd
from tunerd.__main__ import main

_PACKAGE = Path(tunerd.__file__).parent


class _Points:
    def __init__(self, points: Sequence[tuple[str, str, int]]) -> None:
        self._lock = threading.Lock()
        self._left = [(str(_PACKAGE / file), _number(_PACKAGE / file, line), count) for file, line, count in points]
        self._files = {file for file, _, _ in self._left}

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Asked for each function that is entered, and for each coroutine that continues."""
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            with self._lock:
                file, number, count = self._left[0]
                if (frame.f_code.co_filename, frame.f_lineno) == (file, number):
                    self._left[0] = (file, number, count - 1)
                    if count == 1:
                        self._reached()
        return self._line

    def _reached(self) -> None:
        del self._left[0]
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


def _number(path: Path, line: str) -> int:
    """Of the only line that begins like this."""
    (number,) = [at for at, text in enumerate(path.read_text().splitlines(), 1) if text.strip().startswith(line)]
    return number


if __name__ == "__main__":
    points = _Points(json.loads(sys.argv[1]))
    sys.argv = ["tunerd", *sys.argv[5:]]
    threading.settrace(points.trace)
    sys.settrace(points.trace)
    main()
