"""What is acknowledged is there: also where a broker refuses the first batch, as of a partition that it is yet to lead.

librdkafka (2.16) sends several requests at once, and counts a batch as acknowledged when a later one is. A partition
where the producer has not written yet takes the second batch without the first, which then is lost without a word. So
our producers send one at a time.
"""

from collections.abc import Callable, Iterator
from typing import Final

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from evidence_client import KafkaPublisher
from evidence_client.events import Message as ClientMessage
from pipeline.outbox import Letter, Outbox
from pipeline.publish import publish
from pipeline.traffic import Message
from tests.mock_brokers import mock_brokers

TOPIC: Final = "exposures"
COUNT: Final = 5
APART: Final = {"batch.num.messages": 1}
ANSWER_MS: Final = 50  # several requests are under way before the first one is answered, where that is allowed
WAIT_S: Final = 30.0


@pytest.fixture
def refusing() -> Iterator[str]:
    """Give the address of a broker that refuses the first batch, and takes the rest."""
    with mock_brokers([TOPIC], [KafkaError.NOT_LEADER_FOR_PARTITION], ANSWER_MS) as address:
        yield address


def by_default(address: str) -> int:
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, **APART})
    told: list[bool] = []
    for number in range(COUNT):
        producer.produce(TOPIC, b"%d" % number, on_delivery=lambda error, _: told.append(error is None))
    producer.flush(WAIT_S)
    return sum(told)


def by_publish(address: str) -> int:
    messages = (Message("exposure", b"u", b"%d" % number, 0) for number in range(COUNT))
    return publish({"bootstrap.servers": address, **APART}, {"exposure": TOPIC}, messages)


def by_outbox(address: str) -> int:
    outbox = Outbox({"bootstrap.servers": address, **APART})
    told: list[int] = []
    try:
        for number in range(COUNT):
            outbox.send(
                Letter(TOPIC, 0, b"u", b"%d" % number, [], 0, acknowledged=lambda _, offset: told.append(offset))
            )
        outbox.flush(lambda: False)
    finally:
        outbox.close()
    return len(told)


def by_client(address: str) -> int:
    publisher = KafkaPublisher({"bootstrap.servers": address, **APART})
    for number in range(COUNT):
        assert publisher.publish(ClientMessage("exposure", b"u", b"%d" % number))
    publisher.close(WAIT_S)
    return publisher.counts().acknowledged


@pytest.mark.parametrize("send", [by_publish, by_outbox, by_client])
def test_what_is_acknowledged_is_there(refusing: str, send: Callable[[str], int]) -> None:
    assert send(refusing) == COUNT
    assert held(refusing) == COUNT


def test_librdkafka_by_itself_loses_the_first_one(refusing: str) -> None:
    """If this fails, its defect is mended, and `max.in.flight` may go."""
    assert by_default(refusing) == COUNT
    assert held(refusing) == COUNT - 1


def held(address: str) -> int:
    """Return how many records the broker has."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "counting"})
    try:
        first, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=WAIT_S)
        return int(end - first)
    finally:
        consumer.close()
