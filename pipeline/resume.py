"""Let stopped partitions go on: the mark is cleared in the lake, where every worker looks for it."""

from pathlib import Path
from time import time_ns
from uuid import uuid4

from contracts.errors import Fenced
from pipeline.checkpoint import settle
from sinks.lineage import Lineage, lineages, read_lake
from sinks.manifest import Manifest, Stopped
from sinks.storage import LocalStorage, Storage

__all__ = ["Resumed", "resume_all"]


class Resumed(Stopped):
    """A partition that goes on, and why it had been stopped."""

    partition: int


def resume_all(lake: Path) -> list[Resumed]:
    """Clear the mark of every stopped partition; LakeError where there is no lake.

    A new manifest without the mark fences the worker that holds the partition, which then reads on from it.
    """
    storage = LocalStorage(lake)
    read_lake(storage)
    resumed = (_resume(storage, lineage) for lineage in lineages(storage))
    return [each for each in resumed if each is not None]


def _resume(storage: Storage, lineage: Lineage) -> Resumed | None:
    while True:
        newest = lineage.newest()
        if newest is None or newest.stopped is None:
            return None
        try:
            settle(storage, newest)
            lineage.commit(_cleared(newest))
        except Fenced:  # a worker committed meanwhile; look again
            continue
        return Resumed(partition=newest.partition, **newest.stopped.model_dump())


def _cleared(manifest: Manifest) -> Manifest:
    return manifest.model_copy(
        update={
            "seq": manifest.seq + 1,
            "writer": uuid4().hex[:8],
            "committed_at": time_ns() // 1000,
            "stopped": None,
            "files": manifest.published(),
            "replaced": (),
        }
    )
