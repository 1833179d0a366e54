"""The loop monitor: what its histogram keeps, and that it sees a loop that is blocked."""

import asyncio
import time

import pytest

from pipeline.loop_monitor import INTERVAL_S, Histogram, LoopMonitor


def test_quantiles_are_at_most_nine_percent_too_high() -> None:
    histogram = Histogram()
    for milliseconds in range(1, 1001):
        histogram.observe(milliseconds / 1000)
    assert histogram.count == 1000
    for share in (0.5, 0.9, 0.999):
        assert share <= histogram.quantile(share) <= share * 1.1


def test_the_longest_span_is_exact_and_bounds_every_quantile() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.0123, 5_000.0):
        histogram.observe(seconds)
    assert histogram.longest == 5_000
    assert histogram.quantile(1.0) == pytest.approx(3_000, rel=0.1)
    assert histogram.quantile(0.0) <= 0.0001


def test_without_spans_there_is_nothing_to_tell() -> None:
    assert (Histogram().longest, Histogram().quantile(0.999)) == (0.0, 0.0)


def test_a_beat_that_is_late_counts_for_those_it_swallowed() -> None:
    now = [0.0]
    monitor = LoopMonitor(clock=lambda: now[0])
    loop = asyncio.new_event_loop()
    try:
        monitor.start(loop)
        assert monitor.late() == 0
        now[0] = INTERVAL_S * 11.5
        assert monitor.late() == pytest.approx(INTERVAL_S * 10.5)
        loop.call_later(INTERVAL_S * 1.5, loop.stop)
        loop.run_forever()
        monitor.stop()
    finally:
        loop.close()
    assert monitor.late() == 0
    assert monitor.blocked.count == 11
    assert monitor.blocked.longest == pytest.approx(INTERVAL_S * 10.5)
    assert monitor.blocked.quantile(0.5) == pytest.approx(INTERVAL_S * 5.5, rel=0.1)


def test_a_blocked_loop_is_seen_and_a_stopped_monitor_sees_nothing() -> None:
    async def blocked(monitor: LoopMonitor, *, watched: bool) -> None:
        loop = asyncio.get_running_loop()
        monitor.start(loop)
        if not watched:
            monitor.stop()
        loop.call_soon(time.sleep, 0.1)
        await asyncio.sleep(0.15)
        monitor.stop()

    watching, stopped = LoopMonitor(), LoopMonitor()
    asyncio.run(blocked(watching, watched=True))
    asyncio.run(blocked(stopped, watched=False))
    assert watching.blocked.longest >= 0.1 - INTERVAL_S
    assert stopped.blocked.count == 0
