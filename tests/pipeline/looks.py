"""Snapshots of workers for the tests of what reads them."""

from typing import Any, Final

from pipeline.snapshot import PartitionSnapshot, TopicSnapshot, WorkerSnapshot
from tests.pipeline.lab import NOON, TOPICS

__all__ = ["MINUTE", "SECOND", "partition", "topic", "worker"]

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND


def topic(**changes: Any) -> TopicSnapshot:  # noqa: ANN401  # any of its fields
    """Return a topic that is read to its end at offset 10, and in the lake."""
    fields: dict[str, Any] = {"next_offset": 10, "committed": 10, "end": 10, "record_time": NOON, "silent_for": 0}
    return TopicSnapshot(**(fields | changes))


def partition(number: int = 0, **changes: Any) -> PartitionSnapshot:  # noqa: ANN401
    """Return a partition that moves."""
    fields: dict[str, Any] = {
        "seq": 7,
        "topics": dict.fromkeys(TOPICS, topic()),
        "watermark": NOON - MINUTE,
        "closed_through": NOON - 5 * MINUTE,
        "buffered_rows": 0,
        "buffered_bytes": 0,
        "open_events": 0,
        "state_bytes": 0,
        "waiting_for": 0,
        "trouble": "",
        "stopped": None,
    }
    return PartitionSnapshot(number, **(fields | changes))


def worker(*partitions: PartitionSnapshot, **changes: Any) -> WorkerSnapshot:  # noqa: ANN401
    """Return a worker that has these partitions, at noon."""
    fields: dict[str, Any] = {
        "now": NOON,
        "assigned": True,
        "full": False,
        "unacknowledged": 0,
        "unacknowledged_for": 0,
        "topic_partitions": 12,
        "partitions": partitions,
    }
    return WorkerSnapshot(**(fields | changes))
