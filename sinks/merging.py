"""Table files of one day become one: all their rows, sorted, in memory that does not depend on how many there are.

DuckDB sorts, within its memory limit and on disk beyond it, and hands the rows over by row group.
"""

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import duckdb
import pyarrow as pa

from contracts.errors import DamagedFile, StorageUnavailable
from sinks.manifest import WAY_OUT, FileRef, Range
from sinks.parquet import ROW_GROUP_ROWS, Stamp, covered, parquet_file
from sinks.storage import Storage
from sinks.tables import ORDERS, TABLES

__all__ = ["merge_files"]

_THREADS: Final = 1  # readers and checkpoints go first


def merge_files(  # noqa: PLR0913 - what, where, how and by whom
    storage: Storage,
    files: Sequence[FileRef],
    stamp: Stamp,
    staging: str,
    *,
    memory_limit: str,
    temp_directory: str | None = None,
) -> FileRef:
    """Write the rows of these published files of one table and day to one durable file below `staging`; return it.

    Each file is read whole and held against its CRC-32 before it is believed. The new one is named after the newest
    checkpoint among those that made them, and by `stamp`'s writer; its offsets span theirs. `FileNotFoundError` if a
    file is gone, `DamagedFile` if one was changed or has other rows, `StorageUnavailable` if there is no room.
    """
    first = files[0]
    newest, offsets = 0, dict[str, Range]()
    for file in files:
        newest = max(newest, int(file.name.rsplit("-", 2)[1]))
        for topic, (begin, following) in covered(storage, file).items():
            known = offsets.get(topic, (begin, following))
            offsets[topic] = (min(known[0], begin), max(known[1], following))
    own = Stamp(stamp.lake_id, stamp.partition, newest, stamp.writer, stamp.pipeline_version, offsets)
    place = f"{first.name.rpartition('/')[0]}/{own.file}.parquet"
    staged = f"{staging}/{place.removeprefix('tables/')}"
    with _short_of_room(memory_limit):
        with parquet_file(storage, staged, TABLES[first.table], own) as new:
            for rows in _sorted_rows(storage, files, memory_limit, temp_directory):
                new.append(rows)
        written = new.written
    expected = sum(file.rows for file in files)
    if written.rows != expected:
        raise DamagedFile(f"{first.name} and the files with it have {written.rows} rows, not {expected}; {WAY_OUT}")
    return FileRef(
        table=first.table, name=place, staged=staged, rows=written.rows, size=written.size, crc32=written.crc32
    )


def _sorted_rows(
    storage: Storage, files: Sequence[FileRef], memory_limit: str, temp_directory: str | None
) -> Iterator[pa.Table]:
    schema, order = TABLES[files[0].table], ORDERS[files[0].table]
    config: dict[str, str | int | bool] = {"threads": _THREADS, "memory_limit": memory_limit}
    config |= {"autoinstall_known_extensions": False, "preserve_insertion_order": False}
    if temp_directory is not None:
        config["temp_directory"] = temp_directory
    with duckdb.connect(config=config) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        columns = ", ".join(f'"{name}"' for name in schema.names)
        by = ", ".join(f'"{name}"' for name in (*(["flag_key"] if order.flag_key else []), order.time))
        scan = _scan(connection, [storage.source(file.name) for file in files], schema)
        query = f"SELECT {columns} FROM {scan} ORDER BY {by}"  # noqa: S608 - the names are ours
        for batch in connection.sql(query).to_arrow_reader(ROW_GROUP_ROWS):
            yield pa.Table.from_batches([batch]).cast(schema)


def _scan(connection: duckdb.DuckDBPyConnection, sources: Sequence[str | pa.Table], schema: pa.Schema) -> str:
    """Return what to select from: all paths in one scan, or all tables in one."""
    paths = [source for source in sources if isinstance(source, str)]
    if paths:
        quoted = ", ".join("'" + glob.escape(path).replace("'", "''") + "'" for path in paths)
        return f"read_parquet([{quoted}], hive_partitioning = false)"
    tables = [source.cast(schema) for source in sources if not isinstance(source, str)]
    connection.register("rows_of_files", pa.concat_tables(tables))
    return "rows_of_files"


@contextmanager
def _short_of_room(memory_limit: str) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise StorageUnavailable(
            f"a compaction does not fit into {memory_limit} of memory; raise EVIDENCE_MEMORY_LIMIT"
        ) from error
    except duckdb.IOException as error:
        why = str(error).partition("\n")[0]
        raise StorageUnavailable(
            f"a compaction cannot read or spill: {why}; free space there, or name a larger disk in TMPDIR"
        ) from error
