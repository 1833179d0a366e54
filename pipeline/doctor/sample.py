"""A sample of the three topics: what the rules look at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from contracts.columns import KINDS
from contracts.events import Kind

__all__ = ["NO_PRODUCER", "Batch", "Record", "Sample", "Topic"]

NO_PRODUCER = -1
"""The producer ID of a record whose producer has none, as it is not idempotent, or where none is known."""


class Record(NamedTuple):
    """A record as it lies in its topic: what `contracts.decode` reads, and who sent it."""

    offset: int
    timestamp: int
    """ms since the epoch; -1 is none."""
    timestamp_type: int
    """0: the producer's clock; 1: the broker's, at the append."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    producer_id: int = NO_PRODUCER


class Batch(NamedTuple):
    """The offsets `[first, end)` of one batch, and the ID of the idempotent producer that sent it."""

    first: int
    end: int
    producer_id: int


@dataclass(frozen=True, slots=True)
class Topic:
    """What was read of one topic; `partitions` is 0 where there is no such topic, or it may not be seen."""

    name: str
    partitions: int
    records: Mapping[int, Sequence[Record]] = field(default_factory=dict)
    """By partition, in offset order."""
    cut: frozenset[int] = frozenset()
    """Partitions of which older records are in Kafka, or were, and not in the sample."""
    unread: Mapping[int, str] = field(default_factory=dict)
    """Partitions that were not read to their end, and why."""

    @property
    def count(self) -> int:
        """How many records were read."""
        return sum(map(len, self.records.values()))

    def sent_by(self, batches: Mapping[int, Sequence[Batch]]) -> "Topic":
        """Return the topic with the producers' IDs of these batches: by partition, in offset order."""
        records = {number: list(_sent_by(log, batches.get(number, ()))) for number, log in self.records.items()}
        return replace(self, records=records)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was read of the topics, and when: `taken_us` is this machine's clock."""

    exposures: Topic
    outcomes: Topic
    guardrails: Topic
    taken_us: int

    def __iter__(self) -> Iterator[Topic]:
        """Iterate over the topics, in the order of `KINDS`."""
        return iter((self.exposures, self.outcomes, self.guardrails))

    def kinds(self) -> Iterator[tuple[Kind, Topic]]:
        """Iterate over the topics with their kinds."""
        return zip(KINDS, self, strict=True)


def _sent_by(records: Sequence[Record], batches: Sequence[Batch]) -> Iterator[Record]:
    at = 0
    for record in records:
        while at < len(batches) and batches[at].end <= record.offset:
            at += 1
        known = at < len(batches) and batches[at].first <= record.offset
        yield record._replace(producer_id=batches[at].producer_id) if known else record
