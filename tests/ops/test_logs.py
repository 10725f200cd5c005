"""The log: which facts become a line, how many, and what a line looks like."""

import asyncio
import io
import json
import logging
import os
import typing
import warnings

import pytest

from tests.ops.parts import NOW, every_event, failed, retried, sent
from tunerd import events as e
from tunerd.call import State
from tunerd.ops.event_logger import EventLogger
from tunerd.ops.log_writer import LINES_A_MINUTE, LevelName, LogLevel, foreign_loggers, open_log
from tunerd.outcome import PauseReason, RetryReason
from tunerd.testing import FakeClock


class Paper(io.StringIO):
    """A stream that remembers, and says whether it is a terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def lines(self) -> list[dict[str, typing.Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


def told(*events: e.Event, level: typing.Literal["debug", "info"] = "info", flush: bool = False) -> list[dict[str, typing.Any]]:
    paper = Paper()
    logger = EventLogger(open_log("json", level, paper, now=lambda: NOW), level=LogLevel(level))
    for event in events:
        logger(event)
    if flush:
        logger.flush()
    return paper.lines()


def test_a_line_is_json_with_time_level_and_event() -> None:
    """Away from a terminal each line is one JSON object."""
    [line] = told(e.Stopped(left={}))
    assert line == {"ts": "2026-01-01T00:00:00.000Z", "level": "info", "event": "stopped", "left": 0}


def test_what_a_stop_leaves_is_told_by_state() -> None:
    """A warning where the ledger was to be emptied, because it may end with its pod."""
    left = {State.DUE: 2, State.WAITING: 1}
    [line, warned] = told(e.Stopped(left=left), e.Stopped(left=left, was_to_empty=True))
    assert (line["level"], line["left"], line["left_by_state"]) == ("info", 3, {"due": 2, "waiting": 1})
    assert (warned["level"], warned["left"]) == ("warning", 3)
    assert "deleted with its pod" in str(warned["hint"])


def test_a_pause_is_one_line_when_it_begins_and_one_when_it_ends() -> None:
    """However many calls it holds up, a pause is told twice."""
    pause = e.PauseBegan(destination="d", agent=None, reason=PauseReason.AUTH, detail="401")
    over = e.PauseEnded(destination="d", agent=None, reason=PauseReason.AUTH, lasted_s=61.04)
    assert [(line["event"], line["level"], line["reason"]) for line in told(pause, *[retried()] * 50, over)] == [
        ("paused", "warning", "auth"),
        ("resumed", "info", "auth"),
    ]


def test_a_pause_that_comes_and_goes_each_second_is_no_storm() -> None:
    """With one descriptor too few, `local` begins and ends again and again: ten lines a minute, the others are counted."""
    paper = Paper()
    logger = EventLogger(open_log("json", stream=paper))
    for _ in range(50):
        logger(e.PauseBegan(destination="d", agent=None, reason=PauseReason.LOCAL, detail="no file descriptor"))
        logger(e.PauseEnded(destination="d", agent=None, reason=PauseReason.LOCAL, lasted_s=1.0))
    logger(e.PauseBegan(destination="d", agent=None, reason=PauseReason.AUTH, detail="401"))
    logger.flush()
    *said, auth, held_back = paper.lines()
    assert [line["event"] for line in said] == ["paused", "resumed"] * (LINES_A_MINUTE // 2)
    assert auth["reason"] == "auth"
    assert held_back["event"].startswith("90 more")


def test_an_outage_is_one_summary_a_minute() -> None:
    """Attempts have no line of their own; the summary counts them by reason."""
    lines = told(*[retried()] * 500, *[retried(RetryReason.TIMEOUT)] * 3, sent(), flush=True)
    assert [line["event"] for line in lines] == ["the last minute"]
    assert lines[0]["level"] == "warning"
    assert lines[0]["retried_by_reason"] == {"server_error": 500, "timeout": 3}
    assert (lines[0]["sent"], lines[0]["retried"]) == (1, 503)


def test_a_quiet_minute_says_nothing() -> None:
    """Nothing happened: no line; and what was summed up once is not summed up again."""
    paper = Paper()
    logger = EventLogger(open_log("json", stream=paper))
    logger.flush()
    assert paper.lines() == []
    logger(sent())
    logger.flush()
    logger.flush()
    assert len(paper.lines()) == 1


def test_failed_calls_are_told_singly_until_they_are_a_storm() -> None:
    """The first ten a minute have a line each, the others are counted; the next minute starts anew."""
    paper = Paper()
    logger = EventLogger(open_log("json", stream=paper))
    for number in range(300):
        logger(failed(call_id=f"call-{number}"))
    logger.flush()
    lines = paper.lines()
    assert [line["call_id"] for line in lines if line["event"] == "failed"] == [f"call-{n}" for n in range(LINES_A_MINUTE)]
    summary, held_back = lines[LINES_A_MINUTE:]
    assert summary["failed_by_reason"] == {"invalid": 300}
    assert held_back["event"].startswith("290 more")
    logger(failed(call_id="next minute"))
    assert paper.lines()[-1]["call_id"] == "next minute"


def test_late_parts_are_told_with_their_file_until_they_are_a_storm() -> None:
    """What does not reach Tuner is a warning that says where it stands."""
    paper = Paper()
    logger = EventLogger(open_log("json", stream=paper))
    for number in range(300):
        logger(e.PartsLate(source="agent", count=2, path=f"/calls/{number}.json"))
    logger.flush()
    *said, held_back = paper.lines()
    assert [line["path"] for line in said] == [f"/calls/{number}.json" for number in range(LINES_A_MINUTE)]
    assert {(line["level"], line["source"], line["count"]) for line in said} == {("warning", "agent", 2)}
    assert held_back["event"].startswith("290 more")


async def test_the_summary_comes_each_minute_and_once_more_at_the_end() -> None:
    """`run` follows the clock, and what is left is told at stop."""
    paper, clock, stop = Paper(), FakeClock(), asyncio.Event()
    logger = EventLogger(open_log("json", stream=paper))
    async with asyncio.TaskGroup() as group:
        group.create_task(logger.run(stop, clock))
        logger(retried())
        await clock.advance(59)
        assert paper.lines() == []
        await clock.advance(2)
        assert len(paper.lines()) == 1
        logger(retried())
        stop.set()
    assert len(paper.lines()) == 2


def test_debug_tells_single_calls_and_attempts() -> None:
    """At debug, and only there, each attempt has its line."""
    attempt = e.AttemptEnded(destination="d", outcome="retry", took_s=0.1234)
    assert told(attempt, sent(), retried()) == []
    assert [line["event"] for line in told(attempt, sent(), retried(), level="debug")] == ["attempt", "sent", "to be retried"]


def test_every_kind_of_event_is_understood() -> None:
    """No event breaks the log, and the list above has all of them."""
    assert {type(event) for event in every_event()} == set(typing.get_args(e.Event))
    assert len(told(*every_event(), level="debug", flush=True)) > 20


def test_a_terminal_gets_coloured_text_and_a_file_does_not() -> None:
    """`auto` looks at the stream; `text` into a file has no colours. On a terminal a line first erases the progress bar."""
    screen, page = Paper(terminal=True), Paper()
    open_log(stream=screen, now=lambda: NOW).warning("paused", destination="d", detail="two words")
    open_log("text", stream=page, now=lambda: NOW).warning("paused", destination="d", detail="two words")
    assert screen.getvalue() == '\r\x1b[K00:00:00.000 \x1b[33mwarning\x1b[0m paused  destination=d detail="two words"\n'
    assert page.getvalue() == '00:00:00.000 warning paused  destination=d detail="two words"\n'


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("name", ["a\nb.json", "a\x1b[2Jb.json", "a\udcffb.json", "a\u2028b.json"])
def test_a_file_name_cannot_forge_a_line(form: typing.Literal["json", "text"], name: str) -> None:
    """Newlines, terminal escapes and bytes that are no text stay inside their one line."""
    paper = Paper()
    EventLogger(open_log(form, stream=paper))(e.FileIgnored(source="agent", path=name, why="a FIFO"))
    assert paper.getvalue().count("\n") == 1
    assert paper.getvalue().isascii() or form == "json"
    assert "\x1b" not in paper.getvalue()
    if form == "json":
        assert json.loads(paper.getvalue())["level"] == "warning"


def test_a_log_that_cannot_be_written_loses_lines_and_nothing_else() -> None:
    """A full disk or a closed pipe under the log never stops a delivery, and nothing piles up for later."""
    with open("/dev/full", "w") as full:
        open_log("json", stream=full).warning("paused")
        full.flush()
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        open_log("json", stream=pipe).warning("paused")


def test_warnings_of_libraries_go_through_the_same_log() -> None:
    """aiohttp's, watchdog's and Python's own warnings look like ours, without the message of an exception."""
    paper = Paper()
    with foreign_loggers(open_log("json", stream=paper)):
        logging.getLogger("aiohttp.server").info("not told")
        logging.getLogger("watchdog.observers").warning("overflow, see https://h/x?sig=abc")
        try:
            raise ValueError("what it choked on")
        except ValueError:
            logging.getLogger("aiohttp.server").exception("unhandled")
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    logging.getLogger("aiohttp.server").warning("after the end: not ours")
    first, second, third = paper.lines()
    assert first["event"] == "overflow, see https://h/x?[redacted]"
    assert (second["exception"], second["level"]) == ("ValueError", "error")
    assert "choked" not in paper.getvalue()
    assert third["logger"] == "py.warnings"


