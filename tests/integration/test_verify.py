"""The audit over real topics: clean where the lake is right, exact where it is not, honest where it cannot look."""

import json
import random
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from contracts.flags import load_contract
from pipeline.demo import EXAMPLE, contract_for
from pipeline.planted import generate
from pipeline.topics import await_brokers
from tests.integration.deployment import Deployment, exposure, outcome, pair

EVENTS, PARTITIONS = 2_000, 3


def audited(deployed: Deployment, *arguments: str, clean: bool = True) -> dict[str, dict[str, Any]]:
    """Run `evidence verify`; return its checks by name."""
    answer = deployed.evidence("verify", "--json", *arguments)
    assert answer.returncode == (0 if clean else 1), answer.stdout + answer.stderr
    return {check["check"]: check for check in json.loads(answer.stdout)["checks"]}


def test_the_lake_of_the_planted_traffic_is_clean(bootstrap: str, deploy: Callable[..., Deployment]) -> None:
    now = time.time_ns() // 1_000_000 * 1_000
    text = contract_for(EXAMPLE.read_text(), datetime.fromtimestamp(now // 1_000_000, UTC).date())
    contract = load_contract(text, "route.yaml")
    traffic = generate(random.Random(3), now, contract, events=EVENTS, partitions=PARTITIONS)  # noqa: S311
    deployed = deploy(bootstrap, flag=text, partitions=PARTITIONS)

    deployed.publish(traffic.first)
    deployed.read_to_end()
    audited(deployed)
    deployed.publish(traffic.second)
    deployed.with_new_group().read_to_end("--close-windows")

    checks = audited(deployed)
    assert {check["status"] for check in checks.values()} == {"ok"}
    assert checks["input"]["counts"]["records"] == traffic.planted.published + traffic.planted.rerouted
    assert checks["facts"]["counts"]["compared"] == sum(traffic.planted.facts.values())
    assert checks["copies"]["counts"]["rerouted"] == traffic.planted.rerouted
    assert deployed.evidence("verify").stdout.endswith("verdict: the lake is what its input makes of it\n")

    exposures = deployed.topic("exposure")
    later = audited(deployed, *(f"--from={exposures}:{partition}:200" for partition in range(PARTITIONS)))["facts"]
    assert f"{exposures} [0] is read from offset 200 on" in later["not_done"][0]
    assert later["counts"]["units left out"] > 0
    assert later["counts"]["compared"] > 0


def test_a_lake_is_audited_while_a_worker_writes_it(deployment: Deployment) -> None:
    def news(before: int) -> bool:
        return deployment.passed() > before

    with deployment.worker() as worker:
        for number in range(3):
            deployment.publish(pair(f"u{number}", 30.0 * number))
            worker.until(partial(news, before=number), "news")
            audited(deployment)
        worker.process.terminate()
        assert worker.ends() == 0
    audited(deployment)


def test_a_truncated_file_and_one_partition(deployment: Deployment) -> None:
    deployment.publish(message for number in range(20) for message in pair(f"u{number}", number))
    deployment.read_to_end("--close-windows")
    file = min((deployment.settings.lake / "tables" / "facts").rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-1])

    partition = int(file.name[1:6])
    assert audited(deployment, "--partition", str(partition), clean=False)["files"]["wrong"] == {"of another size": 1}
    assert audited(deployment, "--partition", str(1 - partition))["facts"]["status"] == "ok"
    assert audited(deployment, "--lake-only", clean=False)["facts"]["status"] == "not done"


def test_aborted_and_control_records_are_accounted_for(on_apache: Deployment) -> None:
    producer = on_apache.producer(**{"transactional.id": uuid.uuid4().hex})
    producer.init_transactions()
    for hour, end in enumerate((producer.commit_transaction, producer.abort_transaction, producer.commit_transaction)):
        producer.begin_transaction()
        on_apache.produce(producer, [message for unit in range(5) for message in pair(f"u{unit}", 40.0 * hour)])
        end()
    on_apache.read_to_end("--close-windows")
    checks = audited(on_apache)
    assert checks["input"]["counts"]["records"] == 20
    assert checks["input"]["counts"]["without record"] > 10
    assert checks["facts"]["counts"]["compared"] == 10


@pytest.mark.parametrize("how", ["records deleted", "topic deleted"])
def test_what_the_topics_do_not_hold_any_more_is_said(on_apache: Deployment, how: str) -> None:
    on_apache.publish([exposure("u1", 0), outcome("u1", 1), outcome("u1", 2)])
    on_apache.read_to_end("--close-windows")
    admin = await_brokers(on_apache.settings.librdkafka())
    if how == "records deleted":
        places = [TopicPartition(on_apache.topic("outcome"), p, 1) for p in range(on_apache.partitions)]
        held = [place for place in places if place.partition in {p.partition for p in on_apache.places()}]
        futures = admin.delete_records(held)
    else:
        futures = admin.delete_topics([on_apache.topic("outcome")])
    for future in futures.values():
        future.result()
    facts = audited(on_apache)["facts"]
    assert facts["status"] == "not done"
    assert "because retention was faster" in facts["not_done"][0] or "does not exist" in facts["not_done"][0]
