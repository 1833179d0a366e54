"""Answers while files are replaced: a statement of which a file is gone is run again, and no answer is wrong."""

import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline.query
from contracts.errors import EvidenceError
from pipeline.compaction import FEWEST
from pipeline.query import TRIES, ask
from sinks.storage import LocalStorage
from sinks.views import connect
from tests.pipeline.compacting import copy_lake, lab_with_small_files


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Give a lake in a directory, with small files of a past day."""
    copy_lake(lab_with_small_files().storage, LocalStorage(tmp_path / "lake"))
    return tmp_path / "lake"


@pytest.fixture
def moving(tmp_path: Path, lake: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], str]:
    """Give what makes a statement of which most files are gone once it has begun, so many times.

    It counts ten rows in each of fifty files, which have other names after its first row.
    """
    for number in range(50):
        pq.write_table(pa.table({"a": range(10)}), tmp_path / f"{number}.parquet")
    left, begun = 0, False

    def move(value: int) -> int:
        nonlocal left, begun
        if left and not begun:
            left -= 1
            for file in [*tmp_path.glob("*.parquet")]:
                file.rename(file.with_name(f"{left}-{file.name}"))
        begun = True
        return value

    def connect_to_it(at: Path) -> duckdb.DuckDBPyConnection:
        nonlocal begun
        begun = False
        connection = connect(at)
        connection.execute("SET threads = 1")
        connection.create_function("move", move, ["BIGINT"], "BIGINT", side_effects=True)
        return connection

    monkeypatch.setattr(pipeline.query, "connect", connect_to_it)

    def statement(times: int) -> str:
        nonlocal left
        left = times
        return f"SELECT count(move(a)) FROM read_parquet('{tmp_path}/*.parquet')"  # noqa: S608 - ours

    return statement


def test_a_statement_of_which_files_are_gone_is_run_again(lake: Path, moving: Callable[[int], str]) -> None:
    assert ask(lake, moving(TRIES - 1)).rows == [(500,)]


def test_a_statement_of_which_files_go_each_time_is_an_error(lake: Path, moving: Callable[[int], str]) -> None:
    with pytest.raises(EvidenceError, match=r"parquet.*No such file"):
        ask(lake, moving(TRIES))


def test_answers_are_the_same_before_during_and_after_a_compaction(lake: Path) -> None:
    statement = "SELECT count(*), count(DISTINCT unit_id), sum(exposures), min(window_start) FROM facts"
    before = ask(lake, statement).rows
    answers: list[object] = []
    begun, done = threading.Event(), threading.Event()

    def look() -> None:
        while not done.is_set():
            answers.append(ask(lake, statement).rows)
            begun.set()
        answers.append(ask(lake, statement).rows)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        begun.wait(60)
        lab = lab_with_small_files()
        storage = LocalStorage(lake)
        writer = lab.writer(storage)
        manifest = lab.compactor(storage, FEWEST).compact(writer.base)
        assert manifest is not None
        assert len(manifest.replaced) == 2 * FEWEST
    finally:
        done.set()
        reader.join()
    assert all(answer == before for answer in answers)
    assert len([*(lake / "tables" / "facts" / "dt=2026-06-07").iterdir()]) == 1
