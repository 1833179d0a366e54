"""The alerts: each fires when it should and keeps quiet when it should, and leads to its chapter of the runbook."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from pipeline.metrics import METRICS
from tests.conftest import missing
from tests.monitoring.prometheus import ALERTS, PrometheusMissing, promtool, sixty_times_faster

CASES: Final = Path(__file__).with_name("alerts.yml")
RUNBOOK: Final = Path(__file__).parents[2] / "docs" / "runbook.md"
RULES: Final[dict[str, dict[str, Any]]] = {
    rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("check", "rules", "--lint-fatal", str(ALERTS)), id="rules"),
        pytest.param(("check", "config", str(ALERTS.with_name("prometheus.yml"))), id="configuration"),
        pytest.param(("test", "rules", str(CASES)), id="cases"),
    ],
)
def test_prometheus_agrees(arguments: tuple[str, ...]) -> None:
    try:
        answer = promtool(*arguments)
    except PrometheusMissing as absent:
        missing(str(absent))
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_keeps_quiet() -> None:
    names = [test["name"] for test in yaml.safe_load(CASES.read_text())["tests"]]
    for alert in RULES:
        assert any(name.startswith(f"{alert} fires") for name in names), alert
        assert any(name.startswith(f"{alert} keeps quiet") for name in names), alert


def test_each_alert_has_a_chapter_in_the_runbook() -> None:
    """It says what the alert means, what to look at and what to type."""
    chapters = dict(re.findall(r"^## (Evidence\w+)\n(.*?)(?=^## |\Z)", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL))
    assert chapters.keys() == RULES.keys()
    for alert, rule in RULES.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{alert.lower()}"
        for part in ("**It means**", "**Look at**", "**Type**"):
            assert part in chapters[alert], f"{alert}: {part}"


def test_alerts_ask_for_metrics_that_there_are() -> None:
    asked = {name for rule in RULES.values() for name in re.findall(r"\bevidence_\w+", rule["expr"])}
    assert asked <= METRICS.keys()


def test_each_alert_says_how_urgent_it_is() -> None:
    assert {rule["labels"]["severity"] for rule in RULES.values()} == {"page", "ticket"}


def test_rules_can_be_made_faster() -> None:
    assert sixty_times_faster("rate(a[5m]) > 300\nfor: 1d\nfor: 30s") == "rate(a[5s]) > 300\nfor: 1440s\nfor: 1s"
