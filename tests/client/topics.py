"""The three topics of a test, and what lies in them."""

import json
import uuid
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from contracts.columns import KINDS
from evidence_client import KafkaPublisher, Kind
from pipeline import topics
from pipeline.settings import Settings
from tests.contracts.records import CONTRACT

__all__ = ["PARTITIONS", "Topics"]

PARTITIONS: Final = 12
WAIT_S: Final = 30.0  # for all that are expected
EXTRA_S: Final = 0.3  # for one that is not


class Topics:
    """Three new topics on a broker."""

    def __init__(self, settings: Settings) -> None:
        """Create them, as the settings name them."""
        self.bootstrap = settings.bootstrap_servers
        topics.create(settings, [CONTRACT], PARTITIONS, 1)
        self.names: dict[Kind, str] = dict(zip(KINDS, settings.topics, strict=True))

    def publisher(self, *, configuration: dict[str, Any] | None = None, **more: Any) -> KafkaPublisher:  # noqa: ANN401  # any argument
        """Return a publisher to them."""
        given = {"bootstrap.servers": self.bootstrap, **(configuration or {})}
        return KafkaPublisher(given, topics=self.names, **more)

    def read(self, count: int) -> list[tuple[str, int, dict[str, Any]]]:
        """Return key, partition and body of the records, once there are so many, and of whatever comes with them."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": uuid.uuid4().hex})
        consumer.assign([TopicPartition(name, p, 0) for name in self.names.values() for p in range(PARTITIONS)])
        found: list[tuple[str, int, dict[str, Any]]] = []
        try:
            while more := consumer.consume(max(1, count - len(found)), WAIT_S if len(found) < count else EXTRA_S):
                found += [(each.key().decode(), each.partition(), json.loads(each.value())) for each in more]
        finally:
            consumer.close()
        return found
