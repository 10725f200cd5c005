"""`tunerd sandbox`: a stand-in for Tuner on this machine, with faults on demand, that shows what arrives."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from tunerd.cli.options import DURATION
from tunerd.cli.terminal import say_lines
from tunerd.sandbox.arrivals import Arrival, in_short
from tunerd.sandbox.faults import Faults, parse_fail
from tunerd.sandbox.recording_store import UploadArrival
from tunerd.sandbox.server import CONTROL_PATH, Sandbox
from tunerd.visible import visible

_KEPT: Final = 1000
"""Requests that the page and /arrivals.json show."""

_EPILOG = f"""\b
Examples:
  tunerd sandbox
  tunerd sandbox --fail 503:0.2 --fail reset:0.05 --latency 100ms
  tunerd sandbox --require-key secret --lose-answers 0.1 --retry-after 5
\b
The page is at /, its data as JSON at /arrivals.json; uploaded audio is at /recordings and /uploads.json.
Faults can be changed at run time:
  curl -H 'Content-Type: application/json' -d '{{"fail": {{"503": 1.0}}}}' http://127.0.0.1:8099{CONTROL_PATH}
Settings there: fail, lose_answers, latency_s, jitter_s, require_key, forbid_agents, retry_after, limit,
rate, reject (422 or 400), max_body_bytes; and for audio: lose_targets, decline_targets, target_expires_s,
max_upload_bytes, upload_status (200, 201 or 204), fail_uploads, lose_upload_answers. And next: planned
answers in order, of 503, {{"status": 429, "retry_after": 2}}, {{"redirect": URL}}, "lose", "hold", "hang",
"reset", "garbage", "ordinary", "lose_target", "decline_target"; next_upload: the same for uploads of
audio; call_id: the plan is for this call only; release: answer the requests that are held; clear: delete
the plan.
"""


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


_JOURNAL: Final = click.Path(dir_okay=False, path_type=Path)


@click.command(epilog=_EPILOG, context_settings={"max_content_width": 110})
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:8099", show_default=True, callback=_address,
              help="Address to listen on; port 0 takes a free one.")  # fmt: skip
@click.option("--fail", multiple=True, callback=_fail, metavar="WHAT:SHARE",
              help="Fail a share of the requests: 503:0.2, reset:0.05, timeout:0.01, garbage:0.1.")  # fmt: skip
@click.option("--lose-answers", type=click.FloatRange(0, 1), default=0.0, help="Share of requests accepted without an answer.")
@click.option("--latency", "latency_s", type=DURATION, default="0s", metavar="100ms", help="Wait before each answer.")
@click.option("--jitter", "jitter_s", type=DURATION, default="0s", metavar="50ms", help="Vary the latency by up to this time.")
@click.option("--require-key", metavar="KEY", help="Answer every other key with 401.")
@click.option("--forbid-agent", "forbid_agents", multiple=True, metavar="AGENT", help="Answer this agent with 403.")
@click.option("--retry-after", metavar="SECONDS", help="Retry-After of 429 and 503: seconds, or an HTTP date.")
@click.option("--limit", type=click.IntRange(min=1), help="Answer 429 if more requests than this are in flight.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Answer 429 to more requests a second than this.")
@click.option("--max-body", "max_body_bytes", type=click.IntRange(min=1), default=Faults().max_body_bytes, metavar="BYTES",
              help="Answer longer bodies with 413.")  # fmt: skip
@click.option("--recordings", type=click.Path(file_okay=False, path_type=Path),
              help="Keep uploaded audio in this directory. Without it the sandbox deletes it when it ends.")  # fmt: skip
@click.option("--max-upload", "max_upload_bytes", type=click.IntRange(min=1), default=Faults().max_upload_bytes, metavar="BYTES",
              help="The largest file that an upload target allows.")  # fmt: skip
@click.option("--target-expires", "target_expires_s", type=DURATION, default="1h", metavar="10s", show_default=True,
              help="How long an upload target is valid.")  # fmt: skip
@click.option("--lose-targets", type=click.FloatRange(0, 1), default=0.0,
              help="Share of the answers with an upload target that are lost.")  # fmt: skip
@click.option("--decline-targets", type=click.FloatRange(0, 1), default=0.0,
              help="Share of the accepted calls that ask for an upload target and get none.")  # fmt: skip
@click.option("--fail-upload", "fail_uploads", multiple=True, callback=_fail, metavar="WHAT:SHARE",
              help="Fail a share of the uploads: 503:0.2, reset:0.05.")  # fmt: skip
@click.option("--seed", type=int, help="Seed of the random numbers, to repeat a run.")
@click.option("--journal", type=_JOURNAL, help="Append a JSON line for each request.")
@click.option("--ready-file", type=_JOURNAL, help="Write the URL to this file as soon as the sandbox listens.")
@click.option("--show", is_flag=True, help="Show bodies (with what was said) and complete recording URLs.")
@click.option("--no-check", is_flag=True, help="Accept every body unread, and only count; for benchmarks.")
@click.option("--quiet", is_flag=True, help="Print no line for each request.")
def command(
    listen: tuple[str, int],
    seed: int | None,
    journal: Path | None,
    ready_file: Path | None,
    recordings: Path | None,
    show: bool,
    no_check: bool,
    quiet: bool,
    **faults: Any,
) -> None:
    """Run a local stand-in for Tuner: both request forms, strict about bodies, with faults on demand.

    It prints its URL and the configuration to use it with, then a line for each request. Stop it with Ctrl-C.
    """
    if no_check and (journal is not None or show):
        raise click.UsageError("--no-check only counts: it cannot be combined with --journal or --show")

    def report(arrival: Arrival) -> None:
        if not quiet:
            _say(_line(arrival, show=show))

    def report_upload(upload: UploadArrival) -> None:
        if not quiet:
            _say(_upload_line(upload))

    sandbox = Sandbox(
        faults=Faults(**faults), check=not no_check, show=show, journal=journal, seed=seed, keep=_KEPT, recordings=recordings,
    )  # fmt: skip
    sandbox.on_arrival = report
    sandbox.storage.on_upload = report_upload
    try:
        asyncio.run(_serve(sandbox, listen, ready_file, faults["require_key"]))
    except OSError as exc:
        raise click.ClickException(f"{exc.strerror or exc} (--listen {listen[0]}:{listen[1]}, --journal, --ready-file)") from exc


async def _serve(sandbox: Sandbox, listen: tuple[str, int], ready_file: Path | None, require_key: str | None) -> None:
    """Until SIGINT or SIGTERM. Raises OSError."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
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


