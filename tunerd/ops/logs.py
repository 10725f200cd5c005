"""The log: one `match` over the events, and how a line looks. Where an operator reads what happened.

What is worth a line: pauses when they begin and end, each failed call (ten a minute, then counted), one summary a minute
of what was sent and retried; single attempts only at debug. Never a transcript, a key or a URL's query.
"""

import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Literal, Protocol, TextIO, TypeAlias

from tunerd import events as e
from tunerd.clock import Clock
from tunerd.ops.encoding import encoded
from tunerd.ops.mask import redact
from tunerd.outcome import PauseReason
from tunerd.visible import visible

_HIDE_RICH: Final = "rich" not in sys.modules
if _HIDE_RICH:  # structlog imports rich where it finds it, for tracebacks that we don't draw: 6 MB and 80 ms of every start
    sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog
finally:
    if _HIDE_RICH:
        del sys.modules["rich"]

Fields = MutableMapping[str, object]
"""One line on its way out, as structlog hands it from processor to processor."""

SUMMARY_S: Final = 60.0
LINES_A_MINUTE: Final = 10
"""Of each kind that a storm could multiply; what is above it is counted in the summary."""

LevelName: TypeAlias = Literal["debug", "info", "warning", "error"]

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_COLOURS: Final = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_RESET: Final = "\x1b[0m"
_ERASE: Final = "\r\x1b[K"
"""What stands on the line already, the bar of `run --once`, makes room; it is drawn again below."""
_FOREIGN: Final = ("aiohttp", "watchdog", "asyncio", "py.warnings")


class Log(Protocol):
    """The part of a structlog logger that is used here."""

    def debug(self, event: str, /, **fields: object) -> object: ...
    def info(self, event: str, /, **fields: object) -> object: ...
    def warning(self, event: str, /, **fields: object) -> object: ...
    def error(self, event: str, /, **fields: object) -> object: ...


class Level:
    """From which level on lines are written; it may change while the log is open."""

    def __init__(self, name: LevelName) -> None:
        self.set(name)

    def set(self, name: LevelName) -> None:
        self._name = name

    @property
    def verbose(self) -> bool:
        return self._name == "debug"

    def drop_below(self, _: object, name: str, fields: Fields) -> Fields:
        """The first processor of a log."""
        if _LEVELS[name] < _LEVELS[self._name]:
            raise structlog.DropEvent
        return fields


def open_log(
    format: Literal["auto", "json", "text"] = "auto",
    level: LevelName | Level = "info",
    stream: TextIO | None = None,
    now: Callable[[], float] | None = None,
) -> Log:
    """A logger that writes lines to `stream` (default: stderr). `auto`: JSON, or coloured text on a terminal. A stream
    that can't be written (full disk, closed pipe) loses lines, it never stops the daemon."""
    out = stream or sys.stderr
    on_terminal = out.isatty()
    as_json = format == "json" or (format == "auto" and not on_terminal)
    stamp = now or (lambda: datetime.now(UTC).timestamp())

    def add_time_and_level(_: object, name: str, fields: Fields) -> Fields:
        return {"ts": _iso(stamp()), "level": name, "event": fields.pop("event"), **fields}

    level = Level(level) if isinstance(level, str) else level
    draw = _json_line if as_json else _text_line(terminal=on_terminal)
    log: Log = structlog.wrap_logger(
        _Lines(out),
        processors=[level.drop_below, add_time_and_level, _redact_fields, draw],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS["debug"]),
        cache_logger_on_first_use=True,
    )
    return log


@contextmanager
def foreign_loggers(log: Log) -> Iterator[None]:
    """While this is open, warnings of the libraries (aiohttp, watchdog, asyncio, warnings) go through `log`. Nothing
    else of the logging module is touched, and all of it is as before afterwards."""
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


_REPORT: Final = "This is a defect of tunerd: please report it"
_STUCK: Final = {
    e.StuckKind.CALL: "calls were marked as being sent, but nothing was sending them; they are due again and may arrive twice",
    e.StuckKind.WORKER: "uploads waited for a result that was never written; they continue",
    e.StuckKind.PERMIT: "uploads were counted that did not exist; the count is right again",
}
_WORDLESS: Final = frozenset({e.AttemptEnded, e.CallAdmitted, e.DocumentMapped, e.DocumentsRead})
"""What every call brings, and no line is made of: not worth looking through all cases for."""