def test_a_library_that_says_the_same_for_ever_is_cut_short() -> None:
    """Ten lines a minute of each kind, and then how many were left out; other kinds are told all the same."""
    paper = Paper()
    with foreign_loggers(open_log("json", stream=paper)):
        asyncio_log = logging.getLogger("asyncio")
        for number in range(1000):
            asyncio_log.error("socket.accept() out of system resource %d", number)
        asyncio_log.error("something else")
        later = asyncio_log.makeRecord("asyncio", logging.ERROR, __file__, 1, "something else", (), None)
        later.created += 61
        asyncio_log.handle(later)
    lines = [line["event"] for line in paper.lines()]
    assert len(lines) == LINES_A_MINUTE + 3
    assert paper.lines()[-2]["count"] == 1000 - LINES_A_MINUTE


def test_the_level_of_an_open_log_can_change() -> None:
    """As a reload does it: the same log and logger tell details from then on, and later only errors."""
    paper, level = Paper(), LogLevel("info")
    log = open_log("json", level, paper)
    logger = EventLogger(log, level=level)
    seen: list[list[str]] = []
    order: tuple[LevelName, ...] = ("debug", "info", "warning", "error")
    names: tuple[LevelName, ...] = ("debug", "error", "warning")
    for name in (None, *names):
        if name is not None:
            level.set(name)
        logger(sent())
        for each in order:
            log.write(each, "line", {})
        seen.append([line["level"] for line in paper.lines()])
        paper.seek(0)
        paper.truncate()
    assert seen == [
        ["info", "warning", "error"],
        ["debug", "debug", "info", "warning", "error"],
        ["error"],
        ["warning", "error"],
    ]
