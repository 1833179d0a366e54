"""The files of one partition: read whole, once each, and held against manifest, name and footer."""

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.columns import EVENT, utf8
from pipeline.verify.report import Findings
from sinks.lineage import Lineage
from sinks.manifest import FileRef, Manifest, ResidueRef, SegmentRef, StoredFile
from sinks.storage import Storage
from sinks.tables import ORDERS, RESIDUE, TABLES

__all__ = ["Moved", "PartitionFiles", "find_foreign", "find_strays"]

_ROWS_AT_ONCE: Final = 20_000
_ATTEMPT: Final = re.compile(r"(\d{12})-([0-9a-f]+)")
_TABLE_FILE: Final = re.compile(r"tables/(\w+)/dt=(\d{4}-\d\d-\d\d)/p(\d{5,})-(\d{12})-([0-9a-f]+)\.parquet")


class Moved(Exception):
    """A file is gone, and there is a newer manifest than the one that names it: the audit has to begin again."""


@dataclass(frozen=True, slots=True)
class PartitionFiles:
    """Reads the files that a manifest names, and tells what is wrong with them."""

    storage: Storage
    manifest: Manifest
    findings: Findings

    def table(self, file: FileRef) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a table file, some thousand at a time; none if it is not as it was written."""
        parquet = self._open(file, file.staged)
        if parquet is None:
            return
        order = ORDERS[file.table]
        match = _TABLE_FILE.fullmatch(file.name)
        if match is None or match[1] != file.table or int(match[3]) != self.manifest.partition:
            self.findings.wrong("footers", "with a name of elsewhere", file.name)
            return
        if not self._is_in_order(file, parquet, TABLES[file.table], (int(match[4]), match[5])):
            return
        for batch in parquet.iter_batches(_ROWS_AT_ONCE):
            days = pc.unique(batch.column(order.day).cast(pa.date32())).to_pylist()
            if [day.isoformat() for day in days] != [match[2]]:
                self.findings.wrong("footers", "with rows of another day", file.name)
            yield batch

    def segment(self, file: SegmentRef) -> Iterator[pa.RecordBatch]:
        """Yield topic, offset, event time, flag key, unit ID and contract version of a live segment's events."""
        parquet = self._open(file)
        if parquet is not None and self._is_in_order(file, parquet, utf8(EVENT), _attempt(file.name)):
            columns = ["topic", "offset", "event_time", "flag_key", "unit_id", "contract_version"]
            yield from parquet.iter_batches(_ROWS_AT_ONCE, columns=columns)

    def residue(self, file: ResidueRef) -> None:
        """Look at a file of closed windows."""
        parquet = self._open(file)
        if parquet is not None:
            self._is_in_order(file, parquet, RESIDUE, _attempt(file.name))

    def _open(self, file: StoredFile, staged: str | None = None) -> pq.ParquetFile | None:
        data = self._read(file, staged)
        self.findings.did("files", "files")
        if data is None:
            self.findings.wrong("files", "missing", file.name)
            return None
        self.findings.did("files", "bytes", len(data))
        if len(data) != file.size:
            self.findings.wrong("files", "of another size", f"{file.name} has {len(data)} bytes, not {file.size}")
        elif zlib.crc32(data) != file.crc32:
            self.findings.wrong("files", "changed", file.name)
        else:
            try:
                return pq.ParquetFile(BytesIO(data))
            except pa.ArrowException as error:
                self.findings.wrong("footers", "unreadable", f"{file.name}: {error}")
        return None

    def _read(self, file: StoredFile, staged: str | None) -> bytes | None:
        """Return the content; a file that was not published yet lies where it was staged, until it is."""
        for name in (file.name, *([staged, file.name] if staged else [])):
            try:
                return self.storage.read(name)
            except FileNotFoundError:
                continue
        if Lineage(self.storage, self.manifest.partition).seqs()[-1] > self.manifest.seq:
            raise Moved(file.name)
        return None

    def _is_in_order(self, file: StoredFile, parquet: pq.ParquetFile, schema: pa.Schema, of: tuple[int, str]) -> bool:
        self.findings.did("footers", "footers")
        found = parquet.schema_arrow
        if found.names != schema.names or [field.type for field in found] != [field.type for field in schema]:
            self.findings.wrong("footers", "with other columns", file.name)
            return False
        if parquet.metadata.num_rows != file.rows:
            told = f"{file.name} has {parquet.metadata.num_rows} rows, not {file.rows}"
            self.findings.wrong("footers", "with another number of rows", told)
        stamped = {key.decode(): value.decode() for key, value in (parquet.metadata.metadata or {}).items()}
        expected = {
            "evidence.lake_id": self.manifest.lake_id,
            "evidence.partition": str(self.manifest.partition),
            "evidence.seq": str(of[0]),
            "evidence.writer": of[1],
            "evidence.schema_version": str(self.manifest.schema_version),
        }
        wrong = [name for name, value in expected.items() if stamped.get(name) != value]
        if wrong or not _is_json_object(stamped.get("evidence.offsets")):
            self.findings.wrong("footers", "with other metadata", f"{file.name}: {', '.join(wrong) or 'offsets'}")
        return True


def find_strays(
    storage: Storage, manifest: Manifest, tables: Iterable[str], named: AbstractSet[str], findings: Findings
) -> None:
    """Look for files of the partition that its manifest does not name, as one of `named` or otherwise.

    `tables` are names of table files. What is of a later checkpoint is not judged. A table file that no manifest names
    is wrong, for a query reads it, unless another is about to take its place, or has since `tables` were listed. What a
    dead writer left elsewhere is counted: nobody reads it but by a manifest.
    """
    named = named | {*manifest.replaced}
    for name in tables:
        match = _TABLE_FILE.fullmatch(name)
        if match is not None and int(match[3]) == manifest.partition and int(match[4]) <= manifest.seq:
            findings.did("strays", "table files")
            if name not in named and storage.exists(name):
                findings.wrong("strays", "in a table", name)
    known = manifest.live() | {each.name for each in manifest.retired} | {each.name for each in manifest.archives}
    known |= {str(file.staged) for file in manifest.unpublished()}
    for directory in ("segments", "staging", "archives"):
        for name in storage.list(f"{directory}/p{manifest.partition:05d}"):
            if name not in known and _attempt(name)[0] <= manifest.seq:
                findings.did("strays", "left behind by a crash")


def find_foreign(tables: Iterable[str], partitions: AbstractSet[int], findings: Findings) -> None:
    """Look for table files that belong to none of the partitions, by their names."""
    for name in tables:
        match = _TABLE_FILE.fullmatch(name)
        if match is None or int(match[3]) not in partitions:
            findings.wrong("strays", "in a table", name)


def _attempt(name: str) -> tuple[int, str]:
    match = _ATTEMPT.search(name)
    return (int(match[1]), match[2]) if match else (-1, "")


def _is_json_object(text: str | None) -> bool:
    try:
        return isinstance(json.loads(text or ""), dict)
    except ValueError:
        return False
