"""`evidence doctor`: samples the topics that the settings name, and examines the sample."""

import time
from collections.abc import Callable
from typing import Final

from contracts.errors import SettingsError
from pipeline.dlq.filters import parse_moment
from pipeline.doctor.batches import producer_batches
from pipeline.doctor.examination import Examined, examine
from pipeline.doctor.kafka import Extent, take
from pipeline.doctor.reading import Limits
from pipeline.doctor.sample import Sample
from pipeline.flag_directory import FlagDirectory
from pipeline.memory import without_collector
from pipeline.settings import Settings

__all__ = ["DEFAULT_RECORDS", "diagnose"]

DEFAULT_RECORDS: Final = 2_000
"""Of each partition: 72,000 of three topics with 12 partitions, which take some seconds."""


def _now() -> int:
    return time.time_ns() // 1_000


def diagnose(
    settings: Settings, records: int | None, since: str | None, limit_s: float, clock: Callable[[], int] = _now
) -> Examined:
    """Sample the newest `records` of each partition, or all since a time, and examine them.

    Raises SettingsError for options that make no sense, ContractError for a broken flag file, KafkaUnavailable if no
    broker answers.
    """
    if records is not None and since is not None:
        raise SettingsError("--records and --since both say how much to read; give one of them")
    extent = Extent(records or DEFAULT_RECORDS, parse_moment(since, clock()), limit_s)
    book = FlagDirectory(settings.flags).read()
    sample = _sent_by(take(settings.librdkafka(), settings.topics, extent, clock), settings, limit_s)
    with without_collector():
        return examine(sample, book, Limits(settings.max_value_bytes, settings.max_future))


def _sent_by(sample: Sample, settings: Settings, limit_s: float) -> Sample:
    """Return the sample with the IDs of idempotent producers, as far as they can be had."""
    spans = {
        (topic.name, number): (log[0].offset, log[-1].offset + 1)
        for topic in sample
        for number, log in topic.records.items()
        if log
    }
    batches = producer_batches(settings, spans, limit_s) if spans else {}
    exposures, outcomes, guardrails = (
        topic.sent_by({number: theirs for (name, number), theirs in batches.items() if name == topic.name})
        for topic in sample
    )
    return Sample(exposures, outcomes, guardrails, sample.taken_us)
