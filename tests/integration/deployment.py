"""One deployment on a broker: topics, a group, a lake and flag files of its own, and what a test does with them."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any, Final, NamedTuple

import pyarrow.parquet as pq
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from contracts.columns import KINDS
from contracts.flags import read_contracts
from pipeline import topics
from pipeline.outbox import RELIABLE
from pipeline.preflight import DLQ_SUFFIX
from pipeline.publish import publish
from pipeline.settings import Settings
from pipeline.traffic import Message
from sinks.lineage import lineages
from sinks.manifest import Manifest
from sinks.storage import LocalStorage
from tests.commands import environment, run, running
from tests.pipeline import lab
from tests.waiting import until

__all__ = ["Deployment", "Letter", "Place", "RunningWorker", "exposure", "guardrail", "outcome", "pair"]

READ_S: Final = 30.0
PATIENCE_S: Final = 60.0  # what a worker may take for anything


class Place(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Letter:
    """A dead letter, by what its headers say of its origin."""

    origin: Place
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]

    @property
    def reason(self) -> str:
        """Why it is one."""
        return self.headers["evidence.dlq.reason"]

    @property
    def group(self) -> str:
        """The group of the worker that made it."""
        return self.headers["__dlq.errors.group"]


def exposure(unit: str, hour: float, variation: str = "control", **more: object) -> Message:
    """Return an exposure of the flag of the lab, `hour` hours into 2026-06-07."""
    return _message("exposure", unit, lab.exposure(unit, hour, variation, **more))


def outcome(unit: str, hour: float, variation: str = "control", **more: object) -> Message:
    """Return an outcome likewise."""
    return _message("outcome", unit, lab.outcome(unit, hour, variation, **more))


def guardrail(unit: str, hour: float, variation: str = "control") -> Message:
    """Return a guardrail likewise."""
    body = json.loads(lab.outcome(unit, hour, variation))
    del body["resolved"]
    body |= {"event": "checked", "guardrail": "toxicity", "value": 0.9, "severity": "warning"}
    return _message("guardrail", unit, json.dumps(body).encode())


def pair(unit: str, hour: float) -> list[Message]:
    """Return an exposure, and the outcome a quarter of an hour later: one clean fact."""
    return [exposure(unit, hour), outcome(unit, hour + 0.25)]


def _message(kind: str, unit: str, value: bytes) -> Message:
    return Message(kind, unit.encode(), value, time.time_ns() // 1_000_000)  # an old record would be deleted as such


@dataclass(frozen=True)
class Deployment:
    """What workers on one broker are given as settings; `home` holds lake, flags and logs."""

    given: Mapping[str, Any]
    home: Path
    partitions: int
    _logs: list[Path] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        bootstrap: str,
        home: Path,
        *,
        partitions: int = 2,
        flag: str = lab.FLAG,
        **more: Any,  # noqa: ANN401  # any field of Settings
    ) -> "Deployment":
        """Make the flag file and the topics; further keywords are settings."""
        corner = uuid.uuid4().hex[:12]
        (home / "flags").mkdir(parents=True)
        (home / "flags" / "route.yaml").write_text(flag)
        fields: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "lake": home / "lake",
            "flags": home / "flags",
            "group": f"evidence-{corner}",
            "exposures_topic": f"exposures-{corner}",
            "outcomes_topic": f"outcomes-{corner}",
            "guardrails_topic": f"guardrails-{corner}",
            "web_port": 0,
            # the embedded broker lets a new group wait for half the session timeout
            "session_timeout": "2s",
            "checkpoint_interval": "300ms",
            "close_interval": "1s",
        }
        deployment = cls(fields | more, home, partitions)
        topics.create(deployment.settings, read_contracts({"route.yaml": flag}), partitions, 1)
        return deployment

    @property
    def settings(self) -> Settings:
        """The settings of its workers."""
        return Settings(**self.given)

    def but(self, **changes: Any) -> "Deployment":  # noqa: ANN401  # any field of Settings
        """Return the same with other settings."""
        return replace(self, given={**self.given, **changes})

    def with_new_group(self) -> "Deployment":
        """Return the same for a worker after another: the lake, not the group, says where to go on.

        The embedded broker keeps the first member of a group for its session timeout after it left.
        """
        return self.but(group=f"evidence-{uuid.uuid4().hex[:12]}")

    def with_new_lake(self) -> "Deployment":
        """Return another lake for the same topics, with a group of its own."""
        return self.with_new_group().but(lake=self.home / f"lake-{uuid.uuid4().hex[:6]}")

    # Kafka

    def topic(self, kind: str) -> str:
        """Return the topic of a kind of event."""
        return dict(zip(KINDS, self.settings.topics, strict=True))[kind]

    def publish(self, messages: Iterable[Message], **producer: object) -> None:
        """Publish the messages where Java clients would, each a batch of its own.

        The embedded broker tells the end of a partition right for batches of one record only.
        """
        kafka = {**self.settings.librdkafka(), "batch.num.messages": 1, **producer}
        publish(kafka, dict(zip(KINDS, self.settings.topics, strict=True)), messages)

    def producer(self, **configuration: object) -> Producer:
        """Return a producer that places keys as Java clients do, unless it is configured otherwise.

        Made idempotent, or transactional, it loses nothing in topics just made.
        """
        usual = {name: RELIABLE[name] for name in ("partitioner", "max.in.flight")}
        return Producer({**self.settings.librdkafka(), **usual, **configuration})

    def produce(self, producer: Producer, messages: Iterable[Message]) -> None:
        """Hand the messages to the producer, and wait until they are there."""
        for message in messages:
            where = {} if message.partition is None else {"partition": message.partition}
            producer.produce(
                self.topic(message.kind),
                value=message.value,
                key=message.key,
                headers=list(message.headers),
                timestamp=message.timestamp_ms,
                **where,
            )
            producer.poll(0)
        assert producer.flush(READ_S) == 0

    def places(self) -> list[Place]:
        """Return where every committed record of the three topics lies."""
        return sorted(
            Place(record.topic(), record.partition(), record.offset()) for record in self._read(self.settings.topics)
        )

    def letters(self) -> list[Letter]:
        """Return the dead letters in the order of their origins, of each origin and group once."""
        letters = {}
        for record in self._read([topic + DLQ_SUFFIX for topic in self.settings.topics]):
            headers = {name: (value or b"").decode() for name, value in record.headers()}
            topic, partition, offset = (headers[f"__dlq.errors.{part}"] for part in Place._fields)
            origin = Place(topic, int(partition), int(offset))
            letter = Letter(origin, record.partition(), record.key(), record.value(), headers)
            letters[origin, letter.group] = letter
        return [letters[identity] for identity in sorted(letters)]

    def _read(self, names: Iterable[str]) -> Iterator[Any]:
        consumer = Consumer(
            {
                **self.settings.librdkafka(),
                "group.id": uuid.uuid4().hex,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        unread = {(name, partition) for name in names for partition in range(self.partitions)}
        try:
            consumer.assign([TopicPartition(name, partition, 0) for name, partition in unread])
            deadline = time.monotonic() + READ_S
            while unread:
                assert time.monotonic() < deadline, f"these cannot be read: {unread}"
                for record in consumer.consume(5_000, timeout=0.1):
                    if record.error() is None:
                        yield record
                    else:
                        assert record.error().code() == KafkaError._PARTITION_EOF, record.error()  # noqa: SLF001
                        unread.discard((record.topic(), record.partition()))
        finally:
            consumer.close()

    # the worker

    def evidence(self, *arguments: str) -> CompletedProcess[str]:
        """Run a command to its end."""
        return run(environment(self.settings), *arguments)

    def read_to_end(self, *flags: str) -> CompletedProcess[str]:
        """Run a worker to the end of the topics; it must not fail."""
        ended = self.evidence("worker", "--stop-at-end", *flags)
        assert ended.returncode == 0, ended.stderr
        return ended

    @contextmanager
    def worker(self) -> Iterator["RunningWorker"]:
        """Run a worker that goes on; it is killed at the end of the block if it is still there."""
        log = self.home / f"worker-{len(self._logs)}.log"
        self._logs.append(log)
        with running(environment(self.settings), "worker", log=log) as process:
            yield RunningWorker(process, log)

    # the lake

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return what a plain glob over the table finds."""
        files = (self.settings.lake / "tables" / table).rglob("*.parquet")
        return [row for file in sorted(files) for row in pq.read_table(file, partitioning=None).to_pylist()]

    def facts(self) -> list[dict[str, Any]]:
        """Return the facts by unit and time."""
        return sorted(self.rows("facts"), key=lambda fact: (fact["unit_id"], fact["window_start"], fact["variation"]))

    def manifests(self) -> dict[int, Manifest]:
        """Return the newest manifest of each partition."""
        newest = (lineage.newest() for lineage in lineages(LocalStorage(self.settings.lake)))
        return {manifest.partition: manifest for manifest in newest if manifest is not None}

    def told(self) -> list[Place]:
        """Return the record of every row that tells a fate; a record with two fates is there twice."""
        tables = (self.rows(table) for table in ("events", "unjoined", "refused"))
        return sorted(Place(row["topic"], row["partition"], row["offset"]) for rows in tables for row in rows)

    def fates(self) -> Counter[str]:
        """Count the records of each fate."""
        fates = Counter({"joined": len(self.rows("events"))})
        for table in ("unjoined", "refused"):
            fates.update(row["reason"] for row in self.rows(table))
        return +fates

    def passed(self) -> int:
        """Return how many offsets of the topics lie behind the newest manifests."""
        return sum(
            topic.next_offset - topic.first_offset
            for manifest in self.manifests().values()
            for topic in manifest.topics.values()
        )


@dataclass(frozen=True)
class RunningWorker:
    """A worker, and what it has said so far."""

    process: Popen[bytes]
    log: Path

    def said(self) -> str:
        """Return all that it has said."""
        return self.log.read_text()

    def says(self, text: str) -> None:
        """Wait until it says this; fail at once if it ends without."""

        def heard() -> bool:
            ended = self.process.poll() is not None
            if text in self.said():
                return True
            assert not ended, f"it ended with {self.process.returncode}, without {text!r}"
            return False

        self.until(heard, repr(text))

    def ends(self) -> int:
        """Return its exit code once it ends."""
        self.until(lambda: self.process.poll() is not None, "its end")
        return int(self.process.returncode)

    def until(self, predicate: Callable[[], object], what: str) -> None:
        """Wait until something is true; what it said by then is told if that does not happen."""
        try:
            until(predicate, PATIENCE_S, what)
        except AssertionError as failure:
            raise AssertionError(f"{failure}; it said:\n{self.said()}") from None
