"""`evidence verify`: the audit of the lake and the topics that the settings name."""

import re
from collections.abc import Callable, Collection, Iterable
from typing import Final

from contracts.errors import SettingsError
from pipeline.settings import Settings
from pipeline.verify.audit import Audited, audit
from pipeline.verify.kafka import KafkaTopics
from pipeline.verify.topics import LaterTopics
from sinks.storage import LocalStorage

__all__ = ["verify_lake"]

_START: Final = re.compile(r"(.+):(\d+):(\d+)", re.ASCII)


def verify_lake(
    settings: Settings,
    *,
    partitions: Collection[int] | None,
    starts: Iterable[str] = (),
    lake_only: bool,
    progress: Callable[[int, int], None],
) -> Audited:
    """Audit the lake, or these partitions of it; `lake_only` reads no topic.

    `starts` are `topic:partition:offset`: of that topic, in that partition, no earlier record is read. Raises as
    `audit` and `KafkaTopics` do, and SettingsError for a start that is none.
    """
    storage = LocalStorage(settings.lake)
    chosen = partitions or None
    offsets = dict(_start(settings, text) for text in starts)
    if lake_only:
        return audit(storage, None, partitions=chosen, progress=progress)
    with KafkaTopics(settings.librdkafka()) as topics:
        return audit(storage, LaterTopics(topics, offsets), partitions=chosen, progress=progress)


def _start(settings: Settings, text: str) -> tuple[tuple[str, int], int]:
    match = _START.fullmatch(text)
    if match is None or match[1] not in settings.topics:
        topics = ", ".join(settings.topics)
        raise SettingsError(f"--from {text}: give topic:partition:offset, with one of the topics {topics}")
    return (match[1], int(match[2])), int(match[3])
