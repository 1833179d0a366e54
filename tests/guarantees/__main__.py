"""`make guarantees`: runs the tests that show them, records which passed today, and writes the pages.

    python -m tests.guarantees [options of pytest]

Fails as pytest does, and records what passed nevertheless. Nothing is skipped: a missing broker is a failure.
"""

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from tests.chaos.rounds import read_rounds
from tests.guarantees.pages import page, table, with_table
from tests.guarantees.proofs import GUARANTEES, ROOT, Passed, read_record, write_record

__all__ = ["Recorder"]


class Recorder:
    """A plugin of pytest that remembers how each case of a test ended."""

    def __init__(self) -> None:
        """Begin with none."""
        self._passed: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of a phase of a case; each of them has to pass, and the case to be run."""
        self._passed[report.nodeid] = self._passed.get(report.nodeid, True) and report.passed

    def cases(self, test: str) -> int:
        """Return how many cases the test had, if all of them passed; 0 otherwise."""
        within = (f"{test}[", f"{test}::")
        ended = [passed for case, passed in self._passed.items() if case == test or case.startswith(within)]
        return len(ended) if all(ended) else 0


def _main(options: Iterable[str]) -> int:
    os.environ["CI"] = "true"
    tests = list(dict.fromkeys(proof.id for guarantee in GUARANTEES for proof in guarantee.proofs))
    recorder = Recorder()
    code = pytest.main([*options, *tests], plugins=[recorder])
    today = datetime.now(UTC).date().isoformat()
    passed = {test: Passed(today, cases) for test in tests if (cases := recorder.cases(test))}
    record = {test: run for test, run in read_record().items() if test in tests} | passed
    write_record(record)
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(), table(GUARANTEES, record)))
    (ROOT / "docs" / "guarantees.md").write_text(page(GUARANTEES, record, read_rounds()))
    return int(code)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
