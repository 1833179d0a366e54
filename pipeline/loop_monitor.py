"""How long an event loop is blocked: how much later than it should a timer of it fires.

Nothing else in the loop runs meanwhile, heartbeats and fetches among it.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

__all__ = ["INTERVAL_S", "Histogram", "LoopMonitor"]

INTERVAL_S: Final = 0.01
"""Between two beats of the timer: 100 a second cost 0.6 % of a core at most."""

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

    def observe(self, seconds: float) -> None:
        """Count one span."""
        self.count += 1
        self.longest = max(self.longest, seconds)
        place = math.ceil(math.log2(max(seconds, _LEAST_S) / _LEAST_S) * _A_DOUBLING)
        self._buckets[min(place, _BUCKETS - 1)] += 1

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
    """Measures one event loop from `start` to `stop`.

    `blocked` says how long something that becomes due at any moment has to wait. A block hides the beats that it
    swallows; each of them counts with what it would have waited (Gil Tene's correction for coordinated omission).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is that of the loop's timers, in seconds."""
        self.blocked = Histogram()
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; call it in the loop's thread, or before the loop runs."""
        self._due = self._clock() + INTERVAL_S
        self._timer = loop.call_later(INTERVAL_S, self._beat, loop)

    def stop(self) -> None:
        """Measure no more; call it in the loop's thread, or when the loop does not run."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._due = None, math.inf

    def late(self) -> float:
        """Return for how many seconds the loop is blocked right now; any thread may ask."""
        return max(self._clock() - self._due, 0.0)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        late = self.late()
        self.blocked.observe(late)
        while (late := late - INTERVAL_S) > 0:
            self.blocked.observe(late)
        self.start(loop)
