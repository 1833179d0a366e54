"""The Parquet tables of the lake: their schemas, and how rows become files.

A table is a directory of files by day, `tables/<table>/dt=YYYY-MM-DD/`, the day in UTC. A file is sorted by flag key
and time, and never changes; a compaction puts one in the place of many. Each says in its metadata which checkpoint of
which partition made it, the newest where it was merged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from contracts.columns import TIMESTAMP
from sinks.manifest import FileRef
from sinks.parquet import Stamp, write_parquet
from sinks.storage import Storage

__all__ = [
    "DEAD_LETTERS",
    "EVENTS",
    "EXPORTED",
    "FACTS",
    "ORDERS",
    "REFUSED",
    "RESIDUE",
    "TABLES",
    "UNJOINED",
    "Order",
    "partition_by_day",
    "stage_table",
]

_text = pa.string()


def _must(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


FACTS: Final = pa.schema(
    [
        _must("flag_key", _text),
        pa.field("experiment_key", _text),
        _must("unit_id", _text),
        _must("assignment_unit", _text),
        _must("variation", _text),
        pa.field("state", _text),
        _must("window_start", TIMESTAMP),
        _must("window_end", TIMESTAMP),
        _must("last_exposure_at", TIMESTAMP),
        _must("exposures", pa.int64()),
        _must("fallbacks", pa.int64()),
        _must("model_route", _text),
        _must("prompt_version", _text),
        _must("retrieval_profile", _text),
        _must("outcomes", pa.int64()),
        _must("guardrails", pa.int64()),
        _must("metrics", pa.map_(_text, pa.float64())),
        _must("flags", pa.list_(_text)),
        _must("clean", pa.bool_()),
        _must("attributes", pa.map_(_text, _text)),
        _must("contract_version", _text),
    ]
)

EVENTS: Final = pa.schema(
    [
        _must("flag_key", _text),
        _must("unit_id", _text),
        _must("fact_variation", _text),
        _must("window_start", TIMESTAMP),
        _must("kind", _text),
        _must("topic", _text),
        _must("partition", pa.int32()),
        _must("offset", pa.int64()),
        _must("event", _text),
        _must("event_time", TIMESTAMP),
        _must("variation", _text),
        _must("mismatched", pa.bool_()),
        _must("values", pa.map_(_text, pa.float64())),
        pa.field("model_route", _text),
        pa.field("prompt_version", _text),
        pa.field("retrieval_profile", _text),
        pa.field("fallback_used", pa.bool_()),
        pa.field("guardrail", _text),
        pa.field("severity", _text),
        pa.field("confirmed", pa.bool_()),
        _must("contract_version", _text),
    ]
)

UNJOINED: Final = pa.schema(
    [
        _must("reason", _text),
        _must("topic", _text),
        _must("partition", pa.int32()),
        _must("offset", pa.int64()),
        _must("event_time", TIMESTAMP),
        _must("flag_key", _text),
        _must("unit_id", _text),
        _must("variation", _text),
        _must("value", _text),
        _must("contract_version", _text),
    ]
)

REFUSED: Final = pa.schema(
    [
        _must("reason", _text),
        _must("stage", _text),
        _must("topic", _text),
        _must("partition", pa.int32()),
        _must("offset", pa.int64()),
        _must("record_time", TIMESTAMP),
    ]
)

DEAD_LETTERS: Final = pa.schema(
    [
        _must("reason", _text),
        _must("family", _text),
        _must("stage", _text),
        _must("message", _text),
        _must("details", _text),
        pa.field("topic", _text),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("flag_key", _text),
        pa.field("unit_id", _text),
        pa.field("variation", _text),
        pa.field("record_time", TIMESTAMP),
        _must("failed_at", TIMESTAMP),
        _must("consumer_group", _text),
        _must("pipeline_version", _text),
        _must("replay_count", pa.int64()),
        _must("truncated", pa.bool_()),
        _must("dlq_topic", _text),
        _must("dlq_partition", pa.int32()),
        _must("dlq_offset", pa.int64()),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        _must("headers", pa.list_(pa.struct([("key", _text), ("value", pa.binary())]))),
    ]
)

RESIDUE: Final = pa.schema(
    [
        _must("flag_key", _text),
        _must("unit_id", _text),
        _must("variation", _text),
        _must("window_start", TIMESTAMP),
        _must("window_end", TIMESTAMP),
    ]
)

TABLES: Final = {"facts": FACTS, "events": EVENTS, "unjoined": UNJOINED, "refused": REFUSED}
"""What checkpoints write."""

EXPORTED: Final = {"dead_letters": DEAD_LETTERS}
"""What `sinks.exports` writes: no part of the account, and of no checkpoint."""


@dataclass(frozen=True, slots=True)
class Order:
    """How the rows of a table are laid out: by the day of one time, then by flag key (if it has one), then by time."""

    day: str
    time: str
    flag_key: bool = True


ORDERS: Final = {
    "facts": Order(day="window_start", time="window_start"),
    "events": Order(day="window_start", time="event_time"),
    "unjoined": Order(day="event_time", time="event_time"),
    "refused": Order(day="record_time", time="record_time", flag_key=False),
    "dead_letters": Order(day="failed_at", time="failed_at", flag_key=False),
}


def stage_table(storage: Storage, table: str, rows: pa.Table, stamp: Stamp) -> tuple[FileRef, ...]:
    """Write the rows of one table to the staging directory of their checkpoint, one durable file a day.

    No rows, no files. `ValueError` if they do not have the schema of the table. Rows that come in the table's order are
    written as they are; sorting others costs about as much as writing them.
    """
    files = []
    for day, part in partition_by_day(rows, ORDERS[table]):
        place = f"{table}/dt={day.isoformat()}/{stamp.file}.parquet"
        staged = f"{stamp.staging}/{place}"
        written = write_parquet(storage, staged, part, TABLES[table], stamp)
        files.append(
            FileRef(
                table=table,
                name=f"tables/{place}",
                staged=staged,
                rows=written.rows,
                size=written.size,
                crc32=written.crc32,
            )
        )
    return tuple(files)


def partition_by_day(rows: pa.Table, order: Order) -> Iterator[tuple[date, pa.Table]]:
    """Yield each day (UTC) that has rows, in order, with its rows sorted by flag key and time."""
    if not rows.num_rows:
        return
    days = _micros(rows, order.day) // _DAY
    times = _micros(rows, order.time)
    flags = _ranks(rows["flag_key"]) if order.flag_key else np.zeros(len(days), np.int64)
    if not _sorted(days, flags, times):
        indices = np.lexsort((times, flags, days))
        rows, days = rows.combine_chunks().take(pa.array(indices)), days[indices]
    starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    for start, end in zip(starts, [*starts[1:], len(days)], strict=True):
        yield _EPOCH + timedelta(days=int(days[start])), rows.slice(start, end - start)


_DAY: Final = 86_400_000_000
_EPOCH: Final = datetime.fromtimestamp(0, UTC).date()


def _micros(rows: pa.Table, column: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return rows[column].cast(pa.int64()).to_numpy()  # type: ignore[no-any-return]


def _ranks(column: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return numbers that compare as the strings do."""
    codes = column.combine_chunks().dictionary_encode()
    ranks = np.argsort(np.argsort(np.array(codes.dictionary.to_pylist(), dtype=object)))
    return ranks[codes.indices.to_numpy()]  # type: ignore[no-any-return]


def _sorted(*keys: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bool:
    """Return whether the rows are in order by the first key, ties by the next, and so on."""
    tied = np.ones(len(keys[0]) - 1, dtype=bool)
    for key in keys:
        if bool(np.any(tied & (key[1:] < key[:-1]))):
            return False
        tied &= key[1:] == key[:-1]
    return True
