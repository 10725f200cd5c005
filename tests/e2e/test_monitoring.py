"""A real Prometheus scrapes a live daemon: every expression of the dashboard and of the rules runs on what it found, and alerts
read well."""

import asyncio
import json
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.docs.fences import ROOT
from tests.e2e.harness import Daemon, call_document, command, manifest, put, running, until, world
from tests.real_parts import needs_program

MONITORING = ROOT / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
VARIABLES = {"$job": ".*", "$instance": ".*", "$__rate_interval": "10s"}
FROM_THE_FIRST_ON = ("tunerd_rule_error_total", "tunerd_timeline_repairs_total", "tunerd_redactions_total")
"""Metrics whose series exist only once something was counted: their names come from the rules."""
_UNKNOWN = re.compile(r"<no value>|%!|\{\{")


class Prometheus:
    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self._address, self._session = address, session

    async def get(self, path: str, **parameters: str) -> Any:
        async with self._session.get(f"http://{self._address}/api/v1/{path}", params=parameters) as answer:
            found = await answer.json()
            assert found["status"] == "success", found
            return found["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        return list((await self.get("query", query=expression))["result"])

    async def alerts(self) -> dict[str, dict[str, Any]]:
        return {alert["labels"]["alertname"]: alert for alert in (await self.get("alerts"))["alerts"]}


@asynccontextmanager
async def prometheus(directory: Path, target: str) -> AsyncIterator[Prometheus]:
    """Scrapes the target each half second, and evaluates the rules of monitoring/ as often. It ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (directory / "prometheus.yml").write_text(
        yaml.safe_dump({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(MONITORING / "*.yml")],
            "scrape_configs": [{"job_name": "tunerd", "static_configs": [{"targets": [target]}]}],
        })
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        "prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/tsdb",
        f"--web.listen-address={address}", "--log.level=warn",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as session:

            async def is_ready() -> bool:
                assert process.returncode is None, "Prometheus ended"
                try:
                    async with session.get(f"http://{address}/-/ready") as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await until(is_ready)
            yield Prometheus(address, session)
    finally:
        process.kill()
        await process.wait()


def expressions() -> list[str]:
    """Of every panel, with the variables filled in."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    for variable, value in VARIABLES.items():
        found = [expression.replace(variable, value) for expression in found]
    return found


def test_the_dashboard_is_whole() -> None:
    """Each panel has a title, a description and a place of its own, and each query names the variables that select a target."""
    panels = DASHBOARD["panels"]
    assert len(panels) > 30
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or (panel["description"] and panel["targets"]), panel["title"]
    for panel in panels:
        for target in panel.get("targets", ()):
            selectors = re.findall(r"\b(?:tunerd|process|python)_\w+(\{[^}]*\})?", target["expr"])
            assert all(s.startswith('{job=~"$job", instance=~"$instance"') for s in selectors), target["expr"]


async def scraped(seen: Prometheus) -> bool:
    """Twice since the last call was counted, so that rates and recording rules have something."""
    counts = await seen.query("count_over_time(tunerd_calls_sent_total{source='calls'}[1m])")
    sent = await seen.query("sum(tunerd_calls_sent_total) == 2 and sum(increase(tunerd_calls_failed_total[1m])) >= 0")
    return bool(counts and sent) and float(counts[0]["value"][1]) >= 3


async def some_of_everything(daemon: Daemon, config: Path) -> None:
    """A sent call, one with a recording, one that waits, an unreadable document, and a recording that nobody wants."""
    calls, recordings = config.parent / "calls", config.parent / "recordings"
    put(calls / "sent.json", call_document("sent"))
    put(recordings / "room.json", manifest("room"))
    put(calls / "matched.json", call_document("matched", room="room"))
    put(calls / "waiting.json", call_document("waiting", room="elsewhere"))
    put(recordings / "nobodys.json", manifest("nobodys"))
    put(calls / "broken.json", {"id": "broken"})

    async def all_there() -> bool:
        return await daemon.states() == {"sent": 2, "waiting": 1, "failed": 1}

    await until(all_there)


@needs_program("prometheus", "it scrapes the daemon")
async def test_every_expression_runs_on_what_a_live_daemon_shows(tmp_path: Path) -> None:
    """Dashboard and recording rules give series, and no rule fails."""
    async with (
        world(tmp_path) as (_, config),
        running(config) as daemon,
        prometheus(tmp_path, daemon.told("listening")[-1]["address"]) as seen,
    ):
        await some_of_everything(daemon, config)
        await until(lambda: scraped(seen))
        for expression in expressions():
            assert await seen.query(expression) or any(name in expression for name in FROM_THE_FIRST_ON), expression
        await until(lambda: seen.query('tunerd_recordings_unmatched{source="recordings"} == 1'))
        groups = (await seen.get("rules"))["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
        for rule in rules:
            assert rule["type"] == "alerting" or await seen.query(rule["name"]), rule["name"]


@needs_program("prometheus", "it scrapes the daemon")
async def test_alerts_of_a_live_daemon_read_well(tmp_path: Path) -> None:
    """A failed call, a pause, a missing directory and a refused reload are alerts, with every label and value filled in; a call
    that failed before the first scrape is seen, and the alert ends when it is dismissed."""
    async with world(tmp_path) as (_, config), running(config) as daemon:
        put(config.parent / "calls" / "broken.json", {"id": "broken"})
        await until(lambda: daemon.told("failed"))
        async with prometheus(tmp_path, daemon.told("listening")[-1]["address"]) as seen:

            async def are_there(*names: str) -> bool:
                return {f"Tunerd{name}" for name in names} <= (await seen.alerts()).keys()

            await until(lambda: are_there("Failed"))
            assert (await seen.alerts())["TunerdFailed"]["state"] == "firing"
            assert (await command(config, "pause"))[0] == 0
            (config.parent / "recordings").rename(config.parent / "away")
            good = config.read_text()
            config.write_text(good + "nonsense: 1\n")
            daemon.signal(signal.SIGHUP)
            await until(lambda: are_there("PauseForgotten", "DoesNotRead", "ReloadRefused"))
            alerts = await seen.alerts()
            assert alerts["TunerdPauseForgotten"]["labels"]["destination"] == "default"
            assert alerts["TunerdDoesNotRead"]["labels"]["source"] == "recordings"
            for alert in alerts.values():
                told = alert["annotations"]["summary"] + alert["annotations"]["description"]
                assert not _UNKNOWN.search(told), told
                assert "  " not in told, told
            config.write_text(good)
            assert (await command(config, "dismiss", "--reason", "unmappable"))[0] == 0

            async def is_over() -> bool:
                return "TunerdFailed" not in await seen.alerts()

            await until(is_over)
