"""How long an event loop is blocked: for how long what becomes due at any moment has to wait.

Nothing else in the loop runs meanwhile, heartbeats and fetches among it.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["MOMENT_S", "Histogram", "LoopMonitor"]

MOMENT_S: Final = 0.001
"""Between two moments at which something might become due."""

_LEAST_S: Final = 0.0001  # what is shorter is one bucket
_A_DOUBLING: Final = 8  # buckets: a quantile is at most 9 % too high
_BUCKETS: Final = 200  # up to 3,000 s


class Histogram:
    """Counts of spans by their length, in buckets of a fixed ratio; the longest span is exact."""

    def __init__(self) -> None:
        """Start without any."""
        self.count = 0
        self.longest = 0.0
        self._buckets = [0] * _BUCKETS

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count a span, or several of one length."""
        self.count += times
        self.longest = max(self.longest, seconds)
        place = math.ceil(math.log2(max(seconds, _LEAST_S) / _LEAST_S) * _A_DOUBLING)
        self._buckets[min(place, _BUCKETS - 1)] += times

    def quantile(self, share: float) -> float:
        """Return a length in seconds that this share of the spans does not exceed, at most 9 % too high; 0 without any.

        No length is below 0.1 ms, and none above the longest.
        """
        rank, seen = share * self.count, 0
        for place, count in enumerate(self._buckets):
            seen += count
            if count and seen >= rank:
                return min(_LEAST_S * 2 ** (place / _A_DOUBLING), self.longest)
        return self.longest


class LoopMonitor:
    """Measures one event loop at a time, from `start` to `stop`, as often as wanted.

    It listens to the loop's selector: between two calls of `select` nothing else in the loop runs, and a call that
    returns after its timeout was kept from it. A timer would need a turn of the interpreter lock for each beat: 100 a
    second take 4 % more CPU time of a worker.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds."""
        self.blocked = Histogram()
        """What had to wait at each moment; those at which nothing had to are in it once the monitor is stopped."""
        self._clock = clock
        self._selector: Any = None
        self._since = math.inf  # when the loop would have seen what became due
        self._began = 0.0
        self._seen = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; call it in the loop's thread, or before the loop runs."""
        self._selector = loop._selector  # type: ignore[attr-defined] # noqa: SLF001 - of each loop of asyncio on Unix
        select = self._selector.select

        def watched(timeout: float | None = None) -> Any:  # noqa: ANN401 - of selectors, each with its own keys
            now = self._clock()
            self._blocked(now - self._since)
            self._since = math.inf if timeout is None else now + max(timeout, 0.0)
            try:
                return select(timeout)
            finally:
                self._since = min(self._since, self._clock())

        self._selector.select = watched
        self._began = self._since = self._clock()
        self._seen = self.blocked.count

    def stop(self) -> None:
        """Measure no more; call it in the loop's thread, or when the loop does not run."""
        if self._selector is not None:
            del self._selector.select  # behind it is that of its class
            now = self._clock()
            self._blocked(now - self._since)
            moments = int((now - self._began) / MOMENT_S) - (self.blocked.count - self._seen)
            self.blocked.observe(0.0, max(moments, 0))
            self._selector, self._since = None, math.inf

    def late(self) -> float:
        """Return for how many seconds the loop is blocked right now; any thread may ask."""
        return max(self._clock() - self._since, 0.0)

    def _blocked(self, seconds: float) -> None:
        """Count what became due in the meantime: what did at once waited for all of it."""
        for moment in range(int(seconds / MOMENT_S)):
            self.blocked.observe(seconds - moment * MOMENT_S)
