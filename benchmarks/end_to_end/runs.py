"""Runs contenders as child processes, on a broker and files that are made once."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.end_to_end.contenders import Contender, Work
from benchmarks.watched import readings
from contracts.columns import KINDS
from pipeline.publish import publish
from pipeline.settings import PREFIX
from pipeline.traffic import Message
from tests.brokers import ApacheKafka, kafka_jars
from tests.commands import run

__all__ = ["Failed", "Taken", "Theatre", "theatre"]

ROOT: Final = Path(__file__).parents[2]
BYTECODE: Final = "PYTHONDONTWRITEBYTECODE"
"""Where it is set, each start compiles all modules again: 1.2 s of CPU for the worker. Installed ones are compiled."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a run took: wall and CPU seconds, those of the system among them, peak resident bytes.

    `load` is the load average just before it. `blocked` is for how many seconds the event loop was, of the worker only:
    at the most, and the 99.9th percentile.
    """

    wall: float
    cpu: float
    system: float
    peak: int
    load: float
    blocked: tuple[float, float] | None = None


class Failed(Exception):
    """A contender did not end well; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Theatre:
    """A broker, a directory, and what runs of contenders over named topics and files took."""

    directory: Path
    broker: ApacheKafka
    numbers: Iterator[int] = field(default_factory=count)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @contextmanager
    def run(self, contender: Contender, prefix: str, *, program: tuple[str, ...] = ()) -> Iterator[tuple[Work, Taken]]:
        """Run a contender; what it wrote is there until the block ends. Raises Failed.

        `program` goes in place of its own, with the same environment.
        """
        work = self.work(prefix)
        process, load = self.start(work, list(program) or contender.command(work)), os.getloadavg()[0]
        process.wait()
        yield work, self.taken(work, load)
        rmtree(work.directory)

    def work(self, prefix: str, **more: str) -> Work:
        """Return a run over the topics and files of that prefix, with a new directory and further settings."""
        work = Work(
            directory=self.directory / f"run-{next(self.numbers)}",
            bootstrap=self.broker.bootstrap,
            flags=self.directory / f"{prefix}flags",
            files=self.directory / "files",
            prefix=prefix,
            more={PREFIX + name.upper(): value for name, value in more.items()},
        )
        work.directory.mkdir()
        return work

    def start(self, work: Work, command: list[str], number: int = 0) -> subprocess.Popen[bytes]:
        """Start a program of the run, the first or a further one, and return what measures it."""
        environment = {
            name: value for name, value in os.environ.items() if name != BYTECODE and not name.startswith(PREFIX)
        }
        usage = work.directory / f"usage-{number}.json"
        with (work.directory / f"log-{number}").open("wb") as told:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.end_to_end.measure", str(usage), *command],
                env=environment | work.settings() | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    @staticmethod
    def taken(work: Work, load: float, number: int = 0) -> Taken:
        """Return what a program took that has ended. Raises Failed."""
        usage, log = work.directory / f"usage-{number}.json", work.directory / f"log-{number}"
        taken = json.loads(usage.read_text(encoding="utf-8"))
        if taken["exit"] != 0:
            raise Failed(f"a program ended with {taken['exit']}: {log.read_text(errors='replace')[-2000:]}")
        loops = [each for each in readings(work.readings(number), "loop") if each["loop"] == "worker"]
        blocked = (loops[0]["longest"], loops[0]["p999"]) if loops else None
        return Taken(taken["wall"], taken["cpu"], taken["system"], taken["peak"], load, blocked)

    def prepare(self, prefix: str, flags: Mapping[str, str], partitions: int, messages: Iterable[Message]) -> int:
        """Make flag files and topics of that prefix, publish the messages, and return how many there are."""
        (self.directory / f"{prefix}flags").mkdir()
        for name, text in flags.items():
            (self.directory / f"{prefix}flags" / name).write_text(text, encoding="utf-8")
        settings = self.work(prefix).settings()
        run(settings, "topics", "create", "--partitions", str(partitions)).check_returncode()
        return publish({"bootstrap.servers": self.broker.bootstrap}, _names(prefix), messages)

    def recorded(self, prefix: str, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the messages, and write their values to the files of that prefix."""
        with ExitStack() as stack:
            files = {
                kind: stack.enter_context((self.directory / "files" / f"{topic}.ndjson").open("wb"))
                for kind, topic in _names(prefix).items()
            }
            for message in messages:
                files[message.kind].write((message.value or b"") + b"\n")
                yield message

    def forget(self, prefix: str) -> None:
        """Delete the files of that prefix; the topics stay."""
        for topic in _names(prefix).values():
            (self.directory / "files" / f"{topic}.ndjson").unlink()


def _names(prefix: str) -> dict[str, str]:
    return {kind: f"{prefix}{kind}s" for kind in KINDS}


@contextmanager
def theatre() -> Iterator[Theatre]:
    """Start Apache Kafka, and take it all down afterwards, with what was started in it; SIGTERM ends it like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with TemporaryDirectory(prefix="evidence-bench-") as name:
        directory = Path(name)
        (directory / "files").mkdir()
        broker = ApacheKafka(directory / "kafka", kafka_jars())
        broker.start()
        place = Theatre(directory, broker)
        try:
            yield place
        finally:
            for process in place.started:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            broker.stop()
