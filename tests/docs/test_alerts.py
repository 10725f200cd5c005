"""monitoring/: Prometheus itself checks and tries the rules, and docs/alerts.md explains each alert."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.fences import DOCS, ROOT, fences
from tests.real_parts import needs_program

MONITORING = ROOT / "monitoring"
PAGE = DOCS / "alerts.md"
RULE_FILES = sorted(MONITORING.glob("*.yml"))
STORIES = {file: MONITORING / "tests" / f"{file.stem}_test.yml" for file in RULE_FILES if file.stem.startswith("alerts")}


def rules_of(file: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


ALERTS = [rule for file in STORIES for rule in rules_of(file)]


def promtool(*arguments: object) -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_program("promtool", "it checks alert rules")
def test_the_rules_are_valid() -> None:
    """Alerts and recording rules, for promtool."""
    assert {file.name for file in RULE_FILES} == {"alerts.yml", "alerts-kubernetes.yml", "recording.yml"}
    promtool("check", "rules", *RULE_FILES)


@needs_program("promtool", "it evaluates alert rules")
@pytest.mark.parametrize("stories", STORIES.values(), ids=lambda file: file.stem)
def test_an_alert_fires_for_what_it_says(stories: Path) -> None:
    """Each story says which alerts fire, and that no other does."""
    promtool("test", "rules", stories)


@pytest.mark.parametrize("file", STORIES, ids=lambda file: file.stem)
def test_each_alert_fires_in_a_story_and_is_silent_in_another(file: Path) -> None:
    """None is left out of the stories; a story in which nothing fires is one for all."""
    tests = yaml.safe_load(STORIES[file].read_text())["tests"]
    expected = [sample["labels"] for test in tests for sample in test["promql_expr_test"][0]["exp_samples"]]
    assert {re.sub(r'\{alertname="(\w+)"\}', r"\1", labels) for labels in expected} == {rule["alert"] for rule in rules_of(file)}
    assert any(test["promql_expr_test"][0]["exp_samples"] == [] for test in tests)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    """Severity, summary, description, and a link to a section of docs/alerts.md that has the three parts."""
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    name = rule["alert"]
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{name.lower()}"
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None
    assert re.findall(r"^\*\*([\w ]+)\.\*\*", section[1], re.MULTILINE) == ["What it means", "What to look at", "What to do"]


def test_the_page_has_no_section_without_an_alert() -> None:
    """And those that it has are in the order of the files."""
    explained = re.findall(r"^## (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(rule["alert"] for rule in ALERTS)
    in_main = [rule["alert"] for rule in rules_of(MONITORING / "alerts.yml")]
    assert explained[: len(in_main)] == in_main


@needs_program("promtool", "it checks the configuration that the page shows")
def test_the_configuration_on_the_page_is_valid(tmp_path: Path) -> None:
    """Copied as the page says, with the rule files beside it."""
    (shown,) = [fence.text for fence in fences(PAGE) if fence.info == "yaml prometheus-rules"]
    for name in ("alerts.yml", "recording.yml"):
        (tmp_path / name).write_text((MONITORING / name).read_text())
    (tmp_path / "prometheus.yml").write_text(shown)
    promtool("check", "config", tmp_path / "prometheus.yml")
