"""The facts of a shape once more: DuckDB in batch, over files that hold all events, sharing nothing with the worker.

python -m benchmarks.shapes.batch FLAGS FILES PREFIX FACTS.parquet

For streams in which a unit has one variation a flag: all windows that have closed by `CLOSED_THROUGH`.
"""

import sys
from pathlib import Path
from typing import Any, Final

import duckdb
import yaml

from benchmarks.shapes.streams import CLOSED_THROUGH, LATENESS
from contracts.durations import parse_duration

__all__ = ["COLUMNS", "differences"]

COLUMNS: Final = (
    *("flag_key", "unit_id", "variation", "window_start", "window_end"),
    *("exposures", "fallbacks", "outcomes", "guardrails", "metrics", "flags", "clean"),
)

AGGREGATES: Final = {
    "last": "arg_max({value}, row(t, json)) FILTER ({value} IS NOT NULL)",
    "first": "arg_min({value}, row(t, json)) FILTER ({value} IS NOT NULL)",
    "any": "max({value})",
    "all": "min({value})",
    "max": "max({value})",
    "min": "min({value})",
    "sum": "sum({value})",
    "mean": "avg({value})",
    "count": "nullif(count({value}), 0)",
}

_READ: Final = """
CREATE TEMP TABLE {kind} AS
SELECT
    json ->> 'flagKey' AS flag_key, json ->> 'unitId' AS unit_id, json ->> 'variation' AS variation,
    epoch_us((json ->> 'timestamp')::TIMESTAMPTZ) AS t,
    json ->> 'fallbackUsed' = 'true' AS fallback,
    json::VARCHAR AS json
FROM (SELECT DISTINCT json::VARCHAR::JSON AS json FROM read_ndjson_objects('{path}', maximum_object_size = 1048576))
"""

# one round: the first exposure of each unit and flag that no window holds yet opens one
_ROUND: Final = """
INSERT INTO metric_window
SELECT flag_key, unit_id, arg_min(exposure.variation, t), min(t), min(t) + window_us
FROM exposure JOIN flag USING (flag_key)
LEFT JOIN (SELECT flag_key, unit_id, max(ends) AS last_end FROM metric_window GROUP BY ALL) USING (flag_key, unit_id)
WHERE t >= coalesce(last_end, 0)
GROUP BY flag_key, unit_id, window_us
"""

_FACTS: Final = """
CREATE TEMP TABLE closing AS
SELECT * FROM metric_window WHERE ends + {lateness} <= {closed_through};

CREATE TEMP VIEW exposed AS
SELECT closing.flag_key, closing.unit_id, starts, count(*) AS exposures, count(*) FILTER (fallback) AS fallbacks
FROM closing JOIN exposure ON closing.flag_key = exposure.flag_key AND closing.unit_id = exposure.unit_id
    AND t >= starts AND t < ends
GROUP BY ALL;

CREATE TEMP VIEW measured AS
SELECT
    closing.flag_key, closing.unit_id, starts, count(*) AS outcomes,
    bool_or(closing.variation <> outcome.variation) AS mismatched,
    {metrics}
FROM closing JOIN outcome ON closing.flag_key = outcome.flag_key AND closing.unit_id = outcome.unit_id
    AND t >= starts AND t < ends
GROUP BY closing.flag_key, closing.unit_id, starts;

CREATE TEMP VIEW guarded AS
SELECT closing.flag_key, closing.unit_id, starts, count(*) AS guardrails
FROM closing JOIN guardrail ON closing.flag_key = guardrail.flag_key AND closing.unit_id = guardrail.unit_id
    AND t >= starts AND t < ends
GROUP BY ALL;

COPY (
    SELECT
        flag_key, unit_id, variation, make_timestamptz(starts) AS window_start, make_timestamptz(ends) AS window_end,
        exposures, fallbacks, coalesce(outcomes, 0) AS outcomes, coalesce(guardrails, 0) AS guardrails,
        list_filter([{entries}], lambda entry: entry.value IS NOT NULL) AS metrics,
        list_filter([
            CASE WHEN fallbacks > 0 THEN 'fallback_contaminated' END,
            CASE WHEN mismatched THEN 'variation_mismatch' END
        ], lambda name: name IS NOT NULL) AS flags,
        len(flags) = 0 AS clean
    FROM closing JOIN exposed USING (flag_key, unit_id, starts)
    LEFT JOIN measured USING (flag_key, unit_id, starts) LEFT JOIN guarded USING (flag_key, unit_id, starts)
) TO '{facts}' (FORMAT parquet, COMPRESSION zstd)
"""


