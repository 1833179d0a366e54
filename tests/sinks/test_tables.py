"""Table files: where they lie, how they are sorted, what they say of themselves."""

import json
from datetime import date
from io import BytesIO
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import StorageUnavailable
from sinks.parquet import verify, write_parquet
from sinks.storage import MemoryStorage
from sinks.tables import ORDERS, TABLES, UNJOINED, partition_by_day, stage_table
from tests.sinks.rows import DAY, HOUR, NOON, rows_of, stamp, table


def parquet(storage: MemoryStorage, name: str) -> pq.ParquetFile:
    return pq.ParquetFile(BytesIO(storage.read(name)))


FULL_FACT: dict[str, Any] = {
    "metrics": [("resolved", 1.0), ("latency", 1840.0)],
    "flags": ["crossover"],
    "attributes": [("plan", "free")],
    "state": "ab",
}


def test_a_file_lies_in_staging_until_it_is_published() -> None:
    storage = MemoryStorage()
    (file,) = stage_table(storage, "facts", table("facts", {}), stamp(12))
    day = "facts/dt=2026-06-07/p00003-000000000012-a.parquet"
    assert (file.table, file.name, file.staged) == ("facts", f"tables/{day}", f"staging/p00003/000000000012-a/{day}")
    assert storage.list("staging") == [file.staged]


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_reads_back_as_it_was(name: str) -> None:
    storage = MemoryStorage()
    rows = table(name, FULL_FACT if name == "facts" else {}, {})
    (file,) = stage_table(storage, name, rows, stamp())
    assert storage.source(str(file.staged)) == rows
    assert storage.source(str(file.staged)).schema == TABLES[name]


def test_the_reference_tells_rows_and_bytes() -> None:
    storage = MemoryStorage()
    (file,) = stage_table(storage, "facts", table("facts", {}, {}), stamp())
    assert (file.rows, file.size) == (2, storage.size(str(file.staged)))
    verify(storage, file.model_copy(update={"name": file.staged}))


def test_each_day_has_a_file_of_its_own() -> None:
    storage = MemoryStorage()
    rows = table("unjoined", *({"event_time": NOON + hours * HOUR} for hours in (11, 12, 36, -13)))
    files = stage_table(storage, "unjoined", rows, stamp())
    assert [(file.name.split("/")[2], file.rows) for file in files] == [
        ("dt=2026-06-06", 1),
        ("dt=2026-06-07", 1),
        ("dt=2026-06-08", 1),
        ("dt=2026-06-09", 1),
    ]


def test_no_rows_make_no_files() -> None:
    storage = MemoryStorage()
    assert stage_table(storage, "facts", table("facts"), stamp()) == ()
    assert storage.list("staging") == []


def test_events_lie_with_their_fact() -> None:
    """The day is that of the window's start, not of the event."""
    late = {"window_start": NOON, "event_time": NOON + DAY - 1}
    ((day, _),) = partition_by_day(table("events", late), ORDERS["events"])
    assert day == date(2026, 6, 7)


def test_records_without_a_time_of_their_own_have_a_day() -> None:
    """Kafka gives -1 ms for no time."""
    ((day, _),) = partition_by_day(table("refused", {"record_time": -1_000}), ORDERS["refused"])
    assert day == date(1969, 12, 31)


keys = st.tuples(st.integers(0, 2), st.sampled_from(["a", "b", "B", "", "é"]), st.integers(0, 3))


@given(rows=st.lists(keys), ordered=st.booleans())
def test_rows_are_sorted_by_day_flag_key_and_time(rows: list[tuple[int, str, int]], *, ordered: bool) -> None:
    """Whether they came in that order or not; ties keep theirs."""
    rows = sorted(rows) if ordered else rows
    made = table(
        "events",
        *(
            {"window_start": NOON + day * DAY, "flag_key": flag, "event_time": NOON + time, "offset": offset}
            for offset, (day, flag, time) in enumerate(rows)
        ),
    )
    parts = dict(partition_by_day(made, ORDERS["events"]))
    found = [offset for part in parts.values() for offset in part["offset"].to_pylist()]
    assert found == sorted(range(len(rows)), key=lambda offset: (rows[offset], offset))
    assert list(parts) == sorted({date(2026, 6, 7 + day) for day, _, _ in rows})


def test_rows_of_several_chunks_are_sorted_as_one() -> None:
    chunks = [table("unjoined", {"offset": offset, "event_time": NOON + offset}) for offset in (2, 1)]
    ((_, part),) = partition_by_day(pa.concat_tables(chunks), ORDERS["unjoined"])
    assert part["offset"].to_pylist() == [1, 2]


def test_a_file_says_which_checkpoint_made_it() -> None:
    storage = MemoryStorage()
    (file,) = stage_table(storage, "facts", table("facts", {}), stamp(12))
    said = {key.decode(): text.decode() for key, text in parquet(storage, str(file.staged)).metadata.metadata.items()}
    assert json.loads(said.pop("evidence.offsets")) == {"exposures": [0, 100]}
    assert said == {
        "evidence.lake_id": "lake",
        "evidence.partition": "3",
        "evidence.seq": "12",
        "evidence.writer": "a",
        "evidence.pipeline_version": "0.1.0",
        "evidence.schema_version": "1",
    }


def test_columns_are_compressed_and_told_apart() -> None:
    """Zstd throughout, statistics where filters look, deltas for times, dictionaries for what repeats."""
    storage = MemoryStorage()
    (file,) = stage_table(storage, "events", table("events", {"values": [("a", 1.0)]}), stamp())
    group = parquet(storage, str(file.staged)).metadata.row_group(0)
    columns = {column.path_in_schema: column for column in map(group.column, range(group.num_columns))}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert columns["offset"].is_stats_set
    assert not columns["unit_id"].is_stats_set
    assert "DELTA_BINARY_PACKED" in columns["event_time"].encodings
    assert "RLE_DICTIONARY" in columns["values.key_value.key"].encodings
    assert "RLE_DICTIONARY" not in columns["unit_id"].encodings


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        pytest.param(table("facts", {}), "rows have the columns", id="columns"),
        pytest.param(
            rows_of(UNJOINED.set(3, pa.field("offset", pa.int32())), {"event_time": NOON}),
            "column offset is int32, not int64",
            id="type",
        ),
        pytest.param(
            pa.table([pa.array([None], field.type) for field in UNJOINED], UNJOINED.names),
            "column reason has 1 nulls",
            id="null",
        ),
    ],
)
def test_rows_of_another_schema_are_refused(rows: pa.Table, problem: str) -> None:
    storage = MemoryStorage()
    with pytest.raises(ValueError, match=problem):
        write_parquet(storage, "a.parquet", rows, UNJOINED, stamp())
    assert not storage.exists("a.parquet")


def test_rows_as_duckdb_returns_them_are_accepted() -> None:
    """It names the insides of lists and maps differently and calls every column nullable."""
    storage = MemoryStorage()
    fact = table("facts", FULL_FACT)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        (file,) = stage_table(storage, "facts", connection.from_arrow(fact).to_arrow_table(), stamp())
    assert storage.source(str(file.staged)) == fact


def test_a_fault_while_writing_leaves_nothing() -> None:
    def full(operation: str, _name: str) -> None:
        if operation == "write":
            raise StorageUnavailable("cannot write: free space on its disk")

    storage = MemoryStorage(full)
    with pytest.raises(StorageUnavailable):
        stage_table(storage, "facts", table("facts", {}), stamp())
    assert storage.list("staging") == []
