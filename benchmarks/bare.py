"""The bare loop: post each line of a file, so many at a time, over one aiohttp session; print the seconds it took."""

import asyncio
import json
import sys
import time
from pathlib import Path

import aiohttp


async def main(url: str, file: Path, concurrency: int, form: str = "create-call") -> None:
    lines = file.read_bytes().splitlines()
    count, bodies = len(lines), iter(lines)
    target = f"{url}/api/v1/public/call?workspace_id=42&agent_remote_identifier=bench"
    key = {"X-API-Key": "bench"} if form == "send-calls" else {"Authorization": "Bearer tr_api_bench"}
    headers = {**key, "Content-Type": "application/json"}

    async def work(session: aiohttp.ClientSession) -> None:
        for body in bodies:
            async with session.post(target, data=body, headers=headers) as answer:
                await answer.read()
                assert answer.status == 200, answer.status

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session, asyncio.TaskGroup() as group:
        began, cpu = time.monotonic(), time.process_time()
        for _ in range(concurrency):
            group.create_task(work(session))
    print(json.dumps({"seconds": time.monotonic() - began, "cpu_ms": (time.process_time() - cpu) / count * 1000}))


asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
