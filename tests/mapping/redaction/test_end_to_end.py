"""From the document to the bytes of the ledger file and of the body: what redaction takes out is nowhere."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.mapping.sources import CREATE, SEND, compiled, document, fields_of
from tunerd.call import Document, Form, Mapped
from tunerd.config import Destination, Redact
from tunerd.ledger import Admission, Delivered, Ended, Filter
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.mapping.forms import freeze_body
from tunerd.outcome import FailReason
from tunerd.testing import Recorder

NOW = 1_767_225_600.0
CANARIES = {
    "card": "4111 1111 1111 1111", "solid": "5555555555554444", "mail": "canary@example.org", "phone": "+41 44 668 18 00",
    "iban": "CH93 0076 2011 6238 5295 7", "ticket": "TCK-778899", "summary": "wants the blue one", "unmapped": "never mapped at all",
}  # fmt: skip
RULES = """
call:
  call_id: doc.id
  call_type: {const: phone_call}
  start_timestamp: doc.started
  end_timestamp: doc.ended
  metadata: doc.extra
  call_analysis: doc.analysis
  transcript: "join('. ', doc.said)"
  transcript_with_tool_calls: {for_each: {m: doc.said}, role: {const: user}, text: m, start_ms: 0}
recording: [{url: doc.url}]
"""
REDACT = Redact(fields=("call_analysis.summary",), patterns={"ticket": r"TCK-\d+"})
GIVEN: dict[str, Any] = {
    "id": "c-1",
    "started": 1782900000000,
    "ended": 1782900060000,
    "url": "https://audio.example/1.wav",
    "said": [f"{name}: {value}" for name, value in CANARIES.items() if name not in ("summary", "unmapped")],
    "extra": {"card": 5555555555554444, "deep": [{"to": CANARIES["mail"]}], "epoch": 1767225600000},
    "analysis": {"summary": CANARIES["summary"]},
    "unmapped": CANARIES["unmapped"],
}
LEAKS = [canary.encode() for canary in CANARIES.values()]


def leaks(data: bytes) -> list[bytes]:
    return [canary for canary in LEAKS if canary in data]


async def ledger_at(directory: Path) -> SqliteLedger:
    return await SqliteLedger.open(directory / "ledger.db", now=NOW, emit=Recorder())


def bytes_of(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir() if path.is_file())


def mapped(given: dict[str, Any] | Document = GIVEN, destination: Destination = CREATE, redact: Redact | None = REDACT) -> Mapped:
    mapping = compiled(RULES, destination, redact=redact)
    return mapping.map(given if isinstance(given, Document) else document(given))


@pytest.mark.parametrize(("form", "destination"), [(Form.CREATE_CALL, CREATE), (Form.SEND_CALLS, SEND)])
async def test_no_canary_reaches_the_ledger_file_or_the_body(tmp_path: Path, form: Form, destination: Destination) -> None:
    """Admitted, frozen, sent: neither the file (with its WAL) nor what is posted holds any of it."""
    assert len(leaks(document(GIVEN).raw)) == len(LEAKS), "a canary that is not planted proves nothing"
    result = mapped(destination=destination)
    assert result.call is not None
    assert result.call.document is None
    assert leaks(result.call.payload) == []
    ledger = await ledger_at(tmp_path)
    await ledger.admit(Admission(calls=[result.call]), NOW)
    claim = await ledger.claim(
        "tuner", form, lambda unfrozen: freeze_body(unfrozen.payload, unfrozen.recording_url, unfrozen.checked_for, form), NOW
    )
    assert claim.claimed is not None
    assert leaks(claim.claimed.body) == []
    assert b"[card]" in claim.claimed.body
    assert leaks(bytes_of(tmp_path)) == []
    await ledger.settle(claim.claimed.row, Delivered(status=200, tuner_call_id="t", already_there=False), NOW)
    await ledger.close()
    assert leaks(bytes_of(tmp_path)) == []


async def test_without_redaction_the_file_holds_them(tmp_path: Path) -> None:
    """The search above would find them."""
    result = mapped(redact=None)
    assert result.call is not None
    ledger = await ledger_at(tmp_path)
    await ledger.admit(Admission(calls=[result.call]), NOW)
    await ledger.close()
    assert len(leaks(bytes_of(tmp_path))) == len(LEAKS)


async def test_refused_documents_leave_no_text(tmp_path: Path) -> None:
    """The row says why and where, and nothing of the document."""
    result = mapped({**GIVEN, "started": "canary@example.org"})
    refused = result.refused
    assert refused is not None
    assert (refused.head, refused.document) == (b"", None)
    assert leaks(repr(refused).encode()) == []
    ledger = await ledger_at(tmp_path)
    await ledger.admit(Admission(refused=[refused]), NOW)
    await ledger.close()
    assert leaks(bytes_of(tmp_path)) == []


async def test_a_failed_call_is_sent_again_as_it_was_redacted(tmp_path: Path) -> None:
    """There is no document to map; the redacted payload is what `retry` sends."""
    result = mapped()
    assert result.call is not None
    ledger = await ledger_at(tmp_path)
    await ledger.admit(Admission(calls=[result.call]), NOW)
    first = (await ledger.claim("tuner", Form.CREATE_CALL, lambda unfrozen: unfrozen.payload, NOW)).claimed
    assert first is not None
    await ledger.settle(first.row, Ended(reason=FailReason.REJECTED, status=422, detail="no"), NOW)
    [row] = await ledger.calls(Filter())
    assert await ledger.document(row.row) is None
    await ledger.requeue(row.row, NOW)
    again = (await ledger.claim("tuner", Form.CREATE_CALL, lambda unfrozen: unfrozen.payload, NOW)).claimed
    assert again is not None
    assert again.body == first.body == result.call.payload
    await ledger.close()


def test_stored_false_keeps_the_document_and_sends_the_redacted_call() -> None:
    """For who trusts the disk and not the wire."""
    result = mapped(redact=replace(REDACT, stored=False))
    assert result.call is not None
    assert result.call.document == document(GIVEN).raw
    assert leaks(result.call.payload) == []


def test_counts_are_in_the_notes_and_places_in_the_explanation() -> None:
    """For the metric and for `explain`, without any value."""
    mapping = compiled(RULES, redact=REDACT)
    told = mapping.explain(document(GIVEN))
    assert mapping.map(document(GIVEN)).notes.redacted == told.redacted
    assert told.redacted == {"field": 1, "card": 5, "email": 3, "phone": 2, "iban": 2, "ticket": 2}
    assert ("metadata.deep[0].to", "email") in told.redactions
    assert leaks(repr(told.redactions).encode()) == []


def test_ids_times_and_the_document_itself_are_untouched() -> None:
    """The call id and the URL stay whatever they look like; the mapping changes nothing of what it was given."""
    given = document({**GIVEN, "id": "4111111111111111", "url": "https://audio.example/canary@example.org.wav"})
    before = orjson.dumps(given.value)
    call = mapped(given).call
    assert call is not None
    assert (call.call_id, call.started_at_ms) == ("4111111111111111", 1782900000000)
    assert orjson.loads(call.payload)["call_id"] == "4111111111111111"
    assert "canary@example.org.wav" in repr(call.strategies)
    assert orjson.dumps(given.value) == before
    assert fields_of(compiled(RULES, redact=REDACT), GIVEN)["metadata"]["epoch"] == 1767225600000
