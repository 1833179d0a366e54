"""Which segments and residue a close still needs, and how they are merged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.columns import EVENT, TIMESTAMP, utf8
from pipeline.close import Decided, Due, Horizon
from pipeline.segments import (
    has_aged,
    is_new,
    may_leave,
    may_stay,
    merge_plan,
    merge_residue,
    remaining,
    undecided,
)
from sinks.manifest import ResidueRef, SegmentRef
from sinks.tables import RESIDUE

FLAG = "f"
DECIDED_THROUGH_50 = {FLAG: Horizon(24, 50)}


def events(*times: int, flag: str = FLAG) -> pa.Table:
    """Make outcomes whose offsets follow the order given."""
    count = len(times)
    given: dict[str, Any] = {
        "kind": ["outcome"] * count,
        "topic": ["outcomes"] * count,
        "offset": range(count),
        "record_time": times,
        "event_time": times,
        "flag_key": [flag] * count,
        "unit_id": ["u"] * count,
        "variation": ["A"] * count,
        "event": ["done"] * count,
        "contract_version": ["v"] * count,
        "values": [[("x", 1.0)]] * count,
        "value": [b"{}"] * count,
    }
    schema = utf8(EVENT)
    return pa.table([pa.array(given.get(f.name, [None] * count), f.type) for f in schema], schema=schema)


def times(table: pa.Table) -> list[int]:
    return [int(time) for time in table["event_time"].cast(pa.int64()).to_pylist()]


def segment(*, newest: int = 0, rows: int = 1, flags: dict[str, int] | None = None, last_offset: int = 0) -> SegmentRef:
    return SegmentRef(
        name="segments/p00000/000000000001-w-0.parquet",
        rows=rows,
        size=1,
        crc32=0,
        min_event_time=0,
        max_event_time=newest,
        flags=flags or {FLAG: newest},
        offsets={"outcomes": (0, last_offset)},
    )


def due(watermark: int) -> Due:
    return Due(0, None, watermark, 1, {}, {}, [], [], [])


def windows(*ends: int) -> pa.Table:
    count = len(ends)
    columns = [
        [FLAG] * count,
        ["u"] * count,
        ["A"] * count,
        pa.array([end - 24 for end in ends], TIMESTAMP),
        pa.array(ends, TIMESTAMP),
    ]
    return pa.table(columns, schema=RESIDUE)


# ── Which segments a close needs ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("closed_offset", "new"), [pytest.param(8, False, id="below"), pytest.param(7, True, id="reached")]
)
def test_a_segment_is_new_until_a_close_has_judged_its_offsets(closed_offset: int, new: bool) -> None:  # noqa: FBT001
    assert is_new(segment(last_offset=7), {"outcomes": closed_offset}) is new


def test_a_segment_of_a_topic_that_no_close_has_seen_is_new() -> None:
    assert is_new(segment(), {})


@pytest.mark.parametrize(
    ("flags", "leaves"),
    [
        pytest.param({FLAG: 50}, True, id="all-decided"),
        pytest.param({FLAG: 51}, False, id="newest-undecided"),
        pytest.param({FLAG: 50, "other": 50}, False, id="one-flag-undecided"),
        pytest.param({"unknown": 1}, False, id="flag-without-horizon"),
    ],
)
def test_a_segment_leaves_when_its_newest_event_of_each_flag_is_decided(flags: dict[str, int], leaves: bool) -> None:  # noqa: FBT001
    assert may_leave(segment(flags=flags), DECIDED_THROUGH_50 | {"other": Horizon(24, None)}) is leaves


@pytest.mark.parametrize(
    ("watermark", "aged"), [pytest.param(148, False, id="before"), pytest.param(149, True, id="at-its-age")]
)
def test_residue_ages_two_windows_and_the_lateness_after_its_end(watermark: int, aged: bool) -> None:  # noqa: FBT001
    residue = ResidueRef(name="r", rows=1, size=1, crc32=0, flags={FLAG: 100})
    assert has_aged(residue, DECIDED_THROUGH_50, due(watermark)) is aged


@pytest.mark.parametrize(
    ("rows", "decided", "stays"),
    [
        pytest.param(4, Decided(np.arange(2), forgotten=False), True, id="half-decided"),
        pytest.param(3, Decided(np.arange(2), forgotten=False), False, id="more-than-half-decided"),
        pytest.param(4, Decided(np.arange(1), forgotten=True), False, id="one-would-be-forgotten"),
    ],
)
def test_a_new_segment_stays_where_little_is_decided_and_nothing_forgotten(
    rows: int,
    decided: Decided,
    stays: bool,  # noqa: FBT001
) -> None:
    assert may_stay(rows, decided) is stays


def test_what_remains_of_a_source_is_whole_and_in_order(tmp_path: Path) -> None:
    file = str(tmp_path / "segment.parquet")
    pq.write_table(events(7, 5, 6), file)
    kept = pa.concat_tables(remaining(file, Decided(np.array([1]), forgotten=False)))
    assert kept.cast(utf8(EVENT)).equals(events(7, 5, 6).take([0, 2]))
    (all_of_it,) = remaining(events(7, 5), Decided(np.array([], np.int64), forgotten=False))
    assert times(all_of_it) == [7, 5]


# ── Merging ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class File:
    """A file of which only the size matters."""

    rows: int


def test_nine_files_of_a_size_stay_and_ten_are_merged() -> None:
    assert merge_plan([File(100)] * 9) == []
    assert merge_plan([File(100)] * 10) == [[File(100)] * 10]


def test_files_of_other_sizes_are_left_alone() -> None:
    assert merge_plan([File(1), File(1_000_000)] * 9 + [File(2)]) == [[File(1)] * 9 + [File(2)]]


def test_large_files_are_left_alone() -> None:
    assert merge_plan([File(1_000_000)] * 20) == []


def test_a_partition_never_has_a_hundred_files() -> None:
    files: list[File] = []
    for _ in range(400):
        files.append(File(50_000))
        while plan := merge_plan(files):
            for group in plan:
                files = [file for file in files if file not in group] + [File(sum(file.rows for file in group))]
        assert len(files) < 100


def test_merging_drops_what_is_decided(tmp_path: Path) -> None:
    file = str(tmp_path / "segment.parquet")
    pq.write_table(events(10, 60, 50), file, row_group_size=2)
    rows = pa.concat_tables(undecided([file, events(51, 49)], DECIDED_THROUGH_50))
    assert times(rows) == [60, 51]
    assert rows.schema.equals(EVENT)


def test_merging_keeps_the_events_of_flags_that_no_close_has_decided() -> None:
    horizons = DECIDED_THROUGH_50 | {"other": Horizon(24, None)}
    assert times(pa.concat_tables(undecided([events(1, flag="other"), events(1)], horizons))) == [1]


def test_merging_what_is_all_decided_leaves_no_rows() -> None:
    assert [rows.num_rows for rows in undecided([events(1), events(2)], DECIDED_THROUGH_50)] == [0, 0]


def test_merging_residue_drops_what_has_aged() -> None:
    rows = merge_residue([windows(99, 101), windows(100)], DECIDED_THROUGH_50, due(149))
    assert rows["window_end"].cast(pa.int64()).to_pylist() == [101]
    assert rows.schema.equals(RESIDUE)
