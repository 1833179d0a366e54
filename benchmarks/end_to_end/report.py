"""What the runs took, as a table for people and as JSON with every number."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.end_to_end.contenders import CONTENDERS
from benchmarks.end_to_end.runs import Taken

__all__ = ["Rounds", "table", "write"]

PACKAGES: Final = (
    "aiokafka",
    "confluent-kafka",
    "duckdb",
    "faust-streaming",
    "msgspec",
    "polars",
    "pyarrow",
    "pydantic",
)


@dataclass(frozen=True, slots=True)
class Rounds:
    """All runs of one contender: over the events, and over nothing."""

    full: Sequence[Taken]
    empty: Sequence[Taken]


def table(rounds: Mapping[str, Rounds], events: int) -> str:
    """Return medians as a Markdown table; `events` is how many each run had to read."""
    lines = [
        "| | events/s | CPU µs/event | without start-up | start-up, CPU s | peak MB | loop blocked, ms: most | p99.9 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, each in rounds.items():
        wall, cpu = median(run.wall for run in each.full), median(run.cpu for run in each.full)
        start = median(run.cpu for run in each.empty)
        lines.append(
            f"| {CONTENDERS[name].label} | {events / wall:,.0f} | {cpu / events * 1e6:.2f} "
            f"| {(cpu - start) / events * 1e6:.2f} | {start:.1f} | {max(run.peak for run in each.full) / 1e6:,.0f} "
            f"| {_most(each.full, 0)} | {_most(each.full, 1)} |"
        )
    return "\n".join(lines)


def _most(runs: Sequence[Taken], which: int) -> str:
    """Return the greatest of what the loops of all runs were blocked for, in ms; nothing where none was measured."""
    blocked = [run.blocked[which] for run in runs if run.blocked is not None]
    return f"{max(blocked) * 1000:.0f}" if blocked else ""


def write(directory: Path, rounds: Mapping[str, Rounds], about: Mapping[str, Any]) -> Path:
    """Write all numbers, with machine and versions, to a new file in the directory; return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    told = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        **about,
        "runs": {name: asdict(each) for name, each in rounds.items()},
    }
    path = directory / f"end-to-end-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return path


def machine() -> str:
    """Return the processor's name and how many cores there are."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
