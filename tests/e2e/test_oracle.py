"""The oracle itself: what it calls lost, repeated or changed, and that it records a call before the call can be seen."""

import asyncio
import hashlib
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.bodies import create_body
from tests.e2e.oracle import (
    Landed,
    Obligation,
    Oracle,
    Report,
    compare,
    find_repeats,
    main,
    read_journal,
    read_obligations,
    recording_url,
)
from tunerd.call import Form
from tunerd.sandbox.faults import LoseAnswer
from tunerd.sandbox.server import CALL_PATH, Sandbox

CEILING_S = 20.0


def _owed(*call_ids: str) -> list[Obligation]:
    return [Obligation(call_id=call_id, recording_url=recording_url(call_id)) for call_id in call_ids]


def _landed(call_id: str, *, sha: str = "s1", status: int = 200, url: str | None = None) -> Landed:
    return Landed(call_id=call_id, sha256=sha, status=status, accepted=status == 200, recording_url=url or recording_url(call_id))


_CLEAN: dict[str, object] = {"lost": (), "repeats": {}, "differing_bytes": (), "wrong_recording": (), "unknown": ()}


@pytest.mark.parametrize(
    ("owed", "journal", "found"),
    [
        ("", [], {}),
        ("a b", [_landed("b"), _landed("a")], {}),
        ("a b", [_landed("b")], {"lost": ("a",)}),
        ("a", [_landed("a", status=503)], {"lost": ("a",)}),
        ("a", [_landed("a", status=409)], {"lost": ("a",)}),
        ("a", [_landed("a", status=503), _landed("a")], {}),
        ("a", [_landed("a"), _landed("a"), _landed("a", status=409)], {"repeats": {"a": 2}}),
        ("a", [_landed("a"), _landed("a", status=503)], {}),
        ("a", [_landed("a"), _landed("a", sha="s2")], {"repeats": {"a": 1}, "differing_bytes": ("a",)}),
        ("a", [_landed("a", status=0), _landed("a", sha="s2")], {"differing_bytes": ("a",)}),
        ("a", [_landed("a", url="https://audio.example/b.wav")], {"wrong_recording": ("a",)}),
        ("a", [_landed("a"), _landed("x"), _landed("x", status=422)], {"unknown": ("x",)}),
    ],
)
def test_compare(owed: str, journal: list[Landed], found: dict[str, object]) -> None:
    """A call is lost if it was never accepted, and repeated if it was sent again after it was accepted. The bytes of every
    attempt count, accepted or not."""
    report = compare(_owed(*owed.split()), journal)
    expected = _CLEAN | found
    assert {name: getattr(report, name) for name in expected} == expected
    assert report.is_clean == (not set(found) - {"repeats"})


def test_repeats_belong_to_the_life_of_the_request_before() -> None:
    """A call may be sent again several lives later (its turn did not come before the next kill). A second time in its own life
    is a fault of the daemon, and so is a repeat of a request that many others followed."""
    arrivals = [_landed(call_id) for call_id in "abcdaebbf"]
    journal = [replace(each, number=number) for number, each in enumerate(arrivals, start=1)]
    assert [(each.call_id, each.life, each.followed_by, each.again) for each in find_repeats(journal, [3, 5, 5])] == [
        ("a", 0, 2, 1),
        ("b", 0, 1, 3),
        ("b", 3, 2, 3),
    ]


def test_the_report_names_what_is_lost() -> None:
    """A failing chaos run prints a line with the counts and the first ids."""
    report = compare(_owed("a", "b"), [_landed("b"), _landed("b")])
    assert isinstance(report, Report)
    assert str(report) == "lost 1 (a), differing_bytes 0, wrong_recording 0, unknown 0, repeats 1"


