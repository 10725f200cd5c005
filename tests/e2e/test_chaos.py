"""SIGKILL at random under load: an oracle in its own process records each call durably before it renames it into place, and
afterwards the test compares these records with what the sandbox's journal says arrived.

TUNERD_KILLS sets how many kills have to land while a request is open (6 by default; `make chaos KILLS=500`).
"""

import asyncio
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, Sandbox, sandbox, until
from tests.e2e.oracle import compare, find_repeats, read_journal, read_obligations
from tunerd.clock import SystemClock
from tunerd.sandbox.faults import Faults

KILLS = int(os.environ.get("TUNERD_KILLS", "6"))
SEED = int(os.environ.get("TUNERD_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
CONCURRENCY = 8
LATENCY_S = 0.1
CALLS_A_KILL = 24
LONG_LIFE = 3 * CONCURRENCY
"""Every third time the daemon is killed only after this many more requests: otherwise nearly all its requests would be in
flight."""

_CONFIG = """
tuner: {{workspace_id: 42, agent_remote_identifier: support-bot, base_url: "{url}", api_key: tr_api_chaos}}
sources:
  - name: calls
    path: {directory}/calls
    rescan: 2s
    call:
      call_id: doc.id
      call_type: {{const: phone_call}}
      start_timestamp: doc.started
      end_timestamp: doc.ended
      transcript_with_tool_calls: {{for_each: {{m: doc.messages}}, role: m.role, text: m.content, start_ms: m.start_ms, end_ms: m.end_ms}}
    recording:
      - url: doc.recording_url
      - {{manifest: recordings, key: doc.room, within: 10m, wait: 1h}}
  - name: recordings
    path: {directory}/recordings
    rescan: 2s
    manifest: {{key: doc.room_name, url: doc.location, started_at: doc.started_at}}
delivery: {{concurrency: {concurrency}}}
ledger: {{url: "sqlite://{directory}/ledger.db"}}
http: {{listen: null}}
log: {{format: json}}
"""


@pytest.mark.slow
@pytest.mark.timeout(240 + 11 * KILLS)
async def test_nothing_is_lost_when_the_daemon_is_killed(tmp_path: Path) -> None:
    """Every recorded call arrives with its own recording; only calls in flight at a kill are repeated, byte for byte.

    A call is in flight if its request is open, or answered and not settled yet. On a busy machine nobody can promise how long
    settling takes, so the bounds count requests, not time. A worker sends its next call only when the settlement of its last one
    is on disk. So of the requests between two kills, at most CONCURRENCY belong to calls that are sent again. No call is sent
    twice between the same two kills, or after the last kill.

    All answers take equally long, and settlements become durable in their order. So when a worker has sent a third request
    after a given one, its second request is settled. The second was answered long after the given one, so the given one is
    settled too. A repeated request is therefore followed by at most two requests of each other worker.
    """
    chance, never = random.Random(SEED), asyncio.Event()
    calls, recordings, obligations = tmp_path / "calls", tmp_path / "recordings", tmp_path / "obligations"
    calls.mkdir()
    recordings.mkdir()
    async with sandbox(tmp_path, Faults(latency_s=LATENCY_S)) as tuner:
        config = tmp_path / "tunerd.yaml"
        config.write_text(_CONFIG.format(url=tuner.url, directory=tmp_path, concurrency=CONCURRENCY))
        oracle = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.e2e.oracle", "--calls", str(calls), "--recordings", str(recordings),
            "--obligations", str(obligations), "--rate", "40", "--count", str(KILLS * CALLS_A_KILL + 50), "--seed", str(SEED),
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        landed = restarts = 0
        ends: list[int] = []
        daemon = await Daemon.run(config)
        try:
            while landed < KILLS and restarts < 3 * KILLS:
                if restarts % 3 == 2:
                    await _more(tuner, LONG_LIFE)
                before = _size(tuner.journal)
                await until(lambda before=before: _size(tuner.journal) > before)  # type: ignore[misc]
                # The sandbox records a request when it arrives and answers LATENCY_S later: until then it is open.
                arrived = time.monotonic()
                await SystemClock().wait(never, chance.random() * LATENCY_S * 0.8)  # random on purpose
                await daemon.kill()
                landed += time.monotonic() - arrived < LATENCY_S
                restarts += 1
                ends.append(await _last_of_the_dead(tuner))
                daemon = await Daemon.run(config)
            assert landed >= KILLS, f"only {landed} of {restarts} kills landed while a request was open"
            assert await oracle.wait() == 0
            owed = read_obligations(obligations)

            async def all_there() -> bool:
                return {owe.call_id for owe in owed} <= set(await tuner.accepted())

            # The sandbox listens in this process, and each look reads the whole journal: rarely, so that it can answer.
            await until(all_there, ceiling_s=120 + KILLS, every_s=1.0)
            assert await daemon.stop() == 0
        finally:
            await daemon.kill()
            if oracle.returncode is None:
                oracle.kill()
                await oracle.wait()
    journal = read_journal(tuner.journal)
    report, repeats = compare(owed, journal), find_repeats(journal, ends)
    of_a_kill = Counter(each.life for each in repeats)
    furthest = max((each.followed_by for each in repeats), default=0)
    print(f"seed {SEED}: {len(owed)} calls, {landed} of {restarts} kills with a request open, {report.repeated} repeats, "
          f"at most {max(of_a_kill.values(), default=0)} of a kill, none followed by more than {furthest}")  # fmt: skip
    assert not report.lost, f"seed {SEED}"
    assert not report.unknown, f"seed {SEED}"
    assert not report.differing_bytes, f"seed {SEED}"
    assert not report.wrong_recording, f"seed {SEED}"
    assert len(repeats) == report.repeated
    assert [each for each in repeats if each.again == each.life] == [], f"seed {SEED}"
    assert max(of_a_kill.values(), default=0) <= CONCURRENCY, f"seed {SEED}"
    assert furthest <= 2 * (CONCURRENCY - 1), f"seed {SEED}"


async def _more(tuner: Sandbox, requests: int) -> None:
    """Wait for this many more requests."""
    enough = (await tuner.counts())["total"] + requests

    async def came() -> bool:
        return (await tuner.counts())["total"] >= enough

    await until(came)


async def _last_of_the_dead(tuner: Sandbox) -> int:
    """The number of the last request of a killed process. When the sandbox has answered twice that nothing is open, it has
    read everything in its sockets, because it serves every connection in between."""
    quiet: list[int] = []

    async def is_quiet() -> bool:
        counts = await tuner.counts()
        quiet.append(counts["total"] if counts["in_flight"] == 0 else -1)
        return len(quiet) > 1 and quiet[-1] == quiet[-2] >= 0

    await until(is_quiet)
    return quiet[-1]


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
