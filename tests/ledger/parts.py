"""Made-up admissions, recordings and freezes for the ledger's tests."""

import asyncio
from collections.abc import Callable
from typing import Final

from tunerd.call import (
    Call,
    Fail,
    Form,
    Hold,
    IgnoredDocument,
    ManifestStrategy,
    Origin,
    Recording,
    Refusal,
    RefusedDocument,
    SendAnyway,
    State,
    Strategy,
)
from tunerd.ledger import (
    Admission,
    Admitted,
    AdmitVerdict,
    Claim,
    Claimed,
    Deferred,
    Delivered,
    Ended,
    FileMark,
    Filter,
    Gauges,
    Ledger,
    Pick,
    StoredCall,
    Unfrozen,
)
from tunerd.outcome import FailReason, RetryReason
from tunerd.testing import make_call

NOW: Final = 1_767_225_600.0
START_MS: Final = 1_767_225_000_000
START: Final = START_MS / 1000
FORM: Final = Form.CREATE_CALL
SENT: Final = Delivered(status=201, tuner_call_id="t-1", already_there=False)
REJECTED: Final = Ended(reason=FailReason.REJECTED, status=400, detail="Tuner does not take it")


def freeze(unfrozen: Unfrozen) -> bytes:
    return unfrozen.payload[:-1] + b',"recording_url":"' + unfrozen.recording_url.encode() + b'"}'


def refuse(_: Unfrozen) -> Refusal:
    return Refusal(reason=FailReason.INVALID, where="transcript_with_tool_calls[0]", what="the form does not take it")


def later(due_at: float, *, counts: bool = True, sure: bool = False) -> Deferred:
    return Deferred(
        due_at=due_at, reason=RetryReason.SERVER_ERROR, status=503, detail="503", counts=counts, surely_not_arrived=sure
    )


def egress(
    key: str | None = "room", *, within_s: float | None = 600.0, wait_s: float = 1800.0, source: str = "egress"
) -> ManifestStrategy:
    return ManifestStrategy(source=source, key=key, within_s=within_s, wait_s=wait_s)


def waiting(
    call_id: str,
    *strategies: Strategy,
    at_s: float = 0.0,
    on_missing: Hold | Fail | SendAnyway = Hold(hold_s=1_209_600.0),
    mtime_ns: int = 1,
) -> Call:
    """A call that looks for a recording; it started `at_s` after START."""
    return make_call(
        call_id,
        started_at_ms=START_MS + round(at_s * 1000),
        strategies=strategies or (egress(),),
        on_missing=on_missing,
        mtime_ns=mtime_ns,
    )


def recording(
    url: str | None = "https://audio.example/r.ogg",
    *,
    at_s: float | None = 2.0,
    key: str = "room",
    source: str = "egress",
    path: str | None = None,
    expires_at: float | None = None,
) -> Recording:
    return Recording(
        origin=Origin(source=source, path=path or f"/egress/{url}-{at_s}-{key}.json"),
        source=source,
        key=key,
        location=url,
        started_at=None if at_s is None else START + at_s,
        expires_at=expires_at,
    )


def refused(path: str = "/calls/bad.json", offset: int = 0, *, head: bytes = b"{", call_id: str | None = None) -> RefusedDocument:
    return RefusedDocument(
        origin=Origin(source="agent", path=path, offset=offset),
        refusal=Refusal(reason=FailReason.UNREADABLE, where="byte 1", what="not JSON"),
        head=head,
        call_id=call_id,
    )


def ignored(path: str = "/calls/ignored.json", offset: int = 0) -> IgnoredDocument:
    return IgnoredDocument(origin=Origin(source="agent", path=path, offset=offset), call_id="i-1")


def file_mark(
    path: str = "/calls/call-1.json", *, source: str = "agent", inode: int = 7, offset: int = 100, **other: object
) -> FileMark:
    fields: dict[str, object] = {"device": 1, "size": offset, "mtime_ns": 5, "content": b"hash", "whole": True}
    return FileMark(source=source, path=path, inode=inode, offset=offset, **(fields | other))  # type: ignore[arg-type]


async def put(ledger: Ledger, *calls: Call, now: float = NOW) -> Admitted:
    return await ledger.admit(Admission(calls=calls), now)


async def bring(ledger: Ledger, *recordings: Recording, now: float = NOW) -> Admitted:
    return await ledger.admit(Admission(recordings=recordings), now)


async def take(ledger: Ledger, now: float = NOW, pick: Pick = Pick.OLDEST) -> Claim:
    return await ledger.claim("tuner", FORM, freeze, now, pick=pick)


async def claimed(ledger: Ledger, now: float = NOW) -> Claimed:
    """Claim the oldest due call; there has to be one."""
    claim = await take(ledger, now)
    assert claim.claimed is not None
    return claim.claimed


async def the(ledger: Ledger, call_id: str) -> StoredCall:
    """The one row with the id."""
    found = await ledger.calls(Filter(call_ids=frozenset({call_id}), dismissed=None))
    assert len(found) == 1
    return found[0]


async def state(ledger: Ledger, call_id: str) -> State:
    return (await the(ledger, call_id)).state


async def gauged(ledger: Ledger, is_right: Callable[[Gauges], bool]) -> None:
    """The gauges come to be right: at once, or in a fleet within about a second."""
    async with asyncio.timeout(10):
        while not is_right(ledger.gauges()):
            assert await ledger.alive()


def verdicts(admitted: Admitted) -> list[tuple[AdmitVerdict, State]]:
    return list(admitted.verdicts)