def test_the_same_seed_writes_the_same_calls(tmp_path: Path) -> None:
    """The same seed repeats a run; each call has its recording in the document or in exactly one manifest."""
    told = []
    for run in ("one", "two"):
        calls, recordings = tmp_path / run / "calls", tmp_path / run / "recordings"
        calls.mkdir(parents=True)
        recordings.mkdir()
        arguments = ["--calls", str(calls), "--recordings", str(recordings), "--obligations", str(tmp_path / f"{run}.ndjson")]
        oracle = subprocess.run(
            [sys.executable, "-m", "tests.e2e.oracle", *arguments, "--rate", "0", "--count", "60", "--seed", "7"],
            check=True,
            capture_output=True,
            text=True,
            timeout=CEILING_S,
        )
        assert oracle.stdout == "ended after 60 calls\n"
        told.append({path.name: path.read_bytes() for path in (*calls.iterdir(), *recordings.iterdir())})
        documents = [orjson.loads(path.read_bytes()) for path in calls.iterdir()]
        manifests = [orjson.loads(path.read_bytes()) for path in recordings.iterdir()]
        urls = [each["recording_url"] for each in documents if each["recording_url"]] + [each["location"] for each in manifests]
        owed = read_obligations(tmp_path / f"{run}.ndjson")
        assert sorted(urls) == sorted(each.recording_url for each in owed)
        assert 10 < len(manifests) < 50
        assert len(documents) == 60
    assert told[0] == told[1]


def test_a_call_is_noted_before_it_can_be_seen(tmp_path: Path) -> None:
    """If the document cannot be put in its place, its obligation is already written, and no half document is left."""
    oracle = Oracle(calls=tmp_path / "missing", recordings=None, obligations=tmp_path / "owed", seed=1, prefix="c")
    with pytest.raises(FileNotFoundError):
        oracle.call(0)
    assert [each.call_id for each in read_obligations(tmp_path / "owed")] == ["c-000000"]
    oracle.close()


async def test_sigterm_ends_it_between_two_calls(tmp_path: Path) -> None:
    """After SIGTERM every recorded call exists as a whole file, and so does every manifest: nothing is recorded that was not
    written."""
    calls, recordings, owed = tmp_path / "calls", tmp_path / "recordings", tmp_path / "owed"
    calls.mkdir()
    recordings.mkdir()
    arguments = ["--calls", str(calls), "--recordings", str(recordings), "--obligations", str(owed), "--rate", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.e2e.oracle", *arguments, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(CEILING_S):
        assert process.stdout is not None
        assert await process.stdout.readline() == b"100 calls\n"
        process.send_signal(signal.SIGTERM)
        out, _ = await process.communicate()
    noted = read_obligations(owed)
    assert out.decode().endswith(f"ended after {len(noted)} calls\n")
    assert {path.stem for path in calls.iterdir()} == {each.call_id for each in noted}
    by_manifest = [path for path in calls.iterdir() if orjson.loads(path.read_bytes())["recording_url"] is None]
    assert {path.stem.removeprefix("EG_") for path in recordings.iterdir()} == {path.stem for path in by_manifest}


def test_a_half_line_is_not_owed(tmp_path: Path) -> None:
    """Both files can be read while they grow."""
    path = tmp_path / "owed"
    path.write_bytes(b'{"call_id":"a","recording_url":"u"}\n{"call_id":"b","rec')
    assert read_obligations(path) == [Obligation(call_id="a", recording_url="u")]
    path.write_bytes(b"")
    assert read_obligations(path) == []


async def test_the_sandbox_writes_the_journal_that_is_compared(tmp_path: Path) -> None:
    """A call whose answer was lost and that is sent again is one repeat with the same bytes."""
    journal = tmp_path / "journal.ndjson"
    url = recording_url("a")
    body = orjson.dumps(create_body(call_id="a", recording_url=url))
    headers = {"Content-Type": "application/json", "Authorization": "Bearer tr_api_1"}
    query = {"workspace_id": "1", "agent_remote_identifier": "x"}
    async with Sandbox(journal=journal) as sandbox, aiohttp.ClientSession() as session:
        sandbox.plan(LoseAnswer())
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(sandbox.url + CALL_PATH, params=query, data=body, headers=headers)
        async with session.post(sandbox.url + CALL_PATH, params=query, data=body, headers=headers) as answer:
            assert answer.status == 409
        async with session.post(sandbox.url + CALL_PATH, params=query, data=b"{}", headers=headers) as answer:
            assert answer.status == 422
        assert sandbox.received[0].form is Form.CREATE_CALL
    landed = read_journal(journal)
    assert [(each.status, each.accepted) for each in landed] == [(200, True), (409, False)]
    assert landed[0].sha256 == hashlib.sha256(body).hexdigest()
    report = compare(_owed("a"), landed)
    assert (report.is_clean, report.repeats) == (True, {"a": 1})


def test_main_is_an_ordinary_function(tmp_path: Path) -> None:
    """A wrong option exits with 2 before anything is written."""
    with pytest.raises(SystemExit, match="2"):
        main(["--calls", str(tmp_path)])
    assert not list(tmp_path.iterdir())
