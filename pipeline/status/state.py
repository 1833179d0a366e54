"""How the partitions stand, as values: what the newest manifests say, beside where the topics end. Pure.

Times are µs by the wall clock. The numbers are those of the views `manifests` and `topics`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.health import overdue_after
from sinks.manifest import Manifest

__all__ = ["Letters", "PartitionStatus", "State", "Status", "partition_status", "totals_of"]

State = Literal[
    "moves",
    "stopped",  # by a circuit breaker
    "waits",  # records wait, and no checkpoint comes
    "new",  # no checkpoint yet
]

RANK: Final[Mapping[State, int]] = {"stopped": 0, "waits": 1, "new": 2, "moves": 3}
"""What is to be looked at first."""


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition. `lag` counts by topic what is not in the lake; none where the brokers do not answer.

    `state_bytes` is what the next close reads: the open events, and some that are decided already.
    """

    number: int
    state: State
    advice: str
    checkpoint: int | None
    committed_at: int | None
    lag: Mapping[str, int] | None
    watermark: int | None
    closed_through: int | None
    open_events: int
    state_bytes: int


@dataclass(frozen=True, slots=True)
class Letters:
    """The dead letters of one topic: all that it still holds, and those of the last hour and ten minutes."""

    topic: str
    held: int
    last_hour: int
    last_ten_minutes: int


@dataclass(frozen=True, slots=True)
class Status:
    """All of it. `letters` is none where the brokers do not answer, and then `unreachable` says how."""

    now: int
    lake: str
    lake_id: str
    group: str
    brokers: str
    partitions: Sequence[PartitionStatus]
    letters: Sequence[Letters] | None
    totals: Mapping[str, int]
    unreachable: str = ""
    missing: Sequence[str] = ()
    """Dead-letter topics that do not exist: no checkpoint passes a letter for one of them."""

    @property
    def fine(self) -> bool:
        """Whether nothing needs anybody."""
        return not self.missing and all(partition.state in {"moves", "new"} for partition in self.partitions)


def partition_status(
    number: int,
    manifest: Manifest | None,
    ends: Mapping[str, tuple[int, int]] | None,
    now: int,
    checkpoint_interval: int,
) -> PartitionStatus:
    """Return how a partition stands; `ends` has the first and the end offset of each topic, where they are known."""
    if manifest is None:
        return PartitionStatus(
            number=number,
            state="new",
            advice="",
            checkpoint=None,
            committed_at=None,
            lag=None if ends is None else {topic: end - first for topic, (first, end) in ends.items()},
            watermark=None,
            closed_through=None,
            open_events=0,
            state_bytes=0,
        )
    lag = None
    if ends is not None:
        read = {topic.name: topic.next_offset for topic in manifest.topics.values()}
        lag = {topic: max(end - read.get(topic, first), 0) for topic, (first, end) in ends.items()}
    state, advice = _judged(manifest, lag, now - manifest.committed_at, overdue_after(checkpoint_interval))
    return PartitionStatus(
        number=number,
        state=state,
        advice=advice,
        checkpoint=manifest.seq,
        committed_at=manifest.committed_at,
        lag=lag,
        watermark=manifest.watermark,
        closed_through=manifest.closed_through,
        open_events=manifest.open_events,
        state_bytes=sum(file.size for file in (*manifest.segments, *manifest.residue)),
    )


def totals_of(manifests: Sequence[Manifest]) -> dict[str, int]:
    """Return how many offsets had each fate since the lake began, over all partitions."""
    totals: Counter[str] = Counter()
    for manifest in manifests:
        totals.update(manifest.totals)
    return dict(sorted(totals.items()))


def _judged(manifest: Manifest, lag: Mapping[str, int] | None, age: int, overdue: int) -> tuple[State, str]:
    if manifest.stopped is not None:
        stopped = manifest.stopped
        return "stopped", f"stopped at {stopped.topic}: {stopped.reason}; evidence dlq ls, then evidence resume"
    waiting = sum((lag or {}).values())
    if waiting and age > overdue:
        return "waits", f"{waiting:,} records wait, no checkpoint for {age // 1_000_000} s; see the worker's /readyz"
    return "moves", ""
