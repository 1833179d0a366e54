"""A sample of the three topics: what the rules look at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from contracts.columns import KINDS
from contracts.events import Kind

__all__ = ["NO_PRODUCER", "Record", "Sample", "Topic"]

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
