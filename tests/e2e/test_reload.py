"""SIGHUP again and again while calls come in: nothing is lost or leaked, and a bad configuration changes nothing.

TUNERD_RELOADS sets how often (18 by default; `make reloads TIMES=1000`).
"""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, call_document, put, running, until, world
from tunerd.clock import SystemClock

TIMES = int(os.environ.get("TUNERD_RELOADS", "18"))
EVERY_S = 0.1


def good(text: str, number: int) -> str:
    """One of several good configurations: other delivery settings, another source definition, one source more or less."""
    text = text.replace("concurrency: 8", f"concurrency: {4 + number % 8}")
    if number % 3 == 0:
        text = text.replace("rescan: 2s\n    call:", "rescan: 3s\n    call:")
    if number % 4 == 0:
        extra = "  - name: extra\n    path: {0}/extra\n    manifest: {{key: doc.room, url: doc.url, started_at: doc.started}}\n"
        directory = text.split("path: ")[1].split("/calls")[0]
        text = text.replace("delivery:\n", extra.format(directory) + "delivery:\n", 1)
    return text


BAD = (
    lambda text: text.replace("call_id: doc.id", "call_id: dok.id"),
    lambda text: text.replace("concurrency: 8", "concurrency: lots"),
    lambda text: text + "\nunknown: 1\n",
    lambda text: text[: len(text) // 2],
    lambda text: "",
    lambda text: "\0",
    lambda text: text.replace("ledger.db", "other.db"),
    lambda text: text.replace("manifest: recordings", "manifest: nobody"),
)


def rewrite(config: Path, text: str) -> None:
    """Replace the file by a rename, as an editor or a ConfigMap does."""
    draft = config.with_suffix(".new")
    draft.write_text(text)
    draft.rename(config)


def open_files(daemon: Daemon) -> Counter[str]:
    """The open files of the process, by kind; without sockets to Tuner, whose number changes with the work."""
    kinds: Counter[str] = Counter()
    for fd in Path(f"/proc/{daemon.pid}/fd").iterdir():
        try:
            kinds[str(fd.readlink()).partition(":[")[0]] += 1
        except FileNotFoundError:
            continue
    del kinds["socket"]
    return kinds


def threads(daemon: Daemon) -> int:
    return len(list(Path(f"/proc/{daemon.pid}/task").iterdir()))


@pytest.mark.timeout(120 + 2 * TIMES)
async def test_reloads_under_load(tmp_path: Path) -> None:
    """With a reload every 0.1 s, a third of them bad, while calls come in: each call arrives once with its recording, each bad
    configuration is refused and the previous one kept, and the numbers of descriptors and threads do not grow."""
    (tmp_path / "extra").mkdir()
    async with world(tmp_path) as (tuner, config), running(config) as daemon:
        text, never, clock = config.read_text(), asyncio.Event(), SystemClock()

        async def settled(number: int, *, bad: bool) -> None:
            kind = "configuration refused; keeping the previous configuration" if bad else "configuration reloaded"
            before = len(daemon.told(kind))
            rewrite(config, BAD[number % len(BAD)](text) if bad else good(text, number))
            daemon.signal(signal.SIGHUP)
            await until(lambda: len(daemon.told(kind)) > before)

        for number in range(3):  # start every kind of thread and watch before counting them
            await settled(4 * number, bad=False)
        await settled(1, bad=False)
        files, number_of_threads = open_files(daemon), threads(daemon)
        calls = []
        for number in range(TIMES):
            bad = number % 3 == 1
            rewrite(config, BAD[number % len(BAD)](text) if bad else good(text, number))
            daemon.signal(signal.SIGHUP)
            calls.append(f"call-{number}")
            put(tmp_path / "calls" / f"{number}.json", call_document(f"call-{number}", room=f"room-{number}"))
            put(tmp_path / "recordings" / f"{number}.json",
                {"room": f"room-{number}", "url": f"https://audio.example/{number}.ogg", "started": 1_767_225_600_000})  # fmt: skip
            await clock.wait(never, EVERY_S)
        await settled(1, bad=False)
        await tuner.has(*calls)
        assert await tuner.accepted() == dict.fromkeys(calls, 1)
        refused = len(daemon.told("configuration refused; keeping the previous configuration"))
        taken = len(daemon.told("configuration reloaded"))
        print(f"{TIMES} reloads: {taken} taken, {refused} refused; open before {dict(files)}, after {dict(open_files(daemon))}")
        assert refused >= TIMES // 6
        assert taken >= TIMES // 3
        await until(lambda: open_files(daemon) - files == Counter(), ceiling_s=15)
        await until(lambda: threads(daemon) <= number_of_threads + 2, ceiling_s=15)
        assert "Traceback" not in daemon.said
        assert await daemon.stop() == 0


async def test_a_refused_reload_names_each_line_and_changes_nothing(tmp_path: Path) -> None:
    """Every kind of bad configuration is refused with its place, the metric says so, and calls continue with the old rules.
    `ledger.url` and `http.listen` need a restart, and the refusal names that line."""
    async with world(tmp_path) as (tuner, config), running(config) as daemon:
        text = config.read_text()
        bad = [change(text) for change in BAD] + [text.replace("127.0.0.1:0", "127.0.0.1:9")]
        for number, content in enumerate(bad):
            rewrite(config, content)
            daemon.signal(signal.SIGHUP)
            kind = "configuration refused; keeping the previous configuration"
            await until(lambda number=number, kind=kind: len(daemon.told(kind)) > number)
            assert all(f"{config}:" in problem for problem in daemon.told(kind)[-1]["problems"])
            assert await daemon.metric("tunerd_config_last_reload_successful") == 0
        refusals = ["\n".join(line["problems"]) for line in daemon.told(kind)]
        line_of = {key: 1 + text[: text.index(key)].count("\n") for key in ("url: sqlite", "listen:")}
        assert f":{line_of['url: sqlite']}:" in refusals[6]
        assert "ledger.url: cannot change by a reload; restart tunerd" in refusals[6]
        assert f":{line_of['listen:']}:" in refusals[8]
        assert "http.listen: cannot change by a reload; restart tunerd" in refusals[8]
        put(tmp_path / "calls" / "a.json", call_document("a"))
        await tuner.has("a")
        assert not (tmp_path / "other.db").exists()
        rewrite(config, text)
        daemon.signal(signal.SIGHUP)
        await until(lambda: daemon.told("configuration reloaded"))
        assert await daemon.metric("tunerd_config_last_reload_successful") == 1
        assert await daemon.stop() == 0


async def test_watch_config_goes_by_content(tmp_path: Path) -> None:
    """--watch-config reloads a changed file automatically, also through a swapped symlink as a ConfigMap does it, and ignores
    a file that was only touched."""
    async with world(tmp_path) as (tuner, config):
        text = config.read_text()
        for name, content in (("..1", text), ("..2", text.replace("{const: phone_call}", "{const: web_call}"))):
            (tmp_path / name).mkdir()
            (tmp_path / name / "tunerd.yaml").write_text(content)
        (tmp_path / "..data").symlink_to("..1")
        config.unlink()
        config.symlink_to("..data/tunerd.yaml")
        os.utime(tmp_path / "..2" / "tunerd.yaml", ns=((tmp_path / "..1" / "tunerd.yaml").stat().st_mtime_ns,) * 2)
        async with running(config, "--watch-config") as daemon:
            os.utime(tmp_path / "..1" / "tunerd.yaml")
            swapped = tmp_path / "..new"
            swapped.symlink_to("..2")
            swapped.rename(tmp_path / "..data")
            await until(lambda: daemon.told("configuration reloaded"), ceiling_s=15)
            put(tmp_path / "calls" / "a.json", call_document("a"))
            await tuner.has("a")
            assert len(daemon.told("configuration reloaded")) == 1
            assert (await tuner.bodies())["a"]["call_type"] == "web_call"
            assert await daemon.stop() == 0


async def test_a_key_in_a_mounted_secret_is_rotated(tmp_path: Path) -> None:
    """A Secret is absent at first, and then swapped as a ConfigMap is: tunerd takes both without a restart and without a reload."""
    secret = tmp_path / "secret"
    secret.mkdir()
    async with world(tmp_path, key_file=str(secret / "key")) as (tuner, config), running(config) as daemon:
        put(tmp_path / "calls" / "early.json", call_document("early"))
        for number, key in enumerate(("tr_api_first", "tr_api_second"), start=1):
            (secret / f"..{number}").mkdir()
            (secret / f"..{number}" / "key").write_text(key)
            swapped = secret / "..new"
            swapped.symlink_to(f"..{number}")
            swapped.rename(secret / "..data")
            if number == 1:
                (secret / "key").symlink_to("..data/key")
                await tuner.has("early", ceiling_s=45)
            else:
                await until(lambda: daemon.told("key changed"), ceiling_s=15)
        put(tmp_path / "calls" / "late.json", call_document("late"))
        await tuner.has("late")
        assert "tr_api_" not in daemon.said
        assert not daemon.told("configuration reloaded")
        assert await daemon.stop() == 0


async def test_a_reload_changes_the_level_of_the_log(tmp_path: Path) -> None:
    """A reload can change the log level, so that a problem can be debugged without a restart."""
    async with world(tmp_path) as (tuner, config):
        text = config.read_text()
        assert text.endswith("log:\n  format: json\n")
        async with running(config) as daemon:
            put(tmp_path / "calls" / "a.json", call_document("a"))
            await tuner.has("a")
            rewrite(config, text + "  level: debug\n")
            daemon.signal(signal.SIGHUP)
            await until(lambda: daemon.told("configuration reloaded"))
            put(tmp_path / "calls" / "b.json", call_document("b"))
            await tuner.has("b")
            await until(lambda: any(line["level"] == "debug" and line.get("call_id") == "b" for line in daemon.lines()))
            assert not any(line["level"] == "debug" and line.get("call_id") == "a" for line in daemon.lines())
            assert await daemon.stop() == 0
