"""Workers come and go under load: whichever way they leave, every record has one fate and every unit its fact."""

import itertools
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.traffic import Message
from tests.brokers import ApacheKafka
from tests.integration.deployment import Deployment, RunningWorker, pair

PAUSE_S = 0.01  # between two units
UNITS_PER_HOUR = 20  # of event time: windows close all the time, once some seconds have passed
OUT_OF_ORDERNESS = "40h"  # the word that a topic is at its end counts for 10 s, in which up to 50 h of event time pass


def test_a_worker_joins_and_leaves(bootstrap: str, deploy: Callable[..., Deployment]) -> None:
    """Its partition goes over twice, the second time by SIGTERM with a last checkpoint."""
    deployment = deploy(bootstrap, out_of_orderness=OUT_OF_ORDERNESS)
    with _traffic(deployment) as units, deployment.worker() as first:
        _owns_all(first)
        with deployment.worker() as second:
            number = _takes_over(second)
            second.process.send_signal(signal.SIGTERM)
            assert second.ends() == 0, second.said()
            _takes_back(first, number)
        _end(first)
    _everything_is_there(deployment, units)


def test_a_killed_worker_is_replaced(apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(apache.bootstrap, out_of_orderness=OUT_OF_ORDERNESS)
    with _traffic(deployment) as units, deployment.worker() as first:
        _owns_all(first)
        with deployment.worker() as second:
            number = _takes_over(second)
            second.process.kill()
            _takes_back(first, number)
        _end(first)
    _everything_is_there(deployment, units)


def test_a_worker_that_hung_is_fenced(apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    """It wakes after another has gone on with its partition, publishes nothing of its own, and works on."""
    deployment = deploy(apache.bootstrap, out_of_orderness=OUT_OF_ORDERNESS)
    with _traffic(deployment) as units, deployment.worker() as first:
        _owns_all(first)
        with deployment.worker() as second:
            number = _takes_over(second)
            second.process.send_signal(signal.SIGSTOP)
            _takes_back(first, number)
            before = len(second.said())
            second.process.send_signal(signal.SIGCONT)
            second.until(lambda: re.search(r"partition \d: checkpoint", second.said()[before:]), "another checkpoint")
            _end(second)
        _end(first)
    _everything_is_there(deployment, units)


@contextmanager
def _traffic(deployment: Deployment) -> Iterator[list[str]]:
    """Publish exposures and outcomes of ever new units until the block ends; give the units."""
    units: list[str] = []
    enough = threading.Event()

    def messages() -> Iterator[Message]:
        for number in itertools.count():
            if enough.wait(PAUSE_S):
                return
            units.append(f"u{number:05d}")
            yield from pair(units[-1], number / UNITS_PER_HOUR)

    publisher = threading.Thread(target=deployment.publish, args=[messages()])
    publisher.start()
    try:
        yield units
    finally:
        enough.set()
        publisher.join()


def _owns_all(worker: RunningWorker) -> None:
    for number in range(2):
        worker.says(f"partition {number}: checkpoint")


def _takes_over(worker: RunningWorker) -> int:
    """Wait until the worker has made a checkpoint of a partition that it got; return the partition's number."""
    worker.says(": checkpoint")
    match = re.search(r"partition (\d): checkpoint", worker.said())
    assert match is not None
    return int(match[1])


def _takes_back(worker: RunningWorker, number: int) -> None:
    """Wait until the worker got the partition again, and has gone on with it."""
    pattern = rf"partition {number}: given up.*partition {number}: going on.*partition {number}: checkpoint"
    worker.until(lambda: re.search(pattern, worker.said(), re.DOTALL), f"partition {number}")


def _end(worker: RunningWorker) -> None:
    worker.process.send_signal(signal.SIGTERM)
    assert worker.ends() == 0, worker.said()


def _everything_is_there(deployment: Deployment, units: list[str]) -> None:
    """Decide what is still open, and look for every unit and every record."""
    deployment.with_new_group().read_to_end("--close-windows")
    assert [(fact["unit_id"], fact["outcomes"], fact["clean"]) for fact in deployment.facts()] == [
        (unit, 1, True) for unit in units
    ]
    assert deployment.told() == deployment.places()
    assert deployment.letters() == []
