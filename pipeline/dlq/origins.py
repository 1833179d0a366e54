"""Where a dead letter came from and why, by the headers of the software that made it.

| family | who | numbers are | source |
|---|---|---|---|
| evidence | this software | decimal text | `contracts.dead_letters` |
| share group | Kafka's brokers, for share groups | decimal text | KIP-1191, `ShareGroupDLQStateManager` |
| connect | Kafka Connect's sinks | decimal text | KIP-298, `DeadLetterQueueReporter` |
| streams | Kafka Streams' exception handlers | decimal text | KIP-1034, `ExceptionHandlerUtils` |
| spring | Spring's `DeadLetterPublishingRecoverer` | big-endian, 4 and 8 bytes | `KafkaHeaders.DLT_*` |
| spring retry | the same behind Spring's retry topics | big-endian, 4 and 8 bytes | `KafkaHeaders.ORIGINAL_*` |

A record may carry the headers of several: what a service did to it before it was published again. The family whose
headers come last is the one that made the letter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from contracts.times import LATEST, parse_time
from pipeline.dlq.places import Place

__all__ = ["FAMILIES", "Family", "Origin", "Trace", "family_of", "trace"]

Headers = Sequence[tuple[str, bytes | None]]

_LONGEST_NUMBER: Final = 18  # digits of an offset
_GREATEST_PARTITION: Final = 2**31 - 1
_INT_BYTES, _LONG_BYTES = 4, 8


@dataclass(frozen=True, slots=True)
class Family:
    """The headers of one kind of dead letter; empty names where it has no such header."""

    name: str
    topic: str
    partition: str
    offset: str
    added: tuple[str, ...]
    """What the names of the headers begin with that it adds to the record's own."""
    reasons: tuple[str, ...]
    """The header that tells the reason, the most telling first."""
    message: str = ""
    group: str = ""
    timestamp: str = ""
    """The header of the record's own time."""
    binary: bool = False
    """Whether numbers are big-endian rather than decimal text."""
    keeps_time: bool = False
    """Whether the letter's record time is that of the record."""


FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        name="evidence",
        topic="__dlq.errors.topic",
        partition="__dlq.errors.partition",
        offset="__dlq.errors.offset",
        added=("__dlq.errors.", "evidence.dlq."),
        reasons=("evidence.dlq.reason",),
        message="__dlq.errors.message",
        group="__dlq.errors.group",
        timestamp="evidence.dlq.timestamp",
    ),
    Family(
        name="share group",
        topic="__dlq.errors.topic",
        partition="__dlq.errors.partition",
        offset="__dlq.errors.offset",
        added=("__dlq.errors.",),
        reasons=(),
        message="__dlq.errors.message",
        group="__dlq.errors.group",
    ),
    Family(
        name="connect",
        topic="__connect.errors.topic",
        partition="__connect.errors.partition",
        offset="__connect.errors.offset",
        added=("__connect.errors.",),
        reasons=("__connect.errors.exception.class.name",),
        message="__connect.errors.exception.message",
        group="__connect.errors.connector.name",
        keeps_time=True,
    ),
    Family(
        name="streams",
        topic="__streams.errors.topic",
        partition="__streams.errors.partition",
        offset="__streams.errors.offset",
        added=("__streams.errors.",),
        reasons=("__streams.errors.exception",),
        message="__streams.errors.message",
        keeps_time=True,
    ),
    Family(
        name="spring",
        topic="kafka_dlt-original-topic",
        partition="kafka_dlt-original-partition",
        offset="kafka_dlt-original-offset",
        added=("kafka_dlt-",),
        reasons=("kafka_dlt-exception-cause-fqcn", "kafka_dlt-exception-fqcn", "kafka_dlt-key-exception-fqcn"),
        message="kafka_dlt-exception-message",
        group="kafka_dlt-original-consumer-group",
        timestamp="kafka_dlt-original-timestamp",
        binary=True,
    ),
    Family(
        name="spring retry",
        topic="kafka_original-topic",
        partition="kafka_original-partition",
        offset="kafka_original-offset",
        added=("kafka_original-", "kafka_exception-", "kafka_key-exception-", "kafka_dlt-", "retry_topic-"),
        reasons=("kafka_exception-cause-fqcn", "kafka_exception-fqcn", "kafka_key-exception-fqcn"),
        message="kafka_exception-message",
        group="kafka_dlt-original-consumer-group",  # sic
        timestamp="kafka_original-timestamp",
        binary=True,
    ),
)

