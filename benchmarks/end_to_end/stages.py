"""Runs the worker with a stopwatch at its stages, and tells where its CPU time went.

python -m benchmarks.end_to_end.stages, with the environment of `evidence worker`

A stage's time is the CPU time of the thread that runs it, less that of stages inside it. What a process takes beyond
its Python threads are the threads of libraries: DuckDB's, Arrow's and librdkafka's.
"""

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import wraps
from types import ModuleType
from typing import Any, Final

from mode.threads import WorkerThread

import pipeline.checkpoint
import pipeline.partition
import pipeline.worker
from contracts.decode import Decoder
from pipeline.cli import main as worker
from pipeline.fetched import Fetch

STAGES: Final[Sequence[tuple[str, ModuleType | type, str]]] = (
    ("unpack", Fetch, "_unpacked"),
    ("decode", Decoder, "decode"),
    ("placement", pipeline.partition, "murmur2_partition"),
    ("segments: Parquet, and reading of what is merged", pipeline.checkpoint, "write_merged"),
    ("segments: verify", pipeline.checkpoint, "verify"),
    ("close: SQL, and results as Arrow", pipeline.checkpoint, "close"),
    ("tables: Parquet", pipeline.checkpoint, "stage_table"),
    ("residue: Parquet", pipeline.checkpoint, "write_residue"),
)

FETCH: Final = "of the consumer: fetch"


class Stopwatch:
    """Adds up the CPU seconds of stages and threads, by name."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.stages: dict[str, float] = defaultdict(float)
        self.threads: dict[str, float] = defaultdict(float)
        self.events = 0
        self._inside = threading.local()
        self._lock = threading.Lock()

    def time(self, stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return `work`, timed."""

        @wraps(work)
        def timed(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 -- those of `work`
            outer = getattr(self._inside, "seconds", 0.0)
            self._inside.seconds = 0.0
            began = time.thread_time()
            try:
                return work(*arguments, **options)
            finally:
                taken = time.thread_time() - began
                with self._lock:
                    self.stages[stage] += taken - self._inside.seconds
                self._inside.seconds = outer + taken

        return timed

    def count(self, decode: Callable[..., Any]) -> Callable[..., Any]:
        """Return `Decoder.decode`, its records counted."""

        @wraps(decode)
        def counted(*arguments: Any) -> Any:  # noqa: ANN401
            self.events += len(arguments[3])
            return decode(*arguments)

        return counted

    def watch_threads(self) -> None:
        """See to it that each Python thread that begins from now on tells its time as it ends."""
        for kind in (threading.Thread, WorkerThread):  # the second one, with the consumer in it, has a `run` of its own
            kind.run = self._told(kind.run)  # type: ignore[method-assign]

    def _told(self, run: Callable[[Any], None]) -> Callable[[Any], None]:
        def timed(thread: threading.Thread) -> None:
            try:
                run(thread)
            finally:
                with self._lock:
                    self.threads[FETCH if isinstance(thread, WorkerThread) else thread.name] += time.thread_time()

        return timed


def main() -> None:
    """Run `evidence worker --stop-at-end`, then print the table."""
    watch = Stopwatch()
    for stage, where, name in STAGES:
        setattr(where, name, watch.time(stage, getattr(where, name)))
    Decoder.decode = watch.count(Decoder.decode)  # type: ignore[method-assign]
    watch.watch_threads()
    started = time.process_time()
    sys.argv = ["evidence", "worker", "--stop-at-end"]
    try:
        worker()
    finally:
        whole, own = time.process_time(), time.thread_time()
        rows = [("start: imports", started), *watch.stages.items()]
        inside = sum(watch.stages.values())
        threads = sum(watch.threads.values())
        rows += [(f"thread {name}, with its stages", seconds) for name, seconds in watch.threads.items()]
        rows += [("main thread, with its stages", own - started), ("threads of libraries", whole - own - threads)]
        rows += [("Python outside of all stages", own - started + threads - inside), ("whole process", whole)]
        for name, seconds in rows:
            each = seconds / max(watch.events, 1) * 1e6
            print(f"{name:<56} {seconds:7.2f} s {each:7.2f} µs/event")  # noqa: T201


if __name__ == "__main__":
    main()
