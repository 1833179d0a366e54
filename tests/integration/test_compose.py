"""The composition without containers: its commands, environments and health checks, run as they stand there.

Only what Docker would have arranged is put in its place: host names, ports, mounted directories.
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from pipeline.embedded import free_port
from tests.brokers import ApacheKafka, BrokerMissing, kafka_jars
from tests.commands import run, running
from tests.waiting import until

KAFKA_BIN: Final = {"/opt/kafka/bin/kafka-broker-api-versions.sh": "org.apache.kafka.tools.BrokerApiVersionsCommand"}
INSIDE, HOST, CONTROLLER, WEB = "19092", "9092", "9093", "6066"
STARTED_S: Final = 60.0
STOP_S: Final = 90.0


@dataclass(frozen=True)
class Composition:
    """The services, and how their words read on this machine."""

    services: dict[str, Any]
    ports: dict[str, int]
    directories: dict[str, Path]

    def here(self, text: str) -> str:
        """Put this machine's addresses and directories in the place of the containers'."""
        text = text.replace("kafka:", "127.0.0.1:").replace("localhost:", "127.0.0.1:").replace("0.0.0.0", "127.0.0.1")  # noqa: S104  # replaced
        text = re.sub(r"://:(?=\d)", "://127.0.0.1:", text)
        text = re.sub(r":(\d{4,5})\b", lambda match: f":{self.ports[match[1]]}", text)
        for mounted, directory in self.directories.items():
            text = re.sub(rf"^{mounted}\b", str(directory), text)
        return text

    def environment(self, service: str) -> dict[str, str]:
        """Return what the service is told, in which the port of the web server has no say of its own."""
        told = {name: self.here(value) for name, value in self.services[service]["environment"].items()}
        return told | {"EVIDENCE_WEB_PORT": str(self.ports[WEB])} if service == "worker" else told

    def command(self, service: str) -> list[str]:
        """Return the arguments of the service's `evidence`."""
        return list(self.services[service]["command"])

    def health(self, service: str) -> list[str]:
        """Return the service's health check, without the word that it is a command."""
        kind, *command = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        return [self.here(word) for word in command]


@pytest.fixture
def composition(checkout: Path, tmp_path: Path) -> Composition:
    services = yaml.safe_load((checkout / "docker-compose.yml").read_text())["services"]
    mounts = dict(reversed(volume.split(":")[:2]) for service in services.values() for volume in service["volumes"])
    directories = {
        mounted: (checkout / source if source.startswith("./") else tmp_path / source)
        for mounted, source in mounts.items()
    }
    for directory in directories.values():
        directory.mkdir(exist_ok=True)
    return Composition(services, {port: free_port() for port in (INSIDE, HOST, CONTROLLER, WEB)}, directories)


@pytest.fixture
def broker(composition: Composition, tmp_path: Path) -> Iterator[ApacheKafka]:
    """Run the broker as its service configures it: `KAFKA_LOG_DIRS` becomes `log.dirs`, as its image does it."""
    told = composition.environment("kafka")
    told.pop("CLUSTER_ID")
    properties = {name.removeprefix("KAFKA_").replace("_", ".").lower(): value for name, value in told.items()}
    kafka = ApacheKafka(tmp_path / "broker", kafka_jars(), properties, port=composition.ports[INSIDE])
    try:
        kafka.start()
        yield kafka
    finally:
        kafka.kill()


@pytest.mark.usefixtures("apache")  # skipped without it
def test_services_work_together(composition: Composition, broker: ApacheKafka, tmp_path: Path) -> None:
    """From an empty broker to joined exposures that the worker's own image can be asked for."""
    program, *arguments = composition.health("kafka")
    assert broker.tool(KAFKA_BIN[program], *arguments).returncode == 0

    made = run(composition.environment("topics"), *composition.command("topics"))
    assert made.returncode == 0, made.stderr

    worker = composition.environment("worker")
    with (
        running(
            composition.environment("traffic"), *composition.command("traffic"), log=tmp_path / "traffic.log"
        ) as traffic,
        running(worker, *composition.command("worker"), log=tmp_path / "worker.log") as process,
    ):
        healthy = [sys.executable, *composition.health("worker")[1:]]
        until(lambda: subprocess.run(healthy, capture_output=True, check=False).returncode == 0, STARTED_S, "healthy")
        assert traffic.poll() is None
        until(lambda: process.poll() is None and time.monotonic(), 1.0)
        for child in (traffic, process):
            child.send_signal(signal.SIGTERM)
        assert (traffic.wait(STOP_S), process.wait(STOP_S)) == (0, 0), (tmp_path / "worker.log").read_text()[-2000:]

    answer = run(worker, "query", "--json", "SELECT count(*) AS open FROM exposures_open")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)[0]["open"] > 0
