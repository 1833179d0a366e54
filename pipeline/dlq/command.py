"""What the commands of `evidence dlq` do, with the topics and the lake of the settings."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from contracts.decode import Decoder
from contracts.errors import EvidenceError, SettingsError, TopicsUnfit
from pipeline.dlq.decisions import Policy
from pipeline.dlq.exporting import Exported, export_letters
from pipeline.dlq.filters import Filter
from pipeline.dlq.kafka import KafkaReader
from pipeline.dlq.lake import LakeState
from pipeline.dlq.ledger import Ledger
from pipeline.dlq.letters import Letter, read_letter
from pipeline.dlq.listing import Listing
from pipeline.dlq.places import Span
from pipeline.dlq.planning import Plan, Targets, make_plan
from pipeline.dlq.reading import Bounds, Reader
from pipeline.dlq.replay import Done, Replay, find_replayed
from pipeline.flag_directory import FlagDirectory
from pipeline.outbox import Outbox
from pipeline.preflight import DLQ_SUFFIX
from pipeline.settings import Settings
from pipeline.topics import create_beside
from sinks.exports import Exporter
from sinks.lineage import read_lake
from sinks.storage import LocalStorage

__all__ = ["Wanted", "export", "list_letters", "replay", "show_letter", "targets_of"]

PARKED_SUFFIX: Final = ".parked"

_Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a replay is asked for."""

    chosen: Filter
    to: Sequence[str] = ()
    most: int | None = None
    rate: float | None = None
    anyway: bool = False
    max_replays: int = 3
    dry_run: bool = False


def list_letters(settings: Settings, topics: Sequence[str], chosen: Filter, progress: _Progress) -> Listing:
    """Count the letters of the topics (those of the settings if none) that are chosen."""
    listing = Listing(_now())
    with KafkaReader(settings.librdkafka()) as reader:
        spans = _spans(reader, _sources(settings, topics))
        total, done = sum(end - first for first, end in spans.values()), 0
        for records in reader.read(spans):
            for letter in (read_letter(*each) for each in records):
                if chosen.matches(letter):
                    listing.add(letter)
                else:
                    listing.pass_by(letter)
            done += len(records)
            progress(done, total)
    return listing


def show_letter(settings: Settings, topics: Sequence[str], at: str) -> Letter:
    """Return the letter of the record at a place, or that lies there itself; of several the last.

    Raises EvidenceError if there is none.
    """
    span = Span.parse(at)
    if span.first != span.last:
        raise SettingsError(f"{at} is a range; name one record, such as {span.topic}/{span.partition}/{span.first}")
    found = None
    with KafkaReader(settings.librdkafka()) as reader:
        for records in reader.read(_spans_for(reader, _sources(settings, topics), span)):
            for letter in (read_letter(*each) for each in records):
                if letter.origin in span or letter.place in span:
                    found = letter
    if found is None:
        raise EvidenceError(f"no dead letter of {at} is there; run evidence dlq ls, or name its topic with --topic")
    return found


def replay(settings: Settings, topics: Sequence[str], wanted: Wanted, progress: _Progress) -> tuple[Plan, Done]:
    """Plan a replay and, unless it is dry, send it; what an earlier one left half done is settled first."""
    contracts = FlagDirectory(settings.flags).read()
    lake = LakeState(settings.lake, contracts, settings.allowed_lateness)
    policy = Policy(anyway=wanted.anyway, max_replays=wanted.max_replays, parked_suffix=PARKED_SUFFIX)
    targets = Targets(settings.topics, targets_of(wanted.to))
    decoder = Decoder(contracts, settings.max_value_bytes, settings.max_future)
    with KafkaReader(settings.librdkafka()) as reader:
        ledger = Ledger(LocalStorage(settings.lake))
        sent = ledger.open(lambda ends: find_replayed(reader, ends, policy), settle=not wanted.dry_run)
        plan = make_plan(
            reader,
            _spans(reader, _sources(settings, topics)),
            chosen=wanted.chosen,
            targets=targets,
            decoder=decoder,
            lake=lake,
            sent=sent,
            policy=policy,
            most=wanted.most,
            now=_now(),
            progress=progress,
        )
        todo = plan.todo()
        if wanted.dry_run or not todo:
            return plan, Done()
        for topic in {subject.place.topic for subject, code in todo if code == "park"}:
            create_beside(settings, topic + PARKED_SUFFIX, topic)
        with closing(Outbox(settings.librdkafka())) as outbox:
            return plan, Replay(reader, outbox, ledger, policy, wanted.rate).run(plan, progress)


def export(settings: Settings, topics: Sequence[str], progress: _Progress) -> Exported:
    """Bring new letters into the lake's table `dead_letters`."""
    storage = LocalStorage(settings.lake)
    lake_id = read_lake(storage)
    with KafkaReader(settings.librdkafka()) as reader:
        exporter = Exporter(storage, "dead_letters", uuid4().hex[:8])
        return export_letters(
            reader, exporter, _sources(settings, topics), lake_id=lake_id, now=_now(), progress=progress
        )


def targets_of(texts: Sequence[str]) -> dict[str, str]:
    """Read `TOPIC` and `FROM=TOPIC`; SettingsError where they contradict each other or are neither."""
    targets: dict[str, str] = {}
    for text in texts:
        source, _, target = text.rpartition("=")
        if not target or "=" in source or source in targets:
            raise SettingsError(f"--to {text[:80]!r}: name a topic once, or each as FROM=TOPIC")
        targets[source] = target
    return targets


def _sources(settings: Settings, topics: Sequence[str]) -> Sequence[str]:
    return tuple(topics) or tuple(topic + DLQ_SUFFIX for topic in settings.topics)


def _spans(reader: Reader, topics: Sequence[str]) -> dict[tuple[str, int], Bounds]:
    """Return all that the topics hold; TopicsUnfit if one is missing."""
    spans: dict[tuple[str, int], Bounds] = {}
    for topic in topics:
        bounds = reader.bounds(topic)
        if not bounds:
            raise TopicsUnfit(f"the topic {topic} does not exist; run: evidence topics create, or name another")
        spans |= {(topic, number): each for number, each in bounds.items()}
    return spans


def _spans_for(reader: Reader, topics: Sequence[str], span: Span) -> dict[tuple[str, int], Bounds]:
    """Return what has to be read to find a letter: its own place, or all partitions where its origin may be told."""
    own = reader.bounds(span.topic).get(span.partition) if span.topic in topics else None
    if own is not None:
        first = max(own.first, min(span.first, own.end))
        return {(span.topic, span.partition): Bounds(first, min(own.end, span.last + 1))}
    return _spans(reader, topics)


def _now() -> int:
    return time.time_ns() // 1_000
