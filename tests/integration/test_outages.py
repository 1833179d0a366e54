"""Brokers and topics that are away for a while: the worker waits, and nothing passes what is not acknowledged."""

import signal
import urllib.request
from collections.abc import Callable

from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.embedded import free_port
from pipeline.preflight import DLQ_SUFFIX
from tests.brokers import ApacheKafka
from tests.integration.deployment import Deployment, exposure, pair


def test_a_worker_outlives_an_outage_of_the_broker(own_apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    """It is away for longer than the session timeout, with a dead letter under way."""
    port = free_port()
    deployment = deploy(own_apache.bootstrap, web_port=port)
    deployment.publish(pair("u1", 0))
    with deployment.worker() as worker:
        worker.until(lambda: deployment.passed() == 2, "checkpoints")
        deployment.publish([exposure("u2", 0, eventId=7)])
        own_apache.kill()
        worker.says("Heartbeat")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=10) as alive:  # our own
            assert alive.status == 200, "an outage is nothing that killing the worker would mend"
        own_apache.start()
        deployment.publish(pair("u3", 1))
        worker.until(lambda: deployment.passed() == 5, "the rest")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends() == 0, worker.said()
    deployment.with_new_group().read_to_end("--close-windows")
    assert deployment.told() == deployment.places()
    assert [letter.reason for letter in deployment.letters()] == ["schema_violation"]


def test_nothing_passes_a_missing_dead_letter_topic(on_apache: Deployment) -> None:
    """Missing from the start, or taken away and made again while the worker runs."""
    admin = AdminClient(on_apache.settings.librdkafka())
    letters = on_apache.topic("exposure") + DLQ_SUFFIX
    admin.delete_topics([letters])[letters].result()
    on_apache.publish([exposure("u1", 0, eventId=7), *pair("u1", 0)])
    with on_apache.worker() as worker:
        worker.says(f"{letters} [")
        worker.says("nothing passes it until it is taken")
        assert on_apache.told() == []
        admin.create_topics([NewTopic(letters, 2, 1)])[letters].result()
        worker.until(lambda: on_apache.passed() == 3, "all")

        admin.delete_topics([letters])[letters].result()
        on_apache.publish([exposure("u1", 0, eventId=8), *pair("u1", 1)])
        worker.until(lambda: worker.said().count("nothing passes it") == 2, "the second refusal")
        assert on_apache.passed() == 3
        admin.create_topics([NewTopic(letters, 2, 1)])[letters].result()
        worker.until(lambda: on_apache.passed() == 6, "all again")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends() == 0, worker.said()
    assert [letter.origin.offset for letter in on_apache.letters()] == [2]


def test_a_worker_that_gives_up_passes_nothing(on_apache: Deployment) -> None:
    """Told to stop twice, it leaves without the checkpoint that waits for its dead letters, and without a later one."""
    admin = AdminClient(on_apache.settings.librdkafka())
    letters = on_apache.topic("exposure") + DLQ_SUFFIX
    admin.delete_topics([letters])[letters].result()
    on_apache.publish([exposure("u1", 0, eventId=7), *pair("u1", 0)])
    with on_apache.worker() as worker:
        worker.says("nothing passes it until it is taken")
        on_apache.publish(pair("u1", 1))
        worker.process.send_signal(signal.SIGTERM)
        worker.says("stopping: a last checkpoint")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends() == 3, worker.said()
        assert "1 dead letters or copies are not acknowledged" in worker.said()
    admin.create_topics([NewTopic(letters, 2, 1)])[letters].result()
    on_apache.with_new_group().read_to_end("--close-windows")
    assert on_apache.told() == on_apache.places()
    assert [letter.reason for letter in on_apache.letters()] == ["schema_violation"]
