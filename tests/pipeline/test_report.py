"""The report: numbers beside what was planted, readable without a terminal."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.demo import _show
from pipeline.report import Answer, Check, Report, as_json, render


def report(*checks: Check) -> Report:
    return Report(
        flag="support_answer_model_route",
        lake=Path("build/demo/lake"),
        published=20_000,
        faults={"malformed JSON": 24},
        seconds={"publish": 1.25, "run the worker": 4.5},
        checks=checks,
        answer=Answer("SELECT 1", ("variation", "facts"), [("control", 3_724)]),
        files=12,
        size=2_400_000,
        next=[("one conversation", "evidence query …")],
    )


def printed(shown: Report) -> str:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    render(shown, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


GOOD = (
    Check("facts", "facts", 3_832, 3_832, "control"),
    Check("facts", "facts", 3_829, 3_829, "candidate"),
    Check("facts", "fallback_contaminated", 90, 90, "candidate"),
    Check("dead letters", "not_json", 24, 24),
    Check("joined", "exposure", 12_709, 12_709),
    Check("unjoined", "late", 36, 36),
    Check("refused", "not_json", 24, 24),
    Check("account", "accounted for", 20_062, 20_062),
)
BAD = Check("unjoined", "late", 35, 36)


def test_facts_have_a_column_for_each_variation_and_one_for_what_was_planted() -> None:
    text = printed(report(*GOOD))
    lines = text[text.index("Facts") :].splitlines()
    assert lines[1].split() == ["control", "candidate", "planted"]
    assert lines[2].split()[:4] == ["facts", "3,832", "3,829", "7,661"]
    assert lines[3].split()[:4] == ["fallback_contaminated", "-", "90", "90"]


def test_it_is_plain_text_where_there_is_no_terminal() -> None:
    text = printed(report(*GOOD))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert all(line == line.rstrip() for line in text.splitlines())


def test_it_ends_with_the_verdict() -> None:
    assert printed(report(*GOOD)).splitlines()[-1].startswith("✓ All 20,062 records have exactly one fate")
    assert printed(report(*GOOD, BAD)).splitlines()[-1].startswith("✗ 1 number")


def test_a_difference_in_words_names_both_numbers() -> None:
    assert str(BAD) == "unjoined, late: 35 found, 36 planted"
    assert str(Check("facts", "facts", 1, 2, "control")) == "facts, facts of control: 1 found, 2 planted"


def test_json_says_whether_everything_matches() -> None:
    good, bad = as_json(report(*GOOD)), as_json(report(*GOOD, BAD))
    assert (good["matches"], bad["matches"]) == (True, False)
    assert good["checks"][0] == {
        "group": "facts",
        "name": "facts",
        "variation": "control",
        "found": 3_832,
        "planted": 3_832,
    }
    assert good["query"]["rows"] == [{"variation": "control", "facts": 3_724}]
    assert json.loads(json.dumps(good)) == good


def test_the_demo_fails_in_one_line_that_names_a_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert _show(report(*GOOD), as_json_text=True) == 0
    assert capsys.readouterr().err == ""
    assert _show(report(*GOOD, BAD, BAD), as_json_text=False) == 1
    error = capsys.readouterr().err
    assert error == (
        "evidence: the account does not match: unjoined, late: 35 found, 36 planted (and 1 more); see build/demo/lake\n"
    )
