"""Topics that are not what the lake was filled from: an error that names the way out, never a silent restart."""

import signal
from collections.abc import Callable, Mapping
from concurrent.futures import Future

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from tests.brokers import ApacheKafka
from tests.integration.deployment import Deployment, exposure, guardrail, pair
from tests.waiting import until

WAY_OUT = "begin a new lake (EVIDENCE_LAKE) with a new group (EVIDENCE_GROUP)"


@pytest.fixture
def read(on_apache: Deployment) -> Deployment:
    """Give a deployment with records that were read."""
    on_apache.publish([exposure("u1", 0), guardrail("u1", 0)])
    on_apache.read_to_end()
    return on_apache


def test_topics_that_do_not_go_on_where_the_lake_ends(read: Deployment) -> None:
    """Each change is found at start, whatever the topics hold by then; what is in the lake stays."""
    admin = AdminClient(read.settings.librdkafka())
    facts, manifests = read.facts(), read.manifests()

    made_again = read.topic("outcome")
    _done(admin.delete_topics([made_again]))
    until(lambda: made_again not in admin.list_topics(timeout=5).topics, what="the topic is gone")
    _done(admin.create_topics([NewTopic(made_again, 2, 1)]))
    _refuses(read, f"topic {made_again} was deleted and made again")

    read.publish([guardrail("u1", 1)])
    overtaken = read.topic("guardrail")
    [partition] = [number for number, manifest in manifests.items() if manifest.topics["guardrail"].next_offset]
    _done(admin.delete_records([TopicPartition(overtaken, partition, 2)]))
    _refuses(read, f"{overtaken} [{partition}] holds offsets 2 to 2, but 1 is next: 1 records were deleted unread")

    grown = read.topic("exposure")
    _done(admin.create_partitions([NewPartitions(grown, 3)]))
    _refuses(read, f"partition counts differ ({grown} 3, ")
    _done(admin.create_partitions([NewPartitions(topic, 3) for topic in (overtaken, made_again)]))
    _refuses(read, f"topic {grown} has 3 partitions, the lake knows 2")

    assert (read.facts(), read.manifests()) == (facts, manifests)


def test_a_group_has_one_lake(read: Deployment) -> None:
    """Two hosts with a lake each would share the partitions, and each lake would hold half of the facts."""
    other = read.but(lake=read.home / "other")
    ended = other.evidence("worker", "--stop-at-end")
    assert ended.returncode == 1
    assert f"the group {read.settings.group} belongs to lake " in ended.stderr
    assert "EVIDENCE_GROUP to a new group" in ended.stderr
    assert other.rows("events") == []


def test_records_deleted_while_a_worker_hangs(apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(apache.bootstrap, session_timeout="60s")
    deployment.publish(pair("u1", 0))
    with deployment.worker() as worker:
        worker.until(lambda: deployment.passed() == 2, "checkpoints")
        worker.process.send_signal(signal.SIGSTOP)
        deployment.publish(pair("u1", 1))
        admin = AdminClient(deployment.settings.librdkafka())
        topic = deployment.topic("outcome")
        [partition] = [n for n, manifest in deployment.manifests().items() if manifest.topics["outcome"].next_offset]
        _done(admin.delete_records([TopicPartition(topic, partition, 2)]))
        worker.process.send_signal(signal.SIGCONT)
        assert worker.ends() == 1
        assert "but 1 is next: 1 records were deleted unread" in worker.said()
        assert WAY_OUT in worker.said()
        assert "Traceback" not in worker.said()


def _refuses(deployment: Deployment, why: str) -> None:
    ended = deployment.evidence("worker", "--stop-at-end")
    assert ended.returncode == 1, ended.stderr
    [line] = [line for line in ended.stderr.splitlines() if line.startswith("evidence: ")]
    assert why in line
    assert WAY_OUT in line
    assert "Traceback" not in ended.stderr


def _done(answers: Mapping[object, Future[object]]) -> None:
    for answer in answers.values():
        answer.result()
