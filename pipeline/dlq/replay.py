"""Sending what a plan says, in batches that a ledger keeps."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Protocol

from contracts.dead_letters import REPLAYED_HEADER
from contracts.errors import TopicsUnfit
from contracts.placement import murmur2_partition
from pipeline.dlq.decisions import Code, Policy, Sent, Subject
from pipeline.dlq.judging import Event, replay_headers
from pipeline.dlq.ledger import Ends, Ledger
from pipeline.dlq.letters import read_letter
from pipeline.dlq.places import Place
from pipeline.dlq.planning import Plan, full_spans
from pipeline.dlq.reading import Bounds, Reader
from pipeline.outbox import Letter as Message
from pipeline.verify.topics import Record

__all__ = ["Done", "Post", "Replay", "find_replayed"]

_BATCH: Final = 500  # records between two entries of the ledger, some 50 ms of sending
_BATCH_S: Final = 10.0  # or so long, where there is a rate
_BATCH_BYTES: Final = 32 << 20
_PATIENCE_S: Final = 30.0  # for the acknowledgement of a batch
_BY_KEY: Final = -1  # the partition that the client finds by the key


class Post(Protocol):
    """What sends records: see `pipeline.outbox.Outbox`."""

    def send(self, letter: Message) -> None:
        """Hand over one record."""

    def flush(self, give_up: Callable[[], bool]) -> None:
        """Block until all is acknowledged; KafkaUnavailable once `give_up()` is true."""


@dataclass(slots=True)
class Done:
    """What was done."""

    sent: int = 0
    parked: int = 0


@dataclass(frozen=True, slots=True)
class Replay:
    """Sends the records of a plan. `rate` is records a second, without limit if None."""

    reader: Reader
    post: Post
    ledger: Ledger
    policy: Policy
    rate: float | None = None
    pause: Callable[[float], None] = time.sleep
    mono: Callable[[], float] = time.monotonic
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000

    def run(self, plan: Plan, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Done:
        """Send and park what is to be; returns when all of it is acknowledged and in the ledger.

        Blocks. Raises KafkaUnavailable where the brokers do not take a batch: run a new plan then, it goes on with what
        is missing.
        """
        todo = {subject.place: (subject, code) for subject, code in plan.todo()}
        done, begun = Done(), self.mono()
        for batch in self._batches(todo, self._partitions(todo)):
            self._send(batch, begun, done.sent + done.parked)
            done.sent += sum(code == "send" for code, _, _ in batch)
            done.parked += sum(code == "park" for code, _, _ in batch)
            progress(done.sent + done.parked, len(todo))
        return done

    def _batches(
        self, todo: Mapping[Place, tuple[Subject, Code]], partitions: Mapping[Place, int]
    ) -> Iterator[list[tuple[Code, Sent, Message]]]:
        most = _BATCH if self.rate is None else max(1, min(_BATCH, int(self.rate * _BATCH_S)))
        batch: list[tuple[Code, Sent, Message]] = []
        size = 0
        for records in self.reader.read(full_spans(list(todo))):
            for place, record in records:
                if place not in todo:
                    continue
                subject, code = todo[place]
                message = (
                    self._again(subject, record, partitions.get(place, _BY_KEY))
                    if code == "send"
                    else self._parked(place, record)
                )
                batch.append((code, (str(subject.identity), message.topic), message))
                size += len(record.value or b"")
                if len(batch) == most or size >= _BATCH_BYTES:
                    yield batch
                    batch, size = [], 0
        if batch:
            yield batch

    def _send(self, batch: Sequence[tuple[Code, Sent, Message]], begun: float, before: int) -> None:
        """Send a batch, its records at the rate since `begun`, when `before` records had been sent."""
        targets = {message.topic for _, _, message in batch}
        ends = {topic: {number: bounds.end for number, bounds in self._bounds(topic).items()} for topic in targets}
        entry = self.ledger.begin([sent for _, sent, _ in batch], ends)
        for number, (_, _, message) in enumerate(batch, before):
            if self.rate is not None and (wait := begun + number / self.rate - self.mono()) > 0:
                self.pause(wait)
            self.post.send(message)
        deadline = self.mono() + _PATIENCE_S
        self.post.flush(lambda: self.mono() >= deadline)
        self.ledger.finish(entry)

    def _partitions(self, todo: Mapping[Place, tuple[Subject, Code]]) -> dict[Place, int]:
        """Return the partition of the unit of each valid event that is to be sent."""
        units: dict[str, dict[Place, str]] = {}
        for place, (subject, code) in todo.items():
            if code == "send" and isinstance(subject.verdict, Event):
                units.setdefault(subject.target or "", {})[place] = subject.verdict.unit_id
        return {
            place: partition
            for topic, of in units.items()
            for place, partition in zip(
                of, murmur2_partition(list(of.values()), len(self._bounds(topic))).tolist(), strict=True
            )
        }

    def _again(self, subject: Subject, record: Record, partition: int) -> Message:
        """Return the record of a letter as it is sent again."""
        headers = replay_headers(read_letter(subject.place, record))
        return Message(subject.target or "", partition, record.key, record.value, headers, self.clock() // 1_000)

    def _parked(self, place: Place, record: Record) -> Message:
        """Return a letter as it lies, for its parked topic."""
        topic = place.topic + self.policy.parked_suffix
        return Message(topic, place.partition, record.key, record.value, record.headers, self.clock() // 1_000)

    def _bounds(self, topic: str) -> Mapping[int, Bounds]:
        bounds = self.reader.bounds(topic)
        if not bounds:
            raise TopicsUnfit(f"the topic {topic} does not exist; make it, with as many partitions as its kin")
        return bounds


def find_replayed(reader: Reader, ends: Ends, policy: Policy) -> AbstractSet[Sent]:
    """Return what was replayed or parked at these offsets or later, by what the records themselves say."""
    spans = {}
    for topic, by_partition in ends.items():
        for partition, (first, end) in reader.bounds(topic).items():
            start = max(first, by_partition.get(partition, first))
            spans[topic, partition] = Bounds(min(start, end), end)
    found: set[Sent] = set()
    for records in reader.read(spans):
        for place, record in records:
            names = [value for name, value in record.headers if name == REPLAYED_HEADER]
            if place.topic.endswith(policy.parked_suffix):
                found.add((str(read_letter(place, record).identity), place.topic))
            elif names:
                found.add(((names[-1] or b"").decode(errors="replace"), place.topic))
    return found
