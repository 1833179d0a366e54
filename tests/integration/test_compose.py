"""The composition without containers: its commands, environments and health checks, run as they stand there.

Only what Docker would have arranged is put in its place: host names, ports, mounted directories.
"""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from pipeline.embedded import free_port
from tests.brokers import ApacheKafka, kafka_jars
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
        text = re.sub(r"\b(kafka|localhost)(?=:\d)|(?<=://)(?=:\d)|^0\.0\.0\.0$", "127.0.0.1", text)
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
    """From an empty broker to exposures in the lake, asked for as the worker's own container would."""
    program, *arguments = composition.health("kafka")
    assert broker.tool(KAFKA_BIN[program], *arguments).returncode == 0

    made = run(composition.environment("topics"), *composition.command("topics"))
    assert made.returncode == 0, made.stderr

    worker, traffic = composition.environment("worker"), composition.environment("traffic")
    hurry = {"EVIDENCE_CHECKPOINT_INTERVAL": "1s"}  # or the test would wait a minute
    with (
        running(traffic, *composition.command("traffic"), log=tmp_path / "traffic.log") as publishing,
        running(worker | hurry, *composition.command("worker"), log=tmp_path / "worker.log") as working,
    ):
        until(lambda: succeeds(composition.health("worker")), STARTED_S, "a worker that is ready")
        until(lambda: open_exposures(worker) > 0, STARTED_S, "an exposure in the lake")
        for child in (publishing, working):
            child.send_signal(signal.SIGTERM)
        assert publishing.wait(STOP_S) == 0, (tmp_path / "traffic.log").read_text()[-2000:]
        assert working.wait(STOP_S) == 0, (tmp_path / "worker.log").read_text()[-2000:]


def succeeds(command: list[str]) -> bool:
    """Run a health check with this interpreter for `python`."""
    assert command[0] == "python"
    return subprocess.run([sys.executable, *command[1:]], capture_output=True, check=False).returncode == 0


def open_exposures(variables: dict[str, str]) -> int:
    answer = run(variables, "query", "--json", "SELECT count(*) AS open FROM exposures_open")
    assert answer.returncode == 0, answer.stderr
    return int(json.loads(answer.stdout)["open"])
