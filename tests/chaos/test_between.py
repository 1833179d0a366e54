"""What happens between the death of a worker and the start of the next."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from contracts.placement import murmur2_partition
from tests.brokers import ApacheKafka
from tests.chaos.fleet import fleet_of
from tests.chaos.forms import long_form
from tests.chaos.load import FLAG, Load
from tests.chaos.points import Plan
from tests.chaos.verdict import judge
from tests.integration.deployment import Deployment, exposure, outcome, pair
from tests.pipeline import lab
from tests.waiting import until


@long_form
def test_contracts_change_between_crash_and_recovery(apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    """What was not durable is read under the new version; windows that were open keep the one they opened under."""
    deployment = deploy(apache.bootstrap)
    with fleet_of(deployment) as fleet:
        with Load(deployment, 9) as load:
            for number, point in enumerate(("after stage", "before publish", "after prune")):
                fleet.start(Plan(point, nth=8)).dies()
                (deployment.home / "flags" / "route.yaml").write_text(f"{FLAG}# version {number + 2}\n")
        deployment.read_to_end("--close-windows")
    judge(deployment, load.expected)
    assert len({fact["contract_version"] for fact in deployment.facts()}) >= 3


def test_a_close_that_dies_after_its_dead_letters_were_sent(
    apache: ApacheKafka, deploy: Callable[..., Deployment]
) -> None:
    """The retry finds the exposure that had been missing: the dead letter was spurious, the lake is right."""
    deployment = deploy(apache.bootstrap, flag=lab.FLAG, checkpoint_interval="60s", close_interval="60s")
    deployment.publish([outcome("u1", 1), *pair("u2", 200)])
    place = int(murmur2_partition(["u1"], deployment.partitions)[0])
    with fleet_of(deployment) as fleet:  # at the end each partition has one checkpoint, by number
        fleet.start(Plan("after flush", nth=place + 1), "--stop-at-end", "--close-windows").dies()
    assert [letter.reason for letter in deployment.letters()] == ["no_exposure"]
    assert place not in deployment.manifests()
    deployment.publish([exposure("u1", 0.5)])
    deployment.read_to_end("--close-windows")
    assert [letter.reason for letter in deployment.letters()] == ["no_exposure"]
    assert deployment.fates() == {"joined": 4}
    assert [fact["outcomes"] for fact in deployment.facts()] == [1, 1]


def _make_again(admin: AdminClient, topic: str) -> None:
    _done(admin.delete_topics([topic]))
    until(lambda: topic not in admin.list_topics(timeout=5).topics, what="the topic is gone")
    _done(admin.create_topics([NewTopic(topic, 6, 1)]))


def _add_partitions(admin: AdminClient, topic: str) -> None:
    _done(admin.create_partitions([NewPartitions(topic, 7)]))


def _delete(admin: AdminClient, topic: str) -> None:
    _done(admin.delete_topics([topic]))


def _done(answers: Mapping[object, Future[object]]) -> None:
    for answer in answers.values():
        answer.result()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(_make_again, ["was deleted and made again", "does not exist"], id="a topic made again"),
        pytest.param(_add_partitions, ["partition counts differ", "has 7 partitions"], id="more partitions"),
        pytest.param(_delete, ["does not exist", "evidence topics create"], id="a topic deleted"),
    ],
)
def test_topics_change_under_a_worker(
    apache: ApacheKafka,
    deploy: Callable[..., Deployment],
    change: Callable[[AdminClient, str], None],
    told: Sequence[str],
) -> None:
    """It ends with one line that says what happened and what to do."""
    deployment = deploy(apache.bootstrap, flag=lab.FLAG)
    deployment.publish(pair("u1", 0))
    with fleet_of(deployment) as fleet:
        member = fleet.start()
        until(lambda: deployment.passed() == 2, what="checkpoints")
        before = deployment.told()
        change(AdminClient(deployment.settings.librdkafka()), deployment.topic("guardrail"))
        assert member.ends() == 1, member.said()
        [line] = [line for line in member.said().splitlines() if line.startswith("evidence: ")]
        assert any(words in line for words in told), line
        assert "Traceback" not in member.said()
        assert deployment.told() == before
