"""The directory of flag files: read at start, and again when a file changes."""

import logging
from pathlib import Path

import pytest

from contracts.errors import ContractError, SettingsError
from pipeline.flag_directory import FlagDirectory
from tests.pipeline.lab import FLAG


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    (tmp_path / "route.yaml").write_text(FLAG)
    return tmp_path


def test_all_yaml_files_are_read(flags: Path) -> None:
    (flags / "other.yml").write_text(FLAG.replace("key: route", "key: other"))
    (flags / "notes.txt").write_text("not a flag")
    (flags / ".route.yaml.swp").write_text("an editor's")
    assert {contract.flag_key for contract in FlagDirectory(flags).read()} == {"route", "other"}


@pytest.mark.parametrize("make", [True, False], ids=["empty", "missing"])
def test_a_directory_without_flags_is_an_error_that_names_the_setting(tmp_path: Path, *, make: bool) -> None:
    directory = tmp_path / "flags"
    if make:
        directory.mkdir()
    with pytest.raises(SettingsError, match=f"EVIDENCE_FLAGS={directory}: .*add"):
        FlagDirectory(directory).read()


def test_a_file_that_breaks_the_contract_is_an_error_at_start(flags: Path) -> None:
    (flags / "route.yaml").write_text(FLAG.replace("key: route\n", "key: [1]\n"))
    with pytest.raises(ContractError, match=r"route\.yaml:2: flag\.key"):
        FlagDirectory(flags).read()


def test_a_file_that_is_not_utf_8_is_named(flags: Path) -> None:
    (flags / "route.yaml").write_bytes(b"flag: \xff")
    with pytest.raises(ContractError, match=r"route\.yaml.*save it as UTF-8"):
        FlagDirectory(flags).read()


def test_nothing_changed_is_nothing_new(flags: Path) -> None:
    directory = FlagDirectory(flags)
    directory.read()
    (flags / "route.yaml").touch()
    assert directory.changed() is None


def test_a_changed_file_gives_a_new_version(flags: Path) -> None:
    directory = FlagDirectory(flags)
    [before] = directory.read()
    (flags / "route.yaml").write_text(FLAG.replace("24h", "12h"))
    changed = directory.changed()
    assert changed is not None
    [after] = changed
    assert (before.flag_key, after.flag_key) == ("route", "route")
    assert before.version != after.version
    assert directory.changed() is None


def test_a_broken_change_is_said_once_and_changes_nothing(flags: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = FlagDirectory(flags)
    directory.read()
    (flags / "route.yaml").write_text(FLAG.replace("24h", "soon"))
    with caplog.at_level(logging.ERROR):
        assert directory.changed() is None
        assert directory.changed() is None
    [line] = caplog.messages
    assert "route.yaml:12: experiment.metrics.resolved.window" in line
    assert line.endswith("the contracts read before stay in force")


def test_a_mended_change_is_taken(flags: Path) -> None:
    directory = FlagDirectory(flags)
    directory.read()
    (flags / "route.yaml").write_text(FLAG.replace("24h", "soon"))
    directory.changed()
    (flags / "route.yaml").write_text(FLAG.replace("24h", "12h"))
    assert directory.changed() is not None


def test_a_directory_that_vanishes_changes_nothing(flags: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A volume that is mounted again later must not stop the worker."""
    directory = FlagDirectory(flags)
    directory.read()
    (flags / "route.yaml").unlink()
    flags.rmdir()
    with caplog.at_level(logging.ERROR):
        assert directory.changed() is None
    assert "stay in force" in caplog.text
    flags.mkdir()
    (flags / "route.yaml").write_text(FLAG)
    directory.changed()
