"""The caller of the close, without files or Kafka: what one partition keeps between two closes.

A chain holds exactly what the lake would: segments, residue, horizons, the offsets of the last close. It takes events
into a buffer, turns the buffer into a segment at a checkpoint, and at a close hands all of it to `pipeline.close`. What
a crash loses is the buffer.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.columns import EVENT, utf8
from contracts.flags import Contract
from pipeline.close import Closed, Due, Horizon, close
from pipeline.segments import remaining
from tests.properties.events import Event, coded_table, plain_table
from tests.properties.oracle import Row, Rows

__all__ = ["Chain", "rows_of", "waiting"]

_MAPS: Final = frozenset({"metrics", "attributes", "values"})


@dataclass(slots=True)
class Kept:
    """What survives a crash."""

    closed_through: int | None = None
    horizons: dict[str, Horizon] = field(default_factory=dict)
    versions: set[str] = field(default_factory=set)
    segments: list[pa.Table] = field(default_factory=list)  # undecided at the last close
    fresh: list[pa.Table] = field(default_factory=list)  # checkpointed since
    residue: list[pa.Table] = field(default_factory=list)


class Chain:
    """One partition's chain of checkpoints.

    `contracts` by version; `used` are the versions in use before the first event. With a directory, segments and
    residue are Parquet files that the close reads by path; without, tables in memory.
    """

    def __init__(
        self,
        contracts: Mapping[str, Contract],
        allowed_lateness: int,
        partition: int,
        used: Iterable[str] = (),
        directory: Path | None = None,
    ) -> None:
        """Begin with an empty chain."""
        self._contracts = contracts
        self._allowed_lateness = allowed_lateness
        self._partition = partition
        self._directory = directory
        self._files = 0
        self._kept = Kept()
        self._buffer: list[Event] = []
        for version in used:
            self._use(version)

    def arrive(self, events: Iterable[Event]) -> None:
        """Take events into the buffer; their offsets ascend within each topic."""
        for event in events:
            self._use(event.contract_version)
            self._buffer.append(event)

    def checkpoint(self) -> None:
        """Make the buffer durable as a segment of its own, without a close."""
        if self._buffer:
            self._kept.fresh.append(plain_table(self._buffer))
        self._buffer = []

    def crash(self) -> list[Event]:
        """Lose the buffer and return it: the events that will be read again."""
        lost, self._buffer = self._buffer, []
        return lost

    def due(self, watermark: int) -> Due:
        """Return what a close at the watermark would be given now; nothing changes."""
        kept = self._kept
        buffer = [coded_table(self._buffer)] if self._buffer else []
        return Due(
            partition=self._partition,
            closed_through=kept.closed_through,
            watermark=watermark,
            allowed_lateness=self._allowed_lateness,
            horizons=dict(kept.horizons),
            contracts={version: self._contracts[version] for version in kept.versions},
            old=[*map(self._source, kept.segments)],
            new=[*map(self._source, kept.fresh), *buffer],
            residue=[*map(self._source, kept.residue)],
        )

    def close(self, watermark: int) -> Rows:
        """Close through the watermark, commit, and return what it publishes."""
        due = self.due(watermark)
        closed = close(due)
        self.commit(due, closed)
        return published(closed)

    def attempt(self, watermark: int) -> Closed:
        """Close through the watermark without a commit: nothing changes."""
        return close(self.due(watermark))

    def commit(self, due: Due, closed: Closed) -> None:
        """Keep what the close leaves.

        What was checkpointed since the last close stays whole, decided events and all, wherever a later close can tell
        that they are: as many of them as can be, more than a checkpoint would. A segment stays until the newest of its
        events is decided, residue until nothing can ask for it.
        """
        self.checkpoint()
        kept = self._kept
        fresh = zip(kept.fresh, closed.decided, strict=True)
        rest = [
            pa.concat_tables([EVENT.empty_table(), *remaining(table, decided)]).cast(utf8(EVENT))
            if decided.forgotten
            else table
            for table, decided in fresh
        ]
        kept.closed_through = due.watermark
        kept.horizons |= closed.horizons
        kept.segments = [segment for segment in [*kept.segments, *rest] if not self._decided(segment)]
        kept.fresh = []
        kept.residue += [closed.residue] if closed.residue.num_rows else []
        kept.residue = [residue for residue in kept.residue if not self._aged(residue, due.watermark)]

    def merge(self) -> None:
        """Merge the old segments into one, without the events that the horizon says are decided."""
        if len(self._kept.segments) > 1:
            merged = (
                pa.concat_tables([each.cast(utf8(EVENT)) for each in self._kept.segments])
                .sort_by("event_time")
                .to_pylist()
            )
            open_rows = [row for row in merged if not self._behind(row["flag_key"], micros(row["event_time"]))]
            self._kept.segments = [pa.Table.from_pylist(open_rows, schema=utf8(EVENT))]

    @property
    def horizons(self) -> Mapping[str, Horizon]:
        """What the last close left of each flag's horizon."""
        return self._kept.horizons

    @property
    def open_tables(self) -> list[pa.Table]:
        """The tables that hold the open events; decided ones may be among them."""
        return [*self._kept.segments, *self._kept.fresh, *([plain_table(self._buffer)] if self._buffer else [])]

    def _use(self, version: str) -> None:
        contract = self._contracts[version]
        self._kept.versions.add(version)
        before = self._kept.horizons.get(contract.flag_key, Horizon(0, None))
        longest = max(before.longest_window, contract.window_us)
        self._kept.horizons[contract.flag_key] = Horizon(longest, before.decided_through)

    def _behind(self, flag_key: str, event_time: int) -> bool:
        decided_through = self._kept.horizons[flag_key].decided_through
        return decided_through is not None and event_time <= decided_through

    def _decided(self, segment: pa.Table) -> bool:
        return all(self._behind(flag, newest) for flag, newest in latest(segment, "event_time"))

    def _aged(self, residue: pa.Table, watermark: int) -> bool:
        past = watermark - self._allowed_lateness
        ends = latest(residue, "window_end")
        return all(end + 2 * self._kept.horizons[flag].longest_window <= past for flag, end in ends)

    def _source(self, table: pa.Table) -> str | pa.Table:
        if self._directory is None:
            return table
        self._files += 1
        path = str(self._directory / f"{self._files}.parquet")
        pq.write_table(table, path)
        return path


