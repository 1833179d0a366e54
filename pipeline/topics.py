"""The topics and the cluster: make them, check them, and read where they begin and end.

Everything here asks the brokers once and returns values; each request comes back within `TIMEOUT_S`, or raises
KafkaUnavailable in one line. What the topics have to be like is judged in `preflight`.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka import KafkaError as Code
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType

from contracts.errors import KafkaError, KafkaUnavailable, SettingsError, TopicsUnfit
from pipeline.preflight import (
    DEFAULT_MESSAGE_BYTES,
    DLQ_RETENTION_FACTOR,
    DLQ_SUFFIX,
    ENVELOPE_BYTES,
    Problem,
    Topic,
    judge,
)
from pipeline.settings import Settings

__all__ = [
    "TIMEOUT_S",
    "Made",
    "TopicState",
    "await_brokers",
    "bystander",
    "check",
    "create",
    "create_beside",
    "dead_letters_of",
    "describe",
    "letter_counts",
    "needed_ms",
    "planned",
    "topic_states",
]

TIMEOUT_S: Final = 10.0
LEAST_RETENTION_MS: Final = 7 * 24 * 3_600_000  # a week to notice and repair, whatever the windows


# the cluster is busy with itself: right after a topic is made, or while a broker leaves
PASSING: Final = {
    Code.UNKNOWN_TOPIC_OR_PART,
    Code.LEADER_NOT_AVAILABLE,
    Code.NOT_LEADER_FOR_PARTITION,
    Code.FENCED_LEADER_EPOCH,
    Code.UNKNOWN_LEADER_EPOCH,
    Code.REPLICA_NOT_AVAILABLE,
    Code.OFFSET_NOT_AVAILABLE,
    Code._NOENT,  # noqa: SLF001  # the client's own word for partitions without leaders
}
SILENCE: Final = {Code._TIMED_OUT, Code._TRANSPORT, Code._ALL_BROKERS_DOWN}  # noqa: SLF001  # public in all but name
HOPELESS: Final = {Code._AUTHENTICATION, Code._SSL}  # noqa: SLF001  # asking again will not help
PAUSE_S: Final = 0.1

T = TypeVar("T")


class _NotYet(KafkaUnavailable):
    """The cluster answers that it is not ready."""


REMEDIES: Final = {
    _NotYet: "see whether all brokers are up, and try again",
    KafkaUnavailable: "see whether the brokers are up",
    KafkaError: "ask whoever runs the cluster for the right, or correct it",
}


class _Windowed(Protocol):
    @property
    def window_us(self) -> int: ...


@dataclass(frozen=True, slots=True)
class TopicState:
    """Where a topic begins and ends.

    `first` is the first offset that is still there and `end` the next offset of a reader of committed records that has
    read everything, by partition.
    """

    topic_id: str
    partitions: int
    first: Mapping[int, int]
    end: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Made:
    """A topic after `create`; `made` is false where it was there before."""

    topic: str
    partitions: int
    made: bool


def bystander(config: Mapping[str, str | int], name: str) -> Consumer:
    """Return a consumer of the client `name` that reads what it is assigned, joins no group and commits nothing.

    It reads committed records alone, tells the end of a partition, and takes an offset that is gone for an error.
    """
    return Consumer(
        {
            **config,
            "client.id": name,
            "group.id": name,  # the client wants one; it is never joined
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "check.crcs": True,
            "queued.max.messages.kbytes": 65_536,
            "fetch.queue.backoff.ms": 10,
            "fetch.wait.max.ms": 20,  # an end is heard of no sooner, once a partition of a topic
            "log_level": 0,  # what goes wrong is raised
        }
    )


def await_brokers(config: Mapping[str, str | int], timeout_s: float = TIMEOUT_S) -> AdminClient:
    """Return a client of a cluster that answers.

    `config` is what `Settings.librdkafka` gives. Raises KafkaUnavailable, with what the client complained about, after
    `timeout_s` seconds, or sooner if the brokers turn it away; SettingsError for certificates it cannot use.
    """
    complaints: list[Code] = []
    try:
        client = AdminClient(
            {
                **config,
                "client.id": "evidence-admin",
                "log_level": 0,  # the complaint below says it once
                "reconnect.backoff.max.ms": 500,
                "error_cb": complaints.append,
            }
        )
    except KafkaException as error:  # the client reads certificates and keys on creation
        raise SettingsError(
            f"the Kafka client refuses its settings ({error.args[0].str()}); correct EVIDENCE_KAFKA_*"
        ) from None
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            client.list_topics(timeout=min(1.0, timeout_s))
        except KafkaException as error:
            client.poll(0)
            if time.monotonic() < deadline and not any(complaint.code() in HOPELESS for complaint in complaints):
                continue
            told = [complaint for complaint in complaints if complaint.code() != Code._ALL_BROKERS_DOWN]  # noqa: SLF001
            raise KafkaUnavailable(
                f"no Kafka broker answers at {config['bootstrap.servers']} ({(told or error.args)[0].str()}); "
                "start it, or correct EVIDENCE_BOOTSTRAP_SERVERS and EVIDENCE_KAFKA_*",
            ) from None
        return client


def create(settings: Settings, contracts: Iterable[_Windowed], partitions: int, replication: int) -> list[Made]:
    """Make those of the three topics and their dead-letter topics that are missing; return all six.

    A topic that exists stays as it is, and a dead-letter topic follows its source in partitions and greatest message.
    `replication` of -1 leaves that to the brokers. Raises KafkaUnavailable, or KafkaError if they refuse.
    """
    client = await_brokers(settings.librdkafka())
    there = _describe(client, _names(settings))
    new = []
    for source in planned(settings, contracts, partitions):
        if source.name not in there:
            new.append(_new(source, replication))
        if source.name + DLQ_SUFFIX not in there:
            new.append(_new(dead_letters_of(there.get(source.name, source)), replication))
    for name, future in (client.create_topics(new, request_timeout=TIMEOUT_S) if new else {}).items():
        # another process may have made it since: that is what was wanted
        _ask(future, f"make the topic {name}", lambda code: code == Code.TOPIC_ALREADY_EXISTS)
    made = _patiently(lambda: _led(client, _names(settings)))
    return [Made(name, made[name].partitions, made=name not in there) for name in _names(settings)]


def planned(settings: Settings, contracts: Iterable[_Windowed], partitions: int) -> list[Topic]:
    """Return the three topics as `create` makes them: exposures, outcomes, guardrails. Asks nobody."""
    retention = max(LEAST_RETENTION_MS, 2 * needed_ms(settings, contracts))
    room = max(DEFAULT_MESSAGE_BYTES, settings.max_value_bytes + ENVELOPE_BYTES)
    leaders = dict.fromkeys(range(partitions), False)
    return [Topic(name, "", leaders, _configs(retention, room)) for name in settings.topics]


def dead_letters_of(source: Topic) -> Topic:
    """Return the dead-letter topic of a topic, as `create` makes it."""
    kept = None if source.retention_ms is None else DLQ_RETENTION_FACTOR * source.retention_ms
    configs = _configs(kept, source.message_bytes + ENVELOPE_BYTES)
    return Topic(source.name + DLQ_SUFFIX, "", source.leaders, configs)


def create_beside(settings: Settings, name: str, beside: str) -> None:
    """Make the topic `name`, which keeps its records for ever, unless it is there.

    It has the partitions and the greatest message of the topic `beside`. Raises KafkaUnavailable, or KafkaError if the
    brokers refuse.
    """
    client = await_brokers(settings.librdkafka())
    there = _describe(client, (name, beside))
    if name in there or beside not in there:
        return
    new = _new(Topic(name, "", there[beside].leaders, _configs(None, there[beside].message_bytes)), -1)
    (future,) = client.create_topics([new], request_timeout=TIMEOUT_S).values()
    _ask(future, f"make the topic {name}", lambda code: code == Code.TOPIC_ALREADY_EXISTS)
    _patiently(lambda: _led(client, (name,)))


def check(settings: Settings, contracts: Iterable[_Windowed]) -> list[Problem]:
    """Return what is wrong with the topics, worst first; an empty list means that a worker may start.

    Raises KafkaUnavailable if no broker answers.
    """
    return judge(settings.topics, describe(settings), needed_ms(settings, contracts))


def describe(settings: Settings, timeout_s: float = TIMEOUT_S) -> dict[str, Topic]:
    """Return those of the three topics and their dead-letter topics that exist, by name.

    Raises KafkaUnavailable if no broker answers.
    """
    return _describe(await_brokers(settings.librdkafka(), timeout_s), _names(settings))


def needed_ms(settings: Settings, contracts: Iterable[_Windowed]) -> int:
    """Return how long a record has to stay in its topic: the longest metric window and the allowed lateness."""
    longest_us = max((contract.window_us for contract in contracts), default=0)
    return math.ceil((longest_us + settings.allowed_lateness) / 1_000)


def topic_states(settings: Settings, timeout_s: float = TIMEOUT_S) -> dict[str, TopicState]:
    """Return, for each of the three topics, its ID, its partition count and its first and end offsets.

    Raises KafkaUnavailable if no broker answers, TopicsUnfit if a topic is missing.
    """
    client = await_brokers(settings.librdkafka(), timeout_s)
    topics = _describe(client, settings.topics)
    for name in settings.topics:
        if name not in topics:
            raise TopicsUnfit(f"the topic {name} does not exist; run: evidence topics create")
    first = _patiently(lambda: _offsets(client, topics.values(), OffsetSpec.earliest()))
    end = _patiently(lambda: _offsets(client, topics.values(), OffsetSpec.latest()))
    return {
        name: TopicState(topics[name].topic_id, topics[name].partitions, first[name], end[name])
        for name in settings.topics
    }


def letter_counts(settings: Settings, since: Sequence[int], timeout_s: float = TIMEOUT_S) -> dict[str, list[int]]:
    """Return, for each dead-letter topic, how many records it holds, and how many since each of the times (µs).

    Deleted ones and transaction markers count as records; a topic that is missing is left out. Raises KafkaUnavailable
    if no broker answers.
    """
    client = await_brokers(settings.librdkafka(), timeout_s)
    topics = _describe(client, [topic + DLQ_SUFFIX for topic in settings.topics])
    end = _patiently(lambda: _offsets(client, topics.values(), OffsetSpec.latest()))
    specs = [OffsetSpec.earliest(), *(OffsetSpec.for_timestamp(max(time // 1000, 0)) for time in since)]
    counts: dict[str, list[int]] = {topic: [] for topic in end}
    for spec in specs:
        begin = _patiently(lambda spec=spec: _offsets(client, topics.values(), spec))  # type: ignore[misc]
        for topic, ends in end.items():
            # -1 where no record is that young
            counts[topic].append(sum(ends[p] - first for p, first in begin[topic].items() if first >= 0))
    return counts


def _names(settings: Settings) -> list[str]:
    return [name for source in settings.topics for name in (source, source + DLQ_SUFFIX)]


def _new(topic: Topic, replication: int) -> NewTopic:
    return NewTopic(topic.name, topic.partitions, replication, config=dict(topic.configs))


def _configs(retention_ms: int | None, message_bytes: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(-1 if retention_ms is None else retention_ms),
        "max.message.bytes": str(message_bytes),
    }


def _describe(client: AdminClient, names: Iterable[str]) -> dict[str, Topic]:
    """Ask for the topics; leave out those that do not exist."""
    futures = client.describe_topics(TopicCollection(list(names)), request_timeout=TIMEOUT_S)
    found = {
        name: _ask(future, f"describe the topic {name}", lambda code: code == Code.UNKNOWN_TOPIC_OR_PART)
        for name, future in futures.items()
    }
    there = {name: topic for name, topic in found.items() if topic is not None}
    configs = _read_configs(client, there)
    return {
        name: Topic(
            name,
            str(topic.topic_id),
            {partition.id: partition.leader is not None for partition in topic.partitions},
            configs[name],
        )
        for name, topic in there.items()
    }


def _led(client: AdminClient, names: Iterable[str]) -> dict[str, Topic]:
    """Describe topics that were just made, once each is known and has its leaders."""
    topics = _describe(client, names)
    for name in names:
        if name not in topics or not all(topics[name].leaders.values()):
            raise _NotYet(f"the topic {name} has no leaders yet; {REMEDIES[_NotYet]}")
    return topics


def _read_configs(client: AdminClient, names: Iterable[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    futures = client.describe_configs(resources, request_timeout=TIMEOUT_S) if resources else {}
    configs = {}
    for resource, future in futures.items():
        # whoever may not read the configuration may still run: `judge` notes what it could not see
        answer = _ask(future, f"read the configuration of {resource.name}", lambda _: True) or {}
        configs[resource.name] = {name: entry.value for name, entry in answer.items() if entry.value is not None}
    return configs


def _offsets(client: AdminClient, topics: Iterable[Topic], spec: OffsetSpec) -> dict[str, dict[int, int]]:
    asked = {TopicPartition(topic.name, partition): spec for topic in topics for partition in topic.leaders}
    futures = client.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=TIMEOUT_S)
    offsets: dict[str, dict[int, int]] = {}
    for at, future in futures.items():
        answer = _ask(future, f"read the offsets of {at.topic} partition {at.partition}", lambda _: False)
        offsets.setdefault(at.topic, {})[at.partition] = answer.offset
    return offsets


def _ask(future: Future[Any], what: str, forgive: Callable[[int], bool]) -> Any:  # noqa: ANN401  # the client is untyped
    """Wait for an answer; None if it is an error that is forgiven."""
    try:
        return future.result()
    except KafkaException as error:
        fault = error.args[0]
        if forgive(fault.code()):
            return None
        refusal = _NotYet if fault.code() in PASSING else KafkaUnavailable if fault.code() in SILENCE else KafkaError
        raise refusal(f"cannot {what}: {fault.str()}; {REMEDIES[refusal]}") from None


def _patiently(ask: Callable[[], T]) -> T:
    """Ask again while the cluster is still electing leaders, for `TIMEOUT_S` at most."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except _NotYet:
            if time.monotonic() >= deadline:
                raise
            time.sleep(PAUSE_S)
