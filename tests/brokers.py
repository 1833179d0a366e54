"""Apache Kafka as a child process, on loopback, for the tests and for `make broker`.

    python -m tests.brokers fetch    copies the jars into the user's cache
    python -m tests.brokers run      a broker at localhost:9092 until Ctrl-C, its data gone afterwards

The jars come from Maven Central by way of kafka/pom.xml, once for each version of that file.
"""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from contracts.errors import KafkaUnavailable
from pipeline.topics import await_brokers
from tests.certificates import Certificates, make_certificates

__all__ = ["PASSWORD", "USERNAME", "ApacheKafka", "BrokerMissing", "kafka_jars"]

POM: Final = Path(__file__).parent / "kafka" / "pom.xml"
CLUSTER_ID: Final = "ZXZpZGVuY2UtdGVzdHM0MQ"  # any 16 bytes in base64url
USERNAME, PASSWORD = "evidence", "in-the-tests-only"
PORTS: Final = (15_000, 32_000)
START_S: Final = 90.0  # it takes 4 s; the rest is for a loaded machine
JAVA: Final = ("-Xms256m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

_given: set[int] = set()


def lasting_port() -> int:
    """Return a loopback port that nobody listens on, and that stays free while the broker restarts; none comes twice.

    It lies below those that the system gives to outgoing connections, such as of clients that wait for the broker.
    """
    while True:
        port = random.SystemRandom().randrange(*PORTS)
        if port in _given:
            continue
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            _given.add(port)
            return port


class BrokerMissing(Exception):
    """The machine lacks what the broker needs; the message says what."""


def kafka_jars() -> Path:
    """Return the directory of Apache Kafka's jars, fetching them the first time.

    Raises BrokerMissing without Java or Maven, or if Maven cannot fetch them.
    """
    if shutil.which("java") is None:
        raise BrokerMissing("Apache Kafka needs Java 17 or newer; install a JRE")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evidence-pipeline"
    jars = cache / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerMissing("Apache Kafka comes from Maven Central; install Maven")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as fresh:
        fetched = Path(fresh) / "jars"
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={fetched}"]
        answer = subprocess.run(
            [maven, "-q", "-B", "-f", str(POM), *goal], cwd=fresh, capture_output=True, text=True, check=False
        )
        if answer.returncode != 0:
            raise BrokerMissing(f"Maven cannot fetch Apache Kafka: {answer.stdout.strip()[:500]}")
        with contextlib.suppress(OSError):  # another process was faster
            fetched.rename(jars)
    return jars


@dataclass
class ApacheKafka:
    """One broker that is its own controller; its data and ports survive `stop`, `kill` and `start`."""

    directory: Path
    jars: Path
    configuration: Mapping[str, object] | None = None  # in place of its own, with `port` among the listeners
    port: int = field(default_factory=lasting_port)
    secure_port: int = field(default_factory=lasting_port)
    mutual_port: int = field(default_factory=lasting_port)
    controller_port: int = field(default_factory=lasting_port)
    certificates: Certificates = field(init=False)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        """Make the certificates and format the data directory."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.certificates = make_certificates(self.directory)
        configuration = self.configuration or self._own_configuration()
        self.properties.write_text("".join(f"{name}={value}\n" for name, value in configuration.items()))
        arguments = ["-t", CLUSTER_ID, "-c", str(self.properties)]
        if self.configuration is None:
            arguments += ["--standalone", "--add-scram", f"SCRAM-SHA-256=[name={USERNAME},password={PASSWORD}]"]
        self.tool("kafka.tools.StorageTool", "format", *arguments).check_returncode()

    @property
    def bootstrap(self) -> str:
        """The address without security."""
        return f"127.0.0.1:{self.port}"

    @property
    def secure(self) -> str:
        """The address that wants TLS and SASL: PLAIN or SCRAM-SHA-256, as USERNAME with PASSWORD."""
        return f"127.0.0.1:{self.secure_port}"

    @property
    def mutual(self) -> str:
        """The address that wants TLS with a client's certificate."""
        return f"127.0.0.1:{self.mutual_port}"

    @property
    def properties(self) -> Path:
        """The broker's configuration file."""
        return self.directory / "server.properties"

    @property
    def log(self) -> Path:
        """What the broker says."""
        return self.directory / "kafka.log"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as told:
            self.process = subprocess.Popen(
                [*self._java(), "kafka.Kafka", str(self.properties)],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(KafkaUnavailable):
                await_brokers({"bootstrap.servers": self.bootstrap}, timeout_s=0.5)
                return
            if self.process.poll() is not None or time.monotonic() >= deadline:
                self.kill()
                raise KafkaUnavailable(f"Apache Kafka does not come up; its last words: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would end it."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it hang: connections stay open and nothing answers, until `thaw`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def tool(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of Kafka's own commands, named by its class."""
        return subprocess.run([*self._java(), program, *arguments], capture_output=True, text=True, check=False)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(START_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def _java(self) -> list[str]:
        return ["java", *JAVA, "-cp", f"{self.jars}/*"]

    def _own_configuration(self) -> dict[str, object]:
        addresses = {
            "PLAINTEXT": self.port,
            "SECURE": self.secure_port,
            "MUTUAL": self.mutual_port,
            "CONTROLLER": self.controller_port,
        }
        listeners = {name: f"{name}://127.0.0.1:{port}" for name, port in addresses.items()}
        module = "org.apache.kafka.common.security"
        certificates = self.certificates
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join(listeners.values()),
            "advertised.listeners": ",".join(listeners.values()),
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL",
            "log.dirs": self.directory / "data",
            # one broker only
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # what the tests lean on
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "broker.session.timeout.ms": 2000,  # how long a restart waits for its own shadow
            "broker.heartbeat.interval.ms": 500,
            "log.retention.ms": -1,
            "log.retention.check.interval.ms": 1000,
            # security
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": certificates.broker,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": certificates.ca,
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.secure.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
            "listener.name.secure.plain.sasl.jaas.config": (
                f'{module}.plain.PlainLoginModule required user_{USERNAME}="{PASSWORD}";'
            ),
            "listener.name.secure.scram-sha-256.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
        }


def _run() -> None:
    with tempfile.TemporaryDirectory(prefix="evidence-kafka-") as directory:
        broker = ApacheKafka(Path(directory), kafka_jars(), port=9092)
        broker.start()
        print(f"Apache Kafka listens on {broker.bootstrap}; Ctrl-C ends it", file=sys.stderr)  # noqa: T201
        assert broker.process is not None
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            broker.process.wait()
        except KeyboardInterrupt:
            broker.stop()


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case ["fetch"]:
                kafka_jars()
            case ["run"]:
                _run()
            case _:
                sys.exit(__doc__)
    except (BrokerMissing, KafkaUnavailable) as missing:
        sys.exit(str(missing))
