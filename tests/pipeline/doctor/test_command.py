"""What the options say, before any broker is asked."""

from pathlib import Path

import pytest

from contracts.errors import ContractError, SettingsError
from pipeline.doctor.command import diagnose
from pipeline.settings import Settings


@pytest.mark.parametrize(
    ("records", "since", "told"),
    [
        pytest.param(5, "1h", "give one of them", id="both"),
        pytest.param(None, "yesterday", "is no time", id="no time"),
        pytest.param(None, "1h", "no flag file", id="no flag files"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    records: int | None, since: str | None, told: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=told):
        diagnose(Settings(flags=tmp_path), records, since, 1.0)


def test_a_broken_flag_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("flag: {}")
    with pytest.raises(ContractError, match=r"broken\.yaml"):
        diagnose(Settings(flags=tmp_path), None, None, 1.0)
