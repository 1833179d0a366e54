"""The topics of one partition, read again: what each record is, held against what the lake refused and passed over."""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from contracts.flags import Contract
from pipeline.preflight import DLQ_SUFFIX
from pipeline.verify.buckets import Buckets
from pipeline.verify.letters import BY_CLOSE, Refusals
from pipeline.verify.reading import Faults, InForce, Reader, origins
from pipeline.verify.report import Findings
from pipeline.verify.rows import Event
from pipeline.verify.topics import Record, Topics
from sinks.manifest import Manifest, Range, TopicState, merged

__all__ = ["Copies", "Replay"]

_ON_TRUST = frozenset({"too_large", "future_timestamp", "internal", "unknown_flag", "unknown_variation"})
"""Reasons that depend on a setting, a clock or the flag files of that time: a record that seems right may have them."""


@dataclass(slots=True)
class Copies:
    """Rerouted records and the copies of such, by topic: partition and offset of the origin in one number.

    Of topics in `cut` not all was read: a copy may lie in what was not.
    """

    expected: dict[str, "array[int]"] = field(default_factory=dict)
    found: dict[str, "array[int]"] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)

    def add(self, other: "Copies") -> None:
        """Add those of another partition."""
        self.cut |= other.cut
        for own, others in (self.expected, other.expected), (self.found, other.found):
            for topic, numbers in others.items():
                own.setdefault(topic, array("q")).extend(numbers)

    def find(self, records: Sequence[Record]) -> None:
        """Take note of copies among the records."""
        for topic, partition, offset in origins(records):
            self.found.setdefault(topic, array("q")).append(packed(partition, offset))


def packed(partition: int, offset: int) -> int:
    """Return partition and offset as one number."""
    return partition << 44 | offset


