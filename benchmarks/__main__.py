"""`python -m benchmarks [throughput] [processor_time] [call_path] ...`: measure, and print a table (docs/performance.md has one)."""

import asyncio
import importlib
import inspect
import os
import platform
import sys

NAMES = (
    "throughput",
    "processor_time",
    "call_path",
    "latency",
    "loop",
    "scrape",
    "status_page",
    "idle",
    "mapping",
    "log",
    "matching",
)


def main() -> None:
    chosen = sys.argv[1:] or NAMES
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start\n")
    print("| what | measured |\n|---|---|")
    for name in chosen:
        lines = importlib.import_module(f"benchmarks.{name}").measure()
        for line in asyncio.run(lines) if inspect.isawaitable(lines) else lines:
            print(line, flush=True)


main()
