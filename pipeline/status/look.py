"""Looks at the lake and the topics once; writes nothing."""

from collections.abc import Mapping
from typing import Final

from contracts.errors import KafkaUnavailable
from pipeline.preflight import DLQ_SUFFIX
from pipeline.settings import Settings
from pipeline.status.state import Letters, Status, partition_status, totals_of
from pipeline.topics import TopicState, letter_counts, topic_states
from sinks.lineage import lineages, read_lake
from sinks.storage import LocalStorage

__all__ = ["look"]

TIMEOUT_S: Final = 5.0
"""How long brokers may take: what the lake says is worth showing before that."""

MINUTE: Final = 60_000_000


def look(settings: Settings, now: int) -> Status:
    """Return how things stand at `now` (µs); LakeError without a lake. Brokers that do not answer are part of it."""
    storage = LocalStorage(settings.lake)
    lake_id = read_lake(storage)
    newest = (lineage.newest() for lineage in lineages(storage))
    manifests = {manifest.partition: manifest for manifest in newest if manifest is not None}
    topics: Mapping[str, TopicState] | None = None
    letters, unreachable = None, ""
    absent: tuple[str, ...] = ()
    try:
        topics = topic_states(settings, TIMEOUT_S)
        letters = [
            Letters(topic, *counts)
            for topic, counts in letter_counts(settings, [now - 60 * MINUTE, now - 10 * MINUTE]).items()
        ]
        there = {each.topic for each in letters}
        absent = tuple(letter for topic in settings.topics if (letter := topic + DLQ_SUFFIX) not in there)
    except KafkaUnavailable as error:
        unreachable = str(error)
    numbers = manifests.keys() | {number for state in (topics or {}).values() for number in state.end}
    return Status(
        now=now,
        lake=str(settings.lake),
        lake_id=lake_id,
        group=settings.group,
        brokers=settings.bootstrap_servers,
        partitions=[
            partition_status(number, manifests.get(number), _ends(topics, number), now, settings.checkpoint_interval)
            for number in sorted(numbers)
        ],
        letters=letters,
        totals=totals_of(list(manifests.values())),
        unreachable=unreachable,
        missing=absent,
    )


def _ends(topics: Mapping[str, TopicState] | None, number: int) -> dict[str, tuple[int, int]] | None:
    if topics is None:
        return None
    return {topic: (state.first[number], state.end[number]) for topic, state in topics.items() if number in state.end}
