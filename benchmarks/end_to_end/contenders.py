"""Who takes part: how each is started, and where its facts are."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.peers.arguments import COLUMNS

__all__ = ["CONTENDERS", "Contender", "Work"]


@dataclass(frozen=True, slots=True)
class Work:
    """One run of one contender: what it reads, and a directory of its own.

    `prefix` begins the names of topics and files: that of the events, or that of empty ones.
    """

    directory: Path
    bootstrap: str
    flags: Path
    files: Path
    prefix: str
    more: Mapping[str, str] = field(default_factory=dict)
    """Further settings of the worker."""

    def readings(self, number: int = 0) -> Path:
        """Return the file of the worker's instruments, of the first or a further worker."""
        return self.directory / f"readings-{number}"

    def settings(self) -> dict[str, str]:
        """Return the worker's environment: a lake and a group of its own, and whatever else was set."""
        return {
            "EVIDENCE_BOOTSTRAP_SERVERS": self.bootstrap,
            "EVIDENCE_FLAGS": str(self.flags),
            "EVIDENCE_LAKE": str(self.directory / "lake"),
            "EVIDENCE_GROUP": self.directory.name,
            "EVIDENCE_WEB_PORT": "0",
            "EVIDENCE_EXPOSURES_TOPIC": f"{self.prefix}exposures",
            "EVIDENCE_OUTCOMES_TOPIC": f"{self.prefix}outcomes",
            "EVIDENCE_GUARDRAILS_TOPIC": f"{self.prefix}guardrails",
            **self.more,
        }


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that turns the events into facts."""

    label: str
    command: Callable[[Work], list[str]]
    facts: Callable[[Work], str]
    """The SQL of its facts: a query with the columns `COLUMNS`."""


def _peer(label: str, name: str, source: Callable[[Work], str]) -> Contender:
    def command(work: Work) -> list[str]:
        facts = str(work.directory / "facts.parquet")
        return [sys.executable, "-m", f"benchmarks.peers.{name}", source(work), work.prefix, facts]

    return Contender(
        label,
        command,
        lambda work: f"SELECT {', '.join(COLUMNS)} FROM '{work.directory}/facts.parquet'",  # noqa: S608 -- our names
    )


def _worker_facts(work: Work) -> str:
    metrics = {"resolved", "human_correction", "latency", "cost"}
    columns = ", ".join(f"metrics['{name}'] AS {name}" if name in metrics else name for name in COLUMNS)
    return f"SELECT {columns} FROM '{work.directory}/lake/tables/facts/**/*.parquet'"  # noqa: S608 -- our names


CONTENDERS: Final[Mapping[str, Contender]] = {
    "worker": Contender(
        "evidence worker",
        lambda work: [sys.executable, "-m", "benchmarks.watched", str(work.readings()), "--stop-at-end"],
        _worker_facts,
    ),
    "plain": _peer("plain consumer, pydantic", "plain_consumer", lambda work: work.bootstrap),
    "polars": _peer("Polars micro-batches", "polars_batches", lambda work: work.bootstrap),
    "duckdb": _peer("DuckDB over files", "duckdb_files", lambda work: str(work.files)),
}
