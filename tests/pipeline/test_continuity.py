"""Whether a lineage goes on in the topics as they are now."""

from typing import Any

import pytest

from contracts.errors import EvidenceError, OffsetsLost, TopicsUnfit, WrongLake
from pipeline.checkpoint import genesis
from pipeline.continuity import beginning, check_continuity, lost_offsets, partition_count
from pipeline.topics import TopicState
from sinks.manifest import Manifest


def state(topic_id: str = "a", partitions: int = 2, first: int = 5) -> TopicState:
    """Return a topic whose partition 1 holds offsets from `first` to 9."""
    return TopicState(topic_id, partitions, {0: 0, 1: first}, {0: 9, 1: 9})


STATES = {name: state() for name in ("exposures", "outcomes", "guardrails")}


def manifest(next_offset: int = 7) -> Manifest:
    """Return the manifest of partition 1 of topics that were read to an offset."""
    marks = {name: beginning(name, each, 1) for name, each in STATES.items()}
    topics = {name: mark.model_copy(update={"next_offset": next_offset}) for name, mark in marks.items()}
    return genesis(partition=1, lake_id="lake", group="g", version="1", topics=topics)


def test_a_partition_begins_at_the_first_record_that_is_there() -> None:
    mark = beginning("exposures", state(), 1)
    assert (mark.first_offset, mark.next_offset, mark.closed_offset) == (5, 5, 5)
    assert (mark.name, mark.topic_id, mark.partitions) == ("exposures", "a", 2)


@pytest.mark.parametrize("next_offset", [5, 7, 9])
def test_offsets_that_are_there_go_on(next_offset: int) -> None:
    check_continuity(manifest(next_offset), STATES, "lake")


@pytest.mark.parametrize(
    ("lineage", "changed", "lake", "error", "told"),
    [
        pytest.param(manifest(), {}, "other", WrongLake, "restore manifests/ from a backup", id="another lake"),
        pytest.param(
            manifest(), {"topic_id": "b"}, "lake", TopicsUnfit, "topic outcomes was deleted and made again", id="again"
        ),
        pytest.param(
            manifest(),
            {"partitions": 3},
            "lake",
            TopicsUnfit,
            r"partition counts differ \(exposures 2, outcomes 3, guardrails 2\)",
            id="one grew",
        ),
        pytest.param(manifest(), {"first": 8}, "lake", OffsetsLost, "1 records were deleted unread", id="retention"),
    ],
)
def test_what_does_not_go_on_is_an_error(
    lineage: Manifest, changed: dict[str, Any], lake: str, error: type[EvidenceError], told: str
) -> None:
    with pytest.raises(error, match=told):
        check_continuity(lineage, STATES | {"outcomes": state(**changed)}, lake)


def test_partitions_added_to_all_topics_are_an_error() -> None:
    """Keys lie elsewhere from then on, so the units of open windows would be torn apart."""
    with pytest.raises(TopicsUnfit, match="has 3 partitions, the lake knows 2"):
        check_continuity(manifest(), dict.fromkeys(STATES, state(partitions=3)), "lake")


def test_other_topics_than_the_lakes_are_an_error() -> None:
    renamed = {"exposures-v2" if name == "exposures" else name: each for name, each in STATES.items()}
    with pytest.raises(TopicsUnfit, match="filled from topic exposures, which is not among"):
        check_continuity(manifest(), renamed, "lake")


def test_each_error_names_the_way_out() -> None:
    assert str(lost_offsets("outcomes", 1, 7, 8, 9)) == (
        "outcomes [1] holds offsets 8 to 9, but 7 is next: 1 records were deleted unread (retention, or "
        "delete-records); begin a new lake (EVIDENCE_LAKE) with a new group (EVIDENCE_GROUP), and keep records longer "
        "than the workers may be away"
    )


def test_a_topic_that_was_cut_short_is_told_as_such() -> None:
    """It is a fetch that finds out: the end that a broker tells may be old."""
    assert "the topic was cut short by 2 records" in str(lost_offsets("outcomes", 1, 7, 0, 5))


def test_equal_partition_counts_are_one_count() -> None:
    assert partition_count(STATES) == 2
