"""`evidence contracts check`: what it reads, how it ends, and the reports for CI."""

import json
import os
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml

from contracts.checklist import RULES
from pipeline.cli import Exit
from pipeline.contracts.check import Checked, check, topic_findings
from pipeline.contracts.reports import FORMATS, junit, lines, sarif
from pipeline.preflight import Topic
from tests.contracts.records import EXAMPLE
from tests.pipeline.test_cli import complaint, evidence
from tests.standards import standard

DURING = date(2026, 6, 20)
LATE = EXAMPLE.replace("decisionDate: 2026-06-29", "decisionDate: 2026-06-01")


@pytest.fixture
def flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty directory of flag files, below the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVIDENCE_FLAGS", "flags")
    monkeypatch.setenv("EVIDENCE_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    (tmp_path / "flags").mkdir()
    return Path("flags")


def write(file: Path, text: str = EXAMPLE) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def checked(flags: Path) -> Checked:
    """Check a sound file, one with an error, a warning and an ignored error, and one that is broken."""
    write(flags / "a.yaml", EXAMPLE.replace("_model_route", "_a"))
    write(
        flags / "b é.yaml",
        LATE.replace("  minimumUnits: 2000 ", "  ")
        .replace("  owner: ai_platform\n", "")
        .replace("  owner: support_ai", "  # no owner")
        .replace("experiment:\n", "experiment: # evidence: ignore[owner] a team of two\n"),
    )
    write(flags / "c\x1b.yaml", "flag: [")
    return check([flags], DURING)


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        (EXAMPLE, [], Exit.FINE),
        (LATE, [], Exit.WRONG),
        (EXAMPLE, ["--fail-on", "warning"], Exit.FINE),
        (EXAMPLE, ["--fail-on", "note"], Exit.WRONG),
        (EXAMPLE.replace("  minimumUnits: 2000 ", "  "), [], Exit.FINE),
        (EXAMPLE.replace("  minimumUnits: 2000 ", "  "), ["--fail-on", "warning"], Exit.WRONG),
        (EXAMPLE, ["--as-of", "2026-07-01"], Exit.WRONG),
        ("flag: [", [], Exit.WRONG),
    ],
)
def test_the_exit_code_says_whether_something_is_wrong(
    flags: Path, monkeypatch: pytest.MonkeyPatch, text: str, options: list[str], code: Exit
) -> None:
    write(flags / "a.yaml", text)
    assert evidence(monkeypatch, "contracts", "check", "--as-of", "2026-06-20", *options) == code


