"""What the consumer group remembers of the lake: a mark beside each committed offset."""

import time
from collections.abc import Iterable
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from contracts.errors import KafkaUnavailable, WrongLake
from pipeline.settings import Settings

__all__ = ["check_group", "lake_mark"]

TIMEOUT_S: Final = 30.0
"""A group's coordinator may have to load first, which takes seconds on a cluster that has just started."""

RETRY_S: Final = 0.2

_LOADING: Final = {KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS}
_PREFIX: Final = "evidence-lake="


def lake_mark(lake_id: str) -> str:
    """Return the commit metadata that names the lake."""
    return _PREFIX + lake_id


def check_group(settings: Settings, lake_id: str, partitions: int) -> None:
    """Raise WrongLake if the group's committed offsets name another lake.

    Brokers that do not keep commit metadata cannot tell, and pass. KafkaUnavailable if none answers.
    """
    marks = _marks(settings, [TopicPartition(topic, p) for topic in settings.topics for p in range(partitions)])
    others = {mark.removeprefix(_PREFIX) for mark in marks if mark.startswith(_PREFIX)} - {lake_id}
    if others:
        raise WrongLake(
            f"the group {settings.group} belongs to lake {min(others)}, but {settings.lake} is lake {lake_id}; "
            "set EVIDENCE_LAKE to the lake of this group, or EVIDENCE_GROUP to a new group for this lake"
        )


def _marks(settings: Settings, partitions: list[TopicPartition]) -> Iterable[str]:
    # A consumer that joins nothing: the admin client's call for the same crashes the process (librdkafka 2.16) while
    # the coordinator is loading.
    consumer = Consumer({**settings.librdkafka(), "group.id": settings.group, "log_level": 0})
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while True:
            try:
                return [at.metadata or "" for at in consumer.committed(partitions, timeout=TIMEOUT_S)]
            except KafkaException as error:
                if time.monotonic() < deadline and error.args[0].code() in _LOADING:
                    time.sleep(RETRY_S)
                    continue
                raise KafkaUnavailable(
                    f"cannot read the offsets of group {settings.group}: {error.args[0].str()}; "
                    "see whether the brokers are up"
                ) from None
    finally:
        consumer.close()