@dataclass(slots=True)
class Replay:
    """Reads the topics of one partition up to where its manifest has come."""

    topics: Topics
    manifest: Manifest
    refusals: Refusals
    findings: Findings
    progress: Callable[[int], None] = lambda _: None

    def missing(self) -> str | None:
        """Return why one of the topics cannot be read at all; None if they can."""
        for topic in self.manifest.topics.values():
            found = self.topics.topic_id(topic.name)
            if found is None:
                return f"topic {topic.name} does not exist any more"
            if found != topic.topic_id:
                return f"topic {topic.name} was deleted and made again: its records are others"
        return None

    def starts(self) -> dict[str, int]:
        """Return the offsets from which topics can be read, of those that the chain has read from an earlier one."""
        held = {topic.name: self._start(topic) for topic in self.manifest.topics.values()}
        return {
            topic.name: held[topic.name]
            for topic in self.manifest.topics.values()
            if topic.first_offset < held[topic.name]
        }

    def read(
        self,
        contracts: Mapping[str, Contract],
        undelivered: Mapping[str, Sequence[Range]],
        buckets: Buckets | None,
        copies: Copies,
    ) -> None:
        """Read every record; judge input and refusals; set valid events aside in `buckets`, if there are."""
        for kind, topic in self.manifest.topics.items():
            if self.topics.topic_id(topic.name) != topic.topic_id:
                continue
            in_force = InForce(topic.name, self.manifest.contracts, contracts)
            reader = Reader(kind, topic.name, self.manifest.partition, topic.partitions, in_force)
            start = self._start(topic)
            if start > topic.first_offset:
                copies.cut.add(topic.name)
                self.progress(start - topic.first_offset)
            position, gaps = start, []
            for records in self._records(topic, start):
                for record in records:
                    if record.offset > position:
                        gaps.append((position, record.offset))
                    position = record.offset + 1
                copies.find(records)
                events = self._judge(topic.name, records, reader.read(records))
                if buckets is not None:
                    buckets.add("records", events)
                self.findings.did("input", "records", len(records))
                self.progress(len(records))
            if position < topic.next_offset:
                gaps.append((position, topic.next_offset))
            self._compare_gaps(topic, start, merged(gaps), undelivered.get(topic.name, ()))
            count, offset = self.refusals.unmet(topic.name, start)
            if count:
                self.findings.wrong("refused", "without a record", self._place(topic.name, offset), count)
            rerouted = self.refusals.rerouted(topic.name).tolist()
            copies.expected.setdefault(topic.name, array("q")).extend(
                packed(self.manifest.partition, offset) for offset in rerouted if offset >= start
            )

    def read_letters(self) -> None:
        """Read the dead letters of the partition; judge whether all are there."""
        partition = self.manifest.partition
        for topic in self.manifest.topics.values():
            letters = topic.name + DLQ_SUFFIX
            if self.topics.topic_id(letters) is None:
                self.findings.undone(f"topic {letters} does not exist", "dead letters")
                continue
            first = self.topics.first_offset(letters, partition)
            for records in self.topics.read(letters, partition, first, None):
                self.refusals.receive(topic.name, records, self.findings)
            self.refusals.judge(topic.name, self.findings, first)

    def _start(self, topic: TopicState) -> int:
        held = self.topics.first_offset(topic.name, self.manifest.partition)
        return min(max(topic.first_offset, held), topic.next_offset)

    def _records(self, topic: TopicState, start: int) -> Iterator[list[Record]]:
        if start < topic.next_offset:
            yield from self.topics.read(topic.name, self.manifest.partition, start, topic.next_offset)

    def _judge(self, topic: str, records: Sequence[Record], read: Sequence[Event | Faults]) -> list[Event]:
        """Compare with what the lake has refused; return the events that it should have taken."""
        events = []
        refused = self.refusals.between(topic, records[0].offset, records[-1].offset)
        for record, judged in zip(records, read, strict=True):
            reason, time, place = refused.get(record.offset, (None, 0, 0))
            if reason is not None:
                self.refusals.meet(topic, place, record)
            if reason is None or reason in BY_CLOSE:
                if isinstance(judged, Event):
                    events.append(judged)
                else:
                    self.findings.wrong(
                        "refused", "not refused", f"{self._place(topic, record.offset)}: {_told(judged)}"
                    )
                continue
            self.findings.did("refused", "refused")
            if time != max(record.timestamp, 0) * 1_000:
                self.findings.wrong("refused", "with another record time", self._place(topic, record.offset))
            if isinstance(judged, Event) or reason not in judged:
                if reason in _ON_TRUST:
                    self.findings.did("refused", f"{reason} on trust")
                else:
                    right = "valid" if isinstance(judged, Event) else _told(judged)
                    told = f"{self._place(topic, record.offset)}: {reason}, it is {right}"
                    self.findings.wrong("refused", "refused wrongly", told)
        return events

    def _compare_gaps(self, topic: TopicState, start: int, gaps: Sequence[Range], told: Sequence[Range]) -> None:
        told = [(max(first, start), end) for first, end in told if end > start]
        for first, end in _without(gaps, told):
            self.findings.wrong("input", "gone from the topic", self._place(topic.name, first), end - first)
        for first, end in _without(told, gaps):
            self.findings.wrong("input", "passed over", self._place(topic.name, first), end - first)
        self.findings.did("input", "without record", sum(end - first for first, end in gaps))

    def _place(self, topic: str, offset: int) -> str:
        return f"{topic} [{self.manifest.partition}] offset {offset}"


def _told(faults: Faults) -> str:
    return " or ".join(sorted(faults))


def _without(these: Sequence[Range], those: Sequence[Range]) -> Iterator[Range]:
    """Yield what of the half-open ranges none of those covers; both are sorted and apart."""
    place = 0
    for first, end in these:
        begin = first
        while place < len(those) and those[place][1] <= begin:
            place += 1
        for other, following in those[place:]:
            if other >= end:
                break
            if begin < other:
                yield begin, other
            begin = max(begin, following)
        if begin < end:
            yield begin, end
