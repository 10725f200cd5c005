"""The ledger on `:memory:` and on a file, behind one fixture: whatever the contract promises holds for each."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tunerd.ledger import Ledger
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.testing import MemoryLedger, Recorder

from .parts import NOW


@pytest.fixture(params=["memory", "sqlite"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    opened: Ledger
    if request.param == "memory":
        opened = MemoryLedger()
    else:
        opened = await SqliteLedger.open(tmp_path / "ledger.db", now=NOW, emit=Recorder())
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    opened = await SqliteLedger.open(tmp_path / "ledger.db", now=NOW, emit=Recorder())
    yield opened
    await opened.close()
