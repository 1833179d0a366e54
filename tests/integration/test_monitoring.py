"""A pager drill: faults are planted while load runs, a real Prometheus tells them, what the runbook says mends them."""

import itertools
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from contracts.placement import murmur2_partition
from pipeline.checkpoint import STEPS
from pipeline.embedded import free_port
from pipeline.preflight import DLQ_SUFFIX
from pipeline.status.look import look
from sinks.views import connect
from tests.brokers import ApacheKafka
from tests.chaos.fleet import Member, fleet_of
from tests.conftest import missing
from tests.integration.deployment import Deployment, exposure, guardrail, outcome, pair
from tests.monitoring.dashboard import queries
from tests.monitoring.prometheus import ALERTS, PrometheusMissing, Server, serving, sixty_times_faster
from tests.pipeline.collector import collecting

PAUSE_S: Final = 0.01  # between two units
UNITS_PER_HOUR: Final = 5  # of event time: windows close after seconds
TOO_MANY: Final = 20
UNIT_OF_1: Final = next(f"s{n}" for n in range(99) if murmur2_partition([f"s{n}"], 2)[0] == 1)
EACH_TOPIC_COMES: Final = "min(increase(evidence_records_total[1m])) > 0"
MENDED: Final = (
    "EvidenceWrongPartitioner",
    "EvidenceRecordsRefused",
    "EvidenceTopicSilent",
    "EvidenceStorageFailing",
    "EvidencePartitionStopped",
    "EvidencePartitionsUnowned",
    "EvidenceWorkerDown",
)


@dataclass
class Load:
    """Publishes units for ever, with the faults that are in `faults`."""

    deployment: Deployment
    faults: set[str] = field(default_factory=set)
    _enough: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        java, python = self.deployment.producer(), self.deployment.producer(partitioner="consistent")
        for number in itertools.count():
            if self._enough.wait(PAUSE_S):
                return
            unit, hour = f"u{number:05d}", number / UNITS_PER_HOUR
            messages = pair(unit, hour)
            if number % 3 == 0:
                messages.append(exposure(unit, hour, "candidate"))  # crossover
            if "one topic silent" not in self.faults:
                messages.append(guardrail(unit, hour))
            if "a schema change" in self.faults and number % 4 == 0:
                messages.append(outcome(unit, hour, eventId=7))
            if "late" in self.faults:
                messages.append(outcome(f"late-{unit}", 0))
            wrong = "the wrong partitioner" in self.faults and number % 2 == 0
            self.deployment.produce(python if wrong else java, messages)

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._enough.set()
            thread.join()


