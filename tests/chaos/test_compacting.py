"""Compactions killed, or hung, at their steps: no Kafka is needed for that."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.compact import compact_lake
from pipeline.settings import PREFIX
from pipeline.verify.audit import audit
from sinks.storage import LocalStorage
from sinks.views import connect
from tests.chaos.points import COMPACTING, Plan
from tests.pipeline.auditing import topics_of
from tests.pipeline.compacting import copy_lake, lab_with_small_files
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
END_S = 60.0


@contextmanager
def compaction(lake: Path, plan: Plan) -> Iterator[subprocess.Popen[bytes]]:
    """Run `evidence compact` on a lake with small files, with a fault in it; it is gone at the end of the block."""
    copy_lake(lab_with_small_files().storage, LocalStorage(lake))
    kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "CHAOS_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.child", "compact"],
        env={**kept, **plan.variables(), "EVIDENCE_LAKE": str(lake)},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def seen(lake: Path) -> list[str]:
    """Return what a query finds in all tables."""
    with connect(lake) as connection:
        tables = ("facts", "events", "unjoined", "refused")
        return [repr(row) for table in tables for row in sorted(connection.table(table).fetchall(), key=repr)]


def assert_made_good(lake: Path, before: list[str]) -> None:
    """Assert that the next compaction does the rest, and the audit finds nothing wrong."""
    compact_lake(lake)
    assert seen(lake) == before
    assert len([*(lake / "tables" / "facts" / "dt=2026-06-07").iterdir()]) == 1
    found = audit(LocalStorage(lake), topics_of(lab_with_small_files()))
    assert found.clean, [*found.lines()]


@pytest.fixture
def before(tmp_path: Path) -> list[str]:
    copy_lake(lab_with_small_files().storage, LocalStorage(tmp_path / "untouched"))
    return seen(tmp_path / "untouched")


def test_killed_at_every_point(tmp_path: Path, before: list[str]) -> None:
    for number, point in enumerate(COMPACTING):
        lake = tmp_path / str(number)
        with compaction(lake, Plan(point)) as process:
            assert process.wait(END_S) == -signal.SIGKILL, point
        assert seen(lake) == before, point
        assert_made_good(lake, before)


def test_one_that_hung_changes_nothing_when_it_goes_on(tmp_path: Path, before: list[str]) -> None:
    lake = tmp_path / "lake"
    with compaction(lake, Plan("before compact publish/swap 1", signal=signal.SIGSTOP)) as process:
        until(lambda: stopped(process), END_S, "it hangs")
        assert seen(lake) == before
        assert_made_good(lake, before)
        there = sorted((lake / "tables").rglob("*"))
        process.send_signal(signal.SIGCONT)
        assert process.wait(END_S) == 0
        assert sorted((lake / "tables").rglob("*")) == there
    assert seen(lake) == before


def stopped(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the process stands still, as the kernel tells."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
