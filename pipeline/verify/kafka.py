"""The topics of a cluster, read with confluent-kafka: assigned, from given offsets, in no group."""

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka import KafkaError as Code

from contracts.errors import KafkaError, KafkaUnavailable, OffsetsLost
from pipeline.topics import TIMEOUT_S, await_brokers, bystander
from pipeline.verify.topics import Record

__all__ = ["KafkaTopics"]

_AT_ONCE: Final = 5_000  # records handed on together
_PATIENCE_S: Final = 60.0  # without a record, or the news that there are no more
_PASSING: Final = {Code._TRANSPORT, Code._ALL_BROKERS_DOWN, Code._TIMED_OUT}  # noqa: SLF001
_LOST: Final = {Code.OFFSET_OUT_OF_RANGE, Code._AUTO_OFFSET_RESET}  # noqa: SLF001 - public in all but name


class KafkaTopics:
    """See `Topics`. A context manager; one read at a time. It commits nothing and joins no group."""

    def __init__(self, config: Mapping[str, str | int]) -> None:
        """Connect; `config` is what `Settings.librdkafka` gives. Raises KafkaUnavailable if no broker answers."""
        self._admin = await_brokers(config)
        self._ids: dict[str, str | None] = {}
        self._consumer = bystander(config, "evidence-verify")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._consumer.close()

    def topic_id(self, topic: str) -> str | None:
        """See `Topics.topic_id`."""
        if topic not in self._ids:
            (future,) = self._admin.describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT_S).values()
            try:
                self._ids[topic] = str(future.result().topic_id)
            except KafkaException as error:
                if error.args[0].code() != Code.UNKNOWN_TOPIC_OR_PART:
                    raise _fault(f"describe the topic {topic}", error.args[0]) from None
                self._ids[topic] = None
        return self._ids[topic]

    def first_offset(self, topic: str, partition: int) -> int:
        """See `Topics.first_offset`."""
        place = TopicPartition(topic, partition)
        try:
            first, _ = self._consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)
        except KafkaException as error:
            raise _fault(f"read the first offset of {topic} [{partition}]", error.args[0]) from None
        return int(first)

    def read(self, topic: str, partition: int, start: int, stop: int | None) -> Iterator[list[Record]]:
        """See `Topics.read`."""
        what = f"{topic} [{partition}]"
        self._consumer.assign([TopicPartition(topic, partition, start)])
        heard = time.monotonic()
        ended = False
        while not ended:
            messages = self._consumer.consume(_AT_ONCE, timeout=0.05)
            records = []
            for message in messages:
                error = message.error()
                if error is not None:
                    ended = ended or _is_end(error, f"{what} from offset {start} on")
                elif stop is not None and message.offset() >= stop:
                    ended = True
                else:
                    records.append(_record(message))
            if records:
                yield records
                ended = ended or records[-1].offset + 1 == stop
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > _PATIENCE_S:
                why = f"nothing more came of {what} in {_PATIENCE_S:.0f} s"
                raise KafkaUnavailable(f"{why}; see whether the brokers are up")
        self._consumer.unassign()


def _record(message: Any) -> Record:  # noqa: ANN401 - the client is untyped
    kind, timestamp = message.timestamp()
    return Record(
        message.offset(),
        timestamp,
        kind == TIMESTAMP_LOG_APPEND_TIME,
        message.key(),
        message.value(),
        message.headers() or (),
    )


def _is_end(error: Any, what: str) -> bool:  # noqa: ANN401
    """Tell whether the news is that there is no more; raise what will not pass."""
    if error.code() in _LOST:
        raise OffsetsLost(f"{what}: that offset is not in the topic any more")
    if error.code() != Code._PARTITION_EOF and not error.retriable() and error.code() not in _PASSING:  # noqa: SLF001
        raise _fault(f"read {what}", error)
    return bool(error.code() == Code._PARTITION_EOF)  # noqa: SLF001


def _fault(what: str, error: Any) -> KafkaError:  # noqa: ANN401 - the client is untyped
    if error.code() in _PASSING:
        return KafkaUnavailable(f"cannot {what}: {error.str()}; see whether the brokers are up")
    return KafkaError(f"cannot {what}: {error.str()}; ask whoever runs the cluster for the right to it")
