"""A script of micro-batches: confluent-kafka for the bytes, Polars for the JSON, the join and the Parquet files.

Types are what the JSON reader makes of the text: a number in a string passes, and one line that is not JSON fails its
batch. What it has read lives in memory until its window closes.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import polars as pl
from confluent_kafka import Consumer, KafkaError, KafkaException

from benchmarks.peers.arguments import (
    COLUMNS,
    KINDS,
    LATENCY_WINDOW,
    LATENESS,
    OUT_OF_ORDERNESS,
    WINDOW,
    Arguments,
)

AT_A_TIME: Final = 10_000  # messages a call
EVENTS_A_BATCH: Final = 200_000
UNIT: Final = ["flagKey", "unitId"]

_COMMON: Final = {"event": pl.String, "flagKey": pl.String, "unitId": pl.String, "variation": pl.String}
SCHEMAS: Final = {
    "exposures": {
        **_COMMON,
        "timestamp": pl.String,
        "assignmentUnit": pl.String,
        "modelRoute": pl.String,
        "promptVersion": pl.String,
        "retrievalProfile": pl.String,
        "fallbackUsed": pl.Boolean,
    },
    "outcomes": {
        **_COMMON,
        "timestamp": pl.String,
        "resolvedWithoutEscalation": pl.Boolean,
        "humanCorrection": pl.Boolean,
        "latencyMs": pl.Float64,
        "estimatedCost": pl.Float64,
    },
    "guardrails": {
        **_COMMON,
        "timestamp": pl.String,
        "guardrail": pl.String,
        "value": pl.Float64,
        "severity": pl.String,
        "confirmed": pl.Boolean,
    },
}


class Topics:
    """The messages of the three topics, and how far each partition is in event time."""

    def __init__(self, arguments: Arguments) -> None:
        """Subscribe."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": arguments.source,
                "group.id": uuid4().hex,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
            }
        )
        self._kinds = {arguments.prefix + kind: kind for kind in KINDS}
        self._consumer.subscribe(list(self._kinds))
        topics = self._consumer.list_topics().topics
        self._places = sum(len(topics[topic].partitions) for topic in self._kinds)
        self._ended: set[tuple[str, int]] = set()

    @property
    def ended(self) -> bool:
        """Whether all partitions are at their ends."""
        return len(self._ended) == self._places

    def read(self) -> dict[str, list[tuple[int, bytes]]]:
        """Return the next messages by kind, each with its partition; fewer than a batch only at the end."""
        batch: dict[str, list[tuple[int, bytes]]] = {kind: [] for kind in KINDS}
        count = 0
        while count < EVENTS_A_BATCH and not self.ended:
            for message in self._consumer.consume(AT_A_TIME, timeout=1.0):
                if message.error() is None:
                    batch[self._kinds[message.topic()]].append((message.partition(), message.value()))
                    count += 1
                elif message.error().code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- its public name
                    self._ended.add((self._kinds[message.topic()], message.partition()))
                else:
                    raise KafkaException(message.error())
        return batch

    def watermark(self, latest: dict[tuple[str, int], datetime]) -> datetime | None:
        """Return the least time of the partitions that go on, else the greatest of all; None where one was not seen."""
        if len(latest.keys() | self._ended) < self._places or not latest:
            return None
        going_on = [time for place, time in latest.items() if place not in self._ended]
        return (min(going_on) if going_on else max(latest.values())) - timedelta(microseconds=OUT_OF_ORDERNESS)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


def parse(kind: str, messages: list[tuple[int, bytes]]) -> pl.DataFrame:
    """Return the events as columns, with their times and partitions."""
    lines = b"\n".join(value for _, value in messages)
    frame = pl.read_ndjson(lines, schema=SCHEMAS[kind]) if lines else pl.DataFrame(schema=SCHEMAS[kind])
    time = pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC").alias("time")
    partition = pl.Series("partition", [partition for partition, _ in messages], pl.Int32)
    return frame.with_columns(time, partition).drop("timestamp")


def facts(opened: pl.DataFrame, events: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Return the facts of the units in `opened`, of which `events` holds all events, none of them twice."""
    window = pl.col("time").is_between(
        "window_start", pl.col("window_start") + pl.duration(microseconds=WINDOW), "left"
    )
    exposed = (
        events["exposures"]
        .group_by(UNIT)
        .agg(pl.len().alias("exposures"), pl.col("fallbackUsed").sum().alias("fallbacks"))
    )
    outcomes = events["outcomes"].join(opened, on=UNIT, suffix="_exposed").filter(window).sort("time")
    own = pl.col("variation") == pl.col("variation_exposed")
    timely = pl.col("time") < pl.col("window_start") + pl.duration(microseconds=LATENCY_WINDOW)
    measured = outcomes.group_by(UNIT, maintain_order=True).agg(
        pl.len().alias("outcomes"),
        (~own).any().alias("mismatched"),
        pl.col("resolvedWithoutEscalation").filter(own).last().cast(pl.Float64).alias("resolved"),
        pl.col("humanCorrection").filter(own).max().cast(pl.Float64).alias("human_correction"),
        pl.col("latencyMs").filter(own & timely).max().alias("latency"),
        pl.when(own.any()).then(pl.col("estimatedCost").filter(own).sum()).alias("cost"),
    )
    guarded = events["guardrails"].join(opened, on=UNIT).filter(window).group_by(UNIT).agg(pl.len().alias("guardrails"))
    joined = (
        opened.join(exposed, on=UNIT)
        .join(measured, on=UNIT, how="left")
        .join(guarded, on=UNIT, how="left")
        .with_columns(
            pl.col("outcomes", "guardrails").fill_null(0),
            ((pl.col("fallbacks") == 0) & ~pl.col("mismatched").fill_null(value=False)).alias("clean"),
        )
    )
    return joined.rename({"flagKey": "flag_key", "unitId": "unit_id"}).select(COLUMNS)


def close(open_events: dict[str, pl.DataFrame], watermark: datetime) -> pl.DataFrame:
    """Take out of `open_events` the units whose windows have ended, and return their facts."""
    through = watermark - timedelta(microseconds=WINDOW + LATENESS)
    opened = (
        open_events["exposures"]
        .group_by(UNIT)
        .agg(pl.col("variation").sort_by("time").first(), pl.col("time").min().alias("window_start"))
        .filter(pl.col("window_start") <= through)
    )
    due = {kind: frame.join(opened, on=UNIT, how="semi").unique() for kind, frame in open_events.items()}
    for kind, frame in open_events.items():
        open_events[kind] = frame.join(opened, on=UNIT, how="anti")
    return facts(opened, due)


def main() -> None:
    """Read the topics to their ends batch by batch, and write the facts of what has closed."""
    arguments = Arguments.read()
    topics = Topics(arguments)
    open_events = {kind: parse(kind, []).drop("partition") for kind in KINDS}
    latest: dict[tuple[str, int], datetime] = {}
    closed = []
    while not topics.ended:
        for kind, messages in topics.read().items():
            events = parse(kind, messages)
            for partition, time in events.group_by("partition").agg(pl.col("time").max()).iter_rows():
                latest[kind, partition] = max(time, latest.get((kind, partition), time))
            open_events[kind] = pl.concat([open_events[kind], events.drop("partition")])
        watermark = topics.watermark(latest)
        if watermark is not None:
            closed.append(close(open_events, watermark))
    if closed:
        pl.concat(closed).write_parquet(Path(arguments.facts), compression="zstd")
    topics.close()


if __name__ == "__main__":
    main()
