"""One partition of the three copartitioned topics between two checkpoints: what was read since the last, and no more.

Knows no Faust, no clock and no disk. Times are arguments: `now` is wall-clock time and `mono` monotonic time, both in
microseconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.dead_letters import ORIGIN_HEADER, TIMESTAMP_HEADER
from contracts.decode import Decoder, Record, Refusal
from contracts.events import Kind
from contracts.placement import murmur2_partition, partitioner_of
from contracts.times import format_time
from pipeline.breaker import Breaker, Limits
from pipeline.fetched import Fetched
from pipeline.letters import Sender
from pipeline.outbox import Letter
from pipeline.watermark import JointWatermark
from sinks.manifest import Manifest, Range, Stopped

__all__ = ["Frozen", "Partition", "Refused", "Rules"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a partition is read by; the same for all partitions of a worker. Times in µs."""

    sender: Sender
    partitions: int
    reroute: bool
    breaker: Limits
    out_of_orderness: int
    idle_timeout: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that reached no event: one row of the table `refused`."""

    reason: str
    stage: str
    topic: str
    offset: int
    record_time: int


@dataclass(frozen=True, slots=True)
class Frozen:
    """What lies between the last checkpoint and the next: the input of a checkpoint, and never changed again.

    `next_offsets` and `undelivered` are by topic; `versions` has the first and last offset that each contract version
    validated, by version and topic.
    """

    next_offsets: Mapping[str, int]
    events: Sequence[pa.RecordBatch]
    refused: Sequence[Refused]
    undelivered: Mapping[str, Sequence[Range]]
    versions: Mapping[str, Mapping[str, tuple[int, int]]]
    watermark: int | None
    stopped: Stopped | None

    @property
    def rows(self) -> int:
        """How many events it holds."""
        return sum(batch.num_rows for batch in self.events)


@dataclass(slots=True)
class _Buffer:
    """What arrived since the last freeze."""

    since: int | None = None  # mono
    rows: int = 0
    bytes: int = 0
    events: list[pa.RecordBatch] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    undelivered: dict[str, list[Range]] = field(default_factory=dict)
    versions: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)


class Partition:
    """Takes whole fetches in, validates and places their records, and hands out what a checkpoint makes durable.

    Dead letters and rerouted copies go to `send` while reading, each before the offset that it stands for is frozen.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it goes on from, and what the shell provides
        self,
        number: int,
        kinds: Mapping[str, Kind],
        start: Mapping[str, int],
        manifest: Manifest | None,
        rules: Rules,
        decoder: Decoder,
        send: Callable[[Letter], None],
    ) -> None:
        """Go on from `manifest`, or from the offsets `start` where the partition has none.

        `kinds` maps each topic to its kind of event.
        """
        self.number = number
        self.decoder = decoder
        self.next_offsets: dict[str, int] = dict(start)
        self.stopped: Stopped | None = manifest.stopped if manifest else None
        self.misplaced: dict[str, int] = {}
        self._kinds = kinds
        self._rules = rules
        self._send = send
        self._watermark = JointWatermark(
            kinds,
            out_of_orderness=rules.out_of_orderness,
            idle_timeout=rules.idle_timeout,
            watermark=manifest.watermark if manifest else None,
        )
        self._breakers = {topic: Breaker(rules.breaker) for topic in kinds}
        self._complaints = dict.fromkeys(kinds, "")  # what was wrong with the last record that was refused
        self._buffer = _Buffer()

    @property
    def buffered_rows(self) -> int:
        """How many events wait for the next checkpoint."""
        return self._buffer.rows

    @property
    def buffered_bytes(self) -> int:
        """How many bytes they take."""
        return self._buffer.bytes

    def age(self, mono: int) -> int:
        """Return for how long the oldest news has waited for a checkpoint, in µs; 0 where there are none."""
        return 0 if self._buffer.since is None else mono - self._buffer.since

    def accept(self, topic: str, fetched: Fetched, now: int, mono: int) -> bool:
        """Take in what a fetch brought; return False if it does not go on from the next offset.

        Then something was dropped on the way, and the caller must have the topic read again from `next_offsets`. News
        from before the next offset are leftovers of an earlier position; they are ignored.
        """
        expected = self.next_offsets[topic]
        if fetched.start != expected:
            return fetched.start < expected
        if fetched.next_offset > expected:
            self._buffer.since = mono if self._buffer.since is None else self._buffer.since
            self._note_undelivered(topic, fetched)
            self.next_offsets[topic] = fetched.next_offset
        if fetched.records:
            self._read(topic, fetched.records, now)
        if fetched.at_end:
            self._watermark.at_end(topic, mono)
        return True

    def advance(self, mono: int) -> int | None:
        """Return the watermark at `mono`, in µs of event time; None before the first event."""
        return self._watermark.advance(mono)

    def freeze(self, mono: int) -> Frozen:
        """Hand over what was read since the last freeze, and begin anew."""
        buffer, self._buffer = self._buffer, _Buffer()
        for breaker in self._breakers.values():
            breaker.reset()
        return Frozen(
            next_offsets=dict(self.next_offsets),
            events=tuple(buffer.events),
            refused=tuple(buffer.refused),
            undelivered=buffer.undelivered,
            versions=buffer.versions,
            watermark=self.advance(mono),
            stopped=self.stopped,
        )

    def end(self, goals: Mapping[str, int], mono: int) -> None:
        """Treat every topic that was read to exactly its offset in `goals` as at its end."""
        for topic, goal in goals.items():
            if self.next_offsets[topic] == goal:
                self._watermark.at_end(topic, mono)

    def closed_through(self, watermark: int) -> None:
        """Take note that a close decided everything up to `watermark`, which may be beyond the own one."""
        self._watermark.restore(watermark)

    def _note_undelivered(self, topic: str, fetched: Fetched) -> None:
        missing = fetched.next_offset - fetched.start - len(fetched.records)
        if missing:
            offsets = [fetched.start - 1, *(record.offset for record in fetched.records), fetched.next_offset]
            ranges = [(a + 1, b) for a, b in pairwise(offsets) if b > a + 1]
            self._buffer.undelivered.setdefault(topic, []).extend(ranges)

    def _read(self, topic: str, records: Sequence[Record], now: int) -> None:
        decoded = self.decoder.decode(self._kinds[topic], topic, records, now)
        for refusal in decoded.refused:
            self._refuse(topic, refusal, now)
        self._note_versions(topic, decoded.events)
        events = self._placed(topic, decoded.events, records, now)
        latest = None
        if events.num_rows:
            self._keep(events)
            latest = pc.max(events["event_time"]).value
        self._watermark.observe(topic, latest)
        self._watch(topic, records, decoded.refused, now)

    def _placed(self, topic: str, events: pa.RecordBatch, records: Sequence[Record], now: int) -> pa.RecordBatch:
        """Return the events that lie in the partition of their unit ID, and see to the others."""
        here = murmur2_partition(events["unit_id"], self._rules.partitions) == self.number
        if here.all():
            return events
        by_offset = {record.offset: record for record in records}
        for row in np.flatnonzero(~here).tolist():
            self._misplace(topic, events.slice(row, 1), by_offset[events["offset"][row].as_py()], now)
        return events.filter(pa.array(here))

    def _misplace(self, topic: str, event: pa.RecordBatch, record: Record, now: int) -> None:
        unit = event["unit_id"][0].as_py()
        placed_by = partitioner_of(unit.encode(), self.number, self._rules.partitions)
        self.misplaced[placed_by] = self.misplaced.get(placed_by, 0) + 1
        headers = list(record.headers)
        if not self._rules.reroute or any(name == ORIGIN_HEADER for name, _ in headers):
            message = (
                f"the key of unit {unit[:80]!r} was placed in partition {self.number} by {placed_by}; "
                "set partitioner=murmur2_random in the producer"
            )
            self._refuse(topic, Refusal("misplaced", "placement", message, "[]", record), now)
            return
        if not any(name == TIMESTAMP_HEADER for name, _ in headers):
            headers.append((TIMESTAMP_HEADER, format_time(record.timestamp * 1000).encode()))
        headers.append((ORIGIN_HEADER, f"{topic}/{self.number}/{record.offset}".encode()))
        target = int(murmur2_partition([unit], self._rules.partitions)[0])
        self._send(Letter(topic, target, record.key, record.value, headers, record.timestamp))
        self._buffer.refused.append(Refused("rerouted", "placement", topic, record.offset, record.timestamp * 1000))

    def _refuse(self, topic: str, refusal: Refusal, now: int) -> None:
        self._send(self._rules.sender.refused(refusal, topic, self.number, now))
        record = refusal.record
        self._buffer.refused.append(
            Refused(refusal.reason, refusal.stage, topic, record.offset, max(record.timestamp, 0) * 1000)
        )

    def _keep(self, events: pa.RecordBatch) -> None:
        buffer = self._buffer
        buffer.events.append(events)
        buffer.rows += events.num_rows
        buffer.bytes += events.nbytes

    def _note_versions(self, topic: str, events: pa.RecordBatch) -> None:
        versions, offsets = events["contract_version"], events["offset"].to_numpy()
        for code, version in enumerate(versions.dictionary.to_pylist()):
            used = offsets[versions.indices.to_numpy() == code]
            if used.size:
                spans = self._buffer.versions.setdefault(version, {})
                first, _ = spans.get(topic, (int(used[0]), 0))
                spans[topic] = (first, int(used[-1]))

    def _watch(self, topic: str, records: Sequence[Record], refused: Sequence[Refusal], now: int) -> None:
        if self.stopped is not None:
            return
        if refused:
            self._complaints[topic] = refused[-1].message
        places = {record.offset: place for place, record in enumerate(records)} if refused else {}
        why = self._breakers[topic].observe(len(records), [places[refusal.record.offset] for refusal in refused])
        if why is not None:
            self.stopped = Stopped(reason=why, topic=topic, at=now, details=self._complaints[topic])
