"""Published messages lie where Java clients would put them, and carry their own time."""

import random
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from contracts.columns import KINDS
from contracts.errors import KafkaUnavailable
from contracts.flags import load_contract
from contracts.placement import murmur2_partition
from pipeline import topics
from pipeline.demo import EXAMPLE
from pipeline.planted import Traffic, generate
from pipeline.publish import publish, run_traffic
from pipeline.settings import Settings

PARTITIONS: Final = 3
WAIT_S: Final = 30.0
CONTRACT: Final = load_contract(EXAMPLE.read_text(), str(EXAMPLE))


@pytest.fixture
def settings(bootstrap: str, settings_for: Callable[..., Settings]) -> Settings:
    made = settings_for(bootstrap)
    topics.create(made, [CONTRACT], PARTITIONS, 1)
    return made


def planted(events: int) -> Traffic:
    """Return traffic of the last days: the broker deletes records that are older than the topics keep them."""
    rng, now = random.Random(1), time.time_ns() // 1_000  # noqa: S311  # made-up traffic
    return generate(rng, now, CONTRACT, events=events, partitions=PARTITIONS)


def read(settings: Settings, count: int) -> list[Message]:
    """Return `count` records of the three topics, or those that are there if they are fewer."""
    consumer = Consumer({**settings.librdkafka(), "group.id": uuid.uuid4().hex})
    consumer.assign([TopicPartition(name, p, 0) for name in settings.topics for p in range(PARTITIONS)])
    try:
        records: list[Message] = []
        while len(records) < count and (more := consumer.consume(count - len(records), timeout=WAIT_S)):
            records += more
        return records
    finally:
        consumer.close()


def test_every_message_is_there_once_with_its_time(settings: Settings) -> None:
    traffic = planted(2_000)
    messages = [*traffic.first, *traffic.second]
    assert publish(settings.librdkafka(), dict(zip(KINDS, settings.topics, strict=True)), messages) == len(messages)
    records = read(settings, len(messages))
    kinds = dict(zip(settings.topics, KINDS, strict=True))
    found = sorted((kinds[r.topic()], r.key(), r.value() or b"", r.timestamp()[1]) for r in records)
    assert found == sorted((m.kind, m.key, m.value or b"", m.timestamp_ms) for m in messages)
    misplaced = 0
    for record in records:
        misplaced += record.partition() != murmur2_partition([record.key().decode()], PARTITIONS)[0]
    assert misplaced == traffic.planted.rerouted


def test_live_traffic_keeps_its_rate_and_ends(settings: Settings) -> None:
    sent = run_traffic(settings, [CONTRACT], rate=200, units=50, seed=1, seconds=1.5)
    assert 100 < sent <= 300
    assert len(read(settings, sent)) == sent


@pytest.mark.embedded
def test_a_topic_that_does_not_exist_is_named(embedded: str, tmp_path: Path) -> None:
    settings = Settings(bootstrap_servers=embedded, lake=tmp_path, flags=tmp_path)
    message = planted(10).first[0]
    with pytest.raises(KafkaUnavailable, match="cannot publish"):
        publish(settings.librdkafka(), {message.kind: "no topic of that name!"}, [message])
