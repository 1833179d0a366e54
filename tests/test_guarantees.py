"""The guarantees have tests that exist and have passed, and their pages are what the record makes of them."""

from pathlib import Path
from typing import Any, Final, Literal

import pytest

from tests.chaos.rounds import Rounds, append, read_rounds, rounds_of
from tests.guarantees.__main__ import Recorder
from tests.guarantees.pages import page, table, with_table
from tests.guarantees.proofs import GUARANTEES, ROOT, Guarantee, Passed, Proof, faults, read_record, write_record

HERE = Proof("something", "tests/test_guarantees.py", "test_every_guarantee_has_tests_that_passed")
THIS_DAY = Passed("2026-11-27", 2)

PHASES: Final[tuple[Literal["setup", "call", "teardown"], ...]] = ("setup", "call", "teardown")
OUTCOMES: Final[dict[str, Literal["passed", "failed", "skipped"]]] = {"p": "passed", "f": "failed", "s": "skipped"}


def test_every_guarantee_has_tests_that_passed() -> None:
    assert list(faults(GUARANTEES, read_record())) == []


def test_the_readme_has_the_table_that_the_record_makes() -> None:
    readme = (ROOT / "README.md").read_text()
    assert with_table(readme, table(GUARANTEES, read_record())) == readme, "run: make guarantees"


def test_the_page_is_what_the_record_and_the_ledger_make() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    assert text == page(GUARANTEES, read_record(), read_rounds()), "run: make guarantees"


@pytest.mark.parametrize(
    ("proofs", "record", "fault"),
    [
        pytest.param((), {}, "Loss: no test shows it; name one", id="no test"),
        pytest.param(
            (Proof("", "tests/test_nothing.py", "test_it"),),
            {"tests/test_nothing.py::test_it": THIS_DAY},
            "Loss: there is no test tests/test_nothing.py::test_it",
            id="no such file",
        ),
        pytest.param(
            (Proof("", HERE.file, "test_it"),),
            {f"{HERE.file}::test_it": THIS_DAY},
            f"Loss: there is no test {HERE.file}::test_it",
            id="no such test",
        ),
        pytest.param(
            (HERE,), {}, f"Loss: no run is known in which {HERE.id} passed; run: make guarantees", id="never passed"
        ),
    ],
)
def test_a_guarantee_without_a_test_that_passed_is_told(
    proofs: tuple[Proof, ...], record: dict[str, Passed], fault: str
) -> None:
    assert list(faults([Guarantee("Loss", "None.", proofs)], record)) == [fault]


def test_a_guarantee_was_shown_when_the_first_of_its_tests_was() -> None:
    """Or never, while one of them has not passed."""
    other = Proof("more", HERE.file, "test_more")
    guarantee = Guarantee("Loss", "None.", (HERE, other))
    record = {HERE.id: THIS_DAY, other.id: Passed("2026-11-20", 1)}
    assert table([guarantee], record).endswith(f'[more]({HERE.file} "test_more") | 2026-11-20 |\n')
    assert table([guarantee], {HERE.id: THIS_DAY}).endswith("| never |\n")
    assert "| 2 | 2026-11-27 |" in page([guarantee], {HERE.id: THIS_DAY}, [])


@pytest.mark.parametrize(
    ("ended", "cases"),
    [
        pytest.param({"": "ppp"}, 1, id="one case"),
        pytest.param({"[a]": "ppp", "[b]": "ppp"}, 2, id="two cases"),
        pytest.param({"::runTest": "ppp"}, 1, id="a method"),
        pytest.param({"[a]": "ppp", "[b]": "pfp"}, 0, id="one failed"),
        pytest.param({"": "ppf"}, 0, id="not torn down"),
        pytest.param({"[a]": "ppp", "[b]": "psp"}, 0, id="one skipped"),
        pytest.param({"": "sp"}, 0, id="skipped before it began"),
        pytest.param({"_of_another": "ppp"}, 0, id="another test"),
        pytest.param({}, 0, id="not run"),
    ],
)
def test_a_test_has_passed_if_all_its_cases_have(ended: dict[str, str], cases: int) -> None:
    """Each letter is how a phase ended: set-up, call, tear-down."""
    recorder = Recorder()
    for case, phases in ended.items():
        for when, how in zip(PHASES if len(phases) == len(PHASES) else PHASES[::2], phases, strict=True):
            report = pytest.TestReport(f"{HERE.id}{case}", ("", 0, ""), {}, OUTCOMES[how], None, when)
            recorder.pytest_runtest_logreport(report)
    assert recorder.cases(HERE.id) == cases


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    assert read_record(file) == {}
    write_record({HERE.id: THIS_DAY}, file)
    assert read_record(file) == {HERE.id: THIS_DAY}


def test_the_ledger_counts_kills_and_what_was_judged_clean(tmp_path: Path) -> None:
    outcomes: list[dict[str, Any]] = [
        {"done": {"SIGKILL before commit": 2, "SIGKILL at a random time": 3, "SIGTERM": 1}, "failed": None},
        {"done": {"SIGKILL after stage": 4}, "failed": "lost: …"},
    ]
    rounds = rounds_of("2026-11-27", 7, outcomes)
    assert rounds == Rounds("2026-11-27", 7, rounds=2, kills=9, clean=1, kills_in_clean=5)
    append(rounds, tmp_path / "ledger")
    append(rounds, tmp_path / "ledger")
    assert read_rounds(tmp_path / "ledger") == [rounds, rounds]
