"""The joint watermark: three topics, one event time. Times are in seconds here, microseconds in the code."""

import pytest

from pipeline.watermark import END_TTL, JointWatermark

S = 1_000_000
TOPICS = ("exposures", "outcomes", "guardrails")


def watermark(*, bound: int = 60, idle: int = 300, restored: int | None = None) -> JointWatermark:
    return JointWatermark(
        TOPICS,
        out_of_orderness=bound * S,
        idle_timeout=idle * S,
        watermark=None if restored is None else restored * S,
    )


def all_at_end(mark: JointWatermark, now: int) -> None:
    for topic in TOPICS:
        mark.at_end(topic, now * S)


def advanced(mark: JointWatermark, now: int) -> int | None:
    reached = mark.advance(now * S)
    return None if reached is None else reached // S


def test_watermark_is_unknown_before_the_first_event() -> None:
    mark = watermark()
    all_at_end(mark, 0)
    assert advanced(mark, 1) is None


def test_watermark_is_the_least_of_the_topics_that_are_behind() -> None:
    mark = watermark(bound=0)
    for topic, time in zip(TOPICS, (300, 100, 200), strict=True):
        mark.observe(topic, time * S)
    assert advanced(mark, 1) == 100


def test_watermark_lags_by_the_out_of_orderness() -> None:
    mark = watermark(bound=60)
    for topic in TOPICS:
        mark.observe(topic, 100 * S)
    assert advanced(mark, 1) == 40


def test_a_topic_at_its_end_does_not_hold_the_others() -> None:
    mark = watermark(bound=0)
    mark.observe("exposures", 500 * S)
    mark.at_end("outcomes", 0)
    mark.at_end("guardrails", 0)
    assert advanced(mark, 1) == 500


def test_watermark_is_the_greatest_when_all_are_at_their_end() -> None:
    mark = watermark(bound=0)
    for topic, time in zip(TOPICS, (300, 100, 200), strict=True):
        mark.observe(topic, time * S)
    all_at_end(mark, 0)
    assert advanced(mark, 1) == 300


def test_watermark_does_not_reverse() -> None:
    mark = watermark(bound=0)
    for topic in TOPICS:
        mark.observe(topic, 500 * S)
    assert advanced(mark, 1) == 500
    mark.observe("exposures", 100 * S)
    assert advanced(mark, 2) == 500


def test_a_topic_not_fetched_yet_holds_the_watermark() -> None:
    """Just restarted: two topics have news, the third said nothing yet."""
    mark = watermark(bound=0, restored=50)
    mark.observe("exposures", 500 * S)
    mark.observe("outcomes", 500 * S)
    assert advanced(mark, 1) == 50


@pytest.mark.parametrize("silent", TOPICS)
def test_an_unreachable_topic_holds_the_watermark_for_as_long_as_it_takes(silent: str) -> None:
    """Outcomes' broker is away for 30 h while the others go on."""
    mark = watermark(bound=0)
    for topic in TOPICS:
        mark.observe(topic, 0)
    all_at_end(mark, 0)
    assert advanced(mark, 1) == 0
    for hour in range(1, 31):
        for topic in TOPICS:
            if topic != silent:
                mark.observe(topic, hour * 3600 * S)
                mark.at_end(topic, hour * 3600 * S)
        assert advanced(mark, hour * 3600) == 0


def test_the_word_of_an_end_expires() -> None:
    mark = watermark(bound=0)
    mark.observe("exposures", 500 * S)
    all_at_end(mark, 0)
    mark.observe("exposures", 600 * S)
    assert advanced(mark, END_TTL // S) == 600
    mark.observe("exposures", 700 * S)
    assert advanced(mark, END_TTL // S + 1) == 600


def test_a_full_outage_does_not_let_it_run_with_the_clock() -> None:
    mark = watermark(bound=0, idle=5)
    mark.observe("exposures", 500 * S)
    all_at_end(mark, 0)
    assert advanced(mark, 0) == 500
    assert advanced(mark, 86_400) == 500


def test_idle_topics_move_it_at_the_pace_of_the_clock_after_the_timeout() -> None:
    mark = watermark(bound=0, idle=300)
    mark.observe("exposures", 1000 * S)
    reached = []
    for now in range(0, 601, 5):
        all_at_end(mark, now)
        reached.append(advanced(mark, now))
    assert reached[0] == 1000
    assert reached[300 // 5] == 1000
    assert reached[400 // 5] == 1100
    assert reached[600 // 5] == 1300


def test_an_event_ends_idleness() -> None:
    mark = watermark(bound=0, idle=10)
    mark.observe("exposures", 1000 * S)
    for now in range(0, 21, 5):
        all_at_end(mark, now)
        advanced(mark, now)
    assert advanced(mark, 20) == 1010
    mark.observe("exposures", 1005 * S)
    for now in range(21, 30):
        all_at_end(mark, now)
        assert advanced(mark, now) == 1010


def test_records_that_are_not_valid_do_not_move_it() -> None:
    """Misplaced and invalid records are news of the topic, but not of event time."""
    mark = watermark(bound=0)
    for topic in TOPICS:
        mark.observe(topic, 100 * S)
    mark.observe("exposures", None)
    assert advanced(mark, 1) == 100


def test_a_slow_backfill_is_never_ahead_of_its_events() -> None:
    """Hours pass between the records of a backfill; event time still moves with them, not with the clock."""
    mark = watermark(bound=0, idle=86_400)
    for hour in range(50):
        for topic in TOPICS:
            mark.observe(topic, hour * S)
        all_at_end(mark, hour * 3600)
        assert advanced(mark, hour * 3600) == hour


def test_a_close_beyond_the_watermark_moves_it() -> None:
    mark = watermark()
    mark.restore(900 * S)
    mark.restore(800 * S)
    assert mark.current == 900 * S
