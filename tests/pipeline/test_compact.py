"""`evidence compact`: what it does to a lake in a directory, what it tells, and what it does about a busy worker."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contracts.errors import DamagedFile, Fenced, LakeError
from pipeline.cli import Exit, main
from pipeline.compact import TRIES, Compacted, TableFiles, compact_lake
from pipeline.compaction import FEWEST
from pipeline.verify.audit import audit
from sinks.lineage import Lineage
from sinks.storage import LocalStorage, Sink
from sinks.views import connect
from tests.pipeline.auditing import topics_of
from tests.pipeline.compacting import copy_lake, lab_with_small_files

DAY = "dt=2026-06-07"
CENTURY = 3_000_000_000_000_000  # µs


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a lake in a directory, with four small files of facts and of events for a past day, and a setting for it."""
    copy_lake(lab_with_small_files().storage, LocalStorage(tmp_path / "lake"))
    monkeypatch.setenv("EVIDENCE_LAKE", str(tmp_path / "lake"))
    return tmp_path / "lake"


def evidence(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["evidence", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def by_table(done: Compacted) -> dict[str, TableFiles]:
    return {each.table: each for each in done.tables}


def rows(lake: Path) -> dict[str, list[str]]:
    with connect(lake) as connection:
        tables = ("facts", "events", "unjoined", "refused")
        return {table: sorted(map(repr, connection.table(table).fetchall())) for table in tables}


def test_no_row_changes_and_the_audit_is_clean(lake: Path) -> None:
    before = rows(lake)
    done = compact_lake(lake)
    assert rows(lake) == before
    assert [len([*(lake / "tables" / table / DAY).iterdir()]) for table in ("facts", "events", "refused")] == [1, 1, 2]
    assert (by_table(done)["facts"].files_before, by_table(done)["facts"].files_after) == (5, 2)
    assert by_table(done)["facts"].bytes_after == sum(file.stat().st_size for file in lake.glob("tables/facts/*/*"))
    found = audit(LocalStorage(lake), topics_of(lab_with_small_files()))
    assert found.clean, [*found.lines()]
    assert [file for file in (lake / "staging").rglob("*") if file.is_file()] == []


def test_a_dry_run_tells_and_does_nothing(lake: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in lake.rglob("*")}
    done = compact_lake(lake, dry_run=True)
    assert (by_table(done)["facts"].files_after, by_table(done)["facts"].bytes_after) == (2, None)
    assert {file: file.stat().st_mtime_ns for file in lake.rglob("*")} == before


def test_days_that_ended_since_then_stay(lake: Path) -> None:
    done = compact_lake(lake, older_than=CENTURY)
    assert [each.files_after for each in done.tables] == [each.files_before for each in done.tables]


def test_progress_is_told_in_files(lake: Path) -> None:
    told: list[tuple[int, int]] = []
    compact_lake(lake, progress=lambda done, all_: told.append((done, all_)))
    assert told == [(6, 6)]


class Rivalled(LocalStorage):
    """A lake whose worker commits a checkpoint while a file is merged, so many times."""

    def __init__(self, root: Path, times: int) -> None:
        super().__init__(root)
        self.left = times
        self.rival = lab_with_small_files()

    @contextmanager
    def write(self, name: str) -> Iterator[Sink]:
        if self.left and "/facts/" in name:
            self.left -= 1
            self.rival.checkpoint(self.rival.writer(LocalStorage(self.root)), close=False)
        with super().write(name) as sink:
            yield sink


@pytest.mark.parametrize("times", [1, TRIES - 1])
def test_it_tries_again_where_the_worker_was_first(lake: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    monkeypatch.setattr("pipeline.compact.LocalStorage", lambda root: Rivalled(root, times))
    before = rows(lake)
    assert compact_lake(lake).busy == ()
    assert rows(lake) == before
    assert len([*(lake / "tables" / "facts" / DAY).iterdir()]) == 1


def test_it_leaves_a_partition_whose_worker_is_always_first(
    lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.compact.LocalStorage", lambda root: Rivalled(root, TRIES))
    assert evidence(monkeypatch, "compact") == Exit.PARTLY
    told = capsys.readouterr()
    assert told.err == (
        "evidence: partition 0 is not done, its worker always committed first; leave it to the worker, "
        "or stop that and run again\n"
    )
    assert len([*(lake / "tables" / "facts" / DAY).iterdir()]) == FEWEST


def test_the_worker_that_holds_the_partition_is_fenced(lake: Path) -> None:
    lab = lab_with_small_files()
    writer = lab.writer(LocalStorage(lake))
    compact_lake(lake)
    with pytest.raises(Fenced):
        lab.checkpoint(writer, close=False)


def test_what_a_dead_compaction_left_is_done_first(lake: Path) -> None:
    """It died between commit and swap."""
    storage, lab = LocalStorage(lake), lab_with_small_files()

    def die(step: str) -> None:
        if step == "compact publish":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.compactor(storage, FEWEST, die).compact(lab.writer(storage).base)
    assert len([*(lake / "tables" / "facts" / DAY).iterdir()]) == FEWEST
    compact_lake(lake)
    assert len([*(lake / "tables" / "facts" / DAY).iterdir()]) == 1
    assert audit(storage, None).clean


def test_a_changed_file_is_named_and_stays(lake: Path) -> None:
    [file, *_] = sorted((lake / "tables" / "facts" / DAY).iterdir())
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    newest = Lineage(LocalStorage(lake), 0).newest()
    with pytest.raises(DamagedFile, match=f"{file.name} was changed"):
        compact_lake(lake)
    assert Lineage(LocalStorage(lake), 0).newest() == newest
    assert len([*file.parent.iterdir()]) == FEWEST


def test_no_lake_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake here"):
        compact_lake(tmp_path)


def test_the_command_prints_a_line_a_table(
    lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evidence(monkeypatch, "compact", "--dry-run", "--older-than", "1d") == Exit.FINE
    lines = capsys.readouterr().out.splitlines()
    size = sum(file.stat().st_size for file in lake.glob("tables/facts/*/*"))
    assert lines[0].split() == ["facts", "5", "files", f"{size:,}", "bytes", "->", "2", "files"]
    assert [line.split()[0] for line in lines] == ["facts", "events", "unjoined", "refused"]
    assert evidence(monkeypatch, "compact", "--json") == Exit.FINE
    done = json.loads(capsys.readouterr().out)
    assert done["busy"] == []
    assert done["tables"][0] | {"bytes_after": 0} == {
        "table": "facts",
        "files_before": 5,
        "bytes_before": size,
        "files_after": 2,
        "bytes_after": 0,
    }


@pytest.mark.usefixtures("lake")
def test_a_wrong_duration_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert evidence(monkeypatch, "compact", "--older-than", "soon") == Exit.USAGE
    assert capsys.readouterr().err.startswith("evidence: --older-than: 'soon' is not a duration; write it as 90s")
