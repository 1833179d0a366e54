"""`evidence verify`: the audit of the lake and the topics that the settings name."""

from collections.abc import Callable, Collection

from pipeline.settings import Settings
from pipeline.verify.audit import Audited, audit
from pipeline.verify.kafka import KafkaTopics
from sinks.storage import LocalStorage

__all__ = ["verify_lake"]


def verify_lake(
    settings: Settings, *, partitions: Collection[int] | None, lake_only: bool, progress: Callable[[int, int], None]
) -> Audited:
    """Audit the lake, or these partitions of it; `lake_only` reads no topic. Raises as `audit` and `KafkaTopics` do."""
    storage = LocalStorage(settings.lake)
    chosen = partitions or None
    if lake_only:
        return audit(storage, None, partitions=chosen, progress=progress)
    with KafkaTopics(settings.librdkafka()) as topics:
        return audit(storage, topics, partitions=chosen, progress=progress)
