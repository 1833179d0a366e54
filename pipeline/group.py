"""What the consumer group remembers of the lake: a mark beside each committed offset."""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from contracts.errors import KafkaUnavailable, WrongLake
from pipeline.settings import Settings

__all__ = ["check_group", "lake_mark"]

TIMEOUT_S: Final = 30.0
"""A group's coordinator may have to load first, which takes seconds on a cluster that has just started."""

RETRY_S: Final = 0.2

_PREFIX: Final = "evidence-lake="


def lake_mark(lake_id: str) -> str:
    """Return the commit metadata that names the lake."""
    return _PREFIX + lake_id


def check_group(settings: Settings, lake_id: str, partitions: int) -> None:
    """Raise WrongLake if the group's committed offsets name another lake.

    Brokers that do not keep commit metadata cannot tell, and pass. KafkaUnavailable if none answers. Runs an event loop
    of its own.
    """
    asked = [TopicPartition(topic, p) for topic in settings.topics for p in range(partitions)]
    marks = asyncio.run(_marks(settings, asked))
    others = {mark.removeprefix(_PREFIX) for mark in marks if mark.startswith(_PREFIX)} - {lake_id}
    if others:
        raise WrongLake(
            f"the group {settings.group} belongs to lake {min(others)}, but {settings.lake} is lake {lake_id}; "
            "set EVIDENCE_LAKE to the lake of this group, or EVIDENCE_GROUP to a new group for this lake"
        )


async def _marks(settings: Settings, partitions: list[TopicPartition]) -> Iterable[str]:
    # Not by librdkafka (2.16): it reads metadata beyond their end, and its admin client crashes the process while the
    # coordinator is loading.
    deadline = time.monotonic() + TIMEOUT_S
    client = _client(settings)
    try:
        await client.start()
        while True:
            try:
                offsets = await client.list_consumer_group_offsets(settings.group, partitions=partitions)
                if len(offsets) == len(partitions):
                    return [offset.metadata or "" for offset in offsets.values()]
                why = "its coordinator is loading"  # the answer then has no partitions
            except KafkaError as error:
                if not error.retriable:
                    raise
                why = str(error)
            if time.monotonic() >= deadline:
                raise KafkaUnavailable(f"cannot read the offsets of group {settings.group}: {why}; try again soon")
            await asyncio.sleep(RETRY_S)
    except KafkaError as error:
        raise KafkaUnavailable(
            f"cannot read the offsets of group {settings.group}: {error}; see whether the brokers are up, and whether "
            "they allow to describe the group"
        ) from None
    finally:
        await client.close()


def _client(settings: Settings) -> AIOKafkaAdminClient:
    security = settings.security
    return AIOKafkaAdminClient(
        bootstrap_servers=settings.bootstrap_servers,
        security_protocol=security.protocol,
        ssl_context=security.ssl_context(),
        sasl_mechanism=security.mechanism or "PLAIN",
        sasl_plain_username=security.username,
        sasl_plain_password=security.password.get_secret_value() if security.password else None,
    )
