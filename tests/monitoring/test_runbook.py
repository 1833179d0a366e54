"""What the runbook says to type exists and runs."""

import re
import sys
from pathlib import Path
from typing import Final

import pytest
import typer

from pipeline.cli import app, main
from pipeline.metrics import METRICS
from sinks.lineage import open_lake
from sinks.storage import LocalStorage

RUNBOOK: Final = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()
TYPED: Final = sorted(set(re.findall(r"^ *\$ (.+)$", RUNBOOK, re.MULTILINE)))
MENTIONED: Final = sorted(set(re.findall(r"`(evidence [a-z][a-z ]*[a-z](?: --[a-z-]+)*)[ `]", RUNBOOK)))


@pytest.mark.parametrize("line", sorted(line for line in {*TYPED, *MENTIONED} if line.startswith("evidence ")))
def test_commands_exist(line: str) -> None:
    command: object = typer.main.get_command(app)
    words = re.sub(r'"[^"]*"', "SQL", line).split()[1:]
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    known = {option for parameter in getattr(command, "params", ()) for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("line", [line for line in TYPED if line.startswith("evidence query")])
def test_questions_are_understood(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [sql] = re.findall(r'"(.*)"', line)
    open_lake(LocalStorage(tmp_path), lambda: "lake")
    monkeypatch.setenv("EVIDENCE_LAKE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["evidence", "query", "--json", sql])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


def test_other_commands_are_few() -> None:
    """Those that any machine has."""
    assert {line.split()[0] for line in TYPED} == {"evidence", "curl", "df", "du"}


def test_every_metric_is_in_the_table() -> None:
    """With its labels, what it means and what to do about it."""
    rows = re.findall(r"^\| `(evidence_\w+)` \|(.*?)\| (.+) \|$", RUNBOOK, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(METRICS)
    for name, labels, text in rows:
        definition = METRICS[name]
        assert tuple(re.findall(r"`(\w+)`", labels)) == definition.labels
        remedy = f" *{definition.remedy}*" if definition.remedy else ""
        assert text == f"{definition.meaning}{remedy}"
