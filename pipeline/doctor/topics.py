"""Whether the topics are there, alike, read and filled."""

from collections.abc import Iterator

from pipeline.doctor.findings import Finding, InOrder, Remark
from pipeline.doctor.reading import Reading

__all__ = ["topics"]


def topics(reading: Reading) -> Iterator[Remark]:
    """Tell of topics that are missing, unequal, unread or empty."""
    sample = reading.sample
    missing = [topic.name for topic in sample if not topic.partitions]
    for name in missing:
        yield Finding("missing_topic", f"The topic {name} does not exist, or may not be seen.", [], 1, 1)
    counts = {topic.name: topic.partitions for topic in sample if topic.partitions}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        yield Finding("unequal_partitions", f"The topics differ in their partition counts: {told}.", [], 1, 1)
    elif len(counts) > 1:
        yield InOrder(f"the topics have {next(iter(counts.values()))} partitions each")
    unread = [(topic.name, partition, why) for topic in sample for partition, why in sorted(topic.unread.items())]
    if unread:
        lines = [f"{name} [{partition}]: {why}" for name, partition, why in unread[:5]]
        total = sum(topic.partitions for topic in sample)
        what = f"{len(unread)} of {total} partitions could not be read to their end."
        yield Finding("unread_partitions", what, lines, len(unread), total)
    silent = {topic.name for topic in sample if topic.partitions and not topic.count and not topic.unread}
    if len(silent) == len(counts) and silent:
        yield Finding("empty_topic", "There is no record of any topic in the sample.", sorted(silent), 0, 0)
        return
    for topic in (sample.exposures, sample.outcomes):
        if topic.name in silent:
            others = [f"{other.name}: {other.count:,} records" for other in sample if other.count]
            what = f"There is no record of {topic.name} in the sample, and there are of others."
            yield Finding("empty_topic", what, others, 0, 0)
