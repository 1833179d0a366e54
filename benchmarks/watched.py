"""The worker with instruments: how long its event loops were blocked, and what each of its checkpoints took.

python -m benchmarks.watched READINGS ARGUMENTS..., with arguments and environment of `evidence worker`. The readings go
to the file, one JSON object a line, as they come; those of the loops and threads at the end.
"""

import json
import sys
import threading
import time
import traceback
from asyncio.base_events import BaseEventLoop
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, Final

from mode.threads import WorkerThread

from benchmarks.loop_monitor import LoopMonitor
from pipeline.checkpoint import Checkpointer
from pipeline.cli import main as evidence
from pipeline.leaving import leaving
from pipeline.partition import Frozen
from sinks.manifest import Manifest

__all__ = ["blockers", "readings"]

LIMIT_S: Final = 0.2  # a loop that is blocked for longer has its stack told
LOOK_S: Final = 0.1
REMEMBERED: Final = 200
DEPTH: Final = 5


def readings(file: Path, what: str) -> Iterator[dict[str, Any]]:
    """Yield the readings of a kind: `checkpoint`, `blocked`, `loop` or `threads`, those that are whole by now."""
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else ():
        if line.endswith("\n") and (reading := json.loads(line)).pop("what") == what:
            yield reading


def blockers(file: Path, loop: str = "worker") -> list[str]:
    """Return what blocked a loop for more than 0.2 s: for how long, where it was, and what other threads did.

    A thread that no core was free for tells of a busy machine, not of the worker.
    """
    longest: dict[float, dict[str, Any]] = {}
    for reading in readings(file, "blocked"):  # several tell of one block; the last one the most
        if reading["loop"] == loop:
            longest[round(reading["at"] - reading["seconds"], 1)] = reading
    return [
        f"{each['seconds'] * 1000:.0f} ms (no core for it {each['starved'] * 1000:.0f} ms, for a thread of the process "
        f"{each['all_starved'] * 1000:.0f} ms): "
        + "; ".join(f"{name} {stack}" for name, stack in each["stacks"].items())
        for each in longest.values()
    ]


class _Instruments:
    """What writes the readings."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._loops: dict[str, LoopMonitor] = {}
        self._natives: dict[str, int] = {}  # the system's numbers of the loops' threads
        self._threads: dict[str, float] = {}
        self._done = threading.Event()

    def tell(self, what: str, **reading: object) -> None:
        """Write a reading."""
        with self._lock:
            self._file.write(json.dumps({"what": what, "at": time.time(), **reading}) + "\n")
            self._file.flush()

    def watch_loops(self) -> None:
        """Measure every event loop from now on, by the thread that it runs in."""
        run_forever = BaseEventLoop.run_forever

        @wraps(run_forever)
        def watched(loop: BaseEventLoop) -> None:
            thread = threading.current_thread()
            name = "worker" if thread is threading.main_thread() else "consumer"
            monitor = self._loops.setdefault(name, LoopMonitor())
            self._natives[name] = threading.get_native_id()
            monitor.start(loop)
            try:
                run_forever(loop)
            finally:
                monitor.stop()

        setattr(BaseEventLoop, "run_forever", watched)  # noqa: B010
        threading.Thread(target=self._look, name="look", daemon=True).start()

    def _look(self) -> None:
        """Tell the stacks of all threads when a loop is blocked for too long."""
        delays: deque[tuple[float, dict[int, float]]] = deque(maxlen=REMEMBERED)
        while not self._done.wait(LOOK_S):
            now = time.monotonic()
            delays.append((now, _delays()))
            for name, monitor in list(self._loops.items()):
                late = monitor.late()
                if late > LIMIT_S:
                    before = next((seen for at, seen in reversed(delays) if at <= now - late), delays[0][1])
                    starved = {thread: each - before.get(thread, 0.0) for thread, each in delays[-1][1].items()}
                    frames = sys._current_frames()  # noqa: SLF001  # the documented way to another thread's stack
                    stacks = {
                        thread.name: _places(frames[thread.ident])
                        for thread in threading.enumerate()
                        if thread.ident in frames and thread is not threading.current_thread()
                    }
                    own, most = starved.get(self._natives[name], 0.0), max(starved.values())
                    self.tell("blocked", loop=name, seconds=late, stacks=stacks, starved=own, all_starved=most)

    def watch_threads(self) -> None:
        """Have each Python thread tell its CPU time as it ends; the consumer's has a `run` of its own."""
        for kind in (threading.Thread, WorkerThread):
            run = kind.run

            def timed(thread: threading.Thread, run: Any = run) -> None:  # noqa: ANN401
                try:
                    run(thread)
                finally:
                    name = "consumer" if isinstance(thread, WorkerThread) else thread.name.partition("_")[0]
                    with self._lock:
                        self._threads[name] = self._threads.get(name, 0.0) + time.thread_time()

            kind.run = timed  # type: ignore[method-assign]

    def watch_checkpoints(self) -> None:
        """Tell of each checkpoint as it is done."""
        checkpoint = Checkpointer.checkpoint

        @wraps(checkpoint)
        def timed(checkpointer: Checkpointer, base: Manifest, frozen: Frozen, through: int | None) -> Manifest:
            began = time.monotonic()
            done = checkpoint(checkpointer, base, frozen, through)
            self.tell(
                "checkpoint",
                partition=done.partition,
                seq=done.seq,
                closed=through is not None,
                seconds=time.monotonic() - began,
                events=frozen.rows,
                segments=len(done.segments),
                open_events=sum(segment.rows for segment in done.segments),
                residue_rows=sum(residue.rows for residue in done.residue),
            )
            return done

        setattr(Checkpointer, "checkpoint", timed)  # noqa: B010

    def finish(self) -> None:
        """Tell what is known at the end only."""
        self._done.set()
        for name, monitor in self._loops.items():
            blocked = monitor.blocked
            self.tell("loop", loop=name, longest=blocked.longest, p999=blocked.quantile(0.999))
        whole, own = time.process_time(), time.thread_time()
        libraries = whole - own - sum(self._threads.values())
        self.tell("threads", seconds={"worker": own, **self._threads, "libraries": libraries})
        self._file.close()


def _delays() -> dict[int, float]:
    """Return for how many seconds each thread of this process has waited for a core."""
    delays = {}
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended
            delays[int(task.name)] = int((task / "schedstat").read_text(encoding="utf-8").split()[1]) / 1e9
    return delays


def _places(frame: FrameType) -> str:
    """Return where a thread is: the innermost lines, as function and place, but for those of the import system."""
    lines = [each for each in reversed(traceback.extract_stack(frame)) if not each.filename.startswith("<frozen")]
    return " < ".join(f"{each.name} {Path(each.filename).name}:{each.lineno}" for each in lines[:DEPTH])


def main() -> None:
    """Run the worker."""
    file, *arguments = sys.argv[1:]
    instruments = _Instruments(Path(file))
    instruments.watch_threads()
    instruments.watch_loops()
    instruments.watch_checkpoints()
    sys.argv = ["evidence", "worker", *arguments]
    try:
        evidence()
    finally:
        instruments.finish()


if __name__ == "__main__":
    with leaving():
        main()
