"""The files that a later close reads: segments of open events, and the residue of closed windows.

They get their final name at once; nobody looks for them but through a manifest that names them.
"""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from contracts.columns import EVENT, utf8
from sinks.manifest import ResidueRef, SegmentRef
from sinks.parquet import Stamp, write_parquet
from sinks.storage import Storage
from sinks.tables import RESIDUE

__all__ = ["write_residue", "write_segment"]

COMPRESSION: Final = "lz4"
"""These files live for hours and are read at each close: lz4 takes 0.82 µs and 66 bytes an event, zstd 0.98 and 42."""


def write_segment(storage: Storage, events: pa.Table, stamp: Stamp, part: int = 0) -> SegmentRef:
    """Write open events, in their order, as a durable segment; `part` tells apart those of one checkpoint.

    `events` has the columns of `contracts.columns.EVENT` and at least one row. Its codes may be written out or not, a
    reader sees no difference; to write them out only for this costs half as much again as the file.
    """
    events = events.unify_dictionaries()
    name = f"{_place(stamp)}-{part}.parquet"
    written = write_parquet(storage, name, events, _form(events), stamp, compression=COMPRESSION)
    times = pc.min_max(events["event_time"].cast(pa.int64()))
    offsets = events.group_by("topic").aggregate([("offset", "min"), ("offset", "max")])
    return SegmentRef(
        name=name,
        rows=written.rows,
        size=written.size,
        crc32=written.crc32,
        min_event_time=times["min"].as_py(),
        max_event_time=times["max"].as_py(),
        flags=_greatest(events, "event_time"),
        offsets={
            topic: (first, last)
            for topic, first, last in zip(
                *(offsets[name].to_pylist() for name in ("topic", "offset_min", "offset_max")), strict=True
            )
        },
    )


def write_residue(storage: Storage, windows: pa.Table, stamp: Stamp, part: int = 0) -> ResidueRef:
    """Write closed windows (rows of `RESIDUE`, at least one) as a durable file; `part` as for a segment."""
    name = f"{_place(stamp)}-{part}.residue.parquet"
    written = write_parquet(storage, name, windows, RESIDUE, stamp, compression=COMPRESSION)
    return ResidueRef(
        name=name,
        rows=written.rows,
        size=written.size,
        crc32=written.crc32,
        flags=_greatest(windows, "window_end"),
    )


def _form(events: pa.Table) -> pa.Schema:
    """Return the schema of events whose codes are written out, or of those whose codes are not."""
    coded = any(pa.types.is_dictionary(field.type) for field in events.schema)
    return EVENT if coded else utf8(EVENT)


def _place(stamp: Stamp) -> str:
    return f"segments/p{stamp.partition:05d}/{stamp.seq:012d}-{stamp.writer}"


def _greatest(rows: pa.Table, column: str) -> dict[str, int]:
    """Return the greatest value of a time, in µs, for each flag key."""
    times = pa.table({"flag_key": rows["flag_key"], "time": rows[column].cast(pa.int64())})
    groups = times.group_by("flag_key").aggregate([("time", "max")])
    return dict(sorted(zip(groups["flag_key"].to_pylist(), groups["time_max"].to_pylist(), strict=True)))
