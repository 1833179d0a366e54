"""Whether a partition's lineage goes on in the topics as they are now. Pure.

A topic that was made again, cut short, overtaken by retention or given more partitions looks like an ordinary one to a
consumer; going on there would lose or double records without a word. So each is an error that names the way out.
"""

from collections.abc import Mapping
from typing import Final

from contracts.errors import OffsetsLost, TopicsUnfit, WrongLake
from pipeline.topics import TopicState
from sinks.manifest import Manifest
from sinks.manifest import TopicState as TopicMark

__all__ = ["beginning", "check_continuity", "lost_offsets", "partition_count"]

_WAY_OUT: Final = "begin a new lake (EVIDENCE_LAKE) with a new group (EVIDENCE_GROUP)"


def beginning(topic: str, state: TopicState, partition: int) -> TopicMark:
    """Return where a partition without manifest begins in a topic: at the first record that is there."""
    first = state.first[partition]
    return TopicMark(
        name=topic,
        topic_id=state.topic_id,
        partitions=state.partitions,
        first_offset=first,
        next_offset=first,
        closed_offset=first,
    )


def partition_count(states: Mapping[str, TopicState]) -> int:
    """Return how many partitions each topic has; TopicsUnfit if they differ."""
    counts = {topic: state.partitions for topic, state in states.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{topic} {count}" for topic, count in counts.items())
        raise TopicsUnfit(f"partition counts differ ({told}); give all three the same, then {_WAY_OUT}")
    return next(iter(counts.values()))


def check_continuity(manifest: Manifest, states: Mapping[str, TopicState], lake_id: str) -> None:
    """Raise WrongLake, TopicsUnfit or OffsetsLost if the lineage of `manifest` does not go on in the topics."""
    if manifest.lake_id != lake_id:
        raise WrongLake(
            f"partition {manifest.partition} has a manifest of lake {manifest.lake_id}, but this is lake {lake_id}; "
            "its files were mixed with another lake's: restore manifests/ from a backup"
        )
    partition_count(states)
    for mark in manifest.topics.values():
        state = states.get(mark.name)
        if state is None:
            raise TopicsUnfit(
                f"the lake was filled from topic {mark.name}, which is not among {', '.join(states)}; "
                f"set EVIDENCE_*_TOPIC to the lake's topics, or {_WAY_OUT}"
            )
        if state.topic_id != mark.topic_id:
            raise TopicsUnfit(
                f"topic {mark.name} was deleted and made again (ID {state.topic_id}, the lake knows {mark.topic_id}); "
                f"{_WAY_OUT}"
            )
        if state.partitions != mark.partitions:
            raise TopicsUnfit(
                f"topic {mark.name} has {state.partitions} partitions, the lake knows {mark.partitions}: "
                f"units moved between partitions; {_WAY_OUT}"
            )
        first, end = state.first[manifest.partition], state.end[manifest.partition]
        if mark.next_offset < first:  # beyond the end, the first fetch says so
            raise lost_offsets(mark.name, manifest.partition, mark.next_offset, first, end)


def lost_offsets(topic: str, partition: int, next_offset: int, first: int, end: int) -> OffsetsLost:
    """Return the error of a next offset outside of what the topic holds."""
    if next_offset < first:
        why = f"{first - next_offset} records were deleted unread (retention, or delete-records)"
    else:
        why = f"the topic was cut short by {next_offset - end} records"
    return OffsetsLost(
        f"{topic} [{partition}] holds offsets {first} to {end}, but {next_offset} is next: {why}; {_WAY_OUT}, "
        "and keep records longer than the workers may be away"
    )