_EVIDENCE: Final = FAMILIES[0]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record was when it failed: `place` is None where only its topic is known."""

    topic: str
    place: Place | None


@dataclass(frozen=True, slots=True)
class Trace:
    """What the headers of a dead letter tell. Times in µs; None where they do not tell."""

    family: str = ""
    origin: Origin | None = None
    reason: str = ""
    message: str = ""
    group: str = ""
    timestamp: int | None = None
    keeps_time: bool = True
    own: Headers = ()
    """The record's own headers, in order."""


def family_of(headers: Headers) -> Family | None:
    """Return the family that made the letter; None where it is nobody's that is known."""
    last = {name: place for place, (name, _) in enumerate(headers)}
    found = [family for family in FAMILIES if family.topic in last]
    if not found:
        return None
    # of the two with the same names, ours comes first, and is ours only with its own reason
    latest = max(found, key=lambda family: last[family.topic])
    return FAMILIES[1] if latest is _EVIDENCE and _EVIDENCE.reasons[0] not in last else latest


def trace(headers: Headers) -> Trace:
    """Read the headers of a dead letter; of several with one name the last counts. Raises nothing."""
    family = family_of(headers)
    if family is None:
        return Trace(own=_without(headers, _EVIDENCE.added))
    values = dict(headers)
    values.pop("", None)  # the name of what a family does not have
    topic = _text(values.get(family.topic))
    read = _big_endian if family.binary else _decimal
    partition = read(values.get(family.partition), _INT_BYTES)
    offset = read(values.get(family.offset), _LONG_BYTES)
    known = topic and partition is not None and partition <= _GREATEST_PARTITION and offset is not None
    return Trace(
        family=family.name,
        origin=Origin(topic, Place(topic, partition or 0, offset or 0) if known else None) if topic else None,
        reason=_reason(family, values),
        message=_text(values.get(family.message)),
        group=_text(values.get(family.group)),
        timestamp=_timestamp(values.get(family.timestamp), binary=family.binary),
        keeps_time=family.keeps_time,
        own=_without(headers, (*family.added, *_EVIDENCE.added)),
    )


def _without(headers: Headers, prefixes: tuple[str, ...]) -> Headers:
    return tuple(header for header in headers if not header[0].startswith(prefixes))


def _reason(family: Family, values: dict[str, bytes | None]) -> str:
    """Return our reason, or the simple name of an exception's class; the family's name where there is neither."""
    for name in family.reasons:
        text = _text(values.get(name))
        if text and family is _EVIDENCE:
            return text
        if text:
            return text.split(":", 1)[0].strip().rsplit(".", 1)[-1]
    return family.name


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", errors="replace")


def _decimal(value: bytes | None, _size: int) -> int | None:
    value = value or b""
    return int(value) if value.isdigit() and len(value) <= _LONGEST_NUMBER else None


def _big_endian(value: bytes | None, size: int) -> int | None:
    number = int.from_bytes(value or b"", "big", signed=True)
    return number if value is not None and len(value) == size and number >= 0 else None


def _timestamp(value: bytes | None, *, binary: bool) -> int | None:
    if value is None:
        return None
    if binary:
        milliseconds = _big_endian(value, _LONG_BYTES)
        return None if milliseconds is None or milliseconds > LATEST // 1_000 else milliseconds * 1_000
    try:
        return parse_time(_text(value))
    except ValueError:
        return None
