"""Segments over time: which ones a close still needs, and how many small ones become a few large ones.

A segment is either new, all of its events having arrived since the last close, or old, judged by a close. A close
leaves a new segment as it is where little of it is decided: later closes know such events by their time, or by the
closed windows that have them. Else it writes the rest anew. Old segments are merged, and lose their events to time
alone: whatever lies at or before its flag's `decided_through` is decided.
"""

from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.columns import TIMESTAMP
from pipeline.close import Decided, Due, Horizon
from pipeline.sources import Source, pieces, rows_in, rows_of
from sinks.manifest import ResidueRef, SegmentRef
from sinks.tables import RESIDUE

__all__ = [
    "has_aged",
    "is_new",
    "may_leave",
    "may_stay",
    "merge_plan",
    "merge_residue",
    "remaining",
    "undecided",
]

_FANOUT: Final = 10  # files of one size class that become one of the next
_CLASSES: Final = (4_000, 32_000, 250_000, 1_000_000)  # rows at which a size class ends; larger files stay


class Sized(Protocol):
    """A file of which the number of rows is known."""

    @property
    def rows(self) -> int:
        """The number of rows."""


_F = TypeVar("_F", bound=Sized)


def is_new(segment: SegmentRef, closed_offsets: Mapping[str, int]) -> bool:
    """Tell whether the segment's events arrived after the close that left `closed_offsets` (next offsets by topic)."""
    return any(last >= closed_offsets.get(topic, 0) for topic, (_, last) in segment.offsets.items())


def may_stay(rows: int, decided: Decided) -> bool:
    """Tell whether a new segment of so many rows may stay as it is after the close that decided some of it.

    Half of it may be decided: later closes pass over such events for less than it costs to write the others again.
    """
    return not decided.forgotten and 2 * len(decided.rows) <= rows


def remaining(source: Source, decided: Decided) -> Iterator[pa.Table]:
    """Yield the events of a source of the close without those that it decided, some thousands at a time."""
    return rows_of(source, np.delete(np.arange(rows_in(source)), decided.rows))


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

    So a partition has at most 36 small files and one for each million open events, and an event is rewritten four
    times at most. The files of a group keep their order.
    """
    classes: dict[int, list[_F]] = {}
    for file in files:
        classes.setdefault(bisect(_CLASSES, file.rows), []).append(file)
    return [group for size, group in sorted(classes.items()) if len(group) >= _FANOUT and size < len(_CLASSES)]


def undecided(sources: Iterable[Source], horizons: Mapping[str, Horizon]) -> Iterator[pa.Table]:
    """Yield the events of old segments that may be undecided, some thousands at a time."""
    bounds = {flag: each.decided_through for flag, each in horizons.items() if each.decided_through is not None}
    for source in sources:
        for events in pieces(source):
            yield events.filter(_after(events["event_time"], events["flag_key"], bounds))


def merge_residue(sources: Iterable[Source], horizons: Mapping[str, Horizon], due: Due) -> pa.Table:
    """Return the closed windows on which events after the close of `due` may still depend."""
    table = pa.concat_tables([_read(source, RESIDUE) for source in sources])
    bounds = {
        flag: due.watermark - 2 * horizon.longest_window - due.allowed_lateness for flag, horizon in horizons.items()
    }
    return table.filter(_after(table["window_end"], table["flag_key"], bounds))


def _is_decided(time: int, horizon: Horizon | None) -> bool:
    return horizon is not None and horizon.decided_through is not None and time <= horizon.decided_through


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
