"""Stored documents over the control socket: for `tunerd diff`, and for nobody else."""

from dataclasses import replace
from pathlib import Path

from tests.admin.benches import Bench, refused
from tunerd.admin.api import DocumentsOrder
from tunerd.admin.call_orders import DOCUMENTS_BYTES
from tunerd.admin.client import AdminClient
from tunerd.admin.socket_server import SocketPlaces, serve_orders
from tunerd.ledger import Admission
from tunerd.testing import make_call


async def test_the_newest_come_first_page_by_page(tmp_path: Path) -> None:
    """As they were stored; what is no JSON is passed over and counted."""
    bench = Bench()
    for number in range(5):
        await bench.admit(f"call-{number}")
    await bench.refuse(refused(document=b"{half"))
    async with serve_orders(bench.admin, SocketPlaces(ledger=str(tmp_path / "ledger.db"), env={})) as path:
        client = AdminClient(path)
        first = await client.ask(DocumentsOrder(limit=4))
        assert first == await bench.ask(DocumentsOrder(limit=4))
        rest = await client.ask(DocumentsOrder(limit=4, after_row=first.next_after_row or 0))
    assert (first.without, len(first.documents), rest.next_after_row) == (1, 3, None)
    rows = [document.row for document in [*first.documents, *rest.documents]]
    assert rows == sorted(rows, reverse=True)
    assert len(rows) == 5
    assert first.documents[0].document.encode() == make_call("call-4").document


async def test_a_page_ends_when_it_is_large() -> None:
    """One more than the limit of bytes, never all of a ledger of large documents."""
    bench = Bench()
    large = b'{"x": "' + b"y" * (DOCUMENTS_BYTES // 2) + b'"}'
    for number in range(4):
        call = replace(make_call(f"call-{number}"), document=large)
        await bench.ledger.admit(Admission(calls=[call]), bench.now)
    page = await bench.ask(DocumentsOrder())
    assert len(page.documents) == 2
    assert page.next_after_row == page.documents[-1].row
