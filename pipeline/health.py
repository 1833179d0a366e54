"""Whether every partition moves, and if not, why and what to type. Pure.

A worker is *ready* while everything it was given moves. It *lives* as long as it answers at all: what is wrong with a
partition, a disk or a broker is not mended by killing the process.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.snapshot import PartitionSnapshot, WorkerSnapshot

__all__ = ["LEAST_OVERDUE", "OVERDUE_INTERVALS", "UNHEARD", "Kind", "Reason", "overdue_after", "reasons"]

Kind = Literal[
    "unassigned",  # nothing was assigned since the start
    "stopped",  # by a circuit breaker
    "not_durable",  # what was read does not get into the lake
    "unheard",  # no fetch tells of a topic
]

OVERDUE_INTERVALS: Final = 5
"""A checkpoint that is late by so many intervals does not come by itself."""

LEAST_OVERDUE: Final = 10_000_000
"""However short the interval is: a slow disk or a close takes seconds, in µs."""

UNHEARD: Final = 60_000_000
"""A consumer hears of each topic twice a second, and a broker that fails over is back before this, in µs."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a worker is not ready; `partition` is none where it concerns all."""

    kind: Kind
    partition: int | None
    message: str


def overdue_after(checkpoint_interval: int) -> int:
    """Return for how long news may wait for their checkpoint, in µs."""
    return max(OVERDUE_INTERVALS * checkpoint_interval, LEAST_OVERDUE)


def reasons(worker: WorkerSnapshot, checkpoint_interval: int) -> list[Reason]:
    """Return why the worker is not ready, by partition; nothing if it is."""
    found = [] if worker.assigned else [Reason("unassigned", None, "no partition was assigned yet; see the brokers")]
    for partition in worker.partitions:
        found += _of_partition(partition, overdue_after(checkpoint_interval), full=worker.full)
    return found


def _of_partition(partition: PartitionSnapshot, overdue: int, *, full: bool) -> Iterator[Reason]:
    number = partition.number
    if partition.waiting_for > overdue:
        why = partition.trouble or "its checkpoint takes long; see the worker's log"
        message = f"partition {number}: nothing became durable for {partition.waiting_for // 1_000_000} s: {why}"
        yield Reason("not_durable", number, message)
    if partition.stopped is not None:
        message = (
            f"partition {number} is stopped at {partition.stopped.topic}: {partition.stopped.reason}; see its dead "
            "letters, mend the producer, then run: evidence resume"
        )
        yield Reason("stopped", number, message)
    elif not full:
        for topic, state in partition.topics.items():
            if state.silent_for > UNHEARD:
                silence = state.silent_for // 1_000_000
                message = (
                    f"partition {number}: no word of {topic} for {silence} s; see whether its leader is up, and "
                    "whether a producer left a transaction open"
                )
                yield Reason("unheard", number, message)
