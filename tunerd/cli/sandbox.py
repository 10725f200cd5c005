"""`tunerd sandbox`: a stand-in for Tuner on this machine, with faults on demand, that shows what arrives."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import click

from tunerd.cli.terminal import say_lines
from tunerd.config.quantities import parse_duration
from tunerd.sandbox.arrivals import Arrival, in_short
from tunerd.sandbox.faults import Faults, parse_fail
from tunerd.sandbox.server import CONTROL_PATH, MAX_BODY_BYTES, Sandbox
from tunerd.visible import visible

_KEPT = 1000
"""Arrivals the page and /arrivals.json can show."""

_EPILOG = f"""\b
Examples:
  tunerd sandbox
  tunerd sandbox --fail 503:0.2 --fail reset:0.05 --latency 100ms
  tunerd sandbox --require-key secret --lose-answers 0.1 --retry-after 5
\b
The page is at /, the same as JSON at /arrivals.json. Faults can be changed while it runs:
  curl -H 'Content-Type: application/json' -d '{{"fail": {{"503": 1.0}}}}' http://127.0.0.1:8099{CONTROL_PATH}
Settings there: fail, lose_answers, latency_s, jitter_s, require_key, forbid_agents, retry_after, limit,
rate, reject (422 or 400). And next: planned answers in order, of 503, {{"status": 429, "retry_after": 2}},
{{"redirect": URL}}, "lose", "hold", "hang", "reset", "garbage", "ordinary"; call_id: the plan is for this
call alone; release: answer what is held; clear: forget the plan.
"""


def _duration(ctx: click.Context, param: click.Parameter, value: str) -> float:
    try:
        return parse_duration(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def _fail(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    try:
        return parse_fail(values)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def _address(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or parts.path:
        raise click.BadParameter("write host:port, as in 127.0.0.1:8099 or [::1]:0")
    return host, port


@click.command(epilog=_EPILOG, context_settings={"max_content_width": 110})
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8099",
    show_default=True,
    callback=_address,
    help="Port 0 takes a free one.",
)
@click.option(
    "--fail", multiple=True, callback=_fail, metavar="WHAT:SHARE", help="503:0.2, reset:0.05, timeout:0.01, garbage:0.1."
)
@click.option("--lose-answers", type=click.FloatRange(0, 1), default=0.0, help="Share that is accepted, but not answered.")
@click.option("--latency", default="0s", callback=_duration, metavar="100ms", help="Wait so long before each answer.")
@click.option("--jitter", default="0s", callback=_duration, metavar="50ms", help="Vary the latency by so much, up and down.")
@click.option("--require-key", metavar="KEY", help="Answer every other key with 401.")
@click.option("--forbid-agent", multiple=True, metavar="AGENT", help="Answer this agent with 403.")
@click.option("--retry-after", metavar="SECONDS", help="Goes with 429 and 503; seconds or an HTTP date.")
@click.option("--limit", type=click.IntRange(min=1), help="More requests in flight than this get 429.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="More requests a second than this get 429.")
@click.option("--max-body", type=click.IntRange(min=1), default=MAX_BODY_BYTES, metavar="BYTES", help="Longer bodies get 413.")
@click.option("--seed", type=int, help="Makes chance repeatable.")
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path), help="Append a JSON line for each arrival.")
@click.option("--ready-file", type=click.Path(dir_okay=False, path_type=Path), help="Write the URL there once it listens.")
@click.option("--show", is_flag=True, help="Show bodies (with what was said) and whole recording URLs.")
@click.option("--no-check", is_flag=True, help="Take every body unread and only count: for benchmarks.")
@click.option("--quiet", is_flag=True, help="No line for each arrival.")
def command(
    listen: tuple[str, int],
    fail: dict[str, float],
    lose_answers: float,
    latency: float,
    jitter: float,
    require_key: str | None,
    forbid_agent: tuple[str, ...],
    retry_after: str | None,
    limit: int | None,
    rate: float | None,
    max_body: int,
    seed: int | None,
    journal: Path | None,
    ready_file: Path | None,
    show: bool,
    no_check: bool,
    quiet: bool,
) -> None:
    """Run a stand-in for Tuner on this machine: both request forms, strict about bodies, with faults on demand.

    Prints its URL and the configuration to use it with, then a line for each call that arrives. Ends on Ctrl-C.
    """
    if no_check and (journal is not None or show):
        raise click.UsageError("--no-check only counts: leave out --journal and --show")
    faults = Faults(
        fail=fail,
        lose_answers=lose_answers,
        latency_s=latency,
        jitter_s=jitter,
        require_key=require_key,
        forbid_agents=forbid_agent,
        retry_after=retry_after,
        limit=limit,
        rate=rate,
    )

    def tell(arrival: Arrival) -> None:
        if not quiet:
            _say(_line(arrival, show=show))

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        sandbox = Sandbox(
            faults=faults,
            check=not no_check,
            show=show,
            journal=journal,
            seed=seed,
            max_body_bytes=max_body,
            keep=_KEPT,
        )
        sandbox.on_arrival = tell
        url = await sandbox.start(*listen)
        if ready_file is not None:
            _write_whole(ready_file, url + "\n")
        _say(_welcome(url, require_key))
        try:
            await stop.wait()
        finally:
            await sandbox.stop()
            sandbox.close()
        _say(_summary(sandbox))

    try:
        asyncio.run(serve())
    except OSError as exc:
        raise click.ClickException(f"{exc.strerror or exc} (--listen {listen[0]}:{listen[1]}, --journal, --ready-file)") from exc


def _welcome(url: str, require_key: str | None) -> str:
    key = "the key given" if require_key else "any-key"
    return f"""A stand-in for Tuner listens on {url}
Nothing that arrives leaves this machine. The page is {url}/
Use it with:

  tuner:
    base_url: {url}
    workspace_id: 1
    agent_remote_identifier: my-agent
    api_key: {key}          # with tr_api_ in front: the create-call form
"""


def _line(arrival: Arrival, *, show: bool) -> str:
    """One arrival for people; values from outside are shown so that they cannot move the cursor."""
    rows = "-" if arrival.rows is None else arrival.rows
    url = arrival.recording_url if show else in_short(arrival.recording_url)
    parts = [
        f"{arrival.status or '-'} {arrival.note}",
        f"call {_plain(arrival.call_id)}",
        f"agent {_plain(arrival.agent)}",
        f"{rows} rows",
        f"recording {_plain(url)}",
    ]
    if arrival.attempt > 1:
        parts.append(f"attempt {arrival.attempt}")
    parts += [f"{_plain(each.field) or 'body'}: {each.problem}" for each in arrival.problems[:3]]
    if show:
        parts.append(_plain(arrival.body.decode("utf-8", "replace")))
    return "  ".join(parts)


def _plain(text: str | None) -> str:
    return visible(text) if text else "-"


def _summary(sandbox: Sandbox) -> str:
    told = ", ".join(f"{note}: {count}" for note, count in sorted(sandbox.counts.items()))
    return f"{sandbox.total} requests" + (f" ({told})" if told else "")


def _write_whole(path: Path, text: str) -> None:
    """Whoever waits for the file never reads half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def _say(text: str) -> None:
    # Whoever reads us may have left (`| head`): that is no reason to stop serving.
    with suppress(BrokenPipeError):
        say_lines(text)
