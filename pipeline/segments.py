"""Segments over time: which ones a close still needs, and how many small ones become a few large ones.

A segment is either new, all of its events having arrived since the last close, or old, left undecided by a close. The
two are never merged: a close puts what it leaves undecided of the new events into one old segment, in place of the new
ones. An old segment loses its events only to time: whatever lies at or before its flag's `decided_through` is decided.
"""

from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.columns import EVENT, TIMESTAMP, utf8
from pipeline.close import Due, Horizon, Source, by_event_time
from sinks.manifest import ResidueRef, SegmentRef
from sinks.tables import RESIDUE

__all__ = ["has_aged", "is_new", "may_leave", "merge", "merge_plan", "merge_residue", "segment_rows"]

_FANOUT: Final = 10  # files of one size class that become one of the next
_CLASSES: Final = (
    4_000,
    32_000,
    250_000,
)  # rows at which a size class ends; larger files stay, or a merge is too large

_SEGMENT: Final = utf8(EVENT)


class Sized(Protocol):
    """A file of which the number of rows is known."""

    @property
    def rows(self) -> int:
        """The number of rows."""


_F = TypeVar("_F", bound=Sized)


def segment_rows(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Return buffered events as the rows of a segment: text in plain columns, sorted by event time.

    Events of one time keep their order.
    """
    return by_event_time(pa.Table.from_batches(batches, schema=EVENT)).cast(_SEGMENT)


def is_new(segment: SegmentRef, closed_offsets: Mapping[str, int]) -> bool:
    """Tell whether the segment's events arrived after the close that left `closed_offsets` (next offsets by topic)."""
    return any(last >= closed_offsets.get(topic, 0) for topic, (_, last) in segment.offsets.items())


def may_leave(segment: SegmentRef, horizons: Mapping[str, Horizon]) -> bool:
    """Tell whether all events of an old segment are decided, so that no close needs it again.

    `horizons` are those after the last close. For a new segment the question does not arise.
    """
    return all(_is_decided(newest, horizons.get(flag)) for flag, newest in segment.flags.items())


def has_aged(residue: ResidueRef, horizons: Mapping[str, Horizon], due: Due) -> bool:
    """Tell whether no event after the close of `due` can depend on any of the closed windows."""
    return all(
        end + 2 * horizons[flag].longest_window + due.allowed_lateness <= due.watermark
        for flag, end in residue.flags.items()
    )


def merge_plan(files: Sequence[_F]) -> list[list[_F]]:
    """Return the groups of files to merge, each into one: as soon as there are ten of about one size.

    So a partition has at most 27 small files and one for each 250,000 open events, and an event is rewritten three
    times at most. The files of a group keep their order.
    """
    classes: dict[int, list[_F]] = {}
    for file in files:
        classes.setdefault(bisect(_CLASSES, file.rows), []).append(file)
    return [group for size, group in sorted(classes.items()) if len(group) >= _FANOUT and size < len(_CLASSES)]


def merge(sources: Iterable[Source], horizons: Mapping[str, Horizon]) -> pa.Table:
    """Return the events of old segments that may be undecided, as the rows of one segment; none are left, no rows.

    The memory it takes is that of all rows.
    """
    return by_event_time(pa.concat_tables([_undecided(_read(source, _SEGMENT), horizons) for source in sources]))


def merge_residue(sources: Iterable[Source], horizons: Mapping[str, Horizon], due: Due) -> pa.Table:
    """Return the closed windows on which events after the close of `due` may still depend."""
    table = pa.concat_tables([_read(source, RESIDUE) for source in sources])
    bounds = {
        flag: due.watermark - 2 * horizon.longest_window - due.allowed_lateness for flag, horizon in horizons.items()
    }
    return table.filter(_after(table["window_end"], table["flag_key"], bounds))


def _is_decided(time: int, horizon: Horizon | None) -> bool:
    return horizon is not None and horizon.decided_through is not None and time <= horizon.decided_through


def _undecided(events: pa.Table, horizons: Mapping[str, Horizon]) -> pa.Table:
    bounds = {flag: each.decided_through for flag, each in horizons.items() if each.decided_through is not None}
    return events.filter(_after(events["event_time"], events["flag_key"], bounds))


def _after(times: pa.ChunkedArray, flags: pa.ChunkedArray, bounds: Mapping[str, int]) -> pa.ChunkedArray:
    """Tell which times lie after the bound of their flag; those of a flag without one do."""
    keep = pc.is_valid(times)
    for flag, bound in bounds.items():
        gone = pc.and_(pc.equal(flags, flag), pc.less_equal(times, pa.scalar(bound, TIMESTAMP)))
        keep = pc.and_not(keep, gone)
    return keep


def _read(source: Source, schema: pa.Schema) -> pa.Table:
    table = pq.read_table(source, schema=schema) if isinstance(source, str) else source
    return table.cast(schema)
