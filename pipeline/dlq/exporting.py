"""Dead letters as rows of the table `dead_letters`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from contracts.errors import TopicsUnfit
from contracts.times import LATEST
from pipeline.dlq.letters import Letter, named, read_letter
from pipeline.dlq.reading import Bounds, Reader
from sinks.exports import Export, Exporter, Source
from sinks.tables import DEAD_LETTERS

__all__ = ["Exported", "export_letters", "rows_of"]

_ROWS: Final = 50_000  # of a file, at most
_BYTES: Final = 256 << 20  # of values held before they are written


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export brought."""

    letters: int
    files: int


def export_letters(  # noqa: PLR0913 - from where, to where, and when
    reader: Reader,
    exporter: Exporter,
    topics: Sequence[str],
    *,
    lake_id: str,
    now: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Exported:
    """Bring the letters of the topics that no earlier export brought into the lake; none twice, whenever it is killed.

    A topic that was made again is read from its beginning. Raises TopicsUnfit if a topic is missing, KafkaUnavailable,
    StorageUnavailable, and Fenced if another export was faster.
    """
    export = exporter.begin(lake_id, now)
    spans, ids = _news(reader, topics, export)
    total, done = sum(end - first for first, end in spans.values()), 0
    letters: list[Letter] = []
    size = 0
    read = {at: span.first for at, span in spans.items()}
    for records in reader.read(spans):
        read |= {(topic, partition): offset + 1 for (topic, partition, offset), _ in records}
        letters += [read_letter(*each) for each in records]
        size += sum(len(record.value or b"") for _, record in records)
        done += len(records)
        progress(done, total)
        if len(letters) >= _ROWS or size >= _BYTES:
            export = exporter.stage(export, rows_of(letters))
            letters, size = [], 0
    export = exporter.stage(export, rows_of(letters))
    if done:
        sources = {name: Source(topic_id=of, next_offsets=_of(name, read)) for name, of in ids.items()}
        exporter.commit(export.model_copy(update={"sources": export.sources | sources}))
    return Exported(done, len(export.files))


def rows_of(letters: Sequence[Letter]) -> pa.Table:
    """Return the letters as rows of `DEAD_LETTERS`."""
    return pa.Table.from_pylist([_row(letter) for letter in letters], schema=DEAD_LETTERS)


def _news(
    reader: Reader, topics: Sequence[str], export: Export
) -> tuple[dict[tuple[str, int], Bounds], dict[str, str]]:
    """Return what no earlier export has read, and the ID of each topic."""
    spans, ids = {}, {}
    for topic in topics:
        topic_id = reader.topic_id(topic)
        if topic_id is None:
            raise TopicsUnfit(f"the topic {topic} does not exist; run: evidence topics create, or name another")
        before = export.sources.get(topic)
        read = before.next_offsets if before is not None and before.topic_id == topic_id else {}
        for partition, (first, end) in reader.bounds(topic).items():
            spans[topic, partition] = Bounds(min(max(first, read.get(partition, 0)), end), end)
        ids[topic] = topic_id
    return spans, ids


def _of(topic: str, offsets: Mapping[tuple[str, int], int]) -> dict[int, int]:
    return {partition: offset for (name, partition), offset in offsets.items() if name == topic}


def _row(letter: Letter) -> dict[str, Any]:
    about = named(letter.value, letter.headers)
    topic, partition, offset = letter.origin or (letter.topic, None, None)
    return {
        "reason": letter.reason,
        "family": letter.family,
        "stage": letter.stage,
        "message": letter.message,
        "details": letter.details,
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "flag_key": about.flag,
        "unit_id": about.unit,
        "variation": about.variation,
        "record_time": None if letter.timestamp is None else min(letter.timestamp, LATEST),
        "failed_at": min(letter.failed_at, LATEST),
        "consumer_group": letter.group,
        "pipeline_version": letter.version,
        "replay_count": letter.replays,
        "truncated": letter.cut,
        "dlq_topic": letter.place.topic,
        "dlq_partition": letter.place.partition,
        "dlq_offset": letter.place.offset,
        "key": letter.key,
        "value": letter.value,
        "headers": [{"key": name, "value": value} for name, value in letter.headers],
    }
