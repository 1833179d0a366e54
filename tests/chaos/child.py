"""The `evidence` command with a fault in it, which its environment says: `python -m tests.chaos.child worker …`.

It may be `compact` too.

- `CHAOS_POINT`, `CHAOS_NTH`, `CHAOS_SIGNAL`: die or hang at a point (see `points`)
- `CHAOS_FULL=0.1`: the disk is full at each tenth write or so
- `CHAOS_FULL_WHILE=path`: the disk is full while there is such a file
- `CHAOS_FILE_SIZE=4096`: no file may become larger (RLIMIT_FSIZE)
- `CHAOS_CLOCK=5`: the wall clock jumps by up to two days, back and forth, by this seed
- `CHAOS_HURRY=1`: a storage or broker that failed is tried again soon; topics and what was resumed are looked at each
  second

Whatever is not asked for is not touched: the worker runs as it is shipped.
"""

import errno
import os
import random
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pipeline.checkpoint
import pipeline.compact
import pipeline.outbox
import pipeline.worker
import sinks.storage.local
from pipeline.cli import main
from pipeline.compaction import Compactor
from pipeline.partition import Frozen, Partition
from pipeline.settings import load
from pipeline.transport import WholeFetchConsumer
from sinks.manifest import Manifest
from sinks.storage import LocalStorage
from tests.chaos.points import Plan, Points, WatchedStorage

if TYPE_CHECKING:
    from io import FileIO

DAYS: Final = 86_400_000_000  # µs
RETRY_S: Final = 0.3


def _watch(plan: Plan) -> None:
    """Have the worker, or the compaction, come to points."""
    points = Points(plan)
    storage = WatchedStorage(LocalStorage(load().lake), points)
    checkpoint, freeze, tell = pipeline.checkpoint.Checkpointer.checkpoint, Partition.freeze, WholeFetchConsumer.tell

    def watched_checkpoint(*arguments: Any) -> Manifest:  # noqa: ANN401  # passed on as they are
        done = False
        try:
            manifest = checkpoint(*arguments)
            done = True
            return manifest
        finally:
            points.end(done=done)

    compact = Compactor.compact

    def watched_compact(*arguments: Any) -> Manifest | None:  # noqa: ANN401
        done = False
        try:
            manifest = compact(*arguments)
            done = True
            return manifest
        finally:
            points.end(done=done)

    def watched_freeze(partition: Partition, mono: int) -> Frozen:
        points.reach("before freeze")
        frozen = freeze(partition, mono)
        points.reach("after freeze")
        return frozen

    async def watched_tell(*arguments: Any) -> None:  # noqa: ANN401
        points.reach("before tell")
        await tell(*arguments)
        points.reach("after tell")

    _replace(pipeline.checkpoint.Checkpointer, "checkpoint", watched_checkpoint)
    _replace(Compactor, "compact", watched_compact)
    _replace(pipeline.compact, "Compactor", partial(Compactor, on_step=points.begin))
    _replace(pipeline.compact, "LocalStorage", lambda _lake: storage)
    _replace(Partition, "freeze", watched_freeze)
    _replace(WholeFetchConsumer, "tell", watched_tell)
    _replace(pipeline.worker, "Worker", partial(pipeline.worker.Worker, storage=storage, on_step=points.begin))


def _fill(is_full: Callable[[], bool]) -> None:
    """Have the disk full whenever that is so; half of such a write still gets through."""
    put = sinks.storage.local._put  # noqa: SLF001  # below it there is only the kernel

    def put_what_fits(file: "FileIO", path: Path, piece: memoryview) -> None:
        if not is_full():
            put(file, path, piece)
            return
        put(file, path, piece[: len(piece) // 2])
        with sinks.storage.local._faults("write", path):  # noqa: SLF001
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _replace(sinks.storage.local, "_put", put_what_fits)


def _jump(seed: int) -> None:
    """Have the wall clock jump each second."""

    def now() -> int:
        second = time.monotonic_ns() // 1_000_000_000
        jump = random.Random(f"{seed} {second}").uniform(-2, 2) * DAYS  # noqa: S311
        return time.time_ns() // 1_000 + round(jump)

    _replace(pipeline.worker, "_now", now)


def _replace(place: object, name: str, by: Callable[..., object]) -> None:
    setattr(place, name, by)


def _fail_as_told() -> None:
    told = os.environ
    plan = Plan.from_environment()
    if plan is not None:
        _watch(plan)
    if "CHAOS_FULL" in told:
        share, rng = float(told["CHAOS_FULL"]), random.Random(os.getpid())  # noqa: S311
        _fill(lambda: rng.random() < share)
    if "CHAOS_FULL_WHILE" in told:
        _fill(Path(told["CHAOS_FULL_WHILE"]).exists)
    if "CHAOS_FILE_SIZE" in told:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(told["CHAOS_FILE_SIZE"]),) * 2)
    if "CHAOS_CLOCK" in told:
        _jump(int(told["CHAOS_CLOCK"]))
    if "CHAOS_HURRY" in told:
        setattr(pipeline.worker, "RETRY_S", RETRY_S)  # noqa: B010  # it is Final
        setattr(pipeline.outbox, "RETRY_S", RETRY_S)  # noqa: B010
        setattr(pipeline.worker, "RECHECK_S", 1.0)  # noqa: B010
        setattr(pipeline.worker, "RELOAD_S", 1.0)  # noqa: B010


if __name__ == "__main__":
    _fail_as_told()
    main()
