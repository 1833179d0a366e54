"""The loop monitor: what its histogram keeps, and that it sees a loop that is blocked."""

import asyncio
import selectors
import time
from collections.abc import Iterator

import pytest

from benchmarks.loop_monitor import MOMENT_S, Histogram, LoopMonitor


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


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_each_moment_of_a_block_counts_with_what_is_left_of_it(loop: asyncio.AbstractEventLoop) -> None:
    now = [0.0]
    monitor = LoopMonitor(clock=lambda: now[0])

    def block() -> None:
        now[0] = 0.01
        assert monitor.late() == pytest.approx(0.01)
        loop.stop()

    monitor.start(loop)
    loop.call_soon(block)
    loop.run_forever()
    monitor.stop()
    now[0] = 1.0
    assert monitor.late() == 0
    assert monitor.blocked.count == 0.01 / MOMENT_S
    assert monitor.blocked.longest == pytest.approx(0.01)
    assert monitor.blocked.quantile(0.5) == pytest.approx(0.005, rel=0.1)


def test_moments_at_which_nothing_waits_count_too(loop: asyncio.AbstractEventLoop) -> None:
    monitor = LoopMonitor()
    for _ in range(2):
        monitor.start(loop)
        loop.run_until_complete(asyncio.sleep(0.1))
        monitor.stop()
        loop.run_until_complete(asyncio.sleep(0.1))
    assert monitor.blocked.count * MOMENT_S >= 0.19
    assert monitor.blocked.quantile(0.5) <= MOMENT_S


def test_a_selector_that_returns_late_blocks_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    now = [0.0]
    monitor = LoopMonitor(clock=lambda: now[0])

    class Selector(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            now[0] += (timeout or 0) + 0.05
            assert monitor.late() == pytest.approx(0.05)
            return super().select(0)

    slow = asyncio.SelectorEventLoop(Selector())
    slow.call_later(0.1, slow.stop)
    monitor.start(slow)
    slow.run_forever()
    monitor.stop()
    slow.close()
    assert monitor.blocked.longest == pytest.approx(0.05)


def test_a_blocked_loop_is_seen_and_a_stopped_monitor_sees_nothing(loop: asyncio.AbstractEventLoop) -> None:
    watching, stopped = LoopMonitor(), LoopMonitor()
    stopped.start(loop)
    stopped.stop()
    stopped.stop()
    watching.start(loop)
    loop.call_soon(time.sleep, 0.1)
    loop.run_until_complete(asyncio.sleep(0))
    watching.stop()
    assert watching.blocked.longest >= 0.1
    assert stopped.blocked.count == 0