def _welcome(url: str, require_key: str | None) -> str:
    key = "the key given" if require_key else "any-key"
    return f"""A stand-in for Tuner listens on {url}
Nothing that it receives leaves this machine. Its page is {url}/
Use it with:

  tuner:
    base_url: {url}
    workspace_id: 1
    agent_remote_identifier: my-agent
    api_key: {key}          # with the prefix tr_api_: the create-call form
"""


def _line(arrival: Arrival, *, show: bool) -> str:
    """One request as a line; values from outside cannot move the cursor."""
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


def _upload_line(upload: UploadArrival) -> str:
    call_id = None if upload.call is None else upload.call[2]
    parts = [f"{upload.status or '-'} {upload.note}", f"audio of call {_plain(call_id)}", f"{upload.size} bytes"]
    return "  ".join([*parts, f"sha256 {upload.sha256}"] if upload.path is not None else parts)


def _plain(text: str | None) -> str:
    return visible(text) if text else "-"


def _summary(sandbox: Sandbox) -> str:
    counts = ", ".join(f"{note}: {count}" for note, count in sorted(sandbox.counts.items()))
    uploads = ", ".join(f"{note}: {count}" for note, count in sorted(sandbox.storage.counts.items()))
    told = f"{sandbox.total} requests" + (f" ({counts})" if counts else "")
    return told + (f", {sandbox.storage.total} uploads ({uploads})" if uploads else "")


def _write_whole(path: Path, text: str) -> None:
    """Readers never see half of the file."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def _say(text: str) -> None:
    # The reader of our output may be gone (`| head`), which is no reason to stop serving.
    with suppress(BrokenPipeError):
        say_lines(text)
