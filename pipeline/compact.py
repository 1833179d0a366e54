"""Compaction by hand: every partition of a lake, until there is nothing left to merge."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time_ns
from typing import Any, Final
from uuid import uuid4

from contracts.errors import Fenced
from pipeline.checkpoint import settle
from pipeline.compaction import Compactor
from sinks.archives import table_files
from sinks.lineage import Lineage, lineages, read_lake
from sinks.manifest import Manifest
from sinks.storage import LocalStorage, Storage
from sinks.tables import TABLES

__all__ = ["Compacted", "TableFiles", "compact_lake"]

TRIES: Final = 5
"""How often in a row the partition's worker may commit first; it does so once in a checkpoint interval."""


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The files of a table, of all partitions; `bytes_after` is None where nothing was written to know it by."""

    table: str
    files_before: int
    bytes_before: int
    files_after: int
    bytes_after: int | None


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did, or would do; `busy` are partitions whose worker committed first each time."""

    tables: tuple[TableFiles, ...]
    busy: tuple[int, ...]

    def lines(self) -> Iterator[str]:
        """Yield a line a table."""
        for each in self.tables:
            size = "" if each.bytes_after is None else f"  {each.bytes_after:>15,} bytes"
            before = f"{each.files_before:>9,} files  {each.bytes_before:>15,} bytes"
            yield f"{each.table:<9}{before}  ->  {each.files_after:>9,} files{size}"

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        fields = TableFiles.__slots__
        return {
            "tables": [{name: getattr(each, name) for name in fields} for each in self.tables],
            "busy": list(self.busy),
        }


def compact_lake(
    lake: Path,
    *,
    older_than: int = 0,
    dry_run: bool = False,
    memory_limit: str = "1GB",
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Compacted:
    """Merge the small files of all decided days that ended `older_than` µs ago or earlier; LakeError without a lake.

    With `dry_run` nothing is written. A worker that holds a partition is fenced by each round, and reads again what it
    had read since its last checkpoint. `progress` hears how many files are merged, of how many.
    """
    storage = LocalStorage(lake)
    read_lake(storage)
    with TemporaryDirectory(prefix="evidence-") as scratch:
        run = _Run(storage, time_ns() // 1_000 - older_than, memory_limit, scratch)
        return _compacted(storage, run, dry_run=dry_run, progress=progress)


def _compacted(storage: Storage, run: "_Run", *, dry_run: bool, progress: Callable[[int, int], None]) -> Compacted:
    found = [manifest for lineage in lineages(storage) if (manifest := lineage.newest()) is not None]
    before = _sizes(storage, found)
    planned = {each.partition: run.planned(each) for each in found}
    if dry_run:
        merged = Counter[str]()
        for groups in planned.values():
            merged.update(groups)
        return Compacted(tuple(_row(name, before, (before[name][0] - merged[name], None)) for name in TABLES), ())
    total = sum(sum(groups.values()) for groups in planned.values())
    busy = tuple(each.partition for each in found if not run.compact(each.partition, lambda n: progress(n, total)))
    left = [manifest for lineage in lineages(storage) if (manifest := lineage.newest()) is not None]
    after = _sizes(storage, left)
    return Compacted(tuple(_row(name, before, after[name]) for name in TABLES), busy)


class _Run:
    """One run over a lake; counts the files that are gone."""

    def __init__(self, storage: Storage, until: int, memory_limit: str, scratch: str) -> None:
        self._storage = storage
        self._until = until
        self._compactor = Compactor(
            storage,
            clock=lambda: time_ns() // 1_000,
            new_id=lambda: uuid4().hex[:8],
            memory_limit=memory_limit,
            temp_directory=scratch,
        )
        self._gone = 0

    def planned(self, manifest: Manifest) -> Counter[str]:
        """Return by how many files each table becomes smaller."""
        fewer = Counter[str]()
        for group in self._compactor.plan(manifest, self._until):
            fewer[group.table] += len(group.files) - 1
        return fewer

    def compact(self, partition: int, progress: Callable[[int], None]) -> bool:
        """Compact a partition; return whether nothing is left to merge, or its worker went first each time."""
        lineage = Lineage(self._storage, partition)
        tries = 0
        while tries < TRIES:
            newest = lineage.newest()
            if newest is None:
                break
            try:
                settle(self._storage, newest)
                done = self._compactor.compact(newest, self._until)
            except Fenced:
                tries += 1
                continue
            if done is None:
                return True
            tries = 0
            self._gone += len(done.replaced) - len(done.unpublished())
            progress(self._gone)
        return False


def _sizes(storage: Storage, manifests: list[Manifest]) -> dict[str, tuple[int, int]]:
    """Return number and bytes of the files of each table."""
    files, sizes = Counter[str](), Counter[str]()
    for manifest in manifests:
        for file in table_files(storage, manifest):
            files[file.table] += 1
            sizes[file.table] += file.size
    return {name: (files[name], sizes[name]) for name in TABLES}


def _row(name: str, before: dict[str, tuple[int, int]], after: tuple[int, int | None]) -> TableFiles:
    return TableFiles(name, *before[name], *after)