def test_the_shipped_example_has_no_error(checkout: Path) -> None:
    assert check([checkout / "examples"], DURING).failing("warning") == []
    assert check([checkout / "examples"], date(2036, 1, 1)).failing("error") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: is not there; name a flag file"),
        (["flags"], "flags: no flag file (*.yaml) is there; add one"),
        (["--as-of", "tomorrow"], "--as-of tomorrow: is not a day; write it as 2026-06-07"),
        (["n" * 5_000], "File name too long; name a flag file"),
    ],
)
def test_wrong_usage_is_one_line(
    flags: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    assert evidence(monkeypatch, "contracts", "check", *arguments) == Exit.USAGE
    assert said in complaint(capsys)


def test_every_broken_file_is_told_of_and_none_hides_another(flags: Path) -> None:
    write(flags / "1.yaml", "")
    (flags / "2.yaml").write_bytes(b"flag:\n  key: \xff\n")
    write(flags / "3.yml", "a" * 300_000)
    (flags / "4.yaml").symlink_to("nowhere")
    (flags / "5.yaml").mkdir()
    os.mkfifo(flags / "6.yaml")
    (flags / "7.yaml").symlink_to("7.yaml")
    write(flags / "8.yaml", "flag: {key: a, key: b}")
    write(flags / "9.yaml", "flag: &x [*x]")
    write(flags / "sound.yaml")
    write(flags / ".hidden.yaml", "flag: [")
    write(flags / "note.txt", "flag: [")
    found = [each for each in check([flags], DURING).findings if each.rule == "readable"]
    assert [(each.file, each.line, each.message) for each in found] == [
        ("flags/1.yaml", 1, "is empty"),
        ("flags/2.yaml", 2, "is not UTF-8"),
        ("flags/3.yml", 0, "has 293 KiB, more than 256 KiB"),
        ("flags/4.yaml", 0, "cannot be read (No such file or directory)"),
        ("flags/5.yaml", 0, "is no plain file"),
        ("flags/6.yaml", 0, "is no plain file"),
        ("flags/7.yaml", 0, "cannot be read (Too many levels of symbolic links)"),
        ("flags/8.yaml", 1, "is given twice"),
        ("flags/9.yaml", 1, "contains itself through an alias"),
    ]


def test_files_are_given_one_by_one_too_and_each_counts_once(flags: Path) -> None:
    file = write(flags / "a.yaml")
    linked = flags / "b.yaml"
    linked.symlink_to("a.yaml")
    assert list(check([file, file, flags / "a.yaml"], DURING).files) == ["flags/a.yaml"]
    assert [each.rule for each in check([flags], DURING).failing("error")] == ["one-file"]


# reports


def test_the_text_is_a_line_a_finding(flags: Path) -> None:
    text = list(lines(checked(flags), "error"))
    [line] = [line for line in text if line.startswith("flags/b é") and "error" in line]
    assert line == (
        "flags/b é.yaml:32: error[decision-date-past]: experiment.decisionDate: 2026-06-01 has passed on 2026-06-20, "
        "and the state is ab; decide, and go on to the state cleanup; or write down a new date and why"
    )
    assert r"flags/c\x1b.yaml:1: error[readable]: file: is not YAML" in text[-2]
    assert text[-1].startswith("3 files: 2 errors, 2 warnings, 6 notes, 1 ignored; not checked without --kafka: topic-")


def test_the_json_holds_all(flags: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write(flags / "a.yaml", LATE)
    assert evidence(monkeypatch, "contracts", "check", "--json", "--as-of", "2026-06-20") == Exit.WRONG
    told = json.loads(capsys.readouterr().out)
    assert (told["failed"], told["files"], told["counts"]["errors"]) == (True, ["flags/a.yaml"], 1)
    [error] = [finding for finding in told["findings"] if finding["severity"] == "error"]
    assert (error["rule"], error["file"], error["line"]) == ("decision-date-past", "flags/a.yaml", 33)
    assert error["remedy"] == RULES["decision-date-past"].remedy


def test_sarif_is_valid_and_points_to_files(flags: Path) -> None:
    report = json.loads(json.dumps(sarif(with_a_topic(checked(flags)), "error")))
    jsonschema.Draft4Validator(standard("sarif-2.1.0")).validate(report)
    [run] = report["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == list(RULES)
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    places = {json.dumps(result["locations"][0], sort_keys=True) for result in run["results"]}
    assert (
        '{"physicalLocation": {"artifactLocation": {"uri": "flags/b%20%C3%A9.yaml"}, "region": {"startLine": 32}}}'
        in places
    )
    assert '{"logicalLocations": [{"kind": "resource", "name": "outcomes"}]}' in places
    [ignored] = [result for result in run["results"] if "suppressions" in result]
    assert ignored["suppressions"] == [{"kind": "inSource", "status": "accepted", "justification": "a team of two"}]


def test_sarif_names_files_elsewhere_in_full(flags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "flags" / "a.yaml")
    monkeypatch.chdir("/")
    [artifact] = sarif(check([file], DURING), "error")["runs"][0]["artifacts"]
    assert artifact["location"]["uri"] in {file.as_uri(), file.as_posix().removeprefix("/")}


def test_junit_fails_for_what_fails_and_skips_what_is_ignored(flags: Path) -> None:
    suite = ET.fromstring(junit(checked(flags), "error"))[0]  # noqa: S314 - our own
    failures = [(case.get("classname"), case.get("name")) for case in suite if case.find("failure") is not None]
    assert failures == [("flags/b é.yaml", "decision-date-past:32"), (r"flags/c\x1b.yaml", "readable:1")]
    assert (suite.get("failures"), suite.get("skipped")) == ("2", "4")
    assert suite.get("tests") == str(len(suite))
    stricter = ET.fromstring(junit(checked(flags), "warning"))[0]  # noqa: S314
    assert stricter.get("failures") == "4"


@pytest.mark.parametrize("name", FORMATS)
def test_any_name_of_a_file_can_be_reported(flags: Path, name: str) -> None:
    broken = flags / os.fsdecode(b"x\xff\n%.yaml")
    write(broken, "")
    report = FORMATS[name](check([flags], DURING), "error")
    assert (report if isinstance(report, str) else json.dumps(report)).encode()


@pytest.mark.parametrize("name", FORMATS)
def test_reports_are_the_same_every_time(flags: Path, name: str) -> None:
    assert FORMATS[name](checked(flags), "error") == FORMATS[name](checked(flags), "error")


# topics

HOUR_MS = 3_600_000


def topic(name: str, **configs: str) -> Topic:
    return Topic(name, "id", dict.fromkeys(range(12), True), {"retention.ms": str(26 * HOUR_MS), **configs})


def with_a_topic(found: Checked) -> Checked:
    topics = {"exposures": topic("exposures"), "guardrails": topic("guardrails")}
    more = topic_findings(("exposures", "outcomes", "guardrails"), topics, 25 * HOUR_MS)
    return replace(found, findings=[*found.findings, *more], not_checked=())


def judged(**changes: Any) -> list[tuple[str, str, str]]:  # noqa: ANN401 - a topic, or None for none
    """Judge three fit topics but for these changes: rule, topic, severity."""
    names = ("exposures", "outcomes", "guardrails")
    topics = {name: changes.get(name, topic(name)) for name in names}
    there = {name: found for name, found in topics.items() if found is not None}
    return [(each.rule, each.file, each.severity) for each in topic_findings(names, there, 25 * HOUR_MS)]


def test_fit_topics_break_no_rule() -> None:
    assert judged() == []
    assert judged(outcomes=topic("outcomes", **{"retention.ms": "-1"})) == []


def test_topics_are_there_keep_long_enough_and_have_one_partition_count() -> None:
    assert judged(outcomes=None) == [("topic-there", "outcomes", "error")]
    short = topic("outcomes", **{"retention.ms": str(25 * HOUR_MS)})
    assert judged(outcomes=short) == [("topic-retention", "outcomes", "error")]
    silent = replace(topic("outcomes"), configs={})
    assert judged(outcomes=silent) == [("topic-retention", "outcomes", "note")]
    fewer = replace(topic("outcomes"), leaders={0: True})
    assert judged(outcomes=fewer) == [("topic-partitions", "outcomes", "error")]


def test_without_a_broker_the_files_are_judged_all_the_same(
    flags: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(flags / "a.yaml", LATE)
    monkeypatch.setattr("pipeline.contracts.check.TIMEOUT_S", 0.2)
    assert evidence(monkeypatch, "contracts", "check", "--kafka", "--as-of", "2026-06-20") == Exit.UNREACHABLE
    told = capsys.readouterr()
    assert "error[decision-date-past]" in told.out
    assert "not checked without --kafka: topic-there, topic-retention, topic-partitions" in told.out
    assert told.err.startswith("evidence: no Kafka broker answers at 127.0.0.1:1")


# the hook


def test_the_pre_commit_hook_runs_the_check_on_flag_files(checkout: Path) -> None:
    [hook] = yaml.safe_load((checkout / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["entry"] == "evidence contracts check"
    assert hook["language"] == "python"
