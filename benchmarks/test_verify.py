"""How long an audit of one partition takes: its files, its records, its units; without a broker.

Divide the time of a round by its records, about 50,000.
"""

import random
from datetime import date

from pytest_benchmark.fixture import BenchmarkFixture

from contracts.flags import load_contract
from pipeline.demo import EXAMPLE, contract_for
from pipeline.planted import generate
from pipeline.verify.audit import audit
from sinks.lineage import open_lake
from tests.pipeline.auditing import topics_of
from tests.pipeline.lab import NOON, TOPICS, Lab

COUNT = 50_000
TOPIC: dict[str, str] = {kind: topic for topic, kind in TOPICS.items()}


def test_audit(benchmark: BenchmarkFixture) -> None:
    contract = load_contract(contract_for(EXAMPLE.read_text(), date(2026, 6, 7)), "f.yaml")
    traffic = generate(random.Random(1), NOON, contract, events=COUNT, partitions=4)  # noqa: S311 - made-up traffic
    lab = Lab(contracts=(contract,))
    open_lake(lab.storage, lambda: "lake")
    writer = lab.writer()
    for part, is_last in (traffic.first, False), (traffic.second, True):
        for message in part:
            lab.publish(TOPIC[message.kind], message.value)
        for topic in TOPICS:
            lab.read(writer, topic, COUNT, at_end=True)
        lab.checkpoint(writer, close=True, everything=is_last)
    topics = topics_of(lab)
    topics.batch = 5_000
    found = benchmark.pedantic(audit, args=(lab.storage, topics), rounds=5, warmup_rounds=1)  # type: ignore[no-untyped-call]
    assert found.clean
