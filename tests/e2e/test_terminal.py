"""`tunerd tap`, `top`, `status --watch` and `failed` beside a real daemon that delivers to a real server."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.cli.terminals import CEILING_S, OnTerminal, interrupted, piped, screen
from tests.e2e.harness import Sandbox, call_document, put, running, world

SECRETS = ("my cat is called Zwingli", "canary-signature", "canary-in-a-broken-file")


async def test_nothing_of_a_call_is_shown_but_its_fate(tmp_path: Path) -> None:
    """A call with a recording that comes later, and a broken file: the tap shows each step once, and no transcript or URL query."""
    async with world(tmp_path) as (tuner, config), running(config):
        with (
            piped(config, "tap", "--json", "--last", "100") as tap,
            OnTerminal(config, "top", "--interval", "200ms", columns=200) as top,
            OnTerminal(config, "status", "--watch", "--interval", "200ms", columns=200) as watch,
        ):
            rows, pictures = await asyncio.gather(
                _deliver(tuner, tmp_path, tap), asyncio.to_thread(lambda: [_until_done(one) for one in (top, watch)])
            )
            assert interrupted(tap) == (130, "")
        whats = [row["what"] for row in rows if row["call_id"] == "call-1"]
        assert whats == ["admitted", "matched", "sent"]
        assert [row["reason"] for row in rows if row["what"] == "failed"] == ["unreadable"]
        with piped(config, "failed") as process:
            failed, _ = process.communicate(timeout=CEILING_S)
        shown = json.dumps(rows) + "".join(pictures) + failed
        assert "half.json" in failed
        assert not [secret for secret in SECRETS if secret in shown]


async def _deliver(tuner: Sandbox, directory: Path, tap: Any) -> list[dict[str, Any]]:
    document = call_document("call-1", room="lobby")
    document["messages"][0]["text"] = SECRETS[0]
    put(directory / "calls" / "1.json", document)
    rows = await asyncio.to_thread(_rows_until, tap, "admitted")
    started = document["started"]
    url = f"https://audio.example/1.ogg?X-Signature={SECRETS[1]}"
    put(directory / "recordings" / "1.json", {"room": "lobby", "url": url, "started": started})
    await tuner.has("call-1")
    rows += await asyncio.to_thread(_rows_until, tap, "sent")
    broken = directory / "calls" / ".half.tmp"
    broken.write_text('{"id": "canary-in-a-broken-file", ]')
    broken.rename(directory / "calls" / "half.json")
    return rows + await asyncio.to_thread(_rows_until, tap, "failed")


def _rows_until(tap: Any, what: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while not rows or rows[-1]["what"] != what:
        rows.append(json.loads(tap.stdout.readline()))
    return rows


def _until_done(terminal: OnTerminal) -> str:
    """All that was written until the picture has one sent and one failed call."""
    written = ""
    while True:
        written += terminal.until(r"\x1b\[J")
        lines = screen(written)
        counted = {line.split()[0]: line.split()[1] for line in lines if len(line.split()) > 1}
        if counted.get("sent") == counted.get("failed") == "1":
            return written
