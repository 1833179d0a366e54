"""A lab's lake under audit: its logs as topics, and damage done to its files and manifests."""

from collections.abc import Callable, Iterable
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.preflight import DLQ_SUFFIX
from pipeline.verify.audit import Audited, audit
from pipeline.verify.topics import MemoryTopics, Record
from sinks.lineage import Lineage, open_lake
from sinks.manifest import FileRef, Manifest
from sinks.parquet import Stamp, write_parquet
from sinks.storage import MemoryStorage
from sinks.tables import TABLES
from tests.pipeline.lab import NOON, TOPICS, Lab, exposure, outcome

__all__ = ["audited", "busy_lab", "newest", "replace_manifest", "rewrite", "topics_of", "wrong"]


def busy_lab() -> Lab:
    """Return a lab whose lake has a row of every kind: facts, mismatches, late and open events, refusals, a segment."""
    lab = Lab()
    open_lake(lab.storage, lambda: "lake")
    writer = lab.writer()
    lab.publish("exposures", exposure("u1", 0), exposure("u2", 1, "candidate"), b"{", exposure("u3", 1))
    lab.publish("outcomes", outcome("u1", 2), outcome("u2", 3), outcome("nobody", 3), outcome("u1", 30))
    lab.read_all(writer)
    lab.checkpoint(writer, close=False)
    lab.publish("exposures", exposure("u4", 70))
    lab.publish("outcomes", outcome("u4", 71))
    lab.publish("guardrails", None, b"{}")
    lab.read_all(writer)
    lab.checkpoint(writer, close=True)
    lab.publish("outcomes", outcome("u1", 4))
    lab.read_all(writer)
    lab.checkpoint(writer, close=True)
    return lab


def topics_of(lab: Lab) -> MemoryTopics:
    """Return the lab's logs, and the dead letters that it sent, as the topics of a cluster."""
    logs = {
        topic: {0: [Record(offset, NOON // 1000, False, None, value) for offset, value in enumerate(log)]}  # noqa: FBT003
        for topic, log in lab.logs.items()
    }
    for topic in TOPICS:
        name = topic + DLQ_SUFFIX
        letters = [letter for letter in lab.sent if letter.topic == name]
        logs[name] = {
            0: [
                Record(offset, letter.timestamp, False, letter.key, letter.value, tuple(letter.headers))  # noqa: FBT003
                for offset, letter in enumerate(letters)
            ]
        }
    return MemoryTopics(logs, batch=7)


def audited(lab: Lab) -> Audited:
    """Audit the lab's lake with its topics."""
    return audit(lab.storage, topics_of(lab))


def wrong(found: Audited) -> dict[str, dict[str, int]]:
    """Return how much is wrong, by kind, of each check that found something."""
    return {check.name: check.wrong for check in found.checks if check.wrong}


def newest(storage: MemoryStorage) -> Manifest:
    manifest = Lineage(storage, 0).newest()
    assert manifest is not None
    return manifest


def replace_manifest(storage: MemoryStorage, manifest: Manifest) -> None:
    """Put the manifest in the place of the one with its number, with a checksum that fits."""
    name = Lineage(storage, manifest.partition).name(manifest.seq)
    storage.delete(name)
    storage.create_once(name, manifest.to_bytes())


def rewrite(lab: Lab, table: str, change: Callable[[pa.Table], Iterable[dict[str, object]]]) -> None:
    """Change the rows of the table's first file as a faulty pipeline would have: file and manifest agree."""
    manifest = newest(lab.storage)
    file = next(file for file in manifest.files if file.table == table)
    rows = pq.read_table(BytesIO(lab.storage.read(file.name)))
    lab.storage.delete(file.name)
    seq, writer = file.name.removesuffix(".parquet").rsplit("-", 2)[1:]
    stamp = Stamp(manifest.lake_id, 0, int(seq), writer, manifest.pipeline_version, {})
    schema = TABLES[table]
    written = write_parquet(lab.storage, file.name, pa.Table.from_pylist([*change(rows)], schema=schema), schema, stamp)
    changed = file.model_copy(update={"rows": written.rows, "size": written.size, "crc32": written.crc32})
    replace_manifest(lab.storage, with_file(manifest, file, changed))


def with_file(manifest: Manifest, file: FileRef, changed: FileRef) -> Manifest:
    files = tuple(changed if each == file else each for each in manifest.files)
    return manifest.model_copy(update={"files": files})
