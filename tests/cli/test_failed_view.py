"""`tunerd failed` for many calls that failed in the same way."""

import re

import pytest

from tunerd.admin.answer_types import CallRow
from tunerd.cli.causes import Causes
from tunerd.cli.failed_view import draw_causes


def failed(number: int, reason: str) -> CallRow:
    return CallRow(
        row=number, state="failed", source="agent", destination="tuner", agent="bot", call_id=f"call-{number}",
        path=f"/calls/{number}.json", offset=0, started_at=None, admitted_at=1000.0, due_at=None, attempts=0, http_status=None,
        reason=reason, where="recording", detail="why", tuner_call_id=None, recording_url=None, dismissed=False,
    )  # fmt: skip


@pytest.mark.parametrize("count", [2, 40])
@pytest.mark.parametrize("reason", ["recording_ambiguous", "audio_changed"])
def test_many_calls_without_a_sure_recording(capsys: pytest.CaptureFixture[str], reason: str, count: int) -> None:
    """The words name the command by which a person gives one call its recording; it takes one call at a time."""
    causes = Causes()
    for number in range(count):
        causes.add(failed(number, reason))
    draw_causes(causes, 1000.0, None)
    said = re.sub(r"\n +", " ", capsys.readouterr().out)
    assert "tunerd retry CALL_ID --recording LOCATION" in said
    assert said.count("--recording") == 1
