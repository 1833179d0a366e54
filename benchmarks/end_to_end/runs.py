"""Runs contenders as child processes, on a broker and files that are made once."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from shutil import copy, rmtree
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.end_to_end.contenders import Contender, Work
from benchmarks.end_to_end.load import FLAG, Load
from pipeline.publish import publish
from pipeline.settings import PREFIX
from pipeline.traffic import Message
from tests.brokers import ApacheKafka, kafka_jars
from tests.commands import run

__all__ = ["EVENTS", "NOTHING", "Taken", "Theatre", "theatre"]

ROOT: Final = Path(__file__).parents[2]
EVENTS: Final = "full-"
"""The prefix of the topics and files that have the events."""
NOTHING: Final = "empty-"
"""The prefix of those that have none: what a run over them takes is the cost of starting and stopping."""

BYTECODE: Final = "PYTHONDONTWRITEBYTECODE"
"""Where it is set, each start compiles all modules again: 1.2 s of CPU for the worker. Installed ones are compiled."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a run took: wall and CPU seconds, those of the system among them, peak resident bytes.

    `load` is the load average just before it.
    """

    wall: float
    cpu: float
    system: float
    peak: int
    load: float


class Failed(Exception):
    """A contender did not end well; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Theatre:
    """A broker with the events in its topics, files with the same events, and a directory for the runs."""

    directory: Path
    bootstrap: str
    load: Load
    numbers: Iterator[int]

    @contextmanager
    def run(self, contender: Contender, prefix: str, *, program: tuple[str, ...] = ()) -> Iterator[tuple[Work, Taken]]:
        """Run a contender; what it wrote is there until the block ends. Raises Failed.

        `program` goes in place of its own, with the same environment.
        """
        work = self._work(prefix)
        work.directory.mkdir()
        usage, log = work.directory / "usage.json", work.directory / "log"
        environment = {
            name: value for name, value in os.environ.items() if name != BYTECODE and not name.startswith(PREFIX)
        }
        command = list(program) or contender.command(work)
        load = os.getloadavg()[0]
        with log.open("wb") as told:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.end_to_end.measure", str(usage), *command],
                env=environment | work.settings() | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                check=True,
            )
        taken = json.loads(usage.read_text(encoding="utf-8"))
        if taken["exit"] != 0:
            raise Failed(f"{contender.label} ended with {taken['exit']}: {log.read_text(errors='replace')[-2000:]}")
        yield work, Taken(taken["wall"], taken["cpu"], taken["system"], taken["peak"], load)
        rmtree(work.directory)

    def create_topics(self, prefix: str, partitions: int) -> None:
        """Make the three topics and those of their dead letters."""
        run(self._work(prefix).settings(), "topics", "create", "--partitions", str(partitions)).check_returncode()

    def fill(self) -> None:
        """Write the files, and publish what they have."""
        topics = {kind: f"{EVENTS}{kind}s" for kind in ("exposure", "outcome", "guardrail")}
        with ExitStack() as stack:
            for topic in topics.values():
                (self.directory / "files" / f"{topic.replace(EVENTS, NOTHING)}.ndjson").touch()
            files = {
                kind: stack.enter_context((self.directory / "files" / f"{topic}.ndjson").open("wb"))
                for kind, topic in topics.items()
            }

            def written() -> Iterator[Message]:
                for message in self.load.messages(time.time_ns() // 1_000_000):
                    files[message.kind].write((message.value or b"") + b"\n")
                    yield message

            publish({"bootstrap.servers": self.bootstrap}, topics, written())

    def _work(self, prefix: str) -> Work:
        return Work(
            directory=self.directory / f"run-{next(self.numbers)}",
            bootstrap=self.bootstrap,
            flags=self.directory / "flags",
            files=self.directory / "files",
            prefix=prefix,
        )


@contextmanager
def theatre(load: Load, partitions: int) -> Iterator[Theatre]:
    """Start Apache Kafka, fill topics and files, and take it all down afterwards."""
    with TemporaryDirectory(prefix="evidence-bench-") as name:
        directory = Path(name)
        (directory / "flags").mkdir()
        (directory / "files").mkdir()
        copy(FLAG, directory / "flags")
        broker = ApacheKafka(directory / "kafka", kafka_jars())
        broker.start()
        try:
            made = Theatre(directory, broker.bootstrap, load, count())
            for prefix in (EVENTS, NOTHING):
                made.create_topics(prefix, partitions)
            made.fill()
            yield made
        finally:
            broker.stop()
