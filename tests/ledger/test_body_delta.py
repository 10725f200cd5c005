"""A frozen body is kept as a delta of its payload, and is the same bytes again."""

import random
from pathlib import Path

import orjson
import pytest

from tests.ledger.parts import NOW
from tunerd.call import Document, Form, Origin
from tunerd.ledger.body_delta import apply_delta, delta_of
from tunerd.loading.config_file import load_text
from tunerd.mapping import compile_sources
from tunerd.mapping.forms import freeze_body

CONFIG = """
tuner: {workspace_id: 42, agent_remote_identifier: a, api_key: k}
sources:
  - name: calls
    path: %s
    call:
      call_id: doc.id
      call_type: {const: phone_call}
      start_timestamp: {const: "2026-01-01T10:00:00Z"}
      end_timestamp: {const: "2026-01-01T10:05:00Z"}
      transcript_with_tool_calls: {for_each: {m: doc.messages}, role: m.role, text: m.text}
    recording: [{url: doc.audio}]
ledger: {url: "sqlite://%s/ledger.db"}
"""


def payload(tmp_path: Path, text: str, rows: int = 20) -> bytes:
    mapping = compile_sources(load_text(CONFIG % (tmp_path, tmp_path), "test", {}), {})["calls"]
    messages = [{"role": "agent" if row % 2 else "user", "text": f"{row}: {text}"} for row in range(rows)]
    value = {"id": "call-1", "audio": "https://a.example/1.wav", "messages": messages}
    call = mapping.map(Document(origin=Origin(source="calls", path="/x"), raw=b"", value=value, settled_at=NOW)).call
    assert call is not None
    return call.payload


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("text", ["good morning, how can I help you?", "größere Bücher „links“", 'a "quoted" \\ line\n'])
def test_a_body_of_each_form_takes_a_small_part_of_its_room(tmp_path: Path, form: Form, text: str) -> None:
    """A body repeats the texts of its payload: as a delta it takes less than a third, and comes back byte for byte."""
    stored = payload(tmp_path, text)
    body = freeze_body(stored, "https://a.example/1.wav?sig=x", form, form)
    assert isinstance(body, bytes)
    delta = delta_of(stored, body)
    assert delta is not None and len(delta) < len(body) / 3  # noqa: PT018
    assert apply_delta(stored, delta) == body


def test_what_saves_too_little_or_is_too_long_has_no_delta() -> None:
    """Bodies that share nothing with their payload, and bodies so long that a delta would hold up others, are kept whole."""
    noise = random.Random(1).randbytes
    assert delta_of(noise(4_000), noise(4_000)) is None
    rows = orjson.dumps([{"text": "many words"}] * 5_000)
    assert delta_of(rows, rows.replace(b"text", b"content")) is None
    assert delta_of(b"", b"") is None


@pytest.mark.parametrize("cut", [9, 20, -1])
def test_a_damaged_delta_gives_no_body(tmp_path: Path, cut: int) -> None:
    """Better none than other bytes: the call is failed, and its document can be read again."""
    stored = payload(tmp_path, "good morning")
    body = freeze_body(stored, "https://a.example/1.wav", None, Form.SEND_CALLS)
    assert isinstance(body, bytes)
    delta = delta_of(stored, body)
    assert delta is not None
    assert apply_delta(stored, delta[:cut]) is None
