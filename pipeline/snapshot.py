"""What a worker looks like at one instant: the values that metrics and health read. Pure.

Times are µs: points in time by the wall clock, spans by the monotonic one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.fetched import Fetched
from sinks.manifest import Stopped

__all__ = ["Observed", "PartitionSnapshot", "TopicSnapshot", "WorkerSnapshot"]


@dataclass(slots=True)
class Observed:
    """What is known of one topic of a partition besides its offsets: one for each, changed with every fetch.

    `end` is the next offset of a reader that has read everything, `heard_at` (monotonic) when a fetch last told of the
    topic, `record_time` that of the newest record that was read.
    """

    end: int
    heard_at: int
    record_time: int | None = None

    def take(self, fetched: Fetched, mono: int) -> None:
        """Take note of what a fetch told."""
        self.end, self.heard_at = max(self.end, fetched.end), mono
        if fetched.records:
            self.record_time = fetched.records[-1].timestamp * 1000


@dataclass(frozen=True, slots=True)
class TopicSnapshot:
    """How far a partition is in one of its topics.

    `next_offset` is the next to read, `committed` that of the newest manifest, `end` that of a reader that has read
    everything. `silent_for`: for how long no fetch has told of it.
    """

    next_offset: int
    committed: int
    end: int
    record_time: int | None
    silent_for: int

    @property
    def unread(self) -> int:
        """How many offsets are not read yet."""
        return max(self.end - self.next_offset, 0)

    @property
    def uncommitted(self) -> int:
        """How many offsets are read, but not in the lake yet."""
        return max(self.next_offset - self.committed, 0)

    def behind(self, now: int) -> int:
        """Return how old the newest record is that was read; 0 where all is read, or where none was."""
        return max(now - self.record_time, 0) if self.unread and self.record_time is not None else 0


@dataclass(frozen=True, slots=True)
class PartitionSnapshot:
    """One partition that is assigned to the worker.

    `waiting_for` is how long the oldest news has waited to be in the lake, 0 where there are none; `trouble` is what
    keeps them out of it, where that is known. `open_events` counts those in the lake without a fate, `state_bytes` the
    bytes of the files that the next close reads.
    """

    number: int
    seq: int
    topics: Mapping[str, TopicSnapshot]
    watermark: int | None
    closed_through: int | None
    buffered_rows: int
    buffered_bytes: int
    open_events: int
    state_bytes: int
    waiting_for: int
    trouble: str
    stopped: Stopped | None


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """The whole worker.

    `assigned`: it has been given its share of the partitions, which may be none. `full`: it reads nothing until a
    checkpoint makes room. `unacknowledged` counts dead letters and copies that no broker has taken yet, the oldest of
    which waits for `unacknowledged_for`.
    """

    now: int
    assigned: bool
    full: bool
    unacknowledged: int
    unacknowledged_for: int
    topic_partitions: int
    partitions: tuple[PartitionSnapshot, ...]
