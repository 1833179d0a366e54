"""How long a partition stands still when its worker is killed: `python -m benchmarks.recovery [UNITS…]`.

Two workers share the partitions of a lake with so many open units, under a trickle of events. One is killed; the clock
runs until each of its partitions has a new checkpoint by the other. What passes before the other hears that it owns
them is detection: the session timeout, and the rebalance that it ends in. The rest is recovery. The figures go to
stdout, one JSON object a run.
"""

import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any, Final

from confluent_kafka import Producer

from contracts.columns import KINDS
from contracts.times import format_time
from pipeline.settings import PREFIX, Settings, load
from pipeline.worker import Worker
from tests.brokers import ApacheKafka, kafka_jars
from tests.chaos.load import FLAG
from tests.commands import environment
from tests.integration.deployment import Deployment
from tests.waiting import until

__all__ = ["main"]

ROOT: Final = Path(__file__).resolve().parents[1]
UNITS: Final = (100_000, 1_000_000)
PARTITIONS: Final = 6
RATE: Final = 200  # of the trickle, events a second
FILLING_S: Final = 3_600.0
SESSION_TIMEOUT: Final = "6s"
CHECKPOINT_INTERVAL: Final = "500ms"  # of which the first checkpoint waits for one
OPEN: Final = FLAG.replace("2m", "24h").replace("90s", "24h")
HOUR: Final = 3_600_000_000


def main(units: int) -> dict[str, Any]:
    """Return the figures of one run, times in seconds."""
    with tempfile.TemporaryDirectory(prefix="recovery-") as directory:
        home = Path(directory)
        broker = ApacheKafka(home / "broker", kafka_jars())
        broker.start()
        try:
            return _measure(broker, home, units)
        finally:
            broker.kill()


def _measure(broker: ApacheKafka, home: Path, units: int) -> dict[str, Any]:
    deployment = Deployment.make(
        broker.bootstrap,
        home / "lake-and-flags",
        partitions=PARTITIONS,
        flag=OPEN,
        session_timeout=SESSION_TIMEOUT,
        checkpoint_interval=CHECKPOINT_INTERVAL,
        close_interval="5m",
    )
    began = time.monotonic()
    _publish(deployment, units)
    with _worker(deployment, home / "first") as first:
        until(lambda: deployment.passed() == units, FILLING_S, "all units in the lake")
        filled = time.monotonic() - began
        with _worker(deployment, home / "second") as second, _trickle(deployment):
            until(lambda: _taken(home / "second"), 60.0, "a share for the second worker")
            _, owned = _taken(home / "second")[-1]
            lost = set(range(PARTITIONS)) - set(owned)
            before = _seqs(deployment)
            until(
                lambda: all(_seqs(deployment)[number] > before[number] + 2 for number in before), 60.0, "both at work"
            )
            _forget_peak(second)
            first.kill()
            killed = time.monotonic()
            first.wait()
            before = _seqs(deployment)
            until(lambda: all(_seqs(deployment)[number] > before[number] for number in lost), 120.0, "recovery")
            done = time.monotonic()
            detected = next(at for at, numbers in _taken(home / "second") if lost <= set(numbers))
            peak = _peak(second)
    return {
        "open_units": units,
        "filled_in": round(filled, 1),
        "detection": round(detected - killed, 2),
        "rest": round(done - detected, 2),
        "session_timeout": SESSION_TIMEOUT,
        "checkpoint_interval": CHECKPOINT_INTERVAL,
        "peak_memory_mb": round(peak / 1024),
    }


def _publish(deployment: Deployment, units: int) -> None:
    producer = _producer(deployment)
    topic = deployment.topic("exposure")
    shape = _body("exposure", time.time_ns() // 1_000 - HOUR)
    for number in range(units):
        unit = f"unit-{number}"
        _produce(producer, topic, unit, shape.replace("UNIT", unit))
    assert producer.flush(600) == 0


@contextmanager
def _trickle(deployment: Deployment) -> Iterator[None]:
    """Publish a few events of each kind all the time."""
    stop = threading.Event()
    producer = _producer(deployment)

    def publish() -> None:
        number = 0
        while not stop.wait(len(KINDS) / RATE):
            number += 1
            for kind in KINDS:
                unit = f"late-{number}"
                shape = _body(kind, time.time_ns() // 1_000)
                _produce(producer, deployment.topic(kind), unit, shape.replace("UNIT", unit))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        producer.flush(30)


def _body(kind: str, at: int) -> str:
    body: dict[str, Any] = {
        "flagKey": "route",
        "unitId": "UNIT",
        "variation": "control",
        "timestamp": format_time(at),
        "event": "shown",
    }
    if kind == "exposure":
        body |= {"assignmentUnit": "user", "modelRoute": "a", "promptVersion": "p", "retrievalProfile": "r"}
        body |= {"fallbackUsed": False}
    if kind == "guardrail":
        body |= {"guardrail": "latency", "value": 1, "severity": "info"}
    return json.dumps(body)


def _producer(deployment: Deployment) -> Producer:
    batches = {"partitioner": "murmur2_random", "linger.ms": 20, "compression.type": "lz4"}
    return deployment.producer(**batches)


def _produce(producer: Producer, topic: str, unit: str, value: str) -> None:
    while True:
        try:
            producer.produce(topic, key=unit, value=value)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


@contextmanager
def _worker(deployment: Deployment, taken: Path) -> Iterator[Popen[bytes]]:
    """Run a worker that notes in a file when it takes over which partitions."""
    command = [sys.executable, "-m", "benchmarks.recovery", "worker", str(taken)]
    ours = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    process = Popen(command, env=ours | environment(deployment.settings), cwd=ROOT, stderr=DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _taken(file: Path) -> list[tuple[float, list[int]]]:
    return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def _seqs(deployment: Deployment) -> dict[int, int]:
    return {number: manifest.seq for number, manifest in deployment.manifests().items()}


def _forget_peak(process: Popen[bytes]) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def _peak(process: Popen[bytes]) -> int:
    """Return the most memory that the process held since, in KiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def _work(settings: Settings, taken: Path) -> None:
    """Run a worker that notes its assignments with the system's monotonic clock, which all processes share."""
    take_over = Worker._take_over  # noqa: SLF001  # where the shell hears of an assignment

    async def noted(worker: Worker, assigned: Any) -> Any:  # noqa: ANN401
        numbers = sorted({tp.partition for tp in assigned})
        if numbers:
            with taken.open("a") as lines:
                lines.write(json.dumps((time.monotonic(), numbers)) + "\n")
        return await take_over(worker, assigned)

    setattr(Worker, "_take_over", noted)  # noqa: B010
    asyncio.run(Worker(settings).run())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker", file]:
            _work(load(), Path(file))
        case given:
            for count in map(int, given) if given else UNITS:
                print(json.dumps(main(count)), flush=True)  # noqa: T201
