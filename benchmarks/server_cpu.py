"""Processor time of all processes of a PostgreSQL server, also of those that have ended."""

import os
from pathlib import Path
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")


def server_cpu_s(directory: Path) -> float:
    """`directory`: of a PrivatePostgresql. Exact for running processes; its first process counts, in ticks, what its children took that
    have ended."""
    first = (directory / "data" / "postmaster.pid").read_text().split()[0]
    seconds = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if process.name == first:
                seconds += (int(fields[13]) + int(fields[14])) / _TICK
            elif fields[1] != first:
                continue
            seconds += int((process / "schedstat").read_text().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            continue
    return seconds
