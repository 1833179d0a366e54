"""What a worker tells Prometheus: one closed list of names, each with its kind, unit, meaning and remedy.

Counters are moved once a fetch or once a checkpoint, never per record; all else is read from the worker at the scrape.
What is counted at a checkpoint is counted once it is true, so that over a lake's life the sums are those of `account`,
but for what a process that died had committed and not counted.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, cast

import prometheus_client
import pyarrow as pa
import pyarrow.compute as pc
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts.dead_letters import REASONS
from pipeline.partition import Frozen
from pipeline.snapshot import PartitionSnapshot, WorkerSnapshot
from sinks.dictionary import REASONS as UNJOINED
from sinks.manifest import Manifest

__all__ = ["CONTENT_TYPE", "METRICS", "Definition", "MetricName", "Metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

MetricName = Literal[
    # reading
    "evidence_records_total",
    "evidence_refused_total",
    "evidence_misplaced_total",
    "evidence_dead_letters_total",
    "evidence_unacknowledged_records",
    "evidence_unacknowledged_seconds",
    "evidence_lag_records",
    "evidence_lag_seconds",
    "evidence_uncommitted_records",
    # time
    "evidence_watermark_timestamp_seconds",
    "evidence_watermark_lag_seconds",
    "evidence_closed_through_timestamp_seconds",
    # state
    "evidence_open_events",
    "evidence_state_bytes",
    "evidence_buffered_bytes",
    "evidence_lake_free_bytes",
    "evidence_lake_size_bytes",
    # checkpoints
    "evidence_checkpoint_age_seconds",
    "evidence_checkpoint_duration_seconds",
    "evidence_checkpoint_size_bytes",
    "evidence_storage_failures_total",
    "evidence_fenced_total",
    # results
    "evidence_facts_total",
    "evidence_marked_facts_total",
    "evidence_unjoined_total",
    # the fleet
    "evidence_partition_stopped",
    "evidence_assigned_partitions",
    "evidence_topic_partitions",
    "evidence_ready",
]


class Definition(NamedTuple):
    """What one metric is. The unit is the base unit that its name ends in."""

    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    remedy: str


METRICS: Final[Mapping[MetricName, Definition]] = {
    "evidence_records_total": Definition(
        "counter", ("topic",), "Records read from the topic.", "None for long: see whether its producers publish."
    ),
    "evidence_refused_total": Definition(
        "counter",
        ("topic", "reason"),
        "Records that became no event, by the reason in `refused`; counted at the checkpoint.",
        "`evidence dlq ls`, then mend the producer.",
    ),
    "evidence_misplaced_total": Definition(
        "counter",
        ("partitioner",),
        "Records in another partition than their unit's, by the partitioner that puts them there.",
        "Set the producer's partitioner to murmur2.",
    ),
    "evidence_dead_letters_total": Definition(
        "counter", ("topic",), "Dead letters that a broker took, by the topic they came from.", "`evidence dlq ls`."
    ),
    "evidence_unacknowledged_records": Definition(
        "gauge",
        (),
        "Dead letters and copies that no broker has taken yet; no checkpoint passes them.",
        "As for evidence_unacknowledged_seconds.",
    ),
    "evidence_unacknowledged_seconds": Definition(
        "gauge",
        (),
        "How long the oldest of those waits, 0 without any.",
        "`evidence topics check`: is a .dlq topic missing, or not writable?",
    ),
    "evidence_lag_records": Definition(
        "gauge",
        ("topic", "partition"),
        "Offsets of the topic that are not read yet.",
        "Start more workers, up to one a partition.",
    ),
    "evidence_lag_seconds": Definition(
        "gauge",
        ("topic", "partition"),
        "By record time: the age of the newest record that was read, 0 once all are read.",
        "As for evidence_lag_records.",
    ),
    "evidence_uncommitted_records": Definition(
        "gauge",
        ("topic", "partition"),
        "Offsets that are read but not in the lake; with evidence_lag_records the lag of `evidence status`.",
        "See evidence_checkpoint_age_seconds.",
    ),
    "evidence_watermark_timestamp_seconds": Definition(
        "gauge", ("partition",), "Event time up to which no earlier event is expected.", "See its lag."
    ),
    "evidence_watermark_lag_seconds": Definition(
        "gauge",
        ("partition",),
        "By event time: how far the watermark lies behind the clock.",
        "Look for the topic that is behind or unreachable: it holds the watermark.",
    ),
    "evidence_closed_through_timestamp_seconds": Definition(
        "gauge",
        ("partition",),
        "Event time up to which windows are decided.",
        "It follows the watermark by the close interval.",
    ),
    "evidence_open_events": Definition(
        "gauge",
        ("partition",),
        "Events without a fate yet, in the lake and in memory.",
        "Grows with traffic times window; if without end, the watermark is held.",
    ),
    "evidence_state_bytes": Definition(
        "gauge", ("partition",), "Bytes of the segments and residue that the next close reads.", "As for open events."
    ),
    "evidence_buffered_bytes": Definition(
        "gauge",
        ("partition",),
        "Bytes of events in memory that wait for a checkpoint.",
        "Lower EVIDENCE_MAX_BUFFERED_BYTES.",
    ),
    "evidence_lake_free_bytes": Definition(
        "gauge", (), "Bytes that are free on the lake's disk.", "Enlarge it while the worker runs."
    ),
    "evidence_lake_size_bytes": Definition("gauge", (), "Size of the lake's disk.", ""),
    "evidence_checkpoint_age_seconds": Definition(
        "gauge",
        ("partition",),
        "How long the oldest news that was read has waited to be in the lake, 0 where there are none.",
        "/readyz says what keeps it: the lake's disk, or a .dlq topic.",
    ),
    "evidence_checkpoint_duration_seconds": Definition(
        "histogram",
        ("kind",),
        "How long checkpoints took, those that closed windows apart.",
        "Slow disk; raise the interval.",
    ),
    "evidence_checkpoint_size_bytes": Definition(
        "histogram", ("kind",), "Bytes that checkpoints wrote, manifests aside.", "Small ones: raise the interval."
    ),
    "evidence_storage_failures_total": Definition(
        "counter",
        (),
        "Checkpoints that the lake's disk refused; each is tried again.",
        "Free space, or repair the mount; the worker goes on by itself.",
    ),
    "evidence_fenced_total": Definition(
        "counter",
        (),
        "Checkpoints that came after another worker's; they are read again.",
        "Now and then is fine. Often: does a worker hang, or do two groups share the lake?",
    ),
    "evidence_facts_total": Definition("counter", ("flag_key",), "Facts published.", "None: the watermark is held."),
    "evidence_marked_facts_total": Definition(
        "counter",
        ("flag_key", "mark"),
        "Facts that carry this mark in `flags`; a fact may carry several.",
        "Ask `facts_by_variation`; the mark says what went wrong.",
    ),
    "evidence_unjoined_total": Definition(
        "counter",
        ("reason",),
        "Valid records that joined nothing, by the reason in `unjoined`: late, duplicate and so on.",
        "late: find what held them up; no_exposure: look for exposures that are not published.",
    ),
    "evidence_partition_stopped": Definition(
        "gauge",
        ("topic", "partition"),
        "1 where a circuit breaker stopped the partition, at this topic; absent elsewhere.",
        "`evidence dlq ls`, mend the producer, `evidence resume`.",
    ),
    "evidence_assigned_partitions": Definition(
        "gauge", (), "Partitions that this worker owns.", "None for long: more workers than partitions."
    ),
    "evidence_topic_partitions": Definition(
        "gauge", (), "Partitions of each topic: what the workers own together.", "Fewer owned: start a worker."
    ),
    "evidence_ready": Definition("gauge", (), "1 while every partition moves, as /readyz says.", "GET /readyz."),
}

_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_BYTES: Final = tuple(float(1 << bits) for bits in range(12, 34, 3))
_MICRO: Final = 1_000_000


class Metrics:
    """The metrics of one worker; safe to use from several threads.

    `snapshot` is asked at each scrape, `ready` whether the worker is, `room` for the free and all bytes of the lake's
    disk, None where that is not known.
    """

    def __init__(
        self,
        topics: Sequence[str],
        snapshot: Callable[[], WorkerSnapshot],
        ready: Callable[[WorkerSnapshot], bool],
        room: Callable[[], tuple[int, int] | None],
    ) -> None:
        """Begin with every counter at 0 whose labels are known, so that the first increase is seen as one."""
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # when a counter began is of no use without OpenMetrics
        self._snapshot, self._ready, self._room = snapshot, ready, room
        self._registry = CollectorRegistry()
        self._records = self._counter("evidence_records_total")
        self._refused = self._counter("evidence_refused_total")
        self._misplaced = self._counter("evidence_misplaced_total")
        self._dead_letters = self._counter("evidence_dead_letters_total")
        self._storage_failures = self._counter("evidence_storage_failures_total")
        self._fenced = self._counter("evidence_fenced_total")
        self._facts = self._counter("evidence_facts_total")
        self._marked = self._counter("evidence_marked_facts_total")
        self._unjoined = self._counter("evidence_unjoined_total")
        self._duration = self._histogram("evidence_checkpoint_duration_seconds", _SECONDS)
        self._size = self._histogram("evidence_checkpoint_size_bytes", _BYTES)
        for topic in topics:
            self._records.labels(topic)
            self._dead_letters.labels(topic)
            for reason in sorted({*REASONS, "rerouted"} - UNJOINED.keys()):
                self._refused.labels(topic, reason)
        for partitioner in ("crc32", "fnv1a", "unknown"):
            self._misplaced.labels(partitioner)
        for reason in UNJOINED:
            self._unjoined.labels(reason)
        for kind in ("close", "plain"):
            self._duration.labels(kind)
            self._size.labels(kind)
        self._registry.register(_Gauges(self._families))
        ProcessCollector(registry=self._registry)

    def exposition(self) -> bytes:
        """Return the page of a scrape, in Prometheus' text format; call it where the worker may be looked at."""
        return generate_latest(self._registry)

    # what happens

    def read(self, topic: str, records: int) -> None:
        """Count what a fetch brought."""
        self._records.labels(topic).inc(records)

    def took_letter(self, topic: str) -> None:
        """Count a dead letter of `topic` that a broker took."""
        self._dead_letters.labels(topic).inc()

    def storage_failed(self) -> None:
        """Count a checkpoint that the lake's disk refused."""
        self._storage_failures.inc()

    def fenced(self) -> None:
        """Count a checkpoint that came too late."""
        self._fenced.inc()

    def committed(
        self, base: Manifest, now: Manifest, frozen: Frozen, misplaced: Mapping[str, int], seconds: float
    ) -> None:
        """Count what a checkpoint, on top of `base`, has made true; `misplaced` is by partitioner."""
        for (topic, reason), count in Tally((each.topic, each.reason) for each in frozen.refused).items():
            self._refused.labels(topic, reason).inc(count)
        for partitioner, count in misplaced.items():
            self._misplaced.labels(partitioner).inc(count)
        for reason in UNJOINED:
            fate = f"unjoined.{reason}"
            self._unjoined.labels(reason).inc(now.totals.get(fate, 0) - base.totals.get(fate, 0))
        kind = "plain" if now.closed_through == base.closed_through else "close"
        self._duration.labels(kind).observe(seconds)
        self._size.labels(kind).observe(_written(base, now))

    def published(self, facts: pa.Table) -> None:
        """Count the facts of a close that was committed."""
        for row in facts["flag_key"].value_counts().to_pylist():
            self._facts.labels(row["values"]).inc(row["counts"])
        flags = facts["flags"].combine_chunks()
        marked = pa.table(
            {"key": facts["flag_key"].take(pc.list_parent_indices(flags)), "mark": pc.list_flatten(flags)}
        )
        counted = marked.group_by(["key", "mark"]).aggregate([([], "count_all")])
        for row in counted.to_pylist():
            self._marked.labels(row["key"], row["mark"]).inc(row["count_all"])

    # how things are

    def _families(self) -> Iterator[Metric]:
        worker = self._snapshot()
        yield _gauge("evidence_assigned_partitions", [((), len(worker.partitions))])
        yield _gauge("evidence_topic_partitions", [((), worker.topic_partitions)])
        yield _gauge("evidence_unacknowledged_records", [((), worker.unacknowledged)])
        yield _gauge("evidence_unacknowledged_seconds", [((), worker.unacknowledged_for / _MICRO)])
        yield _gauge("evidence_ready", [((), float(self._ready(worker)))])
        room = self._room()
        if room is not None:
            yield _gauge("evidence_lake_free_bytes", [((), room[0])])
            yield _gauge("evidence_lake_size_bytes", [((), room[1])])
        yield from _of_topics(worker)
        yield from _of_partitions(worker)

    def _counter(self, name: MetricName) -> Counter:
        one = METRICS[name]
        return Counter(name, one.meaning, one.labels, registry=self._registry)

    def _histogram(self, name: MetricName, buckets: Sequence[float]) -> Histogram:
        one = METRICS[name]
        return Histogram(name, one.meaning, one.labels, registry=self._registry, buckets=buckets)


