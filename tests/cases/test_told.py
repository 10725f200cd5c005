"""tunerd reports what the rules leave out: an unknown role, or a source that ignores every document."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from tests.cases.made import accepted
from tunerd import events as e
from tunerd.call import MappingNotes, State
from tunerd.cli import main
from tunerd.ops.coverage import IGNORED_IN_A_ROW, Coverage
from tunerd.ops.event_logger import EventLogger
from tunerd.ops.metrics import Metrics


class Lines:
    """A log that keeps its lines for the test."""

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def write(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        self.lines.append({"event": event, **fields})


def listening() -> tuple[Coverage, list[e.Event], Lines, Metrics]:
    told: list[e.Event] = []
    log = Lines()
    event_logger = EventLogger(log)
    metrics = Metrics(CollectorRegistry(), ["agent"], version="0", now=lambda: 0.0)

    def emit(event: e.Event) -> None:
        told.append(event)
        event_logger(event)
        metrics(event)

    return Coverage(emit), told, log, metrics


IGNORED = e.DocumentIgnored(source="agent")
ADMITTED = e.CallAdmitted(source="agent", call_id="c", state=State.DUE)


def test_a_source_that_ignores_everything_is_told_once() -> None:
    """The 20th ignored document in a row is reported in the log and in a metric, which the first call resets."""
    coverage, told, log, metrics = listening()
    for _ in range(IGNORED_IN_A_ROW - 1):
        coverage(IGNORED)
    assert told == []
    coverage(IGNORED)
    coverage(IGNORED)
    assert told == [e.OnlyIgnored(source="agent", count=20)]
    assert [line["source"] for line in log.lines] == ["agent"]
    assert coverage.of("agent").only_ignored == 21
    assert 'tunerd_source_only_ignored{source="agent"} 20.0' in metrics.render()[0]().decode()
    coverage(ADMITTED)
    assert told[1:] == [e.OnlyIgnored(source="agent", count=0)]
    assert 'tunerd_source_only_ignored{source="agent"} 0.0' in metrics.render()[0]().decode()
    assert coverage.of("agent").only_ignored == 0


def test_what_is_known_to_be_no_call_is_no_reason_to_worry() -> None:
    """A source is not reported if it had calls or recordings, in this run or an earlier one, or if its documents are known to
    be no calls."""
    for before in ([ADMITTED], [e.RecordingAdmitted(source="agent")]):
        coverage, told, _, _ = listening()
        for event in (*before, *[IGNORED] * 50):
            coverage(event)
        assert told == []
    coverage, told, _, _ = listening()
    coverage.has_admitted(["agent"])
    for event in [IGNORED] * 50:
        coverage(event)
    for event in [e.DocumentIgnored(source="other", known=True)] * 50:
        coverage(event)
    assert told == []


def test_each_unknown_role_is_warned_of_once() -> None:
    """An unknown role is logged once, however many calls have it; the rows are counted each time."""
    coverage, _, log, metrics = listening()
    event = e.DocumentMapped(
        source="agent", notes=MappingNotes(rows_dropped={"unknown_role": 2, "not_speech": 1}, unknown_roles=("human_agent",))
    )
    for _ in range(3):
        coverage(event)
        metrics(event)
    assert [line.get("role") for line in log.lines] == ["human_agent"]
    shown = metrics.render()[0]().decode()
    assert 'tunerd_rows_dropped_total{source="agent",why="unknown_role"} 6.0' in shown
    assert 'tunerd_rows_dropped_total{source="agent",why="no_role"} 0.0' in shown
    assert coverage.roles("agent") == ("human_agent",)
    assert coverage.of("agent").rows_dropped == {"unknown_role": 6, "not_speech": 3}


def configured(directory: Path, rules: str, *documents: Any) -> Path:
    (directory / "calls").mkdir()
    for at, one in enumerate(documents):
        (directory / f"calls/{at}.json").write_bytes(orjson.dumps(one))
    file = directory / "config.yaml"
    file.write_text(
        "tuner: {workspace_id: 1, agent_remote_identifier: a, base_url: 'http://127.0.0.1:9', api_key: made-up, api: create-call}\n"
        f"ledger: {{url: 'sqlite:///{directory}/l.db'}}\nhttp: {{listen: null}}\ndelivery: {{dry_run: true}}\n"
        f"sources:\n  - {{name: agent, path: calls, on_missing: {{send: 'https://a.example/none.wav'}}, {rules}}}\n"
    )
    return file


def once(file: Path) -> Any:
    return CliRunner().invoke(main, ["run", "--once", "-c", str(file)])


def test_run_once_with_everything_left_out_is_no_success(tmp_path: Path) -> None:
    """The command exits with 1 and a line that says so."""
    done = once(configured(tmp_path, "preset: vapi, call: {when: doc.nothing}", *accepted("vapi")))
    assert done.exit_code == 1, done.output
    assert "the rules ignored all 1 documents" in " ".join(done.output.split())


def test_run_once_with_a_document_the_preset_does_not_know(tmp_path: Path) -> None:
    """A document that the preset does not know fails, and the exit code is 1; before, 80 of them gave `0 failed, 80 ignored`
    and 0."""
    done = once(configured(tmp_path, "preset: vapi", {"hello": 1}))
    assert done.exit_code == 1, done.output
    assert "1 failed" in done.output


def test_init_with_everything_left_out_is_no_success(tmp_path: Path) -> None:
    """`init` writes a configuration, and its exit code says that the configuration sends nothing of these files."""
    file = tmp_path / "status.json"
    file.write_bytes(orjson.dumps({"message": {"type": "status-update", "call": {"id": "v", "orgId": "o"}, "status": "ended"}}))
    done = CliRunner().invoke(main, ["init", "--from", str(file)])
    assert done.exit_code == 1, done.output
