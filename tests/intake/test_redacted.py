"""With redaction, documents that never reach the mapping leave no text in the ledger either."""

from functools import partial
from pathlib import Path

import pytest

from tests.intake.harness import put, source, swept
from tunerd.config import Redact
from tunerd.ledger import Filter
from tunerd.ledger.rows import Body
from tunerd.ledger.sql.store import Store

CANARY = "4111 1111 1111 1111"


def head_and_document(row: int, store: Store) -> bytes:
    body = store.bodies.get(row) or Body()
    return body.head + (body.document or b"")


@pytest.mark.parametrize(("redact", "kept"), [(Redact(), False), (Redact(stored=False), True), (None, True)])
async def test_refused_documents_keep_no_head_where_documents_are_not_stored(
    tmp_path: Path, redact: Redact | None, kept: bool
) -> None:
    """Broken JSON, too large, a defect of the mapping: reason and place are there, the text only where it may be."""
    put(tmp_path / "broken.ndjson", f'{{"id": "{CANARY}", \n')
    put(tmp_path / "large.ndjson", f'{{"id": "{CANARY}", "rest": "{"x" * 2_000}"}}\n')
    put(tmp_path / "boom.json", {"boom": CANARY})
    run, _ = await swept(source(tmp_path, redact=redact, max_document_bytes=1_000))
    rows = await run.ledger.calls(Filter())
    assert sorted(str(row.reason) for row in rows) == ["crashed", "too_large", "unreadable"]
    texts = [run.ledger.change(partial(head_and_document, row.row)) for row in rows]
    assert [CANARY.encode() in text for text in texts] == [kept] * 3
    assert CANARY not in repr(rows)
