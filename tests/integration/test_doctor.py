"""The doctor on topics that producers of several kinds have filled."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from contracts.times import format_time
from pipeline.doctor.command import diagnose
from pipeline.doctor.examination import Examined
from pipeline.settings import Settings
from pipeline.traffic import Message, encode
from tests.brokers import PASSWORD, USERNAME, ApacheKafka
from tests.contracts.records import CONTRACT
from tests.integration.deployment import Deployment, pair
from tests.pipeline.doctor.samples import Sent, healthy

PARTITIONS: Final = 6
AHEAD: Final = 120_000_000  # µs
SINGLE: Final = {"batch.num.messages": 1}  # the embedded broker tells the end right for batches of one record only


def messages(sent: Iterable[Sent]) -> list[Message]:
    """Return them as they are published now: the topics delete what is older than a week."""
    now = time.time_ns() // 1_000_000
    return [Message(one.kind, one.key or one.unit.encode(), encode(one.body), now) for one in sent]


@pytest.fixture
def filled(bootstrap: str, deploy: Callable[..., Deployment]) -> Deployment:
    """Give a deployment on either broker with the example's contract and six partitions."""
    return deploy(bootstrap, partitions=PARTITIONS, flag=CONTRACT.text)


@pytest.fixture
def on_embedded(embedded: str, deploy: Callable[..., Deployment]) -> Deployment:
    """Give the same on the embedded broker."""
    return deploy(embedded, partitions=PARTITIONS, flag=CONTRACT.text)


def look(deployment: Deployment | Settings, **more: Any) -> Examined:  # noqa: ANN401
    settings = deployment if isinstance(deployment, Settings) else deployment.settings
    return diagnose(settings, more.get("records"), more.get("since"), more.get("limit_s", 30.0))


def found(examined: Examined) -> list[str]:
    return [finding.id for finding in examined.findings]


def healthy_now() -> list[Message]:
    return messages(healthy(units=150))


def test_right_partitions_are_no_finding(filled: Deployment) -> None:
    filled.produce(filled.producer(**SINGLE), healthy_now())
    examined = look(filled)
    assert found(examined) == []
    assert [topic.count for topic in examined.sample] == [150, 123, 14]


def test_the_default_of_librdkafkas_clients(filled: Deployment) -> None:
    filled.produce(filled.producer(partitioner="consistent_random", **SINGLE), healthy_now())
    assert found(look(filled)) == ["crc32_partitioner"]


@pytest.mark.parametrize(
    ("partitioner", "fault"), [("fnv1a_random", "fnv1a_partitioner"), ("random", "unknown_partitioner")]
)
def test_other_partitioners_of_librdkafka(on_embedded: Deployment, partitioner: str, fault: str) -> None:
    on_embedded.produce(on_embedded.producer(partitioner=partitioner, **SINGLE), healthy_now())
    assert found(look(on_embedded)) == [fault]


def test_aiokafka_places_as_java_does(apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    filled = deploy(apache.bootstrap, partitions=PARTITIONS, flag=CONTRACT.text)

    async def produce() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=filled.settings.bootstrap_servers)
        await producer.start()
        try:
            for message in healthy_now():
                await producer.send_and_wait(filled.topic(message.kind), message.value, message.key)
        finally:
            await producer.stop()

    asyncio.run(produce())
    assert found(look(filled)) == []


def test_two_producers_in_one_topic_are_told_apart_by_their_ids(
    apache: ApacheKafka, deploy: Callable[..., Deployment]
) -> None:
    """One is idempotent and places right; the other has no ID."""
    deployment = deploy(apache.bootstrap, partitions=PARTITIONS, flag=CONTRACT.text)
    sent = healthy_now()
    right, wrong = ({"enable.idempotence": True}, {"enable.idempotence": True, "partitioner": "consistent_random"})
    deployment.produce(deployment.producer(**right), sent[::2])
    deployment.produce(deployment.producer(**wrong), sent[1::2])
    [finding] = look(deployment).findings
    assert finding.id == "crc32_partitioner"
    named = [line for line in finding.evidence if "producer ID" in line]
    topics = [deployment.topic("exposure"), deployment.topic("outcome")]
    assert [line.split(":")[0] for line in named[::2]] == topics
    assert all(": so places producer ID" in line for line in named[::2])


def test_faults_at_once(on_embedded: Deployment) -> None:
    sent = [
        one.but(key=json.dumps(one.unit).encode()) if one.kind == "exposure" else one.saying(estimatedCost=...)
        for one in healthy(units=150)
        if one.kind != "guardrail"
    ]
    on_embedded.produce(on_embedded.producer(partitioner="consistent_random", **SINGLE), messages(sent))
    assert found(look(on_embedded)) == ["crc32_partitioner", "quoted_keys", "outcomes_without_cost"]


