"""The output of `tunerd failed` and `tunerd status CALL_ID` in docs/troubleshooting.md is what these commands print.

If TUNERD_WRITE_DOCS is set, the test rewrites the page instead.
"""

import asyncio
import os
import re
import time
from pathlib import Path

from click.testing import CliRunner

from tests.docs.fences import DOCS
from tunerd.call import Form, Origin, Refusal, RefusedDocument
from tunerd.cli import main
from tunerd.ledger import Admission, Claimed, Deferred, Delivered, Ended, Settlement, Unfrozen
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.outcome import FailReason, RetryReason
from tunerd.testing import make_call

PAGE = DOCS / "troubleshooting.md"
_CONFIG = """\
tuner: {{workspace_id: 42, agent_remote_identifier: support-bot, api_key: tr_api_x}}
sources: [{{name: agent, path: /var/spool/calls, preset: tuner}}]
ledger: {{url: "sqlite://{ledger}"}}
"""
_DESTINATION = "api.usetuner.ai/42"
_AGO_S = 600.0


async def _ledger(path: Path) -> None:
    """Create a ledger with one call that was sent in its second attempt, one that was rejected, and a half-written file."""
    began = time.time() - _AGO_S
    ledger = await SqliteLedger.open(path, now=began, emit=lambda _: None)
    try:
        for call_id in ("call-4711", "call-4712"):
            call = make_call(call_id, destination=_DESTINATION, path=f"/var/spool/calls/{call_id}.json", settled_at=began)
            await ledger.admit(Admission(calls=[call]), began)
        half = RefusedDocument(
            origin=Origin(source="agent", path="/var/spool/calls/4713.json"),
            refusal=Refusal(
                reason=FailReason.UNREADABLE,
                where="byte 8192",
                what="the JSON ends before it is complete; its writer stopped in the middle. Write the file again, whole",
            ),
        )
        await ledger.admit(Admission(refused=[half]), began)
        again = Deferred(due_at=began + 4, reason=RetryReason.SERVER_ERROR, status=503, detail="answered 503", counts=True,
                      surely_not_arrived=False)  # fmt: skip
        what = "Tuner answered 422: transcript_with_tool_calls[3].role (enum)"
        await _attempt(ledger, began + 1, again)
        await _attempt(ledger, began + 2, Ended(reason=FailReason.REJECTED, status=422, detail=what))
        await _attempt(ledger, began + 4, Delivered(status=201, tuner_call_id="123456", already_there=False))
    finally:
        await ledger.close()


async def _attempt(ledger: SqliteLedger, now: float, settlement: Settlement) -> None:
    claim = await ledger.claim(_DESTINATION, Form.CREATE_CALL, _frozen, now)
    claimed: Claimed | None = claim.claimed
    assert claimed is not None
    await ledger.settle(claimed.row, settlement, now)


def _frozen(unfrozen: Unfrozen) -> bytes:
    return unfrozen.payload


def _printed(config: Path, command: str) -> str:
    done = CliRunner().invoke(main, [*command.split(), "-c", str(config)])
    assert done.exit_code == 0, done.output
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "2026-07-01 03:14:07Z", done.output)


def test_the_output_shown_is_what_the_commands_print(tmp_path: Path) -> None:
    """Each block that begins with `$ tunerd ...` has the lines that the command prints, apart from the time."""
    asyncio.run(_ledger(tmp_path / "ledger.db"))
    config = tmp_path / "config.yaml"
    config.write_text(_CONFIG.format(ledger=tmp_path / "ledger.db"))
    page = PAGE.read_text()
    shown = re.findall(r"^```\n\$ tunerd ([^\n]+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(shown) == 2
    for command, lines in shown:
        printed = _printed(config, command)
        if os.environ.get("TUNERD_WRITE_DOCS"):
            page = page.replace(f"$ tunerd {command}\n{lines}```", f"$ tunerd {command}\n{printed}```")
            PAGE.write_text(page)
        else:
            assert printed == lines, "say make docs"
