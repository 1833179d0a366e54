"""What is looked at again and again during the soak, and whether it stays flat."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.end_to_end.contenders import Work
from benchmarks.processes import cpu_seconds, resident_bytes
from benchmarks.watched import readings
from sinks.archives import CLOSES_LISTED, FILES_LISTED
from sinks.lineage import Lineage, lineages
from sinks.manifest import Manifest
from sinks.storage import LocalStorage

__all__ = ["MEASURES", "Measure", "Sample", "Verdict", "judge", "manifests", "sample"]

Sample = dict[str, float]

CLOSING_SINCE: Final = 36.0  # hours of event time: the windows of the first hours have closed, and their segments gone
AGEING_SINCE: Final = 76.0  # 3 W + 2 L, and some: the first residue has gone
LEEWAY: Final = 1.2
LISTED_BYTES: Final = 4 * (200 * FILES_LISTED + 150 * CLOSES_LISTED)  # what manifests grow by until archives take over


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that must stay flat, from so many hours of event time on.

    Flat is: the median of the second half is at most 1.2 times that of the first one, or `slack` above it.
    """

    name: str
    label: str
    unit: str
    scale: float
    slack: float
    since: float = CLOSING_SINCE


MEASURES: Final = (
    Measure("worker_0_bytes", "memory of worker 1", "MB", 1e-6, 50e6),
    Measure("worker_1_bytes", "memory of worker 2", "MB", 1e-6, 50e6),
    Measure("segments", "segments", "", 1, 20),
    Measure("segment_bytes", "segments", "MB", 1e-6, 1e6),
    Measure("residue_files", "residue files", "", 1, 8, AGEING_SINCE),
    Measure("residue_bytes", "residue", "MB", 1e-6, 1e6, AGEING_SINCE),
    Measure("manifest_bytes", "newest manifests", "KB", 1e-3, LISTED_BYTES),
    Measure("close_s", "a close", "s", 1, 0.1),
    Measure("checkpoint_s", "a checkpoint", "s", 1, 0.1),
    Measure("lag_s", "lag, in seconds of publishing", "s", 1, 5),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The medians of both halves; None where too few samples were taken to tell."""

    measure: Measure
    first: float | None
    second: float | None

    @property
    def flat(self) -> bool | None:
        """Whether it is flat; None where that cannot be told."""
        if self.first is None or self.second is None:
            return None
        return self.second <= max(self.first * LEEWAY, self.first + self.measure.slack)


def judge(samples: Sequence[Sample], measure: Measure) -> Verdict:
    """Compare the halves of what was sampled since the measure must be flat; samples without it do not count."""
    known = [each for each in samples if each["hour"] >= measure.since and measure.name in each]
    if len(known) < 4:
        return Verdict(measure, None, None)
    middle = (known[0]["hour"] + known[-1]["hour"]) / 2
    halves = ([each[measure.name] for each in known if (each["hour"] < middle) is early] for early in (True, False))
    first, second = halves
    return Verdict(measure, median(first), median(second)) if first and second else Verdict(measure, None, None)


def manifests(lake: Path) -> list[Manifest]:
    """Return the newest manifest of each partition."""
    return [manifest for each in lineages(LocalStorage(lake)) if (manifest := each.newest()) is not None]


def sample(work: Work, workers: Sequence[int], since: float) -> Sample:
    """Look at everything once; checkpoints are those since `since`, in seconds since the epoch."""
    lake = work.directory / "lake"
    newest = manifests(lake)
    segments = [each for manifest in newest for each in manifest.segments]
    residue = [each for manifest in newest for each in manifest.residue]
    made: Sample = {
        "passed": sum(topic.next_offset for manifest in newest for topic in manifest.topics.values()),
        "segments": len(segments),
        "segment_bytes": sum(each.size for each in segments),
        "open_events": sum(each.rows for each in segments),
        "residue_files": len(residue),
        "residue_bytes": sum(each.size for each in residue),
        "facts": sum(manifest.totals.get("facts", 0) for manifest in newest),
    }
    for name in ("segments", "tables", "manifests"):
        sizes = [_size(path) for path in _files(lake / name)]
        made |= {f"{name}_on_disk": len(sizes), f"{name}_on_disk_bytes": sum(sizes)}
    storage = LocalStorage(lake)
    made["manifest_bytes"] = sum(
        _size(lake / Lineage(storage, manifest.partition).name(manifest.seq)) for manifest in newest
    )
    for number, pid in enumerate(workers):
        made |= {f"worker_{number}_bytes": resident_bytes(pid), f"worker_{number}_cpu_s": cpu_seconds(pid)}
    done = [
        each
        for number in range(len(workers))
        for each in readings(work.readings(number), "checkpoint")
        if each["at"] > since
    ]
    for name, closed in (("close_s", True), ("checkpoint_s", False)):
        took = [each["seconds"] for each in done if each["closed"] is closed]
        made |= {name: median(took)} if took else {}
    return made


def _files(directory: Path) -> list[Path]:
    """Return the files below the directory that are still there when it is looked at."""
    return [path for path in directory.rglob("*") if path.is_file()] if directory.exists() else []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a newer one has taken its place
        return 0
