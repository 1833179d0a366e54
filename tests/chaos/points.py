"""Named points in the life of a worker at which a child program dies, hangs or finds its disk full.

A point is `before STEP` or `after STEP`, STEP being one of the seven of a checkpoint or the four of a compaction; or,
between the files of a step,
`before STEP/OPERATION N` and `after STEP/OPERATION N` for the N-th call of a storage operation within the step, and
`within STEP/write N` once a file has its content but is not synced. What a worker does outside of checkpoints is the
step `recover`.
"""

import itertools
import os
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from signal import SIGKILL, Signals
from typing import Final

from sinks.storage import LocalStorage, Sink

__all__ = ["BETWEEN_FILES", "COMPACTING", "SEVEN", "STEP_ENDS", "Plan", "Points", "WatchedStorage"]

SEVEN: Final = ("freeze", "stage", "flush", "commit", "publish", "prune", "tell")

STEP_ENDS: Final = tuple(f"{when} {step}" for step in SEVEN for when in ("before", "after"))

BETWEEN_FILES: Final = (
    "before stage/write 2",
    "within stage/write 1",
    "within stage/write 3",
    "after stage/write 3",
    "after stage/write 4",
    "before commit/create_once 1",
    "after commit/create_once 1",
    "after publish/rename 1",
    "before publish/rename 2",
    "after publish/rename 2",
    "after publish/rename 3",
    "before publish/sync 1",
    "after publish/sync 1",
    "after prune/delete 1",
    "before recover/read 2",
)

COMPACTING: Final = (
    "within compact stage/write 1",
    "after compact commit/create_once 1",
    "after compact publish/swap 1",
    "before compact publish/swap 2",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to a worker: at the `nth` time that it comes to `point` it gets the signal (SIGKILL or SIGSTOP)."""

    point: str
    nth: int = 1
    signal: Signals = SIGKILL

    def variables(self) -> dict[str, str]:
        """Return the plan as a child's environment has it."""
        return {"CHAOS_POINT": self.point, "CHAOS_NTH": str(self.nth), "CHAOS_SIGNAL": self.signal.name}

    @classmethod
    def from_environment(cls) -> "Plan | None":
        """Return the plan that `variables` says, none without."""
        point = os.environ.get("CHAOS_POINT")
        if point is None:
            return None
        return cls(point, int(os.environ["CHAOS_NTH"]), Signals[os.environ["CHAOS_SIGNAL"]])


class Points:
    """Counts the points that a worker comes to, and does to it what the plan says."""

    def __init__(self, plan: Plan | None) -> None:
        """Watch for the plan's point; any thread may come to points."""
        self._plan = plan
        self._times = itertools.count(1)
        self._here = threading.local()

    @property
    def step(self) -> str:
        """The step that the calling thread is in."""
        return getattr(self._here, "step", "recover")

    def begin(self, step: str) -> None:
        """Hear that a step of a checkpoint begins, and so that the one before it is done."""
        if self.step != "recover":
            self.reach(f"after {self.step}")
        self._enter(step)
        self.reach(f"before {step}")

    def end(self, *, done: bool) -> None:
        """Hear that the last step is over, or that a fault ended it."""
        if done:
            self.reach(f"after {self.step}")
        self._enter("recover")

    @contextmanager
    def call(self, operation: str) -> Iterator[str]:
        """Go through one call of a storage operation; yields its name."""
        calls: Counter[str] = self._here.__dict__.setdefault("calls", Counter())
        calls[operation] += 1
        name = f"{self.step}/{operation} {calls[operation]}"
        self.reach(f"before {name}")
        yield name
        self.reach(f"after {name}")

    def reach(self, point: str) -> None:
        """Come to a point."""
        if self._plan is None or point != self._plan.point or next(self._times) != self._plan.nth:
            return
        sys.stderr.write(f"chaos: {self._plan.signal.name} {point}\n")
        sys.stderr.flush()
        os.kill(os.getpid(), self._plan.signal)

    def _enter(self, step: str) -> None:
        self._here.step = step
        self._here.calls = Counter()


class WatchedStorage(LocalStorage):
    """The lake's directory, each call of which is a point."""

    def __init__(self, of: LocalStorage, points: Points) -> None:
        """Stand in the place of `of`."""
        super().__init__(of.root)
        self._points = points

    def create_once(self, name: str, data: bytes) -> bool:
        with self._points.call("create_once"):
            return super().create_once(name, data)

    @contextmanager
    def write(self, name: str) -> Iterator[Sink]:
        with self._points.call("write") as here, super().write(name) as sink:
            yield sink
            self._points.reach(f"within {here}")

    def read(self, name: str) -> bytes:
        with self._points.call("read"):
            return super().read(name)

    def checksum(self, name: str) -> int:
        with self._points.call("read"):
            return super().checksum(name)

    def rename(self, source: str, target: str) -> None:
        with self._points.call("rename"):
            super().rename(source, target)

    def swap(self, directory: str, gone: Collection[str], come: Mapping[str, str], aside: str) -> None:
        with self._points.call("swap"):
            super().swap(directory, gone, come, aside)

    def sync(self, directory: str) -> None:
        with self._points.call("sync"):
            super().sync(directory)

    def delete(self, name: str) -> None:
        with self._points.call("delete"):
            super().delete(name)

    def clear(self, directory: str) -> None:
        with self._points.call("clear"):
            super().clear(directory)
