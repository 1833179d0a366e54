"""What the topics have to be like, as a pure judgement of what the brokers say about them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = [
    "DEFAULT_MESSAGE_BYTES",
    "DLQ_RETENTION_FACTOR",
    "DLQ_SUFFIX",
    "ENVELOPE_BYTES",
    "Problem",
    "Severity",
    "Topic",
    "judge",
]

DLQ_SUFFIX: Final = ".dlq"
DLQ_RETENTION_FACTOR: Final = 2  # a dead letter outlives its record, or nobody could compare them
ENVELOPE_BYTES: Final = 65_536  # what a dead letter's headers may add to its record
DEFAULT_MESSAGE_BYTES: Final = 1_048_588  # Kafka's own default: 1 MiB and the overhead of a batch

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the brokers describe it; `configs` is empty where they do not tell."""

    name: str
    topic_id: str
    leaders: Mapping[int, bool]  # by partition: whether it has a leader
    configs: Mapping[str, str] = field(default_factory=dict)

    @property
    def partitions(self) -> int:
        """How many partitions it has."""
        return len(self.leaders)

    @property
    def message_bytes(self) -> int:
        """The greatest batch it takes, Kafka's default where the brokers do not tell."""
        return int(self.configs.get("max.message.bytes", DEFAULT_MESSAGE_BYTES))

    @property
    def retention_ms(self) -> int | None:
        """How long it keeps records; None for ever, and where the brokers do not tell."""
        retention = int(self.configs.get("retention.ms", -1))
        return None if retention < 0 else retention


@dataclass(frozen=True, slots=True)
class Problem:
    """What is not as it should be with one topic, and what to do about it.

    An `error` makes evidence wrong or lost, a `warning` may, a `note` only says what could not be judged.
    """

    severity: Severity
    topic: str
    message: str
    remedy: str


def judge(sources: Sequence[str], topics: Mapping[str, Topic], needed_ms: int) -> list[Problem]:
    """Return what is wrong with the topics, worst first.

    `topics` are those that exist, by name; `needed_ms` is how long a record has to stay: the longest metric window and
    the allowed lateness.
    """
    problems: list[Problem] = []
    counts = {name: topics[name].partitions for name in sources if name in topics}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        remedy = f"give all three {max(counts.values())} partitions: kafka-topics.sh --alter, then start a new lake"
        problems += [Problem("error", name, f"partition counts differ: {told}", remedy) for name in counts]
    for name in sources:
        if name not in topics:
            problems.append(_missing(name))
            continue
        problems += _judge_any(topics[name])
        problems += _judge_source(topics[name], needed_ms)
        dlq = name + DLQ_SUFFIX
        problems += (
            [*_judge_any(topics[dlq]), *_judge_dlq(topics[name], topics[dlq])] if dlq in topics else [_missing(dlq)]
        )
    order = ("error", "warning", "note")
    return sorted(problems, key=lambda problem: order.index(problem.severity))


def _missing(name: str) -> Problem:
    return Problem("error", name, "does not exist", "run: evidence topics create")


def _judge_any(topic: Topic) -> Iterator[Problem]:
    lost = [partition for partition, led in topic.leaders.items() if not led]
    if lost:
        told = ", ".join(map(str, lost))
        yield Problem("error", topic.name, f"no leader for partition {told}", "bring the brokers that hold it back")
    if not topic.configs:
        yield Problem("note", topic.name, "the broker does not tell its configuration", "check it where it was made")
    if "compact" in topic.configs.get("cleanup.policy", ""):
        yield Problem(
            "error",
            topic.name,
            "is compacted, so earlier records of a unit vanish",
            f"set cleanup.policy=delete on {topic.name}",
        )


def _judge_source(topic: Topic, needed_ms: int) -> Iterator[Problem]:
    retention = topic.retention_ms
    if retention is not None and retention <= needed_ms:
        yield Problem(
            "error",
            topic.name,
            f"keeps records for {_hours(retention)}, the longest metric window and the allowed lateness are "
            f"{_hours(needed_ms)}",
            f"set retention.ms above {needed_ms} on {topic.name}",
        )
    if int(topic.configs.get("retention.bytes", -1)) >= 0:
        yield Problem(
            "note",
            topic.name,
            "is also cut by size, so how long it keeps records depends on the traffic",
            f"set retention.bytes=-1 on {topic.name}",
        )
    if topic.configs.get("message.timestamp.type") == "LogAppendTime":
        yield Problem(
            "note",
            topic.name,
            "stamps records on arrival: that is the event time of a record without a timestamp of its own",
            "none needed where producers send timestamp",
        )


def _judge_dlq(source: Topic, dlq: Topic) -> Iterator[Problem]:
    if dlq.partitions != source.partitions:
        yield Problem(
            "error",
            dlq.name,
            f"has {dlq.partitions} partitions, {source.name} has {source.partitions}",
            f"make {dlq.name} again with {source.partitions} partitions",
        )
    room = source.message_bytes + ENVELOPE_BYTES
    if dlq.configs and source.configs and dlq.message_bytes < room:
        yield Problem(
            "warning",
            dlq.name,
            f"takes messages up to {dlq.message_bytes} bytes, so the largest dead letters are truncated",
            f"set max.message.bytes={room} on {dlq.name}",
        )
    kept, wanted = dlq.retention_ms, source.retention_ms
    if kept is not None and (wanted is None or kept < wanted):
        yield Problem(
            "warning",
            dlq.name,
            f"keeps dead letters for {_hours(kept)}, less than {source.name} keeps records",
            f"set retention.ms={-1 if wanted is None else DLQ_RETENTION_FACTOR * wanted} on {dlq.name}",
        )


def _hours(ms: int) -> str:
    return f"{ms / 3_600_000:.1f} h"
