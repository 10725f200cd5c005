"""The alert rules of docs/metrics.md, evaluated by Prometheus itself."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docs.fences import DOCS, fences
from tests.real_parts import needs_program

PAGE = DOCS / "metrics.md"
(RULES,) = [fence.text for fence in fences(PAGE) if fence.info == "yaml alerts"]

# series, one value per minute -> the alerts that fire in the 40th minute
STORIES: list[tuple[str, dict[str, str], set[str]]] = [
    ("idle", {"tunerd_calls{state='due'}": "0x40", "tunerd_calls_sent_total{source='a'}": "7x40"}, set()),
    ("calls that waited an hour for their recording go out as they become due", {
        "tunerd_calls{state='due'}": "1x40", "tunerd_oldest_call_age_seconds{state='due'}": "3600x40",
        "tunerd_calls_sent_total{source='a'}": "0+1x40", "tunerd_calls_sent_total{source='b'}": "0x40",
    }, set()),
    ("a call that has just become due after a quiet hour", {
        "tunerd_calls{state='due'}": "0x35 1x5", "tunerd_oldest_call_age_seconds{state='due'}": "0x35 4000x5",
        "tunerd_calls_sent_total{source='a'}": "3x40",
    }, set()),
    ("nothing gets out", {"tunerd_calls{state='due'}": "1x40", "tunerd_calls_sent_total{source='a'}": "3x40"}, {"SendsNothing"}),
    ("each attempt hangs", {
        "tunerd_calls{state='due'}": "0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0",
        "tunerd_calls{state='sending'}": "1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1",
        "tunerd_calls_sent_total{source='a'}": "0x40",
    }, {"SendsNothing"}),
    ("a key is withdrawn", {"tunerd_delivery_paused{reason='auth'}": "1x40"}, {"Paused"}),
    ("somebody said pause", {"tunerd_delivery_paused{reason='operator'}": "1x40"}, set()),
    ("a directory is missing", {"tunerd_intake_paused{reason='missing'}": "1x40"}, {"DoesNotRead"}),
    ("a file cannot be read", {"tunerd_files_unreadable{source='a'}": "1x40"}, {"CannotReadFiles"}),
    ("a recording does not come", {"tunerd_oldest_call_age_seconds{state='waiting'}": "8000x40"}, {"WaitsTooLong"}),
    ("a call fails", {"tunerd_calls_failed_total{source='a',reason='refused'}": "0x20 1x20"}, {"Failed"}),
    ("a wrong configuration", {"tunerd_config_last_reload_successful": "0x40"}, {"ReloadRefused"}),
]  # fmt: skip


@needs_program("promtool", "it evaluates alert rules")
@pytest.mark.parametrize(("series", "firing"), [story[1:] for story in STORIES], ids=[story[0] for story in STORIES])
def test_an_alert_fires_for_what_it_says(tmp_path: Path, series: dict[str, str], firing: set[str]) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    names = [rule["alert"] for rule in yaml.safe_load(RULES)["groups"][0]["rules"]]
    asked = "count by (alertname) (ALERTS{alertstate='firing'})"
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in names if name.removeprefix("Tunerd") in firing]
    assert len(expected) == len(firing)
    given = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": given,
            "promql_expr_test": [{"expr": asked, "eval_time": "40m", "exp_samples": expected}]}  # fmt: skip
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_explained() -> None:
    """The list on the page has one line for each rule, in the same order."""
    explained = re.findall(r"^- ([A-Z]\w+): ", PAGE.read_text(), re.MULTILINE)
    assert [f"Tunerd{name}" for name in explained] == re.findall(r"alert: (\w+)", RULES)
