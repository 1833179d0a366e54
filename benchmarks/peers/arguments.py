"""What each peer is told on its command line, and what it has to write.

python -m benchmarks.peers.NAME SOURCE PREFIX FACTS.parquet

SOURCE is the bootstrap address of the brokers, or the directory of the NDJSON files; PREFIX begins the names of the
topics, or of the files. The facts are those of windows that have closed, with the columns COLUMNS.
"""

import sys
from dataclasses import dataclass
from typing import Final

__all__ = ["COLUMNS", "HOUR", "KINDS", "LATENCY_WINDOW", "LATENESS", "OUT_OF_ORDERNESS", "WINDOW", "Arguments"]

COLUMNS: Final = (
    *("flag_key", "unit_id", "variation", "window_start"),
    *("exposures", "fallbacks", "outcomes", "guardrails"),
    *("resolved", "human_correction", "latency", "cost", "clean"),
)
KINDS: Final = ("exposures", "outcomes", "guardrails")

HOUR: Final = 3_600_000_000  # µs
WINDOW: Final = 24 * HOUR
LATENCY_WINDOW: Final = HOUR
LATENESS: Final = HOUR
OUT_OF_ORDERNESS: Final = HOUR // 60


@dataclass(frozen=True, slots=True)
class Arguments:
    """Where to read from and what to write."""

    source: str
    prefix: str
    facts: str

    @classmethod
    def read(cls) -> "Arguments":
        """Take them from the command line."""
        return cls(*sys.argv[1:4])
