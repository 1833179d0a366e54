"""Compaction: the small table files of past days become few large ones, sorted, and no reader sees a row twice or not.

A partition writes a file a table and day with each close. Files of a day to which no open window can add any more are
merged: those of one partition, table and day into one, of at most `TARGET` bytes or so. It is a checkpoint of the
partition's chain like any other, in which nothing was read, so it is made by the partition's owner, or fences it:

1. *stage*: small files are read whole and held against their CRC-32, their rows sorted in the table's order and written
   to one new file in the staging directory of this checkpoint and writer. A crash leaves litter for a later prune.
2. *commit*: the manifest, created once, lists the new files in place of the small ones, and names those as `replaced`.
   Of two writers one is fenced, and changes no table. From this instant readers through manifests (`evidence verify`)
   read the new files, staged or published; the totals are those of before.
3. *publish*: in each directory the new file takes the place of the small ones at once. A new directory is built in
   staging, of hard links to all that stays, other partitions' files among them, and the new file; then the two
   directories change places in one system call (`renameat2` with RENAME_EXCHANGE). Whoever lists the day sees the one
   or the other, so a plain glob finds each row once at any time. A file system without that call (NFS) takes two
   renames, and for the time between them the day is away. Other partitions rename files into the day meanwhile: they
   hold a shared lock of the directory for the rename, the swap an exclusive one, and locks end with their process.
4. *prune*: archives that list replaced files are let go as segments are; the old directory is deleted.

A crash after step 2 leaves the small files to the glob, and the manifest's owner, or whoever comes next, does the rest:
the swap changes nothing if it is done. A zombie that wakes up later finds its file neither staged nor in place, and is
fenced. One thing remains: a query that listed the small files before the swap, and opens them after it, fails with "No
such file"; it never returns a wrong answer. `evidence query` asks again; with other tools, do so yourself.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate
from typing import Final

from contracts.errors import Fenced, StorageUnavailable
from pipeline.checkpoint import LINGER, reading, settle
from sinks.archives import archived, table_files, without
from sinks.lineage import Lineage
from sinks.manifest import FileRef, Manifest, Retired
from sinks.merging import merge_files
from sinks.parquet import Stamp
from sinks.storage import Storage

__all__ = ["COMPACTION_STEPS", "TARGET", "Compactor", "Group", "decided_through", "plan"]

COMPACTION_STEPS: Final = ("compact stage", "compact commit", "compact publish", "compact prune")
"""The steps of a compaction, as `on_step` hears them."""

TARGET: Final = 64 << 20
"""Bytes of files that become one, about three million facts; a file of half that size stays as it is."""

FEWEST: Final = 4
"""Files of a table and day that are worth merging."""

_FACTOR: Final = 4  # a file this many times as large as all smaller ones together waits for more of them
_ROUND_BYTES: Final = TARGET  # of one compaction: some seconds of work, at 2 to 3 µs a row
_ROUND_FILES: Final = 2_000  # named by its manifest, 80 bytes each
_DAY: Final = 86_400_000_000
_DIRECTORY: Final = re.compile(r"tables/\w+/dt=(\d{4}-\d\d-\d\d)/")
_EPOCH: Final = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Group:
    """Files of one table and day that become one."""

    table: str
    day: date
    files: tuple[FileRef, ...]

    @property
    def size(self) -> int:
        """Bytes, of all files."""
        return sum(file.size for file in self.files)


def decided_through(manifest: Manifest) -> int | None:
    """Return the time up to which every event is decided, of all flags: no window that began by then is open."""
    times = [horizon.decided_through for horizon in manifest.horizons.values()]
    return min((time for time in times if time is not None), default=None) if None not in times else None


def plan(files: Iterable[FileRef], through: int, fewest: int = FEWEST) -> list[Group]:
    """Return what to merge of days that ended at or before `through` (µs), oldest first, one group a table and day.

    A group has `fewest` files or more and about `TARGET` bytes at most. Small files go first. A file is left out while
    it is much larger than all smaller ones together, so that a few late rows do not have all the others rewritten: a
    row is rewritten a number of times that grows with the logarithm of the files.
    """
    days: dict[tuple[date, str], list[FileRef]] = {}
    for file in files:
        match = _DIRECTORY.match(file.name)
        if match is not None and file.size * 2 < TARGET:
            day = date.fromisoformat(match[1])
            if (day.toordinal() + 1 - _EPOCH) * _DAY <= through:
                days.setdefault((day, file.table), []).append(file)
    groups = (Group(table, day, _alike(small)) for (day, table), small in sorted(days.items()))
    return [group for group in groups if len(group.files) >= fewest]


def _alike(files: Sequence[FileRef]) -> tuple[FileRef, ...]:
    """Return the smallest files, up to TARGET bytes, without those that are much larger than all smaller ones."""
    ordered = sorted(files, key=lambda file: (file.size, file.name))
    sums = [0, *accumulate(file.size for file in ordered)]
    end = bisect_right(sums, TARGET) - 1
    while end and ordered[end - 1].size > _FACTOR * sums[end - 1]:
        end -= 1
    return tuple(ordered[:end])


class Compactor:
    """Compacts any partition; a call blocks for as long as disks take, some seconds of work at most.

    Use one partition from one thread at a time, and not while it has a checkpoint under way.
    """

    def __init__(  # noqa: PLR0913 - what the shell provides, one argument each
        self,
        storage: Storage,
        *,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        memory_limit: str = "1GB",
        temp_directory: str | None = None,
        fewest: int = FEWEST,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`clock`, `new_id`, `memory_limit` and `temp_directory` are those of a `Checkpointer`.

        `fewest` files of a table and day are merged; `on_step` is told each of COMPACTION_STEPS as it begins.
        """
        self._storage = storage
        self._clock = clock
        self._new_id = new_id
        self._memory_limit = memory_limit
        self._temp_directory = temp_directory
        self._fewest = fewest
        self._on_step = on_step

    def plan(self, base: Manifest, before: int | None = None) -> list[Group]:
        """Return all that can be merged of days that ended at or before `before` (µs), if that is given."""
        times = (decided_through(base), before)
        if times[0] is None:
            return []
        through = min(time for time in times if time is not None)
        with reading(self._storage, base):
            return plan(table_files(self._storage, base), through, self._fewest)

    def compact(self, base: Manifest, before: int | None = None) -> Manifest | None:
        """Merge some groups of the plan, and return the new manifest, settled; None if there is nothing to merge.

        `base` is the newest manifest, settled. Raises Fenced where another writer committed first: then nothing
        changed. StorageUnavailable: it may be committed, only recovery tells. DamagedFile: an input is not as written.
        """
        groups = _some(self.plan(base, before))
        if not groups:
            return None
        self._on_step("compact stage")
        stamp = Stamp(base.lake_id, base.partition, base.seq + 1, self._new_id(), base.pipeline_version, {})
        try:
            with reading(self._storage, base):
                files = [self._merged(group, stamp) for group in groups]
                manifest = self._manifest(base, groups, files, stamp)
        except StorageUnavailable as error:
            newest = Lineage(self._storage, base.partition).newest()
            if newest is not None and newest.seq > base.seq:  # its prune cleared our staging directory
                raise Fenced(f"partition {base.partition}: another writer has committed {newest.seq}") from error
            raise
        self._on_step("compact commit")
        Lineage(self._storage, base.partition).commit(manifest)
        settle(self._storage, manifest, lambda step: self._on_step(f"compact {step}"))
        return manifest

    def _merged(self, group: Group, stamp: Stamp) -> FileRef:
        return merge_files(
            self._storage,
            group.files,
            stamp,
            stamp.staging,
            memory_limit=self._memory_limit,
            temp_directory=self._temp_directory,
        )

    def _manifest(self, base: Manifest, groups: Sequence[Group], files: Sequence[FileRef], stamp: Stamp) -> Manifest:
        now = self._clock()
        names = frozenset(file.name for group in groups for file in group.files)
        published = base.model_copy(update={"files": base.published()})
        shorter, let_go = without(self._storage, published, names, stamp)
        kept = (each for each in base.retired if each.at + LINGER > base.committed_at)
        changes = {
            "seq": stamp.seq,
            "writer": stamp.writer,
            "committed_at": now,
            "files": (*shorter.files, *files),
            "replaced": tuple(sorted(names)),
            "retired": (*kept, *(Retired(name=name, at=now) for name in let_go)),
        }
        return archived(self._storage, shorter.model_copy(update=changes), stamp)


def _some(groups: Sequence[Group]) -> list[Group]:
    """Return as many of the groups as one compaction takes, one at least."""
    some: list[Group] = []
    size = files = 0
    for group in groups:
        size += group.size
        files += len(group.files)
        if some and (size > _ROUND_BYTES or files > _ROUND_FILES):
            break
        some.append(group)
    return some
