"""When a worker is ready, and what it says when it is not."""

from typing import Final

import pytest

from pipeline.fetched import Fetched
from pipeline.health import UNHEARD, overdue_after, reasons
from pipeline.snapshot import Observed
from sinks.manifest import Stopped
from tests.pipeline.lab import NOON, TOPICS, Record
from tests.pipeline.looks import MINUTE, SECOND, partition, topic, worker

INTERVAL: Final = MINUTE
STOPPED: Final = Stopped(reason="120 records in a row were refused", topic="outcomes", at=NOON, details="")


def told(*partitions: object, **changes: object) -> list[tuple[str, int | None]]:
    return [(reason.kind, reason.partition) for reason in reasons(worker(*partitions, **changes), INTERVAL)]  # type: ignore[arg-type]


def test_a_worker_whose_partitions_move_is_ready() -> None:
    assert told(partition(0), partition(1)) == []


def test_a_worker_without_partitions_is_ready() -> None:
    """There may be more workers than partitions."""
    assert told() == []


def test_a_worker_that_was_never_assigned_anything_is_not_ready() -> None:
    assert told(assigned=False) == [("unassigned", None)]


def test_one_stopped_partition_is_a_reason_and_says_what_to_type() -> None:
    stuck = worker(partition(0), partition(3, stopped=STOPPED))
    [reason] = reasons(stuck, INTERVAL)
    assert (reason.kind, reason.partition) == ("stopped", 3)
    assert reason.message == (
        "partition 3 is stopped at outcomes: 120 records in a row were refused; see its dead letters, mend the "
        "producer, then run: evidence resume"
    )


@pytest.mark.parametrize(
    ("waiting", "ready"),
    [
        pytest.param(5 * INTERVAL, True, id="five intervals"),
        pytest.param(5 * INTERVAL + 1, False, id="more"),
    ],
)
def test_a_checkpoint_that_does_not_come_is_a_reason(waiting: int, ready: bool) -> None:  # noqa: FBT001
    assert told(partition(2, waiting_for=waiting)) == ([] if ready else [("not_durable", 2)])


def test_the_reason_names_the_trouble() -> None:
    overdue = worker(partition(2, waiting_for=412 * SECOND, trouble="cannot write: No space left on device"))
    [reason] = reasons(overdue, INTERVAL)
    assert reason.message == "partition 2: nothing became durable for 412 s: cannot write: No space left on device"


def test_short_intervals_leave_time_for_a_slow_disk() -> None:
    assert overdue_after(SECOND) == 10 * SECOND
    assert overdue_after(MINUTE) == 5 * MINUTE


def test_a_topic_that_no_fetch_tells_of_is_a_reason() -> None:
    topics = dict.fromkeys(TOPICS, topic()) | {"outcomes": topic(silent_for=UNHEARD + 1)}
    [reason] = reasons(worker(partition(1, topics=topics)), INTERVAL)
    assert (reason.kind, reason.partition) == ("unheard", 1)
    assert reason.message.startswith("partition 1: no word of outcomes for 60 s; see whether its leader is up, ")


@pytest.mark.parametrize(
    ("stopped", "full"),
    [pytest.param(STOPPED, False, id="stopped"), pytest.param(None, True, id="no room in memory")],
)
def test_what_is_not_asked_for_is_not_missed(stopped: Stopped | None, full: bool) -> None:  # noqa: FBT001
    topics = dict.fromkeys(TOPICS, topic(silent_for=UNHEARD + 1))
    kinds = [kind for kind, _ in told(partition(topics=topics, stopped=stopped), full=full)]
    assert kinds == (["stopped"] if stopped else [])


def test_lag_by_record_time_ends_where_all_is_read() -> None:
    assert topic(record_time=NOON - MINUTE).behind(NOON) == 0
    assert topic(record_time=NOON - MINUTE, end=11).behind(NOON) == MINUTE
    assert topic(record_time=None, end=11).behind(NOON) == 0


def test_fetches_are_taken_note_of() -> None:
    observed = Observed(end=5, heard_at=0)
    observed.take(Fetched(3, 5, [Record(3, b"", timestamp=70), Record(4, b"", timestamp=77)], 9, at_end=False), 11)
    assert (observed.end, observed.heard_at, observed.record_time) == (9, 11, 77_000)
    observed.take(Fetched(5, 5, (), 9, at_end=False), 12)
    assert (observed.end, observed.heard_at, observed.record_time) == (9, 12, 77_000)
