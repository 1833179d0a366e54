"""Where letters are read: what is asked of a cluster, and a cluster in memory to read from and to send to."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from contracts.errors import KafkaUnavailable
from contracts.placement import murmur2_partition
from pipeline.dlq.places import Place
from pipeline.outbox import Letter as Message
from pipeline.verify.topics import Record

__all__ = ["Bounds", "MemoryPost", "MemoryReader", "Reader"]


class Bounds(NamedTuple):
    """What a partition holds: the offsets `[first, end)`."""

    first: int
    end: int


class Reader(Protocol):
    """The topics of a cluster, many partitions at once, as a reader of committed records sees them."""

    def topic_id(self, topic: str) -> str | None:
        """Return the topic's ID; None if there is no such topic."""

    def bounds(self, topic: str) -> Mapping[int, Bounds]:
        """Return what each partition holds now; none if there is no such topic. Raises KafkaUnavailable."""

    def read(self, spans: Mapping[tuple[str, int], Bounds]) -> Iterator[list[tuple[Place, Record]]]:
        """Yield the records of those partitions and offsets, some thousand at a time, each partition in offset order.

        Spans must lie within the bounds; offsets without a record are passed over. Raises KafkaUnavailable.
        """


@dataclass(slots=True)
class MemoryReader:
    """Topics in memory, by name and partition; the double for tests. A topic's ID is its name."""

    logs: dict[str, dict[int, list[Record]]]
    first: dict[tuple[str, int], int] = field(default_factory=dict)
    batch: int = 100

    def topic_id(self, topic: str) -> str | None:
        """See `Reader.topic_id`."""
        return topic if topic in self.logs else None

    def bounds(self, topic: str) -> Mapping[int, Bounds]:
        """See `Reader.bounds`."""
        return {
            partition: Bounds(self.first.get((topic, partition), 0), log[-1].offset + 1 if log else 0)
            for partition, log in self.logs.get(topic, {}).items()
        }

    def read(self, spans: Mapping[tuple[str, int], Bounds]) -> Iterator[list[tuple[Place, Record]]]:
        """See `Reader.read`."""
        for (topic, partition), (first, end) in spans.items():
            records = [record for record in self.logs[topic][partition] if first <= record.offset < end]
            for start in range(0, len(records), self.batch):
                yield [(Place(topic, partition, each.offset), each) for each in records[start : start + self.batch]]


@dataclass(slots=True)
class MemoryPost:
    """Sends to topics in memory; the double for tests. After `lives` records it is dead, as in a killed process."""

    topics: MemoryReader
    lives: int | None = None

    def send(self, letter: Message) -> None:
        """See `pipeline.dlq.replay.Post.send`; without a partition the key decides."""
        self.flush(lambda: True)
        log = self.topics.logs[letter.topic]
        partition = letter.partition
        if partition < 0:
            partition = int(murmur2_partition([(letter.key or b"").decode()], len(log))[0])
        headers = tuple(letter.headers)
        record = Record(len(log[partition]), letter.timestamp, False, letter.key, letter.value, headers)  # noqa: FBT003
        log[partition].append(record)
        if self.lives is not None:
            self.lives -= 1

    def flush(self, give_up: Callable[[], bool]) -> None:
        """See `pipeline.dlq.replay.Post.flush`."""
        if self.lives == 0 and give_up():
            raise KafkaUnavailable("the process is dead; start another")
