"""When a close is due."""

from typing import Any, Final

import pytest

from pipeline.schedule import close_is_due, rows_due
from sinks.manifest import HorizonState, Manifest, SegmentRef, TopicState
from tests.pipeline.lab import HOUR, NOON

SECOND: Final = 1_000_000


def base(*, segments: int = 1, rows: int = 1_000, closed_through: int | None = None, fresh: bool = False) -> Manifest:
    """Return a manifest whose segments hold `rows` events each, of the ten hours after noon."""
    topic = TopicState(
        name="exposures", topic_id="", partitions=1, first_offset=0, next_offset=9, closed_offset=0 if fresh else 9
    )
    segment = SegmentRef(
        name="s", rows=rows, size=1, crc32=0, min_event_time=NOON, max_event_time=NOON + 10 * HOUR, flags={}, offsets={}
    )
    return Manifest(
        seq=1,
        lake_id="",
        partition=0,
        pipeline_version="",
        group="",
        writer="",
        committed_at=0,
        topics={"exposure": topic},
        closed_through=closed_through,
        segments=(segment,) * segments,
        horizons={"route": HorizonState(longest_window=24 * HOUR, decided_through=None)},
    )


def is_due(manifest: Manifest, watermark: int | None, **changes: Any) -> bool:  # noqa: ANN401 - any of the arguments below
    facts = {"buffered": 0, "waited": 300 * SECOND, "took": 0, "interval": 300 * SECOND, "due_rows": 10_000}
    return close_is_due(manifest, watermark, **(facts | {"lateness": HOUR} | changes))


def test_a_close_is_due_after_the_interval() -> None:
    assert is_due(base(), NOON)
    assert not is_due(base(), NOON, waited=300 * SECOND - 1)


def test_nothing_is_due_before_the_first_event() -> None:
    assert not is_due(base(), None, buffered=1)


@pytest.mark.parametrize(
    ("manifest", "buffered", "due"),
    [
        pytest.param(base(segments=0), 0, False, id="nothing is open"),
        pytest.param(base(segments=0), 1, True, id="something arrived"),
        pytest.param(base(closed_through=NOON), 0, False, id="the watermark stands where the last close was"),
        pytest.param(base(closed_through=NOON - 1), 0, True, id="the watermark moved"),
        pytest.param(base(closed_through=NOON, fresh=True), 0, True, id="events were read that no close has judged"),
    ],
)
def test_a_close_needs_something_to_decide(manifest: Manifest, buffered: int, *, due: bool) -> None:
    assert is_due(manifest, NOON, buffered=buffered) is due


def test_closes_take_a_tenth_of_the_time_at_most() -> None:
    assert not is_due(base(), NOON, took=31 * SECOND)
    assert is_due(base(), NOON, took=30 * SECOND)


def test_many_rows_make_a_close_due_at_once() -> None:
    half = NOON + (24 + 1 + 5) * HOUR
    assert is_due(base(rows=20_000), half, waited=SECOND)
    assert not is_due(base(rows=19_000), half, waited=SECOND)


def test_due_rows_are_those_of_windows_that_may_close() -> None:
    manifest = base(segments=2, rows=1_000)
    assert rows_due(manifest, NOON + 25 * HOUR, HOUR) == 0
    assert rows_due(manifest, NOON + 30 * HOUR, HOUR) == 1_000
    assert rows_due(manifest, NOON + 99 * HOUR, HOUR) == 2_000


def test_decided_rows_are_not_due_again() -> None:
    manifest = base().model_copy(
        update={"horizons": {"route": HorizonState(longest_window=24 * HOUR, decided_through=NOON + 5 * HOUR)}}
    )
    assert rows_due(manifest, NOON + 30 * HOUR, HOUR) == 0
    assert rows_due(manifest, NOON + 35 * HOUR, HOUR) == 500