@dataclass(frozen=True)
class Pager:
    """What on-call has at hand: the pages of a worker, Prometheus, the command line."""

    worker: Member
    address: str
    prometheus: Server
    deployment: Deployment

    def page(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def ready(self) -> bool:
        try:
            return self.page("/readyz")[0] == 200
        except OSError:  # not there yet
            return False

    def reason(self, kind: str) -> str:
        """Return what /readyz says of this kind once it is a reason."""

        def found() -> list[str]:
            return [each["message"] for each in json.loads(self.page("/readyz")[1])["reasons"] if each["kind"] == kind]

        self.worker.until(found, f"/readyz: {kind}")
        return found()[0]

    def fires(self, *names: str) -> None:
        """Wait until each has fired: on a slow machine some come and go with the checkpoints, which count."""
        self.worker.until(lambda: self.prometheus.fired() >= set(names), f"{names}")

    def calms(self, *names: str) -> None:
        self.worker.until(lambda: not self.prometheus.firing() & set(names), f"none of {names}")

    def metrics(self) -> dict[str, float]:
        """Return the samples of a scrape, by name and labels."""
        lines = self.page("/metrics")[1].splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_a_pager_drill(
    apache: ApacheKafka, deploy: Callable[..., Deployment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, full = free_port(), tmp_path / "full"
    deployment = deploy(apache.bootstrap, web_port=port, breaker_in_a_row=TOO_MANY, breaker_minimum=10_000)
    address, load = f"127.0.0.1:{port}", Load(deployment)
    with fleet_of(deployment) as fleet, _prometheus(tmp_path, address) as prometheus, collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        pager = Pager(fleet.start(full_while=full), address, prometheus, deployment)
        with load.running():
            pager.worker.until(pager.ready, "a ready worker")
            pager.worker.until(lambda: prometheus.query(EACH_TOPIC_COMES), "records of each topic")
            _telemetry_breaks(pager, load)
            _the_disk_is_full(pager, full)
            _a_partition_is_stuck(pager)
            pager.calms(*MENDED)
            assert "EvidenceInternalErrors" not in prometheus.fired()
        pager.worker.until(lambda: deployment.passed() == len(deployment.places()), "all in the lake")
        _everyone_tells_the_same(pager)
        fleet.end()
        assert {span.name for span in collector.spans()} == {"checkpoint", *STEPS}


def _telemetry_breaks(pager: Pager, load: Load) -> None:
    load.faults |= {"the wrong partitioner", "a schema change", "one topic silent", "late"}
    pager.fires("EvidenceWrongPartitioner", "EvidenceRecordsRefused", "EvidenceTopicSilent", "EvidenceRecordsLate")
    pager.fires("EvidenceFactsDoubtful")
    culprits = pager.prometheus.query("topk(1, sum by (partitioner) (evidence_misplaced_total))")
    assert [culprit["metric"]["partitioner"] for culprit in culprits] == ["crc32"]
    for title, expression in queries("10s"):
        assert pager.prometheus.query(expression), f"nothing in the panel {title}: {expression}"
    load.faults.clear()


def _the_disk_is_full(pager: Pager, full: Path) -> None:
    full.touch()
    pager.fires("EvidenceStorageFailing")
    assert "No space left on device; free space on its disk" in pager.reason("not_durable")
    assert pager.page("/livez") == (200, '{"live":true,"reasons":[]}')
    full.unlink()
    pager.worker.until(pager.ready, "a ready worker")


def _a_partition_is_stuck(pager: Pager) -> None:
    deployment = pager.deployment
    deployment.publish([replace(outcome(UNIT_OF_1, 0), value=b"{")] * 3 * TOO_MANY, **{"batch.num.messages": 1_000})
    pager.fires("EvidencePartitionStopped")
    assert pager.reason("stopped").startswith(f"partition 1 is stopped at {deployment.topic('outcome')}: ")
    pager.worker.until(lambda: deployment.evidence("status").returncode == 1, "the mark in the lake")
    status = deployment.evidence("status")
    assert "partition 1: stopped at" in status.stdout
    assert "evidence resume" in status.stdout
    assert deployment.evidence("resume").returncode == 0
    pager.worker.until(pager.ready, "a ready worker")


def _everyone_tells_the_same(pager: Pager) -> None:
    """Wait until a scrape, the status and the lake's own account agree: closes may still go on."""

    def differences() -> dict[str, tuple[float, float | None]]:
        expected, told = _by_the_lake(pager.deployment), pager.metrics()
        return {name: (value, told.get(name)) for name, value in expected.items() if told.get(name) != value}

    try:
        pager.worker.until(lambda: not differences(), "agreement")
    except AssertionError as failure:
        raise AssertionError(f"{failure}\nthey differ: {differences()}") from None
    told = pager.metrics()
    assert told['evidence_unjoined_total{reason="late"}'] > 0
    misplaced = sum(value for name, value in told.items() if name.startswith("evidence_misplaced_total"))
    rerouted = [value for name, value in told.items() if 'reason="rerouted"' in name]
    assert misplaced == sum(rerouted) > 0


def _by_the_lake(deployment: Deployment) -> dict[str, float]:
    """Return what a scrape has to tell, by the views and by the status."""
    expected: Counter[str] = Counter()
    with closing(connect(deployment.settings.lake)) as lake:
        account = lake.sql("SELECT * FROM account").to_arrow_table().to_pylist()
        facts = lake.sql("SELECT flag_key, unnest(list_append(flags, '')) AS mark FROM facts").fetchall()
    for row in account:
        topic = f'topic="{row["topic"]}"'
        expected[f"evidence_records_total{{{topic}}}"] += row["next_offset"] - row["first_offset"]
        for reason in ("schema_violation", "not_json", "rerouted"):
            expected[f'evidence_refused_total{{reason="{reason}",{topic}}}'] += row[reason]
        for reason in ("late", "no_exposure"):
            expected[f'evidence_unjoined_total{{reason="{reason}"}}'] += row[reason]
    for (flag, mark), count in Counter(facts).items():
        name = f'marked_facts_total{{flag_key="{flag}",mark="{mark}"}}' if mark else f'facts_total{{flag_key="{flag}"}}'
        expected[f"evidence_{name}"] += count
    status = look(deployment.settings, time.time_ns() // 1000)
    assert status.fine
    for partition in status.partitions:
        labels = f'{{partition="{partition.number}"}}'
        expected[f"evidence_open_events{labels}"] = partition.open_events
        expected[f"evidence_state_bytes{labels}"] = partition.state_bytes
        for topic, lag in (partition.lag or {}).items():
            expected[f'evidence_lag_records{{partition="{partition.number}",topic="{topic}"}}'] = lag
    for letters in status.letters or ():
        source = letters.topic.removesuffix(DLQ_SUFFIX)
        expected[f'evidence_dead_letters_total{{topic="{source}"}}'] = letters.held
    return dict(expected)


@contextmanager
def _prometheus(home: Path, target: str) -> Iterator[Server]:
    try:
        with serving(home / "prometheus", target, sixty_times_faster(ALERTS.read_text())) as server:
            yield server
    except PrometheusMissing as nothing:
        missing(str(nothing))
