"""What the client adds to a request: `python -m benchmarks.client_latency [SECONDS]`.

One thread records 5,000 events a second, exposures and outcomes in turn, and times each call: with nothing but memory
behind it, with a broker that is up, with one that is killed halfway, and with one that never was. The table goes to
stdout. The greatest times hold whatever else the machine does; those in memory show how much of it that is.
"""

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka.admin import AdminClient, NewTopic

from evidence_client import Assignment, Evidence, KafkaPublisher, MemoryPublisher, Publisher
from evidence_client.kafka import TOPICS
from tests.brokers import ApacheKafka, kafka_jars

__all__ = ["main"]

RATE: Final = 5_000  # events a second
STEP: Final = 5  # events at once, as many as a millisecond has
PARTITIONS: Final = 12
FLAG: Final = "support_answer_model_route"
NOBODY: Final = "127.0.0.1:1"


def main(seconds: float) -> None:
    """Print the figures of all four, each measured for so many seconds."""
    print(f"{'':>12}  {'p50':>8}  {'p99':>8}  {'p99.9':>8}  {'max':>9}   events")  # noqa: T201
    _report("in memory", MemoryPublisher(), seconds)
    with _broker() as broker:
        _report("up", _publisher(broker.bootstrap), seconds)
        _report("killed", _publisher(broker.bootstrap), seconds, broker.kill)
    _report("never there", _publisher(NOBODY), seconds)


def _publisher(bootstrap: str) -> Publisher:
    return KafkaPublisher({"bootstrap.servers": bootstrap}, max_messages=20_000)


@contextmanager
def _broker() -> Iterator[ApacheKafka]:
    with tempfile.TemporaryDirectory(prefix="client-latency-") as directory:
        broker = ApacheKafka(Path(directory), kafka_jars())
        broker.start()
        _create_topics(broker.bootstrap)
        try:
            yield broker
        finally:
            broker.kill()


def _create_topics(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in TOPICS.values()]).values():
        made.result()


def _report(name: str, publisher: Publisher, seconds: float, halfway: Callable[[], object] = lambda: None) -> None:
    taken = sorted(_taken(Evidence(publisher), seconds, halfway))
    left = publisher.close(5.0)
    counts = publisher.counts()
    p50, p99, p999, most = (taken[int(len(taken) * share)] / 1_000 for share in (0.5, 0.99, 0.999, 0.9999999))
    assert counts.recorded == len(taken) == counts.acknowledged + sum(counts.dropped.values())
    told = ", ".join(f"{count:,} {reason}" for reason, count in counts.dropped.items() if reason != "unsent")
    print(  # noqa: T201
        f"{name:>12}  {p50:5.0f} µs  {p99:5.0f} µs  {p999:5.0f} µs  {most:6.0f} µs   "
        f"{counts.recorded:,}: {counts.acknowledged:,} acknowledged, {left:,} unsent{', ' if told else ''}{told}"
    )


def _taken(evidence: Evidence, seconds: float, halfway: Callable[[], object]) -> list[int]:
    """Record events for so many seconds; return how many nanoseconds each took."""
    taken: list[int] = []
    begun = time.perf_counter()
    before, clock = True, time.perf_counter_ns
    while (elapsed := time.perf_counter() - begun) < seconds:
        if before and elapsed > seconds / 2:
            before = False
            halfway()
        while len(taken) < int(elapsed * RATE) // STEP * STEP:
            number = len(taken)
            assignment = Assignment(
                "support_answer_model_route",
                f"conv_{number // 2}",
                "candidate",
                "conversation",
                attributes={"plan": "pro"},
            )
            start = clock()
            if number % 2:
                evidence.outcome(assignment, "answered", {"resolved": True, "latencyMs": 1840, "estimatedCost": 0.014})
            else:
                with evidence.run(assignment) as run:
                    run.executed(model_route="support_model_b", prompt_version="v3", retrieval_profile="baseline")
            taken.append(clock() - start)
        time.sleep(STEP / RATE)
    return taken


if __name__ == "__main__":
    logging.disable()
    main(float(sys.argv[1]) if sys.argv[1:] else 20.0)
