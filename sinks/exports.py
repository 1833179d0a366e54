"""Tables that are not made by checkpoints, but brought into the lake from elsewhere, export by export, each row once.

An export goes on where the last one ended. It is of one table and

1. *settles* the last export, if that was cut off before all its files were published;
2. *stages* its rows as Parquet files, one a day and call;
3. *commits*: the file `exports/<table>/<seq>.json` says which files are its, and where the next one goes on. It is
   created once, so of two exports at a time one gives way, and no row is there twice;
4. *publishes* the files: they get their final names, where queries find them.

What a dead export staged is cleared by the next.
"""

import json
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.errors import DamagedFile, Fenced
from sinks.manifest import SCHEMA_VERSION, WAY_OUT, FileRef
from sinks.parquet import write_parquet
from sinks.storage import Storage
from sinks.tables import EXPORTED, ORDERS, partition_by_day

__all__ = ["Export", "Exporter", "Source"]

_KEPT: Final = 2  # exports whose files are kept, for a rival that still reads them


class Source(BaseModel):
    """How far one topic has been read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    topic_id: str
    next_offsets: dict[int, int]
    """By partition."""


class Export(BaseModel):
    """What one export did."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seq: int
    writer: str
    lake_id: str
    exported_at: int
    """µs."""
    sources: dict[str, Source] = {}
    """By topic: all that any export has read."""
    files: tuple[FileRef, ...] = ()
    """Its own."""


@dataclass(frozen=True, slots=True)
class _Stamp:
    """The metadata of an export's files."""

    export: Export

    def metadata(self) -> dict[str, str]:
        """See `Marks.metadata`."""
        return {
            "evidence.lake_id": self.export.lake_id,
            "evidence.export": str(self.export.seq),
            "evidence.writer": self.export.writer,
            "evidence.schema_version": str(SCHEMA_VERSION),
        }


@dataclass(frozen=True, slots=True)
class Exporter:
    """Exports to one table of a lake; `writer` is unique for each use."""

    storage: Storage
    table: str
    writer: str

    def last(self) -> Export | None:
        """Return the last export, settled; None if there was none. `DamagedFile` if its file is not as written."""
        names = self.storage.list(self._directory)
        if not names:
            return None
        try:
            export = Export.model_validate_json(self.storage.read(names[-1]))
        except ValidationError as error:
            raise DamagedFile(f"{names[-1]} is no export ({error.error_count()} errors); {WAY_OUT}") from error
        self._publish(export)
        return export

    def begin(self, lake_id: str, now: int) -> Export:
        """Return the export to be made at `now` (µs), still empty: it goes on from the last one."""
        last = self.last()
        return Export(
            seq=last.seq + 1 if last else 1,
            writer=self.writer,
            lake_id=lake_id,
            exported_at=now,
            sources=last.sources if last else {},
        )

    def stage(self, export: Export, rows: pa.Table) -> Export:
        """Write the rows, and return the export with their files; `ValueError` if they have not the table's schema."""
        files = list(export.files)
        for day, part in partition_by_day(rows, ORDERS[self.table]):
            name = f"{self.table}/dt={day.isoformat()}/e{export.seq:09d}-{export.writer}-{len(files):05d}.parquet"
            staged = f"{self._staging(export)}/{name}"
            written = write_parquet(self.storage, staged, part, EXPORTED[self.table], _Stamp(export))
            files.append(
                FileRef(
                    table=self.table,
                    name=f"tables/{name}",
                    staged=staged,
                    rows=written.rows,
                    size=written.size,
                    crc32=written.crc32,
                )
            )
        return export.model_copy(update={"files": tuple(files)})

    def commit(self, export: Export) -> None:
        """Make the export part of the lake; `Fenced` if another one was first: this one is then none."""
        if not self.storage.create_once(self._name(export.seq), json.dumps(export.model_dump()).encode()):
            self.storage.clear(self._staging(export))
            raise Fenced("another export was faster; run this again to go on from it")
        self._publish(export)
        for name in self.storage.list(self._directory)[:-_KEPT]:
            self.storage.delete(name)

    def _publish(self, export: Export) -> None:
        for file in export.files:
            if not self.storage.exists(file.name):
                self.storage.rename(str(file.staged), file.name)
        for directory in {file.name.rpartition("/")[0] for file in export.files}:
            self.storage.sync(directory)
        for attempt in {name.split("/")[2] for name in self.storage.list(f"staging/{self.table}")}:
            if int(attempt.split("-")[0]) <= export.seq:
                self.storage.clear(f"staging/{self.table}/{attempt}")

    @property
    def _directory(self) -> str:
        return f"exports/{self.table}"

    def _name(self, seq: int) -> str:
        return f"{self._directory}/{seq:09d}.json"

    def _staging(self, export: Export) -> str:
        return f"staging/{self.table}/{export.seq:09d}-{export.writer}"
