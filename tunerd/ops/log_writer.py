"""How a line of the log looks and where it goes: JSON or text, without secrets, never more than one line; and warnings of the
libraries in the same form. What is worth a line is decided in event_logger.py.
"""

import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TextIO, TypeAlias

from tunerd.clock import SystemClock
from tunerd.ops.encoding import encoded
from tunerd.ops.mask import redact
from tunerd.visible import visible

LevelName: TypeAlias = Literal["debug", "info", "warning", "error"]
Render: TypeAlias = Callable[[str, str, Mapping[str, object]], bytes]
"""(level, event, fields) -> the line."""

LINES_A_MINUTE: Final = 10
"""Lines of each kind that a storm could multiply; the rest is only counted."""
_MINUTE_S: Final = 60.0
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_COLOURS: Final = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_RESET: Final = "\x1b[0m"
_ERASE: Final = "\r\x1b[K"
"""Erases the bar of `run --once`, which is drawn again below the line."""
_FOREIGN: Final = ("aiohttp", "watchdog", "asyncio", "py.warnings")


class Line(NamedTuple):
    level: LevelName
    event: str
    fields: Mapping[str, object]
    storm: str = ""
    """Lines of one such kind are limited to LINES_A_MINUTE; empty: no limit."""


class LogLevel:
    """The lowest level that is written; a reload may change it."""

    def __init__(self, name: LevelName) -> None:
        self.set(name)

    def set(self, name: LevelName) -> None:
        self._lowest = _LEVELS[name]
        self.is_debug = name == "debug"

    def writes(self, name: LevelName) -> bool:
        return _LEVELS[name] >= self._lowest


class LogWriter:
    """Writes lines to a stream: straight to its descriptor where it has one, since a buffer would keep, and pile up, what a
    full disk refuses. A stream that cannot be written (full disk, closed pipe) loses lines; it never stops the daemon."""

    def __init__(self, out: TextIO, render: Render, level: LogLevel) -> None:
        self._out = out
        self._render = render
        self._level = level
        try:
            self._fd: int | None = out.fileno()
        except (OSError, ValueError, AttributeError):
            self._fd = None

    def write(self, level: LevelName, event: str, fields: Mapping[str, object]) -> None:
        if not self._level.writes(level):
            return
        clean = {name: _clean(value) for name, value in fields.items() if value is not None}
        line = self._render(level, redact(event), clean)
        try:
            if self._fd is None:
                self._out.write(line.decode() + "\n")
            else:
                os.write(self._fd, line + b"\n")
        except (OSError, ValueError):  # ValueError: closed
            pass

    def info(self, event: str, /, **fields: object) -> None:
        self.write("info", event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        self.write("warning", event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        self.write("error", event, fields)


def open_log(
    format: Literal["auto", "json", "text"] = "auto",
    level: LevelName | LogLevel = "info",
    stream: TextIO | None = None,
    now: Callable[[], float] | None = None,
) -> LogWriter:
    """A log on `stream` (default: stderr). `auto`: JSON, or coloured text on a terminal."""
    out = stream or sys.stderr
    on_terminal = out.isatty()
    as_json = format == "json" or (format == "auto" and not on_terminal)
    stamp = now or SystemClock().now
    render = _json_line(stamp) if as_json else _text_line(stamp, terminal=on_terminal)
    return LogWriter(out, render, LogLevel(level) if isinstance(level, str) else level)


def _json_line(now: Callable[[], float]) -> Render:
    def render(level: str, event: str, fields: Mapping[str, object]) -> bytes:
        return encoded({"ts": _iso(now()), "level": level, "event": event, **fields})

    return render


def _text_line(now: Callable[[], float], *, terminal: bool) -> Render:
    coloured = terminal and not os.environ.get("NO_COLOR")
    begin = _ERASE if terminal else ""

    def render(level: str, event: str, fields: Mapping[str, object]) -> bytes:
        rest = " ".join(f"{name}={_plain(value)}" for name, value in fields.items())
        head = f"{_COLOURS.get(level, '')}{level:<7}{_RESET}" if coloured else f"{level:<7}"
        line = f"{begin}{_iso(now())[11:23]} {head} {visible(event)}{'  ' if rest else ''}{rest}"
        return line.encode(errors="backslashreplace")

    return render


def _iso(at: float) -> str:
    second = int(at)
    return f"{_to_second(second)}.{int((at - second) * 1000):03d}Z"


@lru_cache(maxsize=1)
def _to_second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _plain(value: object) -> str:
    """One line, whatever the value contains: a file name with a newline must not look like a line of the log."""
    text = visible(value if isinstance(value, str) else str(value))
    return '"' + text.replace('"', '\\"') + '"' if isinstance(value, str) and (" " in text or not text) else text


def _clean(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _clean(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


@contextmanager
def foreign_loggers(log: LogWriter) -> Iterator[None]:
    """While this is open, warnings of the libraries (aiohttp, watchdog, asyncio, warnings) go through `log`. Nothing else of
    the logging module is touched, and everything is restored afterwards."""
    bridge = _Bridge(log)
    before = []
    for name in _FOREIGN:
        logger = logging.getLogger(name)
        before.append((logger, logger.level, logger.propagate))
        logger.addHandler(bridge)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, level, propagate in before:
            logger.removeHandler(bridge)
            logger.setLevel(level)
            logger.propagate = propagate


def _is_of_a_client(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return record.name == "aiohttp.server" and kind is not None and kind.__module__ == "aiohttp.http_exceptions"


class _Bridge(logging.Handler):
    def __init__(self, log: LogWriter) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._minute = 0.0
        self._counts: Counter[tuple[str, str]] = Counter()
        """Lines of each kind in this minute."""

    def emit(self, record: logging.LogRecord) -> None:
        """A library in trouble may repeat itself thousands of times a second: ten lines a minute of each kind, then a count.
        What a client of the HTTP port sends wrongly is no trouble of ours: it got its 400."""
        if _is_of_a_client(record):
            return
        if record.created - self._minute >= _MINUTE_S:
            self._sum_up()
            self._minute = record.created
        kind = (record.name, str(record.msg)[:80])
        self._counts[kind] += 1
        if self._counts[kind] <= LINES_A_MINUTE:
            self._write(record)

    def _sum_up(self) -> None:
        for (name, _), count in self._counts.items():
            if count > LINES_A_MINUTE:
                self._log.warning("more lines like the last ones were suppressed", logger=name, count=count - LINES_A_MINUTE)
        self._counts.clear()

    def _write(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {"logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            # The type and the place, never the message: an exception may quote the data that it failed on.
            kind, _, trace = record.exc_info
            fields["exception"] = kind.__name__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                fields["at"] = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        self._log.write("error" if record.levelno >= logging.ERROR else "warning", record.getMessage(), fields)
