"""What Prometheus is told: every metric of the list, in its words, and nothing else."""

from typing import Final, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.metrics import METRICS, MetricName, Metrics
from pipeline.snapshot import WorkerSnapshot
from sinks.manifest import Stopped
from tests.pipeline.lab import HOUR, NOON, TOPICS, Lab, exposure, outcome
from tests.pipeline.looks import SECOND, partition, topic, worker

STOPPED: Final = Stopped(reason="", topic="outcomes", at=NOON, details="")


def metrics(state: WorkerSnapshot | None = None, room: tuple[int, int] | None = (1, 10)) -> Metrics:
    shown = worker(partition()) if state is None else state
    return Metrics(tuple(TOPICS), lambda: shown, lambda _: True, lambda: room)


def samples(told: Metrics) -> dict[str, float]:
    """Return the values by name and the values of labels."""
    families = text_string_to_metric_families(told.exposition().decode())
    return {
        "|".join([sample.name, *(sample.labels[name] for name in _order(sample.name, sample.labels))]): sample.value
        for family in families
        for sample in family.samples
    }


def _order(name: str, labels: dict[str, str]) -> list[str]:
    known = METRICS.get(name)  # type: ignore[call-overload]  # not of the process and of buckets
    return list(known.labels) if known else sorted(labels)


def test_the_list_is_closed() -> None:
    assert set(METRICS) == set(get_args(MetricName))


def test_a_worker_tells_every_metric_of_the_list_and_no_other() -> None:
    told = metrics(worker(partition(stopped=STOPPED)))
    lab = Lab()
    _publish_facts(lab, told)
    families = list(text_string_to_metric_families(told.exposition().decode()))
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families if family.samples}
    assert {name for name in names if not name.startswith("process_")} == set(METRICS)
    for family in families:
        name = family.name + ("_total" if family.type == "counter" else "")
        if name in METRICS:
            definition = METRICS[name]  # type: ignore[index]
            assert (family.type, family.documentation) == (definition.kind, definition.meaning)
            labels = set(family.samples[0].labels) - {"le"}
            assert labels == set(definition.labels), name


@pytest.mark.parametrize("name", METRICS)
def test_names_end_in_base_units(name: str) -> None:
    units = ("records", "seconds", "bytes", "events", "partitions", "total")
    assert name.endswith(units) or name in {"evidence_ready", "evidence_partition_stopped"}


def test_counters_begin_at_zero_where_their_labels_are_known() -> None:
    found = samples(metrics())
    assert found["evidence_records_total|guardrails"] == 0
    assert found["evidence_refused_total|outcomes|schema_violation"] == 0
    assert found["evidence_refused_total|outcomes|rerouted"] == 0
    assert "evidence_refused_total|outcomes|late" not in found, "late is not refused, but unjoined"
    assert found["evidence_unjoined_total|late"] == 0
    assert found["evidence_misplaced_total|crc32"] == 0


def test_a_snapshot_becomes_gauges_in_base_units() -> None:
    behind = topic(next_offset=8, committed=5, end=10, record_time=NOON - 90 * SECOND)
    topics = dict.fromkeys(TOPICS, topic()) | {"outcomes": behind}
    state = partition(
        3,
        topics=topics,
        watermark=NOON - HOUR,
        buffered_rows=2,
        buffered_bytes=20,
        open_events=5,
        state_bytes=50,
        waiting_for=1_500_000,
    )
    found = samples(metrics(worker(state, unacknowledged=4), room=(3, 7)))
    assert {name: found[name] for name in found if name.endswith("|outcomes|3")} == {
        "evidence_lag_records|outcomes|3": 2,
        "evidence_lag_seconds|outcomes|3": 90,
        "evidence_uncommitted_records|outcomes|3": 3,
    }
    assert found["evidence_watermark_lag_seconds|3"] == 3_600
    assert found["evidence_watermark_timestamp_seconds|3"] == (NOON - HOUR) / 1e6
    assert found["evidence_open_events|3"] == 7
    assert found["evidence_state_bytes|3"] == 50
    assert found["evidence_checkpoint_age_seconds|3"] == 1.5
    assert found["evidence_unacknowledged_records"] == 4
    assert (found["evidence_lake_free_bytes"], found["evidence_lake_size_bytes"]) == (3, 7)
    assert (found["evidence_assigned_partitions"], found["evidence_topic_partitions"]) == (1, 12)


def test_what_is_not_known_is_not_told() -> None:
    found = samples(metrics(worker(partition(watermark=None, closed_through=None)), room=None))
    assert not any(name.startswith(("evidence_watermark", "evidence_closed", "evidence_lake")) for name in found)


def test_a_checkpoint_is_counted_by_what_it_made_true() -> None:
    lab, told = Lab(), metrics()
    _publish_facts(lab, told)
    found = samples(told)
    assert found["evidence_facts_total|route"] == 2
    assert found["evidence_marked_facts_total|route|crossover"] == 2
    assert found["evidence_unjoined_total|no_exposure"] == 1
    assert found["evidence_refused_total|outcomes|not_json"] == 1
    assert found["evidence_misplaced_total|crc32"] == 5
    assert found["evidence_checkpoint_duration_seconds_count|close"] == 1
    assert found["evidence_checkpoint_duration_seconds_sum|close"] == 0.5
    assert found["evidence_checkpoint_size_bytes_count|close"] == 1
    written = sum(len(lab.storage.read(name)) for name in lab.storage.list("tables"))
    live = sum(len(lab.storage.read(name)) for name in lab.storage.list("segments"))
    assert found["evidence_checkpoint_size_bytes_sum|close"] == written + live


def test_what_happens_is_counted() -> None:
    told = metrics()
    told.read("outcomes", 500)
    told.took_letter("outcomes")
    told.storage_failed()
    told.fenced()
    found = samples(told)
    assert found["evidence_records_total|outcomes"] == 500
    assert found["evidence_dead_letters_total|outcomes"] == 1
    assert found["evidence_storage_failures_total"] == 1
    assert found["evidence_fenced_total"] == 1


def _publish_facts(lab: Lab, told: Metrics) -> None:
    """Make a checkpoint that closes: two facts that are crossover, an outcome without exposure, one that is no JSON."""
    lab.publish("exposures", exposure("u1", 0), exposure("u1", 0, "candidate"), exposure("u9", 90))
    lab.publish("outcomes", outcome("u2", 0), b"{")
    writer = lab.writer()
    lab.read_all(writer)
    base = writer.base
    frozen = lab.checkpoint(writer, close=True)
    told.committed(base, writer.base, frozen, {"crc32": 5}, 0.5)
    for table in lab.published:
        told.published(table)
