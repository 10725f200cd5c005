"""docs/personal-data.md: what `forget` leaves, and who may read the ledger, with a real daemon."""

import stat
from pathlib import Path

from tests.docs.fences import DOCS
from tests.docs.service_host import service_host, until_prints

PAGE = DOCS / "personal-data.md"
SAID, SIGNATURE = b"Zwingli is my cat", b"signature-of-the-url"


async def test_a_forgotten_call_leaves_nothing_that_was_said(tmp_path: Path) -> None:
    """After the page's commands no file of the ledger has the transcript or the recording's URL, not even the write-ahead log."""
    async with service_host(tmp_path) as host:
        rows = [{"role": "user", "text": SAID.decode(), "start_ms": 0, "end_ms": 900}]
        url = f"https://audio.example/a.wav?sig={SIGNATURE.decode()}"
        host.put_call("call-17", transcript_with_tool_calls=rows, recording_url=url)
        await host.tuner.has("call-17")
        await until_prints(host, "status", "sent                1")
        files = [file for file in host.path("/var/lib/tunerd").glob("ledger.db*") if file.is_file()]
        assert any(SAID in file.read_bytes() and SIGNATURE in file.read_bytes() for file in files), (
            "else this test proves nothing"
        )
        await host.play(PAGE, "Deleting one person's call", 0)
        assert not [file for file in files if SAID in file.read_bytes() or SIGNATURE in file.read_bytes()]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
