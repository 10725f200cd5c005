"""The status document: what stands in it, and that its shape is the documented one."""

import dataclasses
import json
import re
from pathlib import Path

import tunerd
from tests.admin.benches import Bench
from tests.ops.parts import NOW, destination, source
from tunerd import statuses
from tunerd.admin import activity_answers, answer_types, audit_report
from tunerd.admin.answer_types import IdleDocument, StateRow, StatusDocument
from tunerd.admin.api import StatusOrder
from tunerd.admin.typed_json import from_json
from tunerd.ops.encoding import encoded
from tunerd.outcome import IntakeReason, PauseReason
from tunerd.statuses import AgentStatus, PauseStatus, UnreadFile

DOCS = Path(tunerd.__file__).parent.parent / "docs"


async def test_everything_an_operator_asks_first() -> None:
    """Counts, ages, pauses with their next probe, sources that are not read, the last failures."""
    bench = Bench(
        destinations=[
            destination(pause=PauseReason.AUTH, since=NOW - 30, detail="401", next_probe_at=NOW + 5, in_flight=1),
            destination(name="other/7", closed_until=NOW + 60, agents={"bot": (PauseReason.AUTH, NOW)}),
        ],
        sources=[source(paused=IntakeReason.MISSING), source(name="egress")],
    )
    await bench.fail("call-2")
    await bench.admit("call-1")
    bench.now = NOW + 90
    status = await bench.ask(StatusOrder())
    assert status.calls["due"] == StateRow(count=1, oldest_admitted_at=NOW, oldest_age_s=90.0)
    assert status.calls["failed"].count == 1
    first, second = status.destinations
    assert first.pause == PauseStatus(reason=PauseReason.AUTH, since=NOW - 30, detail="401", next_probe_at=NOW + 5)
    assert (second.pause, second.closed_until) == (None, NOW + 60)
    assert second.agents == [AgentStatus(agent="bot", reason=PauseReason.AUTH, since=NOW)]
    assert [one.paused for one in status.sources] == [IntakeReason.MISSING, None]
    assert [(row.call_id, row.reason) for row in status.last_failures] == [("call-2", "rejected")]


async def test_the_status_is_the_same_after_json() -> None:
    """A daemon's answer is read back as the same types; the JSON has plain values only."""
    bench = Bench(
        destinations=[destination(pause=PauseReason.AUTH, agents={"bot": (PauseReason.AUTH, NOW)})],
        sources=[source(paused=IntakeReason.MISSING, unknown_roles=["narrator"], rows_dropped={"no_role": 2})],
    )
    await bench.fail("call-2")
    status = await bench.ask(StatusOrder())
    text = json.loads(encoded(status))
    assert from_json(StatusDocument, text) == status
    assert text["destinations"][0]["pause"] == {"reason": "auth", "since": None, "detail": "", "next_probe_at": None}
    assert text["sources"][0]["paused"] == "missing"
    assert from_json(StatusDocument, text | {"newer": 1}, is_lenient=True) == status


async def test_files_that_cannot_be_read_are_counted_and_one_is_named() -> None:
    """For each source; a source without any says so, too."""
    secret = UnreadFile(source="agent", path="/c/secret.json", why="cannot be read (Permission denied)")
    bench = Bench(sources=[source(unreadable=2, unreadable_example=secret), source(name="egress")])
    first, second = (await bench.ask(StatusOrder())).sources
    assert first.unreadable == 2
    assert first.unreadable_example == secret
    assert (second.unreadable, second.unreadable_example) == (0, None)


async def test_one_line_for_systemd() -> None:
    """`systemctl status` shows it."""
    bench = Bench(destinations=[destination(pause=PauseReason.AUTH)])
    assert bench.status.in_short() == "no calls yet; paused: tuner.example/42 (auth)"
    await bench.admit("call-1", "call-2")
    assert bench.status.in_short() == "2 due; paused: tuner.example/42 (auth)"


def test_the_line_for_systemd_names_sources_that_are_not_read() -> None:
    """Each with the reason, beside the pauses; of many it names three, so that the line stays short."""
    bench = Bench(destinations=[destination(pause=PauseReason.AUTH)],
                  sources=[source(paused=IntakeReason.DENIED), source(name="egress", paused=IntakeReason.MISSING), source(name="b")])  # fmt: skip
    assert bench.status.in_short() == "no calls yet; paused: tuner.example/42 (auth); not read: agent (denied), egress (missing)"
    bench = Bench(sources=[source(name=f"s{number}", paused=IntakeReason.FULL) for number in range(5)])
    assert bench.status.in_short() == "no calls yet; not read: s0 (full), s1 (full), s2 (full) and 2 more"


async def test_idle_means_nothing_can_go_out() -> None:
    """Waiting calls don't keep `drain` from ending; due ones do."""
    bench = Bench()
    assert bench.status.idle().idle is True
    await bench.admit("call-1")
    left = {"gathering": 0, "waiting": 0, "due": 1, "sending": 0}
    assert bench.status.idle() == IdleDocument(idle=False, left=left, looked=0)


def _fields_of(module: object) -> set[str]:
    types = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind is not audit_report.Audit
    ]
    return {field.name for kind in types if kind.__module__ == vars(module)["__name__"] for field in dataclasses.fields(kind)}


def test_every_field_is_documented() -> None:
    """docs/status-json.md names each field of each shape, and nothing that is not there."""
    before, heading, after = (DOCS / "status-json.md").read_text().partition("## The audit")
    its_section, _, rest = after.partition("\n## ")
    assert heading
    assert set(re.findall(r"^\| `(\w+)` \|", before + rest, re.MULTILINE)) == (
        _fields_of(answer_types) | _fields_of(activity_answers) | _fields_of(statuses)
    )
    assert _fields_of(audit_report) - {"version"} <= set(re.findall(r"`(\w+)(?:\[\])?`", its_section))