def test_the_command_answers_people_and_machines(on_embedded: Deployment) -> None:
    on_embedded.produce(on_embedded.producer(**SINGLE), healthy_now())
    fine = on_embedded.evidence("doctor")
    assert (fine.returncode, fine.stderr) == (0, "")
    assert fine.stdout.splitlines()[-1] == "nothing is wrong with the producers, as far as the sample tells"
    on_embedded.produce(on_embedded.producer(**SINGLE), [replace(each, value=b"{") for each in healthy_now()[:20]])
    wrong = on_embedded.evidence("doctor", "--json", "--records", "500")
    assert wrong.returncode == 1
    report = json.loads(wrong.stdout)
    assert [each["id"] for each in report["findings"]] == ["refused_records"]
    assert report["findings"][0]["example"]["topic"] in on_embedded.settings.topics
    assert sum(sum(flag["refused"].values()) for flag in report["flags"]) == 20


def test_it_joins_no_group(on_apache: Deployment) -> None:
    on_apache.publish(pair("u1", 0))
    assert look(on_apache).sample.exposures.count == 1
    listed = AdminClient(on_apache.settings.librdkafka()).list_consumer_groups(request_timeout=10.0).result()
    assert not [group for group in listed.valid if "doctor" in group.group_id]


def test_without_a_broker_it_says_so_in_one_line(deploy: Callable[..., Deployment], embedded: str) -> None:
    ended = deploy(embedded).but(bootstrap_servers="127.0.0.1:1").evidence("doctor", "--time-limit", "1")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("evidence: no Kafka broker answers")
    assert ended.stderr.count("\n") == 1


def test_missing_and_empty_topics(filled: Deployment) -> None:
    assert found(look(filled)) == ["empty_topic"]
    missing = filled.but(exposures_topic="nowhere-1", outcomes_topic="nowhere-2", guardrails_topic="nowhere-3")
    assert found(look(missing)) == ["missing_topic"] * 3
    assert found(look(missing)) == ["missing_topic"] * 3  # to ask has not made them


def test_the_newest_records_and_those_since_a_time(on_embedded: Deployment) -> None:
    old, young = healthy_now()[:100], healthy_now()[100:]
    old = [replace(each, timestamp_ms=each.timestamp_ms - 7_200_000) for each in old]
    on_embedded.produce(on_embedded.producer(**SINGLE), old)
    on_embedded.produce(on_embedded.producer(**SINGLE), young)
    newest = look(on_embedded, records=3).sample.exposures
    assert newest.count == 3 * PARTITIONS
    assert newest.cut == frozenset(range(PARTITIONS))
    since = look(on_embedded, since="1h").sample
    assert sum(topic.count for topic in since) == len(young)


def test_it_reads_while_a_worker_runs(on_apache: Deployment) -> None:
    on_apache.publish(each for unit in range(30) for each in pair(f"u{unit}", 0))
    with on_apache.worker() as worker:
        worker.says("checkpoint 1")
        assert look(on_apache).sample.exposures.count == 30


def test_what_was_aborted_is_not_judged(apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(apache.bootstrap, partitions=PARTITIONS, flag=CONTRACT.text)
    producer = deployment.producer(**{"transactional.id": deployment.settings.group, "partitioner": "random"})
    producer.init_transactions()
    producer.begin_transaction()
    deployment.produce(producer, healthy_now())
    producer.abort_transaction()
    deployment.publish(healthy_now())
    assert found(look(deployment)) == []


def test_append_times_tell_whose_clock_is_ahead(apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(apache.bootstrap, partitions=PARTITIONS, flag=CONTRACT.text)
    _stamp_on_arrival(deployment)
    now = time.time_ns() // 1_000
    begin = min(one.at for one in healthy(units=60))
    sent = [one.saying(timestamp=format_time(now + (one.at - begin) // 1_000 + AHEAD)) for one in healthy(units=60)]
    deployment.produce(deployment.producer(), messages(sent))
    assert "clock_ahead" in found(look(deployment))


def test_it_uses_the_security_settings_and_needs_no_right_to_describe_configs(
    apache: ApacheKafka, deploy: Callable[..., Deployment]
) -> None:
    secure = {
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_mechanism": "SCRAM-SHA-256",
        "kafka_sasl_username": USERNAME,
        "kafka_sasl_password": PASSWORD,
        "kafka_ssl_ca": apache.certificates.ca,
    }
    deployment = deploy(apache.secure, partitions=PARTITIONS, flag=CONTRACT.text, **secure)
    deployment.publish(healthy_now())
    assert found(look(deployment)) == []


def _stamp_on_arrival(deployment: Deployment) -> None:
    admin = AdminClient(deployment.settings.librdkafka())
    for topic in deployment.settings.topics:
        entry = ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
        [answer] = admin.incremental_alter_configs(
            [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])]
        ).values()
        answer.result()
