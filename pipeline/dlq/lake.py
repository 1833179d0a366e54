"""What a lake says of letters: the fate of each origin, and the past of each unit."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from contracts.flags import Contract, load_contract
from pipeline.dlq.decisions import Fate
from pipeline.dlq.lateness import Past, Window, windows_of
from pipeline.dlq.places import Place
from sinks.lineage import lineages, read_lake
from sinks.manifest import Manifest
from sinks.parquet import read_parquet
from sinks.storage import LocalStorage
from sinks.views import connect

__all__ = ["LakeState"]

_FATES: Final = """
SELECT topic, "partition", "offset", 'joined', '' FROM events SEMI JOIN wanted USING (topic, "partition", "offset")
UNION ALL
SELECT topic, "partition", "offset", 'unjoined', reason
FROM unjoined SEMI JOIN wanted USING (topic, "partition", "offset")
UNION ALL
SELECT topic, "partition", "offset", 'refused', reason
FROM refused SEMI JOIN wanted USING (topic, "partition", "offset")
"""

_WANTED: Final = pa.schema([("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64())])


@dataclass(slots=True)
class LakeState:
    """A lake at one moment, its newest manifests.

    Its making raises LakeError if there is no lake, or it is damaged; StorageUnavailable if it cannot be read.
    """

    root: Path
    contracts: Iterable[Contract]
    """Those in force."""
    allowed_lateness: int
    """µs."""
    storage: LocalStorage = field(init=False)
    lake_id: str = field(init=False)
    manifests: Mapping[int, Manifest] = field(init=False)

    def __post_init__(self) -> None:
        """Read the manifests."""
        self.storage = LocalStorage(self.root)
        self.lake_id = read_lake(self.storage)
        newest = (lineage.readable() for lineage in lineages(self.storage))
        self.manifests = {manifest.partition: manifest for manifest in newest if manifest is not None}

    @property
    def topics(self) -> frozenset[str]:
        """The topics whose records it reads."""
        return frozenset(topic.name for manifest in self.manifests.values() for topic in manifest.topics.values())

    def partitions(self, topic: str) -> int:
        """Return how many partitions one of these topics has."""
        states = (state for manifest in self.manifests.values() for state in manifest.topics.values())
        return next(state.partitions for state in states if state.name == topic)

    def fates(self, origins: Iterable[Place]) -> dict[Place, tuple[Fate, str]]:
        """Return what became of each record; one that is read and has no fate in a table is `open`."""
        wanted = list(dict.fromkeys(origins))
        found: dict[Place, tuple[Fate, str]] = {place: (self._reach(place), "") for place in wanted}
        asked = [place for place, (fate, _) in found.items() if fate == "open"]
        if asked:
            columns = list(zip(*asked, strict=True))
            rows = pa.table(
                [pa.array(column, kind.type) for column, kind in zip(columns, _WANTED, strict=True)], _WANTED
            )
            with closing(connect(self.root)) as connection:
                connection.register("wanted", rows)
                for topic, partition, offset, fate, reason in connection.execute(_FATES).fetchall():
                    found[Place(topic, partition, offset)] = (fate, reason)
        return found

    def pasts(self, units: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], Past]:
        """Return what is decided of each flag and unit; `units` tells the partition of each."""
        windows = {contract.flag_key: contract.window_us for contract in self.contracts}
        closed = self._closed(units)
        opened = self._open(units) if units else {}
        pasts = {}
        for (flag, unit), partition in units.items():
            manifest = self.manifests.get(partition)
            horizon = manifest.horizons.get(flag) if manifest else None
            longest = max(windows.get(flag, 0), horizon.longest_window if horizon else 0)
            reached = [horizon.decided_through] if horizon else []
            if manifest is not None and manifest.closed_through is not None:
                reached.append(manifest.closed_through - longest - self.allowed_lateness)
            late_through = max((time for time in reached if time is not None), default=None)
            pasts[flag, unit] = Past(late_through, longest, closed.get((flag, unit), ()), opened.get((flag, unit), ()))
        return pasts

    def _reach(self, place: Place) -> Fate:
        manifest = self.manifests.get(place.partition)
        states = manifest.topics.values() if manifest else ()
        state = next((state for state in states if state.name == place.topic), None)
        if state is None or place.offset < state.first_offset:
            return "unseen"
        return "open" if place.offset < state.next_offset else "ahead"

    def _closed(self, units: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], list[Window]]:
        """Return the closed windows of units that can still make an event late."""
        found: dict[tuple[str, str], list[Window]] = {}
        names = pa.array(sorted({unit for _, unit in units}), pa.string())
        for partition in set(units.values()) & self.manifests.keys():
            for file in self.manifests[partition].residue:
                rows = read_parquet(self.storage, file)
                rows = rows.filter(pc.is_in(rows["unit_id"], value_set=names))
                for flag, unit, variation, start, end in _rows(
                    rows, "flag_key", "unit_id", "variation", "window_start", "window_end"
                ):
                    found.setdefault((flag, unit), []).append(Window(start, end, variation))
        return found

    def _open(self, units: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], list[Window]]:
        """Return the open windows of units, as their open exposures make them."""
        lengths = {}
        for file in self.storage.list("contracts"):
            contract = load_contract(self.storage.read(file).decode(), file)
            lengths[contract.version] = contract.window_us
        wanted = pa.table({"unit_id": pa.array(sorted({unit for _, unit in units}), pa.string())})
        sql = "SELECT flag_key, unit_id, epoch_us(event_time), contract_version, variation FROM exposures_open"
        found: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
        with closing(connect(self.root)) as connection:
            connection.register("wanted", wanted)
            for flag, unit, time, version, variation in connection.execute(
                f"{sql} SEMI JOIN wanted USING (unit_id)"
            ).fetchall():
                found.setdefault((flag, unit), []).append((time, lengths[version], variation))
        return {key: windows_of(exposures) for key, exposures in found.items()}


def _rows(table: pa.Table, *columns: str) -> Iterable[tuple[Any, ...]]:
    """Return the rows as tuples, times in µs."""
    values = (
        table[name].cast(pa.int64()) if pa.types.is_timestamp(table[name].type) else table[name] for name in columns
    )
    return zip(*(column.to_pylist() for column in values), strict=True)
