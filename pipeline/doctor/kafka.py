"""Samples topics with confluent-kafka: reads what it is assigned, joins no group, commits nothing."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as Code

from pipeline.dlq.kafka import PASSING, fault
from pipeline.doctor.sample import Record, Sample, Topic
from pipeline.topics import TIMEOUT_S, await_brokers, bystander

__all__ = ["Extent", "take"]

_AT_ONCE: Final = 5_000  # records handed on together
_MOST_BYTES: Final = 512 << 20  # of keys and values in the sample: it is held in memory
_PAUSE_S: Final = 0.1
_LEADER_S: Final = 3.0  # for the bounds of a partition: one without a leader must not eat the time of the others

Bounds = tuple[int, int, int]
"""The first offset of a partition, the first to read, and the next one at its end."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is read, in `limit_s` at most: the newest `records` of each partition, or with `since_us` all since."""

    records: int
    since_us: int | None
    limit_s: float


def take(config: Mapping[str, str | int], names: Sequence[str], extent: Extent, now: Callable[[], int]) -> Sample:
    """Return a sample of the three topics; `config` is what `Settings.librdkafka` gives, `now` the clock in µs.

    Topics that are missing and partitions that cannot be read are part of the sample. The ends of the exposures are
    asked for last, so that no outcome is read whose exposure came before it and is not. Raises KafkaUnavailable if no
    broker answers.
    """
    await_brokers(config, min(TIMEOUT_S, extent.limit_s))
    deadline = time.monotonic() + extent.limit_s
    consumer = bystander(config, "evidence-doctor")
    try:
        # all topics, for to ask for one by its name may make it
        there = consumer.list_topics(timeout=TIMEOUT_S).topics
        bounds: dict[str, dict[int, Bounds]] = {}
        unread: dict[str, dict[int, str]] = {}
        for name in reversed(names):
            partitions = sorted(there[name].partitions) if name in there else []
            bounds[name], unread[name] = _bounds(consumer, name, partitions, extent, deadline)
        records = _read(consumer, bounds, unread, deadline)
    except KafkaException as error:
        raise fault("sample the topics", error.args[0]) from None
    finally:
        consumer.close()
    topics = {}
    for name in names:
        logs = {partition: _since(extent, records[name, partition]) for partition in bounds[name]}
        cut = {
            partition
            for partition, (_, start, _) in bounds[name].items()
            if start > 0 or len(logs[partition]) < len(records[name, partition])
        }
        count = len(there[name].partitions) if name in there else 0
        topics[name] = Topic(name, count, logs, frozenset(cut), unread[name])
    exposures, outcomes, guardrails = (topics[name] for name in names)
    return Sample(exposures, outcomes, guardrails, taken_us=now())


def _bounds(
    consumer: Consumer, name: str, partitions: Sequence[int], extent: Extent, deadline: float
) -> tuple[dict[int, Bounds], dict[int, str]]:
    """Return where to read each partition, and why some cannot be."""
    bounds: dict[int, Bounds] = {}
    unread: dict[int, str] = {}
    for partition in partitions:
        try:
            first, end = _ends(consumer, TopicPartition(name, partition), deadline)
            bounds[partition] = first, max(first, end - extent.records), end
        except KafkaException as error:
            unread[partition] = error.args[0].str()
    if extent.since_us is not None and bounds:
        asked = [TopicPartition(name, partition, extent.since_us // 1_000) for partition in bounds]
        for at in consumer.offsets_for_times(asked, timeout=TIMEOUT_S):
            first, _, end = bounds[at.partition]
            bounds[at.partition] = first, at.offset if at.offset >= 0 else end, end  # -1 where no record is so young
    return bounds, unread


def _ends(consumer: Consumer, partition: TopicPartition, deadline: float) -> tuple[int, int]:
    """Return the first offset and the next one at the end, asking again while the partition gets its leader."""
    begun = time.monotonic()
    until = min(begun + _LEADER_S, max(begun + _PAUSE_S, deadline))
    while True:
        try:
            first, end = consumer.get_watermark_offsets(partition, timeout=max(until - time.monotonic(), _PAUSE_S))
        except KafkaException as error:
            if error.args[0].code() not in PASSING or time.monotonic() >= until:
                raise
            time.sleep(_PAUSE_S)
        else:
            return int(first), int(end)


def _read(
    consumer: Consumer,
    bounds: Mapping[str, Mapping[int, Bounds]],
    unread: Mapping[str, dict[int, str]],
    deadline: float,
) -> dict[tuple[str, int], list[Record]]:
    """Read the partitions up to their ends, or until time or room are used up; note in `unread` what is not read."""
    records: dict[tuple[str, int], list[Record]] = {
        (name, partition): [] for name, theirs in bounds.items() for partition in theirs
    }
    open_ends = {
        (name, partition): end
        for name, theirs in bounds.items()
        for partition, (_, start, end) in theirs.items()
        if start < end
    }
    consumer.assign([TopicPartition(name, partition, bounds[name][partition][1]) for name, partition in open_ends])
    room = _MOST_BYTES
    while open_ends and time.monotonic() < deadline and room > 0:
        for message in consumer.consume(_AT_ONCE, timeout=0.05):
            at = message.topic(), message.partition()
            error = message.error()
            if error is not None:
                if at in open_ends and error.code() == Code._PARTITION_EOF:  # noqa: SLF001
                    open_ends.pop(at)
                elif at in open_ends and not error.retriable() and error.code() not in PASSING:
                    unread[at[0]][at[1]] = error.str()
                    open_ends.pop(at)
                continue
            if at in open_ends:
                if message.offset() < open_ends[at]:
                    records[at].append(_record(message))
                    room -= len(message.key() or b"") + len(message.value() or b"")
                if message.offset() + 1 >= open_ends[at]:
                    open_ends.pop(at)
    consumer.unassign()
    why = "the time limit was over" if room > 0 else f"{_MOST_BYTES >> 20} MiB were read"
    for name, partition in open_ends:
        unread[name][partition] = why
    return records


def _since(extent: Extent, records: Sequence[Record]) -> Sequence[Record]:
    """Return the records of the time that was asked for; offsets are only as good as the order of record times."""
    since = extent.since_us
    return records if since is None else [record for record in records if record.timestamp * 1_000 >= since]


def _record(message: Any) -> Record:  # noqa: ANN401 - the client is untyped
    kind, timestamp = message.timestamp()
    headers = tuple((name, value) for name, value in message.headers() or ())
    appended = int(kind == TIMESTAMP_LOG_APPEND_TIME)
    return Record(message.offset(), timestamp, appended, message.key(), message.value(), headers)
