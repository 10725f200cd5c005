"""The case recording-told-twice: two manifests with differently signed URLs describe one recording, and the newer URL wins."""

import json
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from tests.cases.made import document, mapping
from tests.ledger.parts import FORM, freeze
from tests.real_parts import CASES, needs_cases
from tunerd.call import Call, ManifestStrategy, Recording
from tunerd.ledger import Admission
from tunerd.testing import MemoryLedger, make_call

NOW = 1_782_900_120.0  # 2026-07-01T10:02:00Z
CALL = {"id": "c1", "leg": "leg-1", "started": 1_782_900_000, "ended": 1_782_900_040}


def told(signature: str, leg: str = "leg-1", **payload: str) -> dict[str, Any]:
    """The event call.recording.saved of the recording rec-1, delivered once more."""
    url = f"https://s3.example.com/rec-1.mp3?X-Amz-Date=20260701T100100Z&X-Amz-Expires=600000&X-Amz-Signature={signature}"
    saved = {
        "call_leg_id": leg, "recording_id": "rec-1", "recording_started_at": "2026-07-01T10:00:01.000000Z",
        "recording_ended_at": "2026-07-01T10:00:41.000000Z", "recording_urls": {"mp3": url}, **payload,
    }  # fmt: skip
    return {"data": {"event_type": "call.recording.saved", "occurred_at": "2026-07-01T10:01:00.000000Z", "payload": saved}}


def recording(value: Any, telling: int) -> Recording:
    made = mapping("telnyx-recording").map(document(value, f"{telling}.json")).recording
    assert made is not None
    return replace(made, origin=replace(made.origin, mtime_ns=telling))


def call_of(value: dict[str, Any]) -> Call:
    strategy = ManifestStrategy(source="calls", key=value["leg"], within_s=600.0, wait_s=1800.0)
    return make_call(value["id"], started_at_ms=value["started"] * 1000, strategies=(strategy,))


async def sent_with(call: Call, tellings: list[Recording]) -> set[str]:
    """The recording URLs that the call is sent with, over all orders in which it and the manifests arrive before it is sent."""
    urls = set()
    for order in permutations([call, *tellings]):
        ledger = MemoryLedger()
        for one in order:
            is_call = isinstance(one, Call)
            await ledger.admit(Admission(calls=[one] if is_call else (), recordings=() if is_call else [one]), NOW)  # type: ignore[list-item]
        claimed = (await ledger.claim("tuner", FORM, freeze, NOW)).claimed
        assert claimed is not None
        urls.add(json.loads(claimed.body)["recording_url"])
    return urls


async def test_signed_twice() -> None:
    """The call is sent with the URL that was signed last, whatever the order in which the two are read."""
    (url,) = await sent_with(call_of(CALL), [recording(told("aaaa"), 1), recording(told("bbbb"), 2)])
    assert url.endswith("bbbb")


@pytest.mark.parametrize("start", ["2026-07-01T10:00:01.000000Z", "2026-07-01T10:00:01.900000Z", "2026-07-01T10:00:25.000000Z"])
async def test_the_id_decides_not_the_start(start: str) -> None:
    """A second manifest of the same recording corrects its start."""
    tellings = [recording(told("aaaa"), 1), recording(told("bbbb", recording_started_at=start), 2)]
    (url,) = await sent_with(call_of(CALL), tellings)
    assert url.endswith("bbbb")


async def test_without_an_id_key_and_start_do() -> None:
    """The same holds for a platform that gives recordings no ids."""
    tellings = [replace(recording(told(name), at), id="") for at, name in ((1, "aaaa"), (2, "bbbb"), (3, "cccc"))]
    (url,) = await sent_with(call_of(CALL), tellings)
    assert url.endswith("cccc")


@needs_cases
async def test_the_shared_case() -> None:
    """As it was found: one webhook that was delivered twice."""
    case = CASES / "recording-told-twice"
    attempts = [json.loads(file.read_text()) for file in sorted((case / "rec").iterdir())]
    call = call_of(json.loads((case / "calls" / "c.json").read_text()))
    (url,) = await sent_with(call, [recording(value, at) for at, value in enumerate(attempts, 1)])
    assert url.endswith("X-Amz-Signature=bbbb")