def waiting(due: Due, closed: Closed) -> pa.Table:
    """Return the new events that the close left undecided, text written out."""
    rest = chain.from_iterable(map(remaining, due.new, closed.decided))
    return pa.concat_tables([utf8(EVENT).empty_table(), *(rows.cast(utf8(EVENT)) for rows in rest)])


def latest(table: pa.Table, column: str) -> Iterator[tuple[str, int]]:
    """Yield each flag with the latest time of the column in µs."""
    times = table.select(["flag_key"]).append_column("at", pc.cast(table[column], pa.int64()))
    for row in times.group_by("flag_key").aggregate([("at", "max")]).to_pylist():
        yield row["flag_key"], row["at_max"]


def micros(instant: Any) -> int:  # noqa: ANN401 - a datetime, or a number already
    """Return a time of a row as µs since the epoch."""
    return pa.scalar(instant, pa.timestamp("us", tz="UTC")).cast(pa.int64()).as_py()  # type: ignore[no-any-return]


def published(closed: Closed) -> Rows:
    """Return the published tables of a close as plain rows."""
    return Rows(*map(rows_of, (closed.facts, closed.events, closed.unjoined, closed.dead_letters)))


def rows_of(table: pa.Table) -> list[Row]:
    """Return the table as dicts: times in µs, maps as dicts."""
    for index, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type):
            table = table.set_column(index, column.name, pc.cast(table[column.name], pa.int64()))
    rows: list[Row] = table.to_pylist()
    for row in rows:
        row |= {name: dict(row[name] or ()) for name in _MAPS & row.keys()}
    return rows
