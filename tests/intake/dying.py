"""Run as a process: sweep a directory into a real ledger, with a mapping that ends the process over some documents."""

import asyncio
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from tests.intake.harness import map_call, source
from tunerd.call import Document, Mapped
from tunerd.clock import SystemClock
from tunerd.config import Source
from tunerd.events import Event
from tunerd.intake.sources import Intake, IntakeOptions
from tunerd.ledger import Admission, Admitted
from tunerd.ledger.sqlite import SqliteLedger


def _map(document: Document) -> Mapped:
    value = document.value
    assert isinstance(value, dict)
    match value.get("deadly"):
        case "exit":
            os._exit(9)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
    mapped = map_call(document)
    assert mapped.call is not None
    return replace(mapped, call=replace(mapped.call, destination="tuner"))


class _Dying:
    """Hands everything on, but dies in the admission of a call named "deadly-admit", or of anything with DIE_ADMITTING."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    def admit(self, admission: Admission, now: float) -> "asyncio.Future[Admitted]":
        return asyncio.ensure_future(self._admit(admission, now))

    async def _admit(self, admission: Admission, now: float) -> Admitted:
        if os.environ.get("DIE_ADMITTING") or any(call.call_id == "deadly-admit" for call in admission.calls):
            os._exit(9)
        return await self._ledger.admit(admission, now)


async def main(directory: Path) -> None:
    ledger = await SqliteLedger.open(directory / "ledger.db", now=time.time(), emit=_quiet)
    chosen: Source = source(directory / "calls")
    intake = Intake(
        [chosen],
        _Dying(ledger),
        {"agent": _map},
        SystemClock(),
        _quiet,
        IntakeOptions(crash_journal=str(directory / "ledger.db.in-hand")),  # type: ignore[arg-type]
    )
    await intake.sweep()
    intake.close()
    await ledger.close()


def _quiet(event: Event) -> None:
    pass


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