class _Gauges(Collector):
    """What makes families anew at each scrape; it tells of none beforehand, when there is nothing to look at yet."""

    def __init__(self, families: Callable[[], Iterator[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return self._families()

    def describe(self) -> Iterable[Metric]:
        return ()


def _of_topics(worker: WorkerSnapshot) -> Iterator[Metric]:
    each = [((topic, str(p.number)), state) for p in worker.partitions for topic, state in p.topics.items()]
    yield _gauge("evidence_lag_records", [(labels, state.unread) for labels, state in each])
    yield _gauge("evidence_lag_seconds", [(labels, state.behind(worker.now) / _MICRO) for labels, state in each])
    yield _gauge("evidence_uncommitted_records", [(labels, state.uncommitted) for labels, state in each])
    stopped = [((p.stopped.topic, str(p.number)), 1.0) for p in worker.partitions if p.stopped is not None]
    yield _gauge("evidence_partition_stopped", stopped)


def _of_partitions(worker: WorkerSnapshot) -> Iterator[Metric]:
    now = worker.now
    values: dict[MetricName, Callable[[PartitionSnapshot], float | None]] = {
        "evidence_watermark_timestamp_seconds": lambda p: None if p.watermark is None else p.watermark / _MICRO,
        "evidence_watermark_lag_seconds": lambda p: None if p.watermark is None else (now - p.watermark) / _MICRO,
        "evidence_closed_through_timestamp_seconds": lambda p: p.closed_through and p.closed_through / _MICRO,
        "evidence_open_events": lambda p: p.open_events + p.buffered_rows,
        "evidence_state_bytes": lambda p: p.state_bytes,
        "evidence_buffered_bytes": lambda p: p.buffered_bytes,
        "evidence_checkpoint_age_seconds": lambda p: p.waiting_for / _MICRO,
    }
    for name, value in values.items():
        samples = [((str(p.number),), found) for p in worker.partitions if (found := value(p)) is not None]
        yield _gauge(name, samples)


def _gauge(name: MetricName, samples: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    one = METRICS[name]
    family = GaugeMetricFamily(name, one.meaning, labels=one.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return cast("Metric", family)


def _written(base: Manifest, now: Manifest) -> int:
    """Return the bytes of the files that are new in `now`."""
    live = base.live()
    new = [file for file in (*now.segments, *now.residue) if file.name not in live]
    return sum(file.size for file in (*new, *now.unpublished()))
