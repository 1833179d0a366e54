"""Letters read with confluent-kafka: many partitions at once, in no group, committing nothing."""

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaException, TopicCollection, TopicPartition
from confluent_kafka import KafkaError as Code

from contracts.errors import KafkaError, KafkaUnavailable, OffsetsLost
from pipeline.dlq.places import Place
from pipeline.dlq.reading import Bounds
from pipeline.topics import TIMEOUT_S, await_brokers, bystander
from pipeline.verify.topics import Record

__all__ = ["PASSING", "KafkaReader", "fault"]

_AT_ONCE: Final = 5_000  # records handed on together
_PAUSE_S: Final = 0.1
_PATIENCE_S: Final = 30.0  # without a record, or the news that there are no more
_MOVING: Final = {Code.NOT_LEADER_FOR_PARTITION, Code.LEADER_NOT_AVAILABLE}  # of a new topic too, for a moment
PASSING: Final = {Code._TRANSPORT, Code._ALL_BROKERS_DOWN, Code._TIMED_OUT} | _MOVING  # noqa: SLF001 - public in all but name
_LOST: Final = {Code.OFFSET_OUT_OF_RANGE, Code._AUTO_OFFSET_RESET}  # noqa: SLF001


class KafkaReader:
    """See `Reader`. A context manager; one read at a time."""

    def __init__(self, config: Mapping[str, str | int]) -> None:
        """Connect; `config` is what `Settings.librdkafka` gives. Raises KafkaUnavailable if no broker answers."""
        self._admin = await_brokers(config)
        self._consumer = bystander(config, "evidence-dlq")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._consumer.close()

    def topic_id(self, topic: str) -> str | None:
        """See `Reader.topic_id`."""
        (future,) = self._admin.describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT_S).values()
        try:
            return str(future.result().topic_id)
        except KafkaException as error:
            if error.args[0].code() == Code.UNKNOWN_TOPIC_OR_PART:
                return None
            raise fault(f"describe the topic {topic}", error.args[0]) from None

    def bounds(self, topic: str) -> Mapping[int, Bounds]:
        """See `Reader.bounds`."""
        try:
            # all topics, for to ask for one by its name may make it
            described = self._consumer.list_topics(timeout=TIMEOUT_S).topics.get(topic)
            return {
                partition: self._span(TopicPartition(topic, partition))
                for partition in (sorted(described.partitions) if described is not None else ())
            }
        except KafkaException as error:
            raise fault(f"read the offsets of {topic}", error.args[0]) from None

    def _span(self, partition: TopicPartition) -> Bounds:
        """Return the bounds of one partition, asking again while its leader moves."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return Bounds(*self._consumer.get_watermark_offsets(partition, timeout=TIMEOUT_S))
            except KafkaException as error:
                if error.args[0].code() not in _MOVING or time.monotonic() >= deadline:
                    raise
            time.sleep(_PAUSE_S)

    def read(self, spans: Mapping[tuple[str, int], Bounds]) -> Iterator[list[tuple[Place, Record]]]:
        """See `Reader.read`."""
        ends = {at: span.end for at, span in spans.items() if span.first < span.end}
        self._consumer.assign([TopicPartition(*at, spans[at].first) for at in ends])
        heard = time.monotonic()
        while ends:
            messages = self._consumer.consume(_AT_ONCE, timeout=0.05)
            records = []
            for message in messages:
                at = (message.topic(), message.partition())
                error = message.error()
                if error is not None:
                    if _is_end(error, f"{at[0]} [{at[1]}]"):
                        ends.pop(at, None)
                    continue
                if at in ends and message.offset() < ends[at]:
                    records.append(_record(message))
                if at in ends and message.offset() + 1 >= ends[at]:
                    ends.pop(at)
            if records:
                yield records
            if messages or records:
                heard = time.monotonic()
            elif time.monotonic() - heard > _PATIENCE_S:
                topic, partition = next(iter(ends))
                why = f"nothing more came of {topic} [{partition}] in {_PATIENCE_S:.0f} s"
                raise KafkaUnavailable(f"{why}; see whether the brokers are up")
        self._consumer.unassign()


def _record(message: Any) -> tuple[Place, Record]:  # noqa: ANN401 - the client is untyped
    kind, timestamp = message.timestamp()
    appended = kind == TIMESTAMP_LOG_APPEND_TIME
    headers = message.headers() or ()
    record = Record(message.offset(), timestamp, appended, message.key(), message.value(), headers)
    return Place(message.topic(), message.partition(), message.offset()), record


def _is_end(error: Any, what: str) -> bool:  # noqa: ANN401
    """Tell whether the news is that there is no more; raise what will not pass."""
    if error.code() in _LOST:
        raise OffsetsLost(f"{what}: records were deleted while they were read; run it again")
    if error.code() != Code._PARTITION_EOF and not error.retriable() and error.code() not in PASSING:  # noqa: SLF001
        raise fault(f"read {what}", error)
    return bool(error.code() == Code._PARTITION_EOF)  # noqa: SLF001


def fault(what: str, error: Any) -> KafkaError:  # noqa: ANN401 - the client is untyped
    """Return what to raise where the client says that it cannot do something, such as `read the topic`."""
    if error.code() in PASSING:
        return KafkaUnavailable(f"cannot {what}: {error.str()}; see whether the brokers are up")
    return KafkaError(f"cannot {what}: {error.str()}; ask whoever runs the cluster for the right to it")
