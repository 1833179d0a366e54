"""Brokers that restart, die or hang, and dead-letter topics that take nothing: workers wait, and nothing passes."""

import time
from collections.abc import Callable

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from pipeline.preflight import DLQ_SUFFIX
from tests.brokers import ApacheKafka
from tests.chaos.fleet import fleet_of
from tests.chaos.forms import long_form
from tests.chaos.load import Load
from tests.chaos.verdict import judge
from tests.integration.deployment import Deployment
from tests.waiting import until

HANGING_S = 4.0  # two sessions


@long_form
def test_brokers_come_back(own_apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    """After a restart, after a crash, and after it hung for longer than a session, the same workers go on."""
    deployment = deploy(own_apache.bootstrap)
    with fleet_of(deployment) as fleet:
        with Load(deployment, 5) as load:
            for _ in range(2):
                fleet.start()
            fleet.moves()
            own_apache.stop()
            own_apache.start()
            fleet.moves()
            own_apache.kill()
            own_apache.start()
            fleet.moves()
            own_apache.freeze()
            thaw_at = time.monotonic() + HANGING_S
            until(lambda: time.monotonic() > thaw_at, what="time to pass")
            own_apache.thaw()
            fleet.moves()
        fleet.end()
        deployment.read_to_end("--close-windows")
    judge(deployment, load.expected)


@long_form
def test_nothing_passes_a_dead_letter_topic_that_takes_no_writes(
    apache: ApacheKafka, deploy: Callable[..., Deployment]
) -> None:
    """The worker says so, and goes on by itself once the topic takes them."""
    deployment = deploy(apache.bootstrap)
    topics = [topic + DLQ_SUFFIX for topic in deployment.settings.topics]
    _take_messages_up_to(deployment, topics, 1)
    with fleet_of(deployment) as fleet:
        with Load(deployment, 6) as load:
            member = fleet.start()
            member.says("nothing passes it until it is taken")
            assert [row for row in deployment.rows("refused") if row["reason"] != "rerouted"] == []
            _take_messages_up_to(deployment, topics, 1_000_000)
            fleet.moves()
        fleet.end()
        deployment.read_to_end("--close-windows")
    judge(deployment, load.expected)


def _take_messages_up_to(deployment: Deployment, topics: list[str], size: int) -> None:
    change = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resources = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change]) for topic in topics]
    admin = AdminClient(deployment.settings.librdkafka())
    for answer in admin.incremental_alter_configs(resources).values():
        answer.result()
