"""What the lake holds of one partition, by its manifest: every file read once, every row counted and set aside."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.columns import TIMESTAMP
from pipeline.verify.account import Account
from pipeline.verify.buckets import Buckets
from pipeline.verify.files import PartitionFiles
from pipeline.verify.letters import BY_CLOSE, Refusals
from pipeline.verify.rows import ROWS, Row
from sinks.manifest import FileRef, Range

__all__ = ["Stock"]

_NEVER: Final = -(2**62)  # before any event


@dataclass(slots=True)
class Stock:
    """Takes stock of one partition: `files` are read, `account` and `refusals` filled, rows set aside in `buckets`."""

    files: PartitionFiles
    account: Account
    refusals: Refusals
    buckets: Buckets | None
    _totals: Counter[str] = field(default_factory=Counter)

    def take(self, tables: Iterable[FileRef], undelivered: Mapping[str, Sequence[Range]]) -> None:
        """Read all files of the partition; judge them, the account and the totals."""
        manifest = self.files.manifest
        for file in tables:
            for batch in self.files.table(file):
                self._count(file.table, batch)
                self._set_aside(file.table, batch)
        for topic, ranges in undelivered.items():
            self.account.undelivered(topic, ranges)
            self._totals["undelivered"] += sum(end - first for first, end in ranges)
        for segment in manifest.segments:
            for batch in self.files.segment(segment):
                self._count_open(batch)
                self._set_aside("open", batch)
        for residue in manifest.residue:
            self.files.residue(residue)
        self.account.judge(self.files.findings)
        self._compare_totals()

    def _set_aside(self, name: str, batch: pa.RecordBatch) -> None:
        if self.buckets is not None and name in ROWS:
            self.buckets.add(name, rows_of(batch, name))

    def _count(self, table: str, batch: pa.RecordBatch) -> None:
        if table == "facts":
            self._totals["facts"] += batch.num_rows
            return
        for topic, rows in _by_topic(batch):
            self.account.decided(topic, _ints(rows, "offset"))
        if table == "events":
            self._totals["joined"] += batch.num_rows
            return
        for each in batch.column("reason").value_counts().to_pylist():
            self._totals[f"{table}.{each['values']}"] += each["counts"]
        if table == "unjoined":
            closed = pc.is_in(batch.column("reason"), pa.array(sorted(BY_CLOSE)))
            self._note(
                batch.filter(closed).append_column("record_time", pa.nulls(pc.sum(closed).as_py() or 0, TIMESTAMP))
            )
        else:
            self._look_at_refused(batch)
            self._note(batch)

    def _note(self, batch: pa.RecordBatch) -> None:
        """Take note of records that were refused, or left unjoined with a dead letter."""
        for topic, rows in _by_topic(batch):
            times = rows.column("record_time").cast(pa.int64()).fill_null(0)
            offsets, reasons = rows.column("offset").to_pylist(), rows.column("reason").to_pylist()
            self.refusals.add(topic, offsets, reasons, times.to_pylist())

    def _look_at_refused(self, batch: pa.RecordBatch) -> None:
        columns = (batch.column(name).to_pylist() for name in ("reason", "stage", "partition"))
        for reason, stage, partition in zip(*columns, strict=True):
            if stage != _STAGES.get(reason) or partition != self.files.manifest.partition:
                told = f"{reason}: {stage} [{partition}]"
                self.files.findings.wrong("refused", "of another stage or partition", told)

    def _count_open(self, batch: pa.RecordBatch) -> None:
        """Take note of open events, and of which it is known that a close has decided them."""
        manifest = self.files.manifest
        closed = {topic.name: topic.closed_offset for topic in manifest.topics.values()}
        bounds = {flag: each.decided_through for flag, each in manifest.horizons.items()}
        for topic, rows in _by_topic(batch):
            offsets, times = _ints(rows, "offset"), _ints(rows, "event_time")
            found = [bounds.get(flag) for flag in rows.column("flag_key").to_pylist()]
            through = np.array([_NEVER if bound is None else bound for bound in found], np.int64)
            self.account.open(topic, offsets, (times <= through) & (offsets < closed.get(topic, 0)))

    def _compare_totals(self) -> None:
        manifest, findings = self.files.manifest, self.files.findings
        for fate in sorted({*+self._totals, *manifest.totals}):
            told, counted = manifest.totals.get(fate, 0), self._totals[fate]
            findings.did("totals", "totals")
            if told != counted:
                example = f"partition {manifest.partition}: {fate} is {told}, the files have {counted}"
                findings.wrong("totals", "that do not add up", example)


def rows_of(batch: pa.RecordBatch, name: str) -> Iterator[Row]:
    """Return the rows as values; `name` is one of ROWS."""
    kind = ROWS[name]
    return map(kind, *(_plain(batch.column(field)) for field in kind.__struct_fields__))


def _plain(column: pa.Array) -> list[Any]:
    """Return the values: times as µs, maps as dictionaries."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_map(column.type):  # several times as fast as its own `to_pylist`
        ends, keys, items = column.offsets.to_pylist(), column.keys.to_pylist(), column.items.to_pylist()
        return [dict(zip(keys[begin:end], items[begin:end], strict=True)) for begin, end in pairwise(ends)]
    return column.to_pylist()  # type: ignore[no-any-return]


_STAGES: Final = {
    **dict.fromkeys(("tombstone", "not_json", "bad_framing", "too_large", "internal"), "decode"),
    **dict.fromkeys(("schema_violation", "unknown_flag", "unknown_variation", "future_timestamp"), "validate"),
    **dict.fromkeys(("misplaced", "rerouted"), "placement"),
}


def _by_topic(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    for topic in batch.column("topic").unique().to_pylist():
        yield topic, batch.filter(pc.equal(batch.column("topic"), topic))


def _ints(batch: pa.RecordBatch, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    return batch.column(name).cast(pa.int64()).to_numpy()  # type: ignore[no-any-return]
