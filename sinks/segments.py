"""The files that a later close reads: segments of open events, and the residue of closed windows.

They get their final name at once; nobody looks for them but through a manifest that names them.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

import pyarrow as pa

from contracts.columns import EVENT, coded
from sinks.manifest import ResidueRef, SegmentRef
from sinks.parquet import ROW_GROUP_BYTES, ROW_GROUP_ROWS, Stamp, parquet_file, write_parquet
from sinks.storage import Storage
from sinks.tables import RESIDUE

__all__ = ["write_merged", "write_residue", "write_segment"]

COMPRESSION: Final = "lz4"
"""These files live for hours and are read at each close: lz4 takes 0.49 µs and 52 bytes an event, none 0.34 and 325."""


def write_segment(storage: Storage, events: pa.Table, stamp: Stamp, part: int = 0) -> SegmentRef:
    """Write open events, in their order, as a durable segment; `part` tells apart those of one checkpoint.

    `events` has the columns of `contracts.columns.EVENT`, whose codes may be written out, and at least one row.
    """
    segment = write_merged(storage, [events], stamp, part)
    if segment is None:
        raise ValueError("a segment has at least one event")
    return segment


def write_merged(storage: Storage, pieces: Iterable[pa.Table], stamp: Stamp, part: int = 0) -> SegmentRef | None:
    """Write the events of all pieces as one segment, as `write_segment` does; None, and no file, if they have no rows.

    The memory it takes is that of the largest piece, or of a row group.
    """
    groups = _row_groups(pieces)
    first = next(groups, None)
    if first is None:
        return None
    name = f"{_place(stamp)}-{part}.parquet"
    contents = _Contents()
    with parquet_file(storage, name, EVENT, stamp, compression=COMPRESSION) as file:
        for events in chain([first], groups):
            contents.add(events)
            file.append(events)
    written = file.written
    return SegmentRef(
        name=name,
        rows=written.rows,
        size=written.size,
        crc32=written.crc32,
        min_event_time=contents.first,
        max_event_time=max(contents.flags.values()),
        flags=dict(sorted(contents.flags.items())),
        offsets=contents.offsets,
    )


class _Contents:
    """What the manifest says of the events in a segment."""

    def __init__(self) -> None:
        self.first = _AFTER_ALL
        self.flags: dict[str, int] = {}
        self.offsets: dict[str, tuple[int, int]] = {}

    def add(self, events: pa.Table) -> None:
        rows = events.select(["flag_key", "topic", "offset"])
        rows = rows.append_column("time", events["event_time"].cast(pa.int64()))
        # A second thread would only take more CPU time.
        groups = rows.group_by(["flag_key", "topic"], use_threads=False).aggregate(
            [("time", "min"), ("time", "max"), ("offset", "min"), ("offset", "max")]
        )
        for flag, topic, earliest, latest, low, high in zip(*groups.to_pydict().values(), strict=True):
            self.first = min(self.first, earliest)
            self.flags[flag] = max(latest, self.flags.get(flag, latest))
            first, last = self.offsets.get(topic, (low, high))
            self.offsets[topic] = (min(first, low), max(last, high))


_AFTER_ALL: Final = 2**63


def _row_groups(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Put small pieces together, as many as go into a row group; none of what is yielded is empty."""
    waiting: list[pa.Table] = []
    rows = size = 0
    for piece in pieces:
        more = piece.nbytes
        if waiting and (rows + piece.num_rows > ROW_GROUP_ROWS or size + more > ROW_GROUP_BYTES):
            yield _together(waiting)
            waiting, rows, size = [], 0, 0
        if piece.num_rows:
            waiting.append(piece)
            rows, size = rows + piece.num_rows, size + more
    if waiting:
        yield _together(waiting)


def _together(pieces: list[pa.Table]) -> pa.Table:
    return pa.concat_tables([coded(piece, EVENT) for piece in pieces]).unify_dictionaries()


def write_residue(storage: Storage, windows: pa.Table, stamp: Stamp, part: int = 0) -> ResidueRef:
    """Write closed windows (rows of `RESIDUE`, at least one) as a durable file; `part` as for a segment."""
    name = f"{_place(stamp)}-{part}.residue.parquet"
    written = write_parquet(storage, name, windows, RESIDUE, stamp, compression=COMPRESSION)
    return ResidueRef(
        name=name,
        rows=written.rows,
        size=written.size,
        crc32=written.crc32,
        flags=_last_end(windows),
    )


def _place(stamp: Stamp) -> str:
    return f"segments/p{stamp.partition:05d}/{stamp.seq:012d}-{stamp.writer}"


def _last_end(windows: pa.Table) -> dict[str, int]:
    """Return the greatest end, in µs, for each flag key."""
    ends = pa.table({"flag_key": windows["flag_key"], "end": windows["window_end"].cast(pa.int64())})
    groups = ends.group_by("flag_key", use_threads=False).aggregate([("end", "max")])
    return dict(sorted(zip(groups["flag_key"].to_pylist(), groups["end_max"].to_pylist(), strict=True)))
