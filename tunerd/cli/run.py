"""`tunerd run`: the daemon; with --once a backfill."""

import asyncio
import gc
import sys
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from tunerd.admin.phrases import span
from tunerd.admin.protocol import ControlError
from tunerd.call import State
from tunerd.cli.admin import FAILURE, fail
from tunerd.cli.options import DURATION, config_option, exit_bad_config
from tunerd.cli.rates import Rates
from tunerd.cli.terminal import say
from tunerd.ledger import Gauges, LedgerRefused
from tunerd.ledger.exceptions import LOCKED
from tunerd.lifecycle import RunResult
from tunerd.ops.http import ListenError
from tunerd.yaml_location import ConfigError

SWITCH_S: Final = 0.001
"""A thread that runs Python code gives way to a waiting one after this time. With Python's default of 5 ms, the event loop
would wait that long again for each socket that it writes to, while files are read and the ledger is written."""
NAMED: Final = 20
"""Files that could not be read, named at the end."""
PACE_S: Final = 30.0
"""The rate that the progress bar shows is that of this last time."""
_SUPERSEDED: Final = (
    "another tunerd was started with this instance's name and has taken over; this one ends. If both are meant to run, give each "
    "an `instance:` of its own"
)
_EPILOG = """\b
Examples:
  tunerd run -c /etc/tunerd/config.yaml
  tunerd run --once --wait 10m        (backfill: read what is there, send it, exit)
\b
Signals: SIGTERM and SIGINT drain and exit (a second one exits at once); SIGHUP reloads the configuration.
With --once, tunerd waits for outages of Tuner to end, without limit (limit the wait with --wait 10m). Only if
Tuner has not answered at all since the start, it exits after 5 minutes.
\b
Exit code 0: all sent, or stopped; 1: with --once, some calls failed or are left, or a file or directory could
not be read; 69: the PostgreSQL server of the ledger does not answer; 75: another instance holds the ledger;
78: the configuration is invalid, or the server refuses it.
"""


@click.command("run", epilog=_EPILOG)
@config_option
@click.option("--once", is_flag=True,
              help="Read what is there, deliver it, and exit. Waits for outages to end; limit the wait with --wait.")  # fmt: skip
@click.option("--wait", "wait_s", type=DURATION, metavar="DURATION",
              help="With --once: how long to wait for recordings and retries before exiting.")  # fmt: skip
@click.option(
    "--watch-config", is_flag=True, help="Reload automatically when the file changes (its content is compared every 5 s)."
)
@click.option("--wait-for-lock", "wait_for_lock_s", type=DURATION, metavar="DURATION",
              help="How long to wait for another instance to release the ledger.")  # fmt: skip
def command(config: Path, once: bool, wait_s: float | None, watch_config: bool, wait_for_lock_s: float | None) -> None:
    """Run the daemon: watch the sources and deliver every call, until it is stopped."""
    if wait_s is not None and not once:
        raise click.UsageError("--wait needs --once")
    from tunerd.app import Options, run

    _collect_seldom()
    sys.setswitchinterval(SWITCH_S)
    with _progress(once) as progress:
        options = Options(
            config_file=config, once=once, wait_s=wait_s, watch_config=watch_config,
            wait_for_lock_s=wait_for_lock_s or 0.0, progress=progress,
        )  # fmt: skip
        try:
            left = _loop(run(options))
        except ConfigError as exc:
            exit_bad_config(exc)
        except LedgerRefused as exc:
            fail(str(exc), exc.exit_code)
        except (ListenError, ControlError) as exc:
            fail(str(exc))
        except KeyboardInterrupt:  # before the daemon handles signals itself: while it waits for the lock
            sys.exit(130)
        except Exception as exc:
            for line in _ending(exc):
                say(f"tunerd: {line}", err=True)
            sys.exit(FAILURE)
    if left.is_superseded:
        fail(_SUPERSEDED, LOCKED)
    if once:
        say(counts(left.gauges))
        for line in troubles(left):
            say(f"tunerd: {line}", err=True)
        sys.exit(1 if _unsent(left.gauges) or left.unread or left.without_contact or left.all_left_out else 0)


