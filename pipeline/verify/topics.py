"""Where the audit reads records: what it asks of a cluster, and a cluster in memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

__all__ = ["LaterTopics", "MemoryTopics", "Record", "Topics"]


class Record(NamedTuple):
    """A record as it lies in its topic."""

    offset: int
    timestamp: int
    """ms since the epoch; -1 is none."""
    appended: bool
    """Whether the timestamp is the broker's, made at the append."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Topics(Protocol):
    """The topics of a cluster, partition by partition, as a reader of committed records sees them."""

    def topic_id(self, topic: str) -> str | None:
        """Return the topic's ID; None if there is no such topic."""

    def first_offset(self, topic: str, partition: int) -> int:
        """Return the first offset that is still there."""

    def read(self, topic: str, partition: int, start: int, stop: int | None) -> Iterator[list[Record]]:
        """Yield the records of `[start, stop)` in offset order, some thousand at a time; to the end if `stop` is None.

        Ends early where the topic does. `OffsetsLost` if `start` is no longer there, `KafkaUnavailable` if no broker
        answers.
        """


@dataclass(frozen=True, slots=True)
class LaterTopics:
    """Other topics, of which the records before given offsets, by topic and partition, are as if they were gone."""

    topics: Topics
    starts: Mapping[tuple[str, int], int]

    def topic_id(self, topic: str) -> str | None:
        """See `Topics.topic_id`."""
        return self.topics.topic_id(topic)

    def first_offset(self, topic: str, partition: int) -> int:
        """See `Topics.first_offset`."""
        return max(self.topics.first_offset(topic, partition), self.starts.get((topic, partition), 0))

    def read(self, topic: str, partition: int, start: int, stop: int | None) -> Iterator[list[Record]]:
        """See `Topics.read`."""
        return self.topics.read(topic, partition, start, stop)


@dataclass(slots=True)
class MemoryTopics:
    """Topics in memory, by name and partition; the double for tests. A topic's ID is its name."""

    logs: Mapping[str, Mapping[int, Sequence[Record]]]
    first: Mapping[tuple[str, int], int] = field(default_factory=dict)
    batch: int = 1_000

    def topic_id(self, topic: str) -> str | None:
        """See `Topics.topic_id`."""
        return topic if topic in self.logs else None

    def first_offset(self, topic: str, partition: int) -> int:
        """See `Topics.first_offset`."""
        return self.first.get((topic, partition), 0)

    def read(self, topic: str, partition: int, start: int, stop: int | None) -> Iterator[list[Record]]:
        """See `Topics.read`."""
        records = [
            record
            for record in self.logs[topic].get(partition, ())
            if record.offset >= start and (stop is None or record.offset < stop)
        ]
        for place in range(0, len(records), self.batch):
            yield records[place : place + self.batch]
