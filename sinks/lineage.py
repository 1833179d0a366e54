"""The lineage of a partition: its manifests, one number after the other, and the identity of the lake.

Whoever creates the next number owns the partition. There is no lock and no lease: a writer that was overtaken finds its
number taken, or a higher one behind it, and is fenced.
"""

import json
import re
from collections.abc import Callable
from typing import Final

from contracts.errors import DamagedFile, Fenced, LakeError
from sinks.manifest import SCHEMA_VERSION, WAY_OUT, Manifest
from sinks.parquet import require
from sinks.storage import Storage

__all__ = ["LAKE_FILE", "Lineage", "lineages", "open_lake", "read_lake"]

LAKE_FILE: Final = "lake.json"

_MANIFEST: Final = re.compile(r"manifests/p(\d{5,})/(\d{12})\.json")


class Lineage:
    """The manifests of one partition.

    Any number of writers and readers may work on one lineage at once; it is read anew at each call.
    """

    def __init__(self, storage: Storage, partition: int) -> None:
        """Keep where the manifests lie; touch nothing."""
        self._storage = storage
        self.partition = partition
        self.directory = f"manifests/p{partition:05d}"

    def name(self, seq: int) -> str:
        """Return the file name of a manifest."""
        return f"{self.directory}/{seq:012d}.json"

    def seqs(self) -> list[int]:
        """Return the numbers of the manifests that are kept, lowest first."""
        matches = map(_MANIFEST.fullmatch, self._storage.list(self.directory))
        return [int(match[2]) for match in matches if match]

    def newest(self) -> Manifest | None:
        """Return the manifest with the highest number, or none if the partition was never committed.

        A manifest that is gone when it is read was pruned, so there is a higher one; anything else is `DamagedFile`.
        """
        missed = None
        while seqs := self.seqs():
            seq = seqs[-1]
            try:
                return self.at(seq)
            except FileNotFoundError as error:
                if seq == missed:
                    raise DamagedFile(f"{self.name(seq)} is listed but cannot be opened; check its disk") from error
                missed = seq
        return None

    def readable(self) -> Manifest | None:
        """Return the newest manifest like `newest`, its segments and residue all there and of their size.

        A checkpoint may let go of them between the reading of a manifest and a look at its files; then there is a newer
        manifest. If there is none, `DamagedFile`.
        """
        missed = None
        while manifest := self.newest():
            try:
                for file in (*manifest.segments, *manifest.residue):
                    require(self._storage, file)
            except FileNotFoundError as error:
                if manifest.seq == missed:
                    raise DamagedFile(
                        f"{file.name} is missing, {self.name(manifest.seq)} names it; {WAY_OUT}"
                    ) from error
                missed = manifest.seq
            else:
                return manifest
        return None

    def at(self, seq: int) -> Manifest:
        """Return the manifest with this number.

        `FileNotFoundError` if there is none, `DamagedFile` if its content is not what was written under that name.
        """
        name = self.name(seq)
        manifest = Manifest.from_bytes(self._storage.read(name), name)
        if (manifest.partition, manifest.seq) != (self.partition, seq):
            raise DamagedFile(
                f"{name} holds manifest {manifest.seq} of partition {manifest.partition}; restore it from a backup"
            )
        return manifest

    def commit(self, manifest: Manifest) -> None:
        """Make the manifest the newest, durably; `Fenced` if another writer was first.

        After `Fenced`, what was staged for the manifest is not part of the lake. After `StorageUnavailable` it is
        unknown whether it is: only `newest` tells.
        """
        name = self.name(manifest.seq)
        if not self._storage.create_once(name, manifest.to_bytes()):
            raise self._fenced(manifest.seq, manifest.seq)
        newest = self.seqs()[-1]
        if newest > manifest.seq:  # the number was free because the chain has long pruned it
            self._storage.delete(name)
            raise self._fenced(manifest.seq, newest)

    def delete(self, seq: int) -> None:
        """Delete a manifest; an absent one is fine. The caller spares the newest two."""
        self._storage.delete(self.name(seq))

    def _fenced(self, seq: int, newest: int) -> Fenced:
        return Fenced(
            f"partition {self.partition}: checkpoint {seq} comes too late, another writer has committed {newest}; "
            "recover from the newest manifest"
        )


def lineages(storage: Storage) -> list[Lineage]:
    """Return the lineage of every partition that has a manifest, by partition."""
    matches = map(_MANIFEST.fullmatch, storage.list("manifests"))
    return [Lineage(storage, partition) for partition in sorted({int(match[1]) for match in matches if match})]


def open_lake(storage: Storage, new_id: Callable[[], str]) -> str:
    """Return the lake's ID, first making the lake with `new_id()` if there is none.

    Of workers that make it at once, all return the same ID. `DamagedFile` if the file of the ID is unreadable.
    """
    if not storage.exists(LAKE_FILE):
        body = {"lake_id": new_id(), "schema_version": SCHEMA_VERSION}
        storage.create_once(LAKE_FILE, (json.dumps(body) + "\n").encode())
    return read_lake(storage)


def read_lake(storage: Storage) -> str:
    """Return the lake's ID; `LakeError` if there is no lake or a later version made it, `DamagedFile` as above."""
    try:
        data = storage.read(LAKE_FILE)
    except FileNotFoundError as error:
        raise LakeError(
            f"no lake here: {error.filename or LAKE_FILE} is missing; set EVIDENCE_LAKE, or start a worker to make one"
        ) from error
    try:
        body = json.loads(data)
        lake_id, version = str(body["lake_id"]), int(body["schema_version"])
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedFile(
            f"{LAKE_FILE} is damaged; any manifest's lake_id tells the lake's ID, write it back"
        ) from error
    if version > SCHEMA_VERSION:
        raise LakeError(
            f"the lake has schema version {version}, this software reads up to {SCHEMA_VERSION}; upgrade it"
        )
    return lake_id
