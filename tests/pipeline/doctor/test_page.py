"""docs/doctor.md has every fault, and is up to date."""

from pathlib import Path
from typing import get_args

import pytest

from pipeline.doctor import page
from pipeline.doctor.findings import FAULTS, FaultId

PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"


def test_every_fault_is_described_in_sentences() -> None:
    assert tuple(FAULTS) == get_args(FaultId)
    assert [text for fault in FAULTS.values() for text in fault[1:] if not text.endswith(".")] == []


def test_the_page_is_what_the_module_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """If not: python -m pipeline.doctor.page > docs/doctor.md."""
    page.main()
    printed = capsys.readouterr().out
    assert printed == page.markdown() == PAGE.read_text(encoding="utf-8")
    assert [line[4:] for line in printed.splitlines() if line.startswith("### ")] == sorted(
        FAULTS, key=lambda name: ("error", "warning", "note").index(FAULTS[name].severity)
    )
