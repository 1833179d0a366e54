"""DuckDB in batch: one SQL script over files that hold all events. Nothing moves, so nothing has to be kept."""

from pathlib import Path
from typing import Final

import duckdb

from benchmarks.peers.arguments import KINDS, Arguments

SCRIPT: Final = Path(__file__).with_suffix(".sql")


def main() -> None:
    """Write the facts of what has closed."""
    arguments = Arguments.read()
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for kind in KINDS:
            path = Path(arguments.source) / f"{arguments.prefix}{kind}.ndjson"
            connection.execute(f"SET VARIABLE {kind} = '{path}'")
        connection.execute(SCRIPT.read_text(encoding="utf-8"))
        connection.execute(f"COPY facts TO '{arguments.facts}' (FORMAT parquet, COMPRESSION zstd)")


if __name__ == "__main__":
    main()
