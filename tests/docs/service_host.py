"""A machine with tunerd as a service, in which the commands of a page of docs/ are typed: a directory with the paths that the page names,
a stand-in for Tuner, and in place of systemd a short `systemctl`, which starts and stops the real `tunerd run`.

A block `console` holds commands after `$ ` and the lines that they print. A line of the page has to be printed in that order;
`...` in it means any text, and a line `...` any lines.
"""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.docs.fences import fences
from tests.e2e.harness import Sandbox, command, put, sandbox, until
from tunerd.sandbox.faults import Faults

KEY: Final = "tr_api_right"
_PLACES: Final = ("/etc/tunerd", "/var/lib/tunerd", "/var/spool/calls", "/srv/tunerd")
_SYSTEMCTL: Final = """\
case $1 in
  start)
    cat $PLACE/journal >>$PLACE/journal.before
    : >$PLACE/journal  # not left to the line below: `grep` may run first, and would find the last start
    tunerd run >>$PLACE/journal 2>&1 </dev/null &
    echo $! >$PLACE/pid
    until grep -q '"event":"started"' $PLACE/journal; do kill -0 $! || exit 1; sleep 0.05; done ;;
  stop)
    kill $(cat $PLACE/pid)
    tail --pid=$(cat $PLACE/pid) -f /dev/null ;;
  *) exit 2 ;;
esac
"""
_PROGRAMS: Final = {
    "systemctl": _SYSTEMCTL,
    "sudo": 'shift 2; exec "$@"\n',
    "journalctl": "cat $PLACE/journal\n",
    "tunerd": f'exec {sys.executable} -m tunerd "$@"\n',
}


class ServiceHost:
    def __init__(self, place: Path, tuner: Sandbox) -> None:
        self.place, self.tuner = place, tuner
        self._address = tuner.url

    def stand_in_at(self, address: str) -> None:
        """The page's commands name the stand-in by this address."""
        self._address = address

    def path(self, name: str) -> Path:
        """Where a path of the page is here."""
        return self.place / name.lstrip("/")

    def put_call(self, call_id: str, **fields: object) -> Path:
        return put(self.path(f"/var/spool/calls/{call_id}.json"), call_of(call_id) | fields)

    def said(self, event: str) -> bool:
        """Whether the log has a line with this event."""
        return f'"event":"{event}"' in (self.place / "journal.before").read_text() + (self.place / "journal").read_text()

    async def type(self, line: str) -> str:
        """What the command prints, with the paths of the page."""
        shell = await asyncio.create_subprocess_exec(
            "bash", "-c", self._here(line),
            cwd=self.place, env=self._environment(), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(60):
            printed, _ = await shell.communicate()
        return printed.decode().replace(str(self.place), "")

    async def play(self, page: Path, heading: str, number: int) -> None:
        """Type the commands of a section's block, and compare what each prints with what the page shows."""
        for line, shown in typed(page, heading)[number]:
            printed = await self.type(line)
            missing = _missing(shown, printed)
            assert missing is None, f"{page.name}, {heading}: $ {line}\nprints no {missing!r}, but:\n{printed}"

    async def stop(self) -> None:
        if (self.place / "pid").exists():
            await self.type("kill -KILL $(cat $PLACE/pid) 2>/dev/null")

    def _here(self, line: str) -> str:
        for place in _PLACES:
            line = re.sub(rf"(?<![\w/]){place}\b", str(self.path(place)), line)
        return line.replace(self._address, self.tuner.url)

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        return kept | {
            "PATH": f"{self.place}/bin:{os.environ['PATH']}",
            "PLACE": str(self.place),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "NO_COLOR": "1",
            "TUNERD_CONFIG": str(self.path("/etc/tunerd/config.yaml")),
            "RUNTIME_DIRECTORY": str(self.path("/etc/tunerd")),
        }


@asynccontextmanager
async def service_host(
    place: Path, *, running: bool = True, more: str = "", faults: Faults | None = None
) -> AsyncIterator[ServiceHost]:
    """`more`: lines of the configuration's source."""
    for name in ("bin", *(place.lstrip("/") for place in _PLACES)):
        (place / name).mkdir(parents=True, exist_ok=True)
    (place / "journal").touch()
    for name, text in _PROGRAMS.items():
        program = place / "bin" / name
        program.write_text(f"#!/bin/bash\n{text}")
        program.chmod(0o755)
    async with sandbox(place, faults or Faults(require_key=KEY)) as tuner:
        host = ServiceHost(place, tuner)
        host.path("/etc/tunerd/key").write_text(KEY)
        host.path("/etc/tunerd/config.yaml").write_text(_config(host, more))
        try:
            if running:
                await host.type("systemctl start tunerd")
            yield host
        finally:
            await host.stop()


def _config(host: ServiceHost, more: str) -> str:
    return f"""\
tuner:
  workspace_id: 42
  agent_remote_identifier: support-bot
  api_key_file: {host.path("/etc/tunerd/key")}
  base_url: {host.tuner.url}
sources:
  - name: agent
    path: {host.path("/var/spool/calls")}
    preset: tuner
    recording: [{{url: doc.recording_url}}]
{more}
delivery: {{timeout: 2s, drain: 5s}}
ledger:
  url: sqlite://{host.path("/var/lib/tunerd/ledger.db")}
http: {{listen: null, admin_listen: null}}
log: {{format: json}}
"""


def call_of(call_id: str) -> dict[str, object]:
    return {
        "call_id": call_id,
        "call_type": "phone_call",
        "start_timestamp": 1_782_900_000_000,
        "end_timestamp": 1_782_900_060_000,
        "recording_url": f"https://audio.example/{call_id}.wav",
        "transcript_with_tool_calls": [{"role": "user", "text": "Hello", "start_ms": 0, "end_ms": 900}],
    }


def typed(page: Path, heading: str) -> list[list[tuple[str, list[str]]]]:
    """The `console` blocks of a section: their commands, each with the lines that the page shows."""
    text = page.read_text()
    begin = text.index(f"\n## {heading}\n")
    end = text.find("\n## ", begin + 4)
    first, last = text.count("\n", 0, begin), text.count("\n", 0, end) if end > 0 else text.count("\n")
    return [list(_commands(fence.text)) for fence in fences(page) if fence.info == "console" and first < fence.line <= last]


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        first, *lines = part.splitlines()
        yield first, [line for line in lines if line.strip()]


def _missing(shown: list[str], printed: str) -> str | None:
    """The first line that the page shows and the command did not print after those before it."""
    left = iter([" ".join(line.split()) for line in printed.splitlines()])
    for line in shown:
        if line.strip() == "...":
            continue
        pattern = ".*".join(re.escape(part) for part in " ".join(line.split()).split("..."))
        if not any(re.fullmatch(pattern, one) for one in left):
            return line
    return None


async def until_prints(host: ServiceHost, name: str, text: str) -> None:
    """Ask the daemon with this command until its answer contains the text."""

    async def prints() -> bool:
        return text in (await command(host.path("/etc/tunerd/config.yaml"), name))[1]

    await until(prints, every_s=0.1)
