"""The command line: exit codes, one line for an error, results on stdout."""

import json
import sys
from pathlib import Path

import pytest

from pipeline.cli import Exit, main
from sinks.lineage import open_lake
from sinks.storage import LocalStorage
from tests.pipeline.lab import FLAG


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a directory with a flag file and settings that point to it, and to no broker."""
    (tmp_path / "flags").mkdir()
    (tmp_path / "flags" / "route.yaml").write_text(FLAG)
    monkeypatch.setenv("EVIDENCE_FLAGS", str(tmp_path / "flags"))
    monkeypatch.setenv("EVIDENCE_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("EVIDENCE_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    return tmp_path


def evidence(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["evidence", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def lake(home: Path) -> None:
    open_lake(LocalStorage(home / "lake"), lambda: "lake")


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on stderr; nothing is on stdout."""
    told = capsys.readouterr()
    assert told.out == ""
    [line] = told.err.splitlines()
    return line


@pytest.mark.parametrize("command", ["worker", "resume", "compact", "status", "query", "topics create", "topics check"])
def test_an_unknown_setting_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setenv("EVIDENCE_GRUOP", "a")
    arguments = [*command.split(), *(["SELECT 1"] if command == "query" else [])]
    assert evidence(monkeypatch, *arguments) == Exit.USAGE
    assert complaint(capsys) == "evidence: EVIDENCE_GRUOP is not a setting; did you mean EVIDENCE_GROUP?"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["nonsense"], "No such command 'nonsense'; see: evidence --help", id="command"),
        pytest.param(["worker", "--fast"], "No such option: --fast; see: evidence worker --help", id="option"),
        pytest.param(["query"], "Missing argument 'sql'; see: evidence query --help", id="argument"),
        pytest.param(
            ["dlq", "ls", "--since"], "Option '--since' requires an argument; see: evidence --help", id="value"
        ),
    ],
)
def test_an_error_of_usage_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert evidence(monkeypatch, *arguments) == Exit.USAGE
    assert complaint(capsys) == f"evidence: {says}"


def test_a_group_of_commands_without_one_shows_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evidence(monkeypatch, "topics") == Exit.USAGE
    assert "create" in capsys.readouterr().out


def test_the_status_needs_no_broker(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the lake says is shown; the exit code says that the topics cannot be seen."""
    lake(home)
    monkeypatch.setattr("pipeline.status.look.TIMEOUT_S", 0.2)
    assert evidence(monkeypatch, "status", "--json") == Exit.UNREACHABLE
    told = json.loads(capsys.readouterr().out)
    assert (told["lake_id"], told["partitions"], told["letters"]) == ("lake", [], None)
    assert told["unreachable"].startswith("no Kafka broker answers at 127.0.0.1:1")


def test_the_status_without_a_lake_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert evidence(monkeypatch, "status") == Exit.WRONG
    assert complaint(capsys).startswith("evidence: no lake here")


def test_watching_needs_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert evidence(monkeypatch, "status", "--watch") == Exit.USAGE
    assert "--watch needs a terminal" in complaint(capsys)


def test_closing_windows_needs_an_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert evidence(monkeypatch, "worker", "--close-windows") == Exit.USAGE
    assert "--close-windows goes with --stop-at-end" in complaint(capsys)


@pytest.mark.parametrize("start", ["exposures", "exposures:0", "exposures:0:x", "elsewhere:0:1"])
def test_an_audit_starts_at_an_offset_of_a_topic(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], start: str
) -> None:
    assert evidence(monkeypatch, "verify", "--from", start) == Exit.USAGE
    assert f"--from {start}: give topic:partition:offset" in complaint(capsys)


def test_a_broken_flag_file_is_named_by_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "flags" / "route.yaml").write_text(FLAG.replace("24h", "soon"))
    assert evidence(monkeypatch, "topics", "check") == Exit.USAGE
    assert "route.yaml:12: experiment.metrics.resolved.window" in complaint(capsys)


def test_no_broker_is_unreachable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert evidence(monkeypatch, "topics", "check") == Exit.UNREACHABLE
    assert "correct EVIDENCE_BOOTSTRAP_SERVERS" in complaint(capsys)


@pytest.mark.parametrize(
    "arguments", [["resume"], ["query", "SELECT 1"], ["compact"]], ids=["resume", "query", "compact"]
)
def test_a_missing_lake_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert evidence(monkeypatch, *arguments) == Exit.WRONG
    assert "EVIDENCE_LAKE" in complaint(capsys)


def test_nothing_to_resume_is_fine(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake(home)
    assert evidence(monkeypatch, "resume") == Exit.FINE
    assert capsys.readouterr().out == "no partition is stopped\n"
    assert evidence(monkeypatch, "resume", "--json") == Exit.FINE
    assert json.loads(capsys.readouterr().out) == []


def test_an_empty_lake_can_be_asked(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake(home)
    assert evidence(monkeypatch, "query", "--json", "SELECT count(*) AS facts FROM facts") == Exit.FINE
    assert json.loads(capsys.readouterr().out) == {"facts": 0}


def test_wrong_sql_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lake(home)
    assert evidence(monkeypatch, "query", "SELEC 1") in {Exit.WRONG, Exit.USAGE}
    assert complaint(capsys).startswith("evidence: ")


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert evidence(monkeypatch, "--help") == Exit.FINE
    told = capsys.readouterr().out
    assert all(command in told for command in ("topics", "dlq", "worker", "resume", "compact", "query", "demo"))


@pytest.mark.parametrize("rows", ["", "repeat('x', 300) AS a, repeat('y', 300) AS b, "], ids=["table", "lines"])
def test_values_can_do_nothing_to_a_terminal(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rows: str
) -> None:
    lake(home)
    hostile = "chr(27) || '[31mred' || chr(8238) AS hostile"
    assert evidence(monkeypatch, "query", f"SELECT {rows}{hostile}") == Exit.FINE
    told = capsys.readouterr().out
    assert "[31mred" in told
    assert not {"\x1b", "\u202e"} & set(told)


def test_errors_can_do_nothing_to_a_terminal(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DuckDB's quote the value that it cannot convert."""
    lake(home)
    hostile = "CAST(chr(27) || '[31mred' || chr(8238) AS INTEGER)"
    assert evidence(monkeypatch, "query", f"SELECT {hostile}") == Exit.WRONG
    told = complaint(capsys)
    assert r"\x1b[31mred\u202e" in told
    assert not {"\x1b", "\u202e"} & set(told)
