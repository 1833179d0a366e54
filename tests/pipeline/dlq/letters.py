"""Dead letters for tests: as each family of software writes them, and as logs of topics in memory."""

from collections.abc import Sequence

from contracts.dead_letters import DeadLetter
from pipeline.dlq.letters import Letter, read_letter
from pipeline.dlq.places import Place
from pipeline.verify.topics import Record
from tests.pipeline.lab import NOON

__all__ = ["Headers", "connect", "evidence", "letter", "record", "share_group", "spring", "spring_retry", "streams"]

Headers = list[tuple[str, bytes | None]]

AT, LIES = Place("outcomes", 0, 7), Place("outcomes.dlq", 0, 3)
LATER = NOON + 60_000_000  # when records fail


def evidence(
    at: Place, own: Sequence[tuple[str, bytes | None]] = (), reason: str = "not_json", **more: object
) -> Headers:
    """Return the headers of this software's own dead letter of a record with these headers."""
    fields = {
        "stage": "decode",
        "message": "not JSON",
        "details": "[]",
        "group": "evidence",
        "failed_at_us": LATER,
        "timestamp_us": NOON,
        "version": "1",
        "replay_count": 0,
        "key": None,
        "value": b"{",
    }
    return DeadLetter(*at, reason=reason, original_headers=own, **(fields | more)).headers()  # type: ignore[arg-type]


def share_group(at: Place) -> Headers:
    """Return what a broker writes (KIP-1191)."""
    return [
        *_text("__dlq.errors.", topic=at.topic, partition=at.partition, offset=at.offset, group="g"),
        ("__dlq.errors.delivery.count", b"5"),
        ("__dlq.errors.message", b"Offset rejected by client."),
    ]


def connect(at: Place) -> Headers:
    """Return what a sink connector writes."""
    return [
        *_text("__connect.errors.", topic=at.topic, partition=at.partition, offset=at.offset),
        ("__connect.errors.connector.name", b"warehouse"),
        ("__connect.errors.task.id", b"0"),
        ("__connect.errors.stage", b"VALUE_CONVERTER"),
        ("__connect.errors.class.name", b"org.apache.kafka.connect.json.JsonConverter"),
        ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
        ("__connect.errors.exception.message", b"Converting byte[] to Kafka Connect data failed"),
        ("__connect.errors.exception.stacktrace", b"org.apache...\n\tat ..."),
    ]


def streams(at: Place) -> Headers:
    """Return what a Kafka Streams exception handler writes (KIP-1034)."""
    return [
        ("__streams.errors.exception", b"org.apache.kafka.common.errors.SerializationException: bad"),
        ("__streams.errors.message", b"bad"),
        ("__streams.errors.stacktrace", b"..."),
        *_text("__streams.errors.", topic=at.topic, partition=at.partition, offset=at.offset),
    ]


def spring(at: Place) -> Headers:
    """Return what Spring's DeadLetterPublishingRecoverer writes."""
    return [
        *_binary("kafka_dlt-original-", at),
        ("kafka_dlt-original-timestamp-type", b"CreateTime"),
        ("kafka_dlt-original-consumer-group", b"scoring"),
        (
            "kafka_dlt-exception-fqcn",
            b"org.springframework.kafka.listener.ListenerExecutionFailedException",
        ),
        ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
        ("kafka_dlt-exception-message", b"Listener failed"),
        ("kafka_dlt-exception-stacktrace", b"..."),
    ]


def spring_retry(at: Place) -> Headers:
    """Return what Spring writes behind its retry topics."""
    return [
        *_binary("kafka_original-", at),
        ("kafka_original-timestamp-type", b"CreateTime"),
        ("kafka_exception-fqcn", b"java.lang.IllegalStateException"),
        ("kafka_exception-message", b"Listener failed"),
        ("kafka_dlt-original-consumer-group", b"scoring"),
        ("retry_topic-attempts", b"\x00\x00\x00\x03"),
        ("retry_topic-backoff-timestamp", b"\x00\x00\x01\x97\x00\x00\x00\x00"),
    ]


def record(headers: Sequence[tuple[str, bytes | None]], value: bytes | None = b"{", offset: int = 0) -> Record:
    """Return a record of a dead-letter topic."""
    return Record(offset, LATER // 1_000, False, b"k", value, headers)  # noqa: FBT003


def letter(
    value: bytes | None,
    at: Place = AT,
    lies: Place = LIES,
    own: Sequence[tuple[str, bytes | None]] = (),
    **more: object,
) -> Letter:
    """Return one of this software's own dead letters, read back."""
    return read_letter(lies, record(evidence(at, own, **more), value, lies.offset))  # type: ignore[arg-type]


def _text(prefix: str, **values: object) -> Headers:
    return [(f"{prefix}{name}", str(value).encode()) for name, value in values.items()]


def _binary(prefix: str, at: Place) -> Headers:
    return [
        (f"{prefix}topic", at.topic.encode()),
        (f"{prefix}partition", at.partition.to_bytes(4, "big")),
        (f"{prefix}offset", at.offset.to_bytes(8, "big")),
        (f"{prefix}timestamp", (NOON // 1_000).to_bytes(8, "big")),
    ]