def differences(lake: Path, facts: Path) -> tuple[int, list[tuple[Any, ...]]]:
    """Return how many facts the lake has of the windows that had to close, and some that only one side has."""
    bound = f"epoch_ms({CLOSED_THROUGH - LATENESS})::TIMESTAMPTZ"
    columns = ", ".join("map_entries(metrics) AS metrics" if name == "metrics" else name for name in COLUMNS)
    with duckdb.connect() as connection:
        connection.execute(
            f"""
            SET TimeZone = 'UTC';
            CREATE TEMP TABLE ours AS
            SELECT {columns} FROM '{lake}/tables/facts/**/*.parquet' WHERE window_end <= {bound};
            CREATE TEMP TABLE theirs AS SELECT {", ".join(COLUMNS)} FROM '{facts}';
            """  # noqa: S608 -- our names
        )
        rows = connection.execute("SELECT count(*) FROM ours").fetchall()[0][0]
        found = connection.execute(
            """
            SELECT 'only the worker', * FROM (FROM ours EXCEPT ALL FROM theirs)
            UNION ALL
            SELECT 'only the batch', * FROM (FROM theirs EXCEPT ALL FROM ours)
            ORDER BY flag_key, unit_id, window_start LIMIT 6
            """
        ).fetchall()
    return rows, found


def main() -> None:
    """Write the facts."""
    flags, files, prefix, facts = sys.argv[1:]
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(Path(flags).glob("*.yaml"))]
    metrics = {document["flag"]["key"]: document["experiment"]["metrics"] for document in documents}
    windows = {key: max(parse_duration(metric["window"]) for metric in each.values()) for key, each in metrics.items()}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for kind in ("exposure", "outcome", "guardrail"):
            connection.execute(_READ.format(kind=kind, path=Path(files) / f"{prefix}{kind}s.ndjson"))
        connection.execute("CREATE TEMP TABLE flag (flag_key VARCHAR, window_us BIGINT)")
        connection.executemany("INSERT INTO flag VALUES (?, ?)", list(windows.items()))
        connection.execute(
            "CREATE TEMP TABLE metric_window "
            "(flag_key VARCHAR, unit_id VARCHAR, variation VARCHAR, starts BIGINT, ends BIGINT)"
        )
        while connection.execute(_ROUND).fetchall()[0][0]:
            pass
        names = sorted(next(iter(metrics.values())))
        script = _FACTS.format(
            lateness=LATENESS * 1_000,
            closed_through=CLOSED_THROUGH * 1_000,
            metrics=",\n    ".join(f"{_aggregate(name, metrics)} AS {name}" for name in names),
            entries=", ".join(f"{{key: '{name}', value: {name}::DOUBLE}}" for name in names),
            facts=facts,
        )
        connection.execute(script)


def _aggregate(name: str, metrics: dict[str, dict[str, dict[str, str]]]) -> str:
    """Return what a metric is made of; it is alike in all flags but for its window."""
    one = next(iter(metrics.values()))[name]
    until = " ".join(f"WHEN '{key}' THEN {parse_duration(each[name]['window'])}" for key, each in metrics.items())
    field = f"json ->> '{one['field']}'"
    value = (
        f"CASE WHEN closing.variation = outcome.variation AND t - starts < CASE closing.flag_key {until} END "
        f"THEN CASE {field} WHEN 'true' THEN 1 WHEN 'false' THEN 0 ELSE ({field})::DOUBLE END END"
    )
    return AGGREGATES[one["aggregate"]].format(value=f"({value})")


if __name__ == "__main__":
    main()
