"""What the group's committed offsets say of the lake."""

import asyncio
from collections.abc import Callable
from time import monotonic

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from contracts.errors import KafkaUnavailable, WrongLake
from pipeline import topics
from pipeline.group import check_group, lake_mark
from pipeline.settings import Settings
from tests.brokers import ApacheKafka
from tests.pipeline.lab import contract


def commit(settings: Settings, metadata: str) -> None:
    """Commit an offset of each topic's partition 1 with the metadata, as the worker's client does."""

    async def committing() -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap_servers, group_id=settings.group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            places = [TopicPartition(topic, 1) for topic in settings.topics]
            consumer.assign(places)
            await consumer.commit({place: OffsetAndMetadata(5, metadata) for place in places})
        finally:
            await consumer.stop()

    asyncio.run(committing())


@pytest.fixture
def settings(apache: ApacheKafka, settings_for: Callable[..., Settings]) -> Settings:
    made = settings_for(apache.bootstrap)
    topics.create(made, [contract()], 2, 1)
    return made


def test_a_new_group_belongs_to_nobody(bootstrap: str, settings_for: Callable[..., Settings]) -> None:
    settings = settings_for(bootstrap)
    topics.create(settings, [contract()], 2, 1)
    check_group(settings, "a" * 32, 2)


def test_a_group_goes_on_with_its_lake(settings: Settings) -> None:
    commit(settings, lake_mark("a" * 32))
    check_group(settings, "a" * 32, 2)


def test_a_group_of_another_lake_is_an_error_that_names_both_ways_out(settings: Settings) -> None:
    commit(settings, lake_mark("b" * 32))
    with pytest.raises(WrongLake, match=f"belongs to lake {'b' * 32}, but .*EVIDENCE_LAKE .*EVIDENCE_GROUP"):
        check_group(settings, "a" * 32, 2)


@pytest.mark.parametrize("metadata", [pytest.param("", id="none"), pytest.param("wörk ✓", id="somebody else's")])
def test_other_metadata_says_nothing(settings: Settings, metadata: str) -> None:
    commit(settings, metadata)
    check_group(settings, "a" * 32, 2)


def test_no_broker_is_an_error(settings_for: Callable[..., Settings]) -> None:
    began = monotonic()
    with pytest.raises(KafkaUnavailable, match="see whether the brokers are up"):
        check_group(settings_for("127.0.0.1:1"), "a" * 32, 2)
    assert monotonic() - began < 10
