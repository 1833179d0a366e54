"""What any publisher promises: the one for Kafka, and the double that services test with."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from evidence_client import Counts, Evidence, KafkaPublisher, Loss, MemoryPublisher, Message, Publisher
from evidence_client.events import Kind
from pipeline.settings import Settings
from tests.client.assignments import RAN, assigned
from tests.client.topics import Topics
from tests.waiting import until

Make = Callable[[Callable[[Loss], object] | None], Publisher]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.embedded)])
def make(request: pytest.FixtureRequest, settings_for: Callable[..., Settings]) -> Iterator[Make]:
    made: list[Publisher] = []

    def make_one(on_loss: Callable[[Loss], object] | None = None) -> Publisher:
        if request.param == "memory":
            made.append(MemoryPublisher(on_loss))
        else:
            topics = Topics(settings_for(request.getfixturevalue("embedded")))
            made.append(topics.publisher(on_loss=on_loss))
        return made[-1]

    yield make_one
    for publisher in made:
        publisher.close(5)


def message(number: int, kind: Kind = "outcome") -> Message:
    return Message(kind, f"unit-{number}".encode(), b'{"number":%d}' % number)


def total(counts: Counts) -> int:
    return counts.acknowledged + counts.queued + sum(counts.dropped.values())


def test_what_is_published_is_acknowledged(make: Make) -> None:
    publisher = make(None)
    assert [publisher.publish(message(number)) for number in range(50)] == [True] * 50
    assert publisher.flush(20) == 0
    counts = publisher.counts()
    assert (counts.recorded, counts.acknowledged, counts.queued, counts.queued_bytes) == (50, 50, 0, 0)
    assert (counts.dropped, counts.skipped) == ({}, {})


def test_what_is_dropped_is_counted_and_told(make: Make) -> None:
    told: list[Loss] = []
    publisher = make(told.append)
    publisher.drop("invalid", "unitId should be a text, not int")
    until(lambda: told, what="the callback")
    assert told == [Loss("invalid", 1, "unitId should be a text, not int")]
    assert publisher.counts().dropped == {"invalid": 1}
    assert publisher.counts().recorded == 1


def test_what_is_skipped_is_counted_and_is_no_loss(make: Make) -> None:
    told: list[Loss] = []
    publisher = make(told.append)
    publisher.skip("repeated", "")
    publisher.skip("not_executed", "")
    publisher.close(5)
    assert publisher.counts().skipped == {"repeated": 1, "not_executed": 1}
    assert (publisher.counts().recorded, told) == (0, [])


def test_skips_and_losses_are_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    publisher = make(None)
    publisher.skip("not_executed", "call run.executed()")
    publisher.drop("internal", "RuntimeError")
    publisher.close(5)
    lines = {record.getMessage() for record in caplog.records if record.name == "evidence_client"}
    assert "no evidence of 1: not_executed (call run.executed())" in lines
    assert "1 events lost: internal (RuntimeError)" in lines


def test_that_no_flag_decided_anything_is_no_warning(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """It is so for most units while a flag assigns one in ten."""
    caplog.set_level("INFO", "evidence_client")
    publisher = make(None)
    publisher.skip("no_assignment", "")
    publisher.close(5)
    assert [record.levelname for record in caplog.records if record.name == "evidence_client"] == ["INFO"]


@pytest.mark.parametrize("fault", [RuntimeError, SystemExit])
def test_a_callback_that_raises_disturbs_nothing(
    make: Make, caplog: pytest.LogCaptureFixture, fault: type[BaseException]
) -> None:
    def fail(_: Loss) -> None:
        raise fault

    publisher = make(fail)
    publisher.drop("invalid", "")
    until(lambda: "the callback for losses raised" in caplog.text, what="the log line")
    assert publisher.publish(message(1))
    assert publisher.flush(20) == 0
    assert publisher.counts().acknowledged == 1


def test_closing_flushes_and_takes_no_more(make: Make) -> None:
    told: list[Loss] = []
    publisher = make(told.append)
    publisher.publish(message(1))
    assert publisher.close(20) == 0
    assert not publisher.publish(message(2))
    assert publisher.counts().dropped == {"closed": 1}
    assert publisher.counts().acknowledged == 1
    assert [loss.reason for loss in told] == ["closed"]


def test_a_loss_after_closing_is_told_though_another_was_a_moment_ago(make: Make) -> None:
    told: list[Loss] = []
    publisher = make(told.append)
    publisher.drop("invalid", "")
    until(lambda: told, what="the callback")
    publisher.close(20)
    publisher.drop("invalid", "")
    assert [loss.count for loss in told] == [1, 1]


def test_closing_again_changes_nothing(make: Make) -> None:
    publisher = make(None)
    publisher.publish(message(1))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(publisher.close, [20.0] * 4)) == [0] * 4
    assert publisher.close(0) == 0


def test_closing_without_an_event_takes_no_time(make: Make) -> None:
    publisher, began = make(None), time.monotonic()
    assert publisher.close(20) == 0
    assert time.monotonic() - began < 5


def test_counts_add_up_at_any_instant(make: Make) -> None:
    publisher = make(None)
    evidence = Evidence(publisher)
    stop = threading.Event()

    def serve(thread: int) -> int:
        for number in range(300):
            with evidence.run(assigned(f"{thread}-{number}")) as run:
                run.executed(**RAN)
            run.outcome("answered", {"number": number})
            run.outcome("answered", {"number": "text"})  # type: ignore[dict-item]  # on purpose
        return 900

    def watch() -> int:
        seen = 0
        while not stop.is_set():
            counts = publisher.counts()
            assert counts.recorded == total(counts)
            seen += 1
        return seen

    with ThreadPoolExecutor(5) as pool:
        watching = pool.submit(watch)
        assert sum(pool.map(serve, range(4))) == 3_600
        stop.set()
        assert watching.result() > 0
    assert evidence.flush(20) == 0
    counts = publisher.counts()
    assert (counts.recorded, counts.acknowledged, counts.dropped) == (3_600, 2_400, {"invalid": 1_200})


def test_an_exposure_that_was_not_taken_may_be_recorded_again() -> None:
    publisher = MemoryPublisher(max_messages=0)
    evidence = Evidence(publisher)
    for _ in range(2):
        with evidence.run(assigned()) as run:
            run.executed(**RAN)
    assert (publisher.counts().dropped, publisher.counts().skipped) == ({"queue_full": 2}, {})


def test_a_repeated_exposure_is_published_once() -> None:
    publisher = MemoryPublisher()
    evidence = Evidence(publisher, repeat_entries=2)

    def expose(unit_id: str, route: str = "support_model_b") -> None:
        with evidence.run(assigned(unit_id)) as run:
            run.executed(model_route=route)

    for unit_id in ("a", "a", "b", "a"):
        expose(unit_id)
    assert [each["unitId"] for each in publisher.exposures] == ["a", "b"]
    expose("a", "support_model_a")  # another route is no repetition
    expose("b")  # whose place that one took: the least recently used
    assert [each["unitId"] for each in publisher.exposures] == ["a", "b", "a", "b"]
    assert evidence.counts().skipped == {"repeated": 2}


def test_of_many_threads_one_publishes_an_exposure() -> None:
    publisher = MemoryPublisher()
    evidence = Evidence(publisher)
    ready = threading.Barrier(8)

    def expose(_: int) -> None:
        ready.wait()
        with evidence.run(assigned()) as run:
            run.executed(**RAN)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(expose, range(8)))
    assert len(publisher.exposures) == 1
    assert evidence.counts().skipped == {"repeated": 7}


def test_both_are_publishers() -> None:
    publishers: list[Publisher] = [MemoryPublisher(), KafkaPublisher({"bootstrap.servers": "127.0.0.1:1"})]
    assert [publisher.close(0) for publisher in publishers] == [0, 0]