class Narrator:
    """Turns events into lines. Call it with each event; `run` (or `flush`, in tests) writes the summaries."""

    def __init__(self, log: Log, *, level: Level | None = None, hints: Mapping[PauseReason, str] = MappingProxyType({})) -> None:
        """`level`: the log's (info); unless it is debug, details are not even put together. `hints`: what to say of a pause
        where it is not that all goes on by itself."""
        self._log = log
        self._level = level or Level("info")
        self._hints = {**_PAUSE_HINTS, **hints}
        self._sent = 0
        self._already_there = 0
        self._retried: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._lines: Counter[str] = Counter()
        self._held_back: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event, clock: Clock) -> None:
        """Write a summary each minute until `stop`, and the last one then."""
        while not await clock.wait(stop, SUMMARY_S):
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Sum up what happened since the last time; says nothing when nothing did."""
        if self._sent or self._retried or self._failed:
            tell = self._log.warning if self._retried else self._log.info
            fields: dict[str, object] = {"sent": self._sent, "retried": self._retried.total(), "failed": self._failed.total()}
            if self._already_there:
                fields["already_there"] = self._already_there
            if self._retried:
                fields["retried_by_reason"] = dict(self._retried)
            if self._failed:
                fields["failed_by_reason"] = dict(self._failed)
            tell("the last minute", **fields)
        for kind, count in self._held_back.items():
            self._log.warning(f"{count} more lines of a kind were held back", kind=kind, hint=_HINTS.get(kind, "tunerd status"))
        self._sent = self._already_there = 0
        for counted in (self._retried, self._failed, self._lines, self._held_back):
            counted.clear()

    def __call__(self, event: e.Event) -> None:
        log = self._log
        if self._level.verbose:
            self._tell_detail(event)
        if type(event) in _WORDLESS:
            return
        match event:
            case e.CallSent():
                self._sent += 1
                self._already_there += event.already_there
            case e.CallRetried():
                self._retried[event.reason.value] += 1
            case e.CallFailed():
                self._failed[event.reason.value] += 1
                if self._may_say("failed"):
                    log.warning("failed", source=event.source, call_id=event.call_id, reason=event.reason.value,
                                where=event.where, what=event.what, path=event.path, status=event.status)  # fmt: skip
            case e.PartsLate():
                if self._may_say("late parts"):
                    log.warning("parts came too late for their call, and do not reach Tuner", source=event.source,
                                count=event.count, path=event.path, hint="is gather.wait too short?")  # fmt: skip
            case e.FileIgnored():
                if self._may_say("file ignored"):
                    log.warning("file ignored", source=event.source, path=event.path, why=event.why)
            case e.LinesIgnored():
                if event.is_first and self._may_say("lines ignored"):
                    log.warning("lines that are no JSON are ignored", source=event.source, path=event.path, count=event.count,
                                hint="not_json: fail lists each of them")  # fmt: skip
            case e.LogLeft():
                if self._may_say("log left"):
                    log.warning("log no longer read", source=event.source, path=event.path, offset=event.offset, why=event.why)
            case e.OnlyIgnored() if event.count:
                log.warning("every document is left out, and none became a call yet", source=event.source, count=event.count,
                            hint="is `when:` right for these files? tunerd explain FILE")  # fmt: skip
            case e.RoleUnknown():
                if self._may_say("unknown role"):
                    log.warning("a role that no table names; its rows are left out" if event.dropped
                                else "a role that no table names", source=event.source, role=event.role,
                                hint="add it to the table of roles, or set unknown_roles on the source")  # fmt: skip
            case e.FileDisposed():
                if event.how.startswith("failed") and self._may_say("file not disposed of"):
                    log.warning("after_sent could not be carried out", source=event.source, path=event.path, how=event.how)
            case e.WatchDegraded():
                if self._may_say("watch degraded"):
                    log.warning("file events are not to be had; scans find the files, later", source=event.source,
                                detail=event.detail)  # fmt: skip
            case e.AlreadyThereStreak():
                log.warning(
                    "Tuner already had every one of the last calls: does the call_id rule give one id to many calls?",
                    source=event.source, count=event.count, hint="tunerd explain FILE FILE... reports equal call ids",
                )  # fmt: skip
            case e.PauseBegan() | e.PauseEnded() if event.reason is PauseReason.LOCAL and not self._may_say("paused (local)"):
                pass  # with one descriptor too few it comes and goes each second
            case e.PauseBegan():
                log.warning("paused", destination=event.destination, agent=event.agent, reason=event.reason.value,
                            detail=event.detail, hint=self._hints[event.reason])  # fmt: skip
            case e.Unanswered():
                log.warning("no answer from Tuner yet", destination=event.destination, base_url=event.base_url,
                            detail=event.detail, hint=self._hints[PauseReason.UNREACHABLE])  # fmt: skip
            case e.PauseEnded():
                log.info("goes on", destination=event.destination, agent=event.agent, reason=event.reason.value,
                         lasted_s=round(event.lasted_s, 1))  # fmt: skip
            case e.IntakePaused():
                log.warning("not read", source=event.source, reason=event.reason.value, detail=event.detail)
            case e.CallsFollowed():
                log.warning("calls follow to the destination that has taken the place of theirs", old=event.old, new=event.new,
                            count=event.count)  # fmt: skip
            case e.CallsStranded():
                kind, name = ("destination", event.destination) if event.destination else ("manifest", event.manifest)
                states = ",".join(state for state, count in (("waiting", event.waiting), ("due", event.due)) if count)
                log.warning("calls are stranded: what they are for is not configured", waiting=event.waiting,
                            due=event.due, **{kind: name},
                            hint=f"put it back, or map them again with today's rules: tunerd remap --state {states}")  # fmt: skip
            case e.ReadByAnother():
                log.warning("another tunerd reads this directory", source=event.source, path=event.path, who=event.who,
                            hint="with two ledgers each call is sent twice: stop one, or give it another directory")  # fmt: skip
            case e.IntakeResumed():
                log.info("read again", source=event.source, reason=event.reason.value)
            case e.Started():
                log.info("started", version=event.version, sources=event.sources, destinations=event.destinations,
                         ledger=event.ledger)  # fmt: skip
            case e.Stopping():
                log.info("stopping", signal=event.signal, drain_s=event.drain_s)
            case e.Stopped():
                log.info("stopped", left=event.left)
            case e.ConfigReloaded():
                log.info("configuration reloaded", sources=event.sources)
            case e.ConfigRefused():
                log.error("configuration refused; the one before goes on", problems=list(event.problems[:20]),
                          count=len(event.problems), hint="tunerd check")  # fmt: skip
            case e.KeyChanged():
                log.info("key changed", destination=event.destination)
            case e.LedgerTrouble():
                log.error("the ledger cannot be written; intake stands still until it can", detail=event.detail)
            case e.LedgerHealed():
                log.info("the ledger can be written again", lasted_s=round(event.lasted_s, 1))
            case e.LedgerRebuilt():
                lost = {"hint": "tunerd failed --reason document_lost"} if event.documents_lost else {}
                log.error("the ledger file was damaged and is set aside", kept_as=event.kept_as, salvaged=event.salvaged,
                          documents_lost=event.documents_lost, unread=event.unread if event.is_readable else "unknown",
                          **lost)  # fmt: skip
            case e.LedgerRolledBack():
                log.error("the ledger lacks changes that were committed", missing_commits=event.commits,
                          hint="its -wal file is gone or damaged, or an older copy was put in its place: calls may be sent "
                          "again")  # fmt: skip
            case e.Stuck():
                log.error(f"{_STUCK[event.what]}. {_REPORT}", count=event.count, what=event.what.value)
            case e.ClockJumped():
                log.warning("the clock jumped; due times move with it", seconds=round(event.seconds, 1))
            case _:
                pass

    def _tell_detail(self, event: e.Event) -> None:
        """What only `log: {level: debug}` shows: single calls and single attempts."""
        log = self._log
        match event:
            case e.CallAdmitted():
                log.debug("admitted", source=event.source, call_id=event.call_id, state=event.state.value)
            case e.CallDuplicate():
                log.debug("duplicate", source=event.source, call_id=event.call_id, replaced=event.replaced)
            case e.RecordingMatched():
                log.debug("recording found", source=event.source, waited_s=round(event.waited_s, 1))
            case e.DocumentIgnored():
                log.debug("document left out by the rules", source=event.source)
            case e.AttemptEnded():
                log.debug("attempt", destination=event.destination, outcome=event.outcome, took_s=round(event.took_s, 3))
            case e.CallSent():
                log.debug("sent", source=event.source, call_id=event.call_id, tuner_call_id=event.tuner_call_id,
                          already_there=event.already_there, delivery_s=round(event.delivery_s, 3),
                          attempts=event.attempts)  # fmt: skip
            case e.CallRetried():
                log.debug("to be tried again", source=event.source, call_id=event.call_id, reason=event.reason.value,
                          status=event.status, due_in_s=round(event.due_in_s, 1), attempts=event.attempts,
                          detail=event.detail)  # fmt: skip
            case e.ConcurrencyChanged():
                log.debug("concurrency", destination=event.destination, limit=event.limit)
            case e.FileDisposed():
                log.debug("after_sent", source=event.source, path=event.path, how=event.how)
            case _:
                pass

    def _may_say(self, kind: str) -> bool:
        self._lines[kind] += 1
        if self._lines[kind] <= LINES_A_MINUTE:
            return True
        self._held_back[kind] += 1
        return False


_PAUSE_HINTS: Final = {
    **dict.fromkeys(PauseReason, "nothing is lost; it goes on by itself"),
    PauseReason.OPERATOR: "tunerd resume",
    PauseReason.REJECTING: "nothing is lost; see tunerd failed --reason rejected, correct what is wrong, then: tunerd resume",
}
_HINTS: Final = {"failed": "tunerd failed", "file ignored": "tunerd check"}


def _redact_fields(_: object, __: str, fields: Fields) -> Fields:
    return {name: _clean(value) for name, value in fields.items() if value is not None}


def _clean(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {str(name): _clean(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json_line(_: object, __: str, fields: Fields) -> str:
    return encoded(dict(fields)).decode()


def _text_line(*, terminal: bool) -> Callable[[object, str, Fields], str]:
    coloured = terminal and not os.environ.get("NO_COLOR")
    begin = _ERASE if terminal else ""

    def render(_: object, __: str, fields: Fields) -> str:
        at, level, event = str(fields.pop("ts")), str(fields.pop("level")), fields.pop("event")
        rest = " ".join(f"{name}={_plain(value)}" for name, value in fields.items())
        head = f"{_COLOURS.get(level, '')}{level:<7}{_RESET}" if coloured else f"{level:<7}"
        return f"{begin}{at[11:23]} {head} {_plain(event, quote=False)}{'  ' if rest else ''}{rest}"

    return render


def _plain(value: object, *, quote: bool = True) -> str:
    """One line whatever is in it: a file name with a newline must not look like a line of the log."""
    text = visible(value if isinstance(value, str) else str(value))
    return '"' + text.replace('"', '\\"') + '"' if quote and isinstance(value, str) and (" " in text or not text) else text


class _Lines:
    """The last step: write one line. What structlog calls a logger; every level is the same method.

    Straight to the descriptor where there is one: a buffer above it would keep, and pile up, what a full disk refuses."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        try:
            self._fd: int | None = out.fileno()
        except (OSError, ValueError, AttributeError):
            self._fd = None

    def msg(self, line: str) -> None:
        try:
            if self._fd is None:
                self._out.write(line + "\n")
            else:
                os.write(self._fd, (line + "\n").encode(errors="backslashreplace"))
        except (OSError, ValueError):  # ValueError: closed
            pass

    debug = info = warning = warn = error = critical = exception = msg


class _Bridge(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._minute = 0.0
        self._told: Counter[tuple[str, str]] = Counter()
        """How often each kind of line came in this minute."""

    def emit(self, record: logging.LogRecord) -> None:
        """A library in trouble may say the same thousands of times a second: ten a minute of each kind, then counted."""
        if record.created - self._minute >= SUMMARY_S:
            self._sum_up()
            self._minute = record.created
        kind = (record.name, str(record.msg)[:80])
        self._told[kind] += 1
        if self._told[kind] <= LINES_A_MINUTE:
            self._tell(record)

    def _sum_up(self) -> None:
        for (name, _), count in self._told.items():
            if count > LINES_A_MINUTE:
                self._log.warning("more lines like the last ones were left out", logger=name, count=count - LINES_A_MINUTE)
        self._told.clear()

    def _tell(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {"logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            # The type and the place, never the message: an exception may quote what it choked on.
            kind, _, trace = record.exc_info
            fields["exception"] = kind.__name__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                fields["at"] = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        tell = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        tell(record.getMessage(), **fields)