def _collect_seldom() -> None:
    """Python's garbage collector need not examine what was imported, since that stays, and delivering leaves hardly any cycles.
    With its default thresholds, it takes a fourteenth of the time in which the daemon delivers. It does not collect here:
    that takes as long as a seventh of the imports, and finds less than 2 MB (docs/decisions/start.md)."""
    gc.freeze()
    gc.set_threshold(10_000, 5, 5)


def _loop(main: Coroutine[None, None, RunResult]) -> RunResult:
    """With uvloop, if it is installed (the extra `fast`)."""
    try:
        import uvloop  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _ending(exc: BaseException) -> Iterator[str]:
    """Why the daemon ended: the message of our own exceptions; of all others only the type and the place, because a foreign
    message may quote the data that it failed on."""
    if isinstance(exc, BaseExceptionGroup):
        for one in exc.exceptions:
            yield from _ending(one)
        return
    if type(exc).__module__.startswith("tunerd."):
        yield str(exc)
        return
    yield f"tunerd ended because of a defect ({type(exc).__name__}). Please report it with these lines:"
    for frame in traceback.extract_tb(exc.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} {frame.name}"


def _unsent(gauges: Gauges) -> int:
    return sum(count for state, count in gauges.calls.items() if state.is_open or state is State.FAILED)


def troubles(left: RunResult) -> Iterator[str]:
    """What a `run --once` could not do, beside what its counts say; a line each."""
    for quiet in left.without_contact:
        yield f"{quiet.base_url} has never answered ({quiet.detail}): check base_url and the network. No call is lost"
    if left.all_left_out:
        yield (
            f"the rules ignored all {left.all_left_out:,} documents (`when:`, `not_call:`), so nothing was sent; "
            "`tunerd explain FILE` shows why"
        )
    for one in left.unread[:NAMED]:
        yield f"not read: {one.path} (source {one.source}): {one.why}"
    if len(left.unread) > NAMED:
        yield f"not read: {len(left.unread) - NAMED} more; `tunerd audit` compares the files on disk with the ledger"
    for one in left.kept[:NAMED]:
        yield f"after_sent left {one.path} (source {one.source}): {one.why}"
    if len(left.kept) > NAMED:
        yield f"after_sent left {len(left.kept) - NAMED} more files for the same reason; the next run checks them again"


def counts(gauges: Gauges) -> str:
    """`3 sent, 1 failed, 2 waiting for a recording`."""
    words = {State.WAITING: "waiting for a recording", State.DUE: "still due", State.SENDING: "still being sent"}
    parts = [f"{gauges.calls.get(state, 0)} {state.value}" for state in (State.SENT, State.FAILED)]
    rest = [state for state in State if (state.is_open or state is State.IGNORED) and gauges.calls.get(state)]
    parts += [f"{gauges.calls[state]} {words.get(state, state.value)}" for state in rest]
    hint = "; see `tunerd failed`" if gauges.calls.get(State.FAILED) else ""
    return ", ".join(parts) + hint


def pace_of(rate: float | None, left: int) -> str:
    """`34.1/s, 8 s for those read`. The time is that of the calls that have been read: files may still be unread, and a call may
    wait for its next attempt. Empty while no call has ended lately."""
    if not rate:
        return ""
    return f"{rate:,.1f}/s" + (f", {span(left / rate)} for those read" if left else "")


@contextmanager
def _progress(once: bool) -> Iterator[Callable[[Gauges], None]]:
    """A progress bar on a terminal while `--once` works; else nothing."""
    if not (once and sys.stdout.isatty()):
        yield lambda _: None
        return
    # Imported here: the daemon does not need it.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[pace]}"),
    )  # fmt: skip
    with Progress(*columns, transient=True) as bar:
        task, rates = bar.add_task("calls", total=None, pace=""), Rates(PACE_S)

        def show(gauges: Gauges) -> None:
            ended = sum(gauges.calls.get(state, 0) for state in (State.SENT, State.FAILED))
            waiting = gauges.calls.get(State.WAITING, 0)
            moving = gauges.calls.get(State.DUE, 0) + gauges.calls.get(State.SENDING, 0)
            text = f"calls ({waiting} wait for a recording)" if waiting else "calls"
            rates.add(time.monotonic(), {"ended": ended})
            pace = pace_of(rates.of("ended"), moving)
            bar.update(task, completed=ended, total=ended + moving + waiting, description=text, pace=pace)

        yield show
