"""The demo as a newcomer runs it: a new directory, one command, a lake to ask afterwards."""

import json
import os
import shlex
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from contracts.flags import load_contract
from pipeline.demo import EXAMPLE, contract_for, run_demo
from pipeline.planted import ARTICLE_UNIT
from sinks.views import connect

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    home = tmp_path_factory.mktemp("demo") / "new"
    # settings of a real cluster must not reach it
    environment = {**os.environ, "EVIDENCE_BOOTSTRAP_SERVERS": "localhost:1", "EVIDENCE_GROUP": "somebody"}
    command = [sys.executable, "-m", "pipeline.cli", "demo", "--json", "--home", str(home)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return home, json.loads(done.stdout)


@pytest.mark.embedded
def test_every_record_has_the_fate_that_was_planted(demo: tuple[Path, dict[str, Any]]) -> None:
    _, report = demo
    assert report["matches"]
    assert report["published"] >= 20_000
    assert {check["group"] for check in report["checks"]} == {
        "facts",
        "dead letters",
        "joined",
        "unjoined",
        "refused",
        "account",
    }


@pytest.mark.embedded
def test_it_is_over_soon_even_on_a_busy_machine(demo: tuple[Path, dict[str, Any]]) -> None:
    _, report = demo
    assert sum(report["seconds"].values()) < 120


@pytest.mark.embedded
def test_its_query_can_be_asked_again(demo: tuple[Path, dict[str, Any]]) -> None:
    home, report = demo
    connection = connect(home / "lake")
    try:
        rows = connection.sql(report["query"]["sql"]).fetchall()
        article = connection.sql(f"SELECT variation, clean, metrics FROM facts WHERE unit_id = '{ARTICLE_UNIT}'")  # noqa: S608
        assert article.fetchall() == [
            ("candidate", True, {"resolved": 1.0, "human_correction": 0.0, "latency": 1840.0, "cost": 0.014})
        ]
    finally:
        connection.close()
    assert [list(row) for row in rows] == [list(row.values()) for row in report["query"]["rows"]]


@pytest.mark.embedded
def test_the_commands_over_the_lake_work(demo: tuple[Path, dict[str, Any]]) -> None:
    _, report = demo
    for command in report["next"][:2]:
        setting, _, *arguments = shlex.split(command)
        name, _, value = setting.partition("=")
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *arguments],
            cwd=ROOT,
            env={**os.environ, name: value},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_a_directory_that_exists_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception, match="name a new directory"):
        run_demo(tmp_path)
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("today", [date(2026, 2, 28), date(2028, 2, 29), date(2031, 12, 31)], ids=str)
def test_the_test_of_the_contract_runs_today(today: date) -> None:
    contract = load_contract(contract_for(EXAMPLE.read_text(), today), "flag.yaml")
    noon = int(datetime(today.year, today.month, today.day, 12, tzinfo=UTC).timestamp()) * 1_000_000
    three_days = 72 * 3_600_000_000
    begun = [state for state, since in contract.states if since <= noon - three_days]
    assert begun[-1] == "ab"
    assert dict(contract.states)["decision"] > noon


def test_the_contract_of_the_demo_differs_from_the_example_in_dates_only() -> None:
    example = EXAMPLE.read_text()
    moved = contract_for(example, date(2030, 1, 1))
    assert contract_for(moved, date(2026, 6, 9)) == example
