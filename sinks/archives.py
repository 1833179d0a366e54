"""Archives: what a manifest would otherwise list for ever.

A manifest names every table file of its chain, every close and every range of undelivered offsets, and is written anew
at each checkpoint. A year of checkpoints makes hundreds of thousands of files and closes, a transactional producer one
undelivered offset a transaction. So the older ones move to Parquet files, which the manifest names instead. What a
manifest names stays; an archive whose writer died before its commit is deleted once its number is taken.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, Literal

import pyarrow as pa

from sinks.manifest import ArchiveRef, Close, FileRef, Manifest
from sinks.parquet import Stamp, read_parquet, write_parquet
from sinks.storage import Storage

__all__ = [
    "CLOSES_LISTED",
    "FILES_LISTED",
    "RANGES_LISTED",
    "archived",
    "closes",
    "table_files",
    "undelivered",
    "without",
]

CLOSES_LISTED: Final = 500
"""How many closes a manifest lists at most (150 bytes each)."""

FILES_LISTED: Final = 500
"""How many table files a manifest lists at most, besides those that it publishes itself (200 bytes each)."""

RANGES_LISTED: Final = 2_000
"""How many ranges of undelivered offsets a manifest lists at most (20 bytes each)."""

_Holds = Literal["files", "undelivered", "closes"]

_FILES: Final = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("crc32", pa.int64(), nullable=False),
    ]
)

_RANGES: Final = pa.schema(
    [
        pa.field("topic", pa.string(), nullable=False),
        pa.field("first_offset", pa.int64(), nullable=False),
        pa.field("next_offset", pa.int64(), nullable=False),
    ]
)

_CLOSES: Final = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("closed_through", pa.int64(), nullable=False),
        pa.field("allowed_lateness", pa.int64(), nullable=False),
        pa.field("next_offsets", pa.map_(pa.string(), pa.int64()), nullable=False),
    ]
)


def archived(storage: Storage, manifest: Manifest, stamp: Stamp) -> Manifest:
    """Return the manifest, not committed yet, with what is too much for it moved to durable archives.

    What it says stays the same to `table_files`, `undelivered` and `closes`. A file is written only where a limit is
    passed.
    """
    settled = [file for file in manifest.files if file.staged is None]
    if len(settled) > FILES_LISTED:
        archive = _archive(storage, "files", _file_rows(settled), stamp)
        manifest = manifest.model_copy(
            update={"files": manifest.unpublished(), "archives": (*manifest.archives, archive)}
        )
    listed = _listed_ranges(manifest)
    if listed.num_rows > RANGES_LISTED:
        archive = _archive(storage, "undelivered", listed, stamp)
        topics = {kind: topic.model_copy(update={"undelivered": ()}) for kind, topic in manifest.topics.items()}
        manifest = manifest.model_copy(update={"topics": topics, "archives": (*manifest.archives, archive)})
    if len(manifest.closes) > CLOSES_LISTED:
        rows = pa.Table.from_pylist([close.model_dump() for close in manifest.closes], schema=_CLOSES)
        archive = _archive(storage, "closes", rows, stamp)
        manifest = manifest.model_copy(update={"closes": (), "archives": (*manifest.archives, archive)})
    return manifest


def without(
    storage: Storage, manifest: Manifest, names: AbstractSet[str], stamp: Stamp
) -> tuple[Manifest, tuple[str, ...]]:
    """Return the manifest, not committed yet, without these table files, and the archives that it names no more.

    Where an archive lists one of them, a new durable one takes the place of all archives of files.
    """
    listed = tuple(file for file in manifest.files if file.name not in names)
    shorter = manifest.model_copy(update={"files": listed})
    old = tuple(archive.name for archive in manifest.archives if archive.holds == "files")
    files = [*table_files(storage, manifest.model_copy(update={"files": ()}))]
    kept = [file for file in files if file.name not in names]
    if len(kept) == len(files):
        return shorter, ()
    others = tuple(archive for archive in manifest.archives if archive.holds != "files")
    new = (_archive(storage, "files", _file_rows(kept), stamp, part="rest"),) if kept else ()
    return shorter.model_copy(update={"archives": (*others, *new)}), old


def table_files(storage: Storage, manifest: Manifest) -> Iterator[FileRef]:
    """Yield every table file of the chain, oldest first; `DamagedFile` if an archive is not as written."""
    for archive in manifest.archives:
        if archive.holds == "files":
            for row in read_parquet(storage, archive).to_pylist():
                yield FileRef(**row)
    yield from manifest.files


def undelivered(storage: Storage, manifest: Manifest) -> pa.Table:
    """Return the ranges of undelivered offsets: `topic`, `first_offset`, `next_offset` (half-open, none overlaps).

    `DamagedFile` if an archive is not as written.
    """
    parts = [read_parquet(storage, archive) for archive in manifest.archives if archive.holds == "undelivered"]
    return pa.concat_tables([*parts, _listed_ranges(manifest)])


def closes(storage: Storage, manifest: Manifest) -> Iterator[Close]:
    """Yield every close of the chain, oldest first; `DamagedFile` if an archive is not as written."""
    for archive in manifest.archives:
        if archive.holds == "closes":
            for row in read_parquet(storage, archive).to_pylist():
                yield Close(**row | {"next_offsets": dict(row["next_offsets"])})
    yield from manifest.closes


def _listed_ranges(manifest: Manifest) -> pa.Table:
    rows = [
        {"topic": topic.name, "first_offset": first, "next_offset": following}
        for topic in manifest.topics.values()
        for first, following in topic.undelivered
    ]
    return pa.Table.from_pylist(rows, schema=_RANGES)


def _file_rows(files: Sequence[FileRef]) -> pa.Table:
    return pa.Table.from_pylist([file.model_dump(include=set(_FILES.names)) for file in files], schema=_FILES)


def _archive(storage: Storage, holds: _Holds, rows: pa.Table, stamp: Stamp, part: str = "") -> ArchiveRef:
    name = f"archives/p{stamp.partition:05d}/{stamp.seq:012d}-{stamp.writer}{part and f'.{part}'}.{holds}.parquet"
    written = write_parquet(storage, name, rows, rows.schema, stamp)
    return ArchiveRef(name=name, holds=holds, rows=written.rows, size=written.size, crc32=written.crc32)
