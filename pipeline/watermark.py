"""The joint watermark of one partition of the three copartitioned topics, in event time.

Pure: event times and processing times are arguments, both integers in microseconds. Processing time must be
monotonic, so that a clock that jumps cannot move event time.
"""

from collections.abc import Iterable
from typing import Final

__all__ = ["END_TTL", "JointWatermark"]

# How long the word of a fetch response that a topic is at its end counts. A healthy consumer hears it twice a second;
# after 10 s without one the topic is paused, unreachable or gone, and must hold the watermark.
END_TTL: Final = 10_000_000


class JointWatermark:
    """The time up to which no earlier event is expected on any of the topics.

    - While some topic is behind its end: the least latest event time of the topics that are behind, less the bound.
    - While all are at their end: the greatest latest event time of all, less the bound.
    - After all were at their end for the whole idle timeout: it moves on at the pace of the clock, from where it was.

    It never goes back, and it is None until an event was seen (or a manifest restored it).
    """

    def __init__(
        self, topics: Iterable[str], *, out_of_orderness: int, idle_timeout: int, watermark: int | None = None
    ) -> None:
        """Start with no topic at its end; `watermark` is what the last manifest says."""
        self._latest: dict[str, int | None] = dict.fromkeys(topics)
        self._end_at: dict[str, int | None] = dict.fromkeys(self._latest)
        self._out_of_orderness = out_of_orderness
        self._idle_timeout = idle_timeout
        self._watermark = watermark
        self._quiet_since: int | None = None
        self._paced_to: int | None = None

    @property
    def current(self) -> int | None:
        """The watermark as of the last `advance`."""
        return self._watermark

    def observe(self, topic: str, event_time: int | None) -> None:
        """Take note of a batch of `topic` whose latest valid event time is given; the topic is behind its end again.

        None where the batch held no valid record in its right partition: such records do not move event time.
        """
        latest = self._latest[topic]
        if event_time is not None and (latest is None or event_time > latest):
            self._latest[topic] = event_time
        self.behind(topic)

    def behind(self, topic: str) -> None:
        """Hear that there is more to read."""
        self._end_at[topic] = None
        self._quiet_since = self._paced_to = None

    def at_end(self, topic: str, now: int) -> None:
        """Hear from a fetch response after the last record that the topic is at its end; `now` is processing time."""
        self._end_at[topic] = now

    def restore(self, watermark: int) -> None:
        """Move to `watermark` if that is later, as after a close that went beyond it."""
        self._watermark = watermark if self._watermark is None else max(self._watermark, watermark)

    def advance(self, now: int) -> int | None:
        """Return the watermark at processing time `now`."""
        behind = [topic for topic, end_at in self._end_at.items() if end_at is None or now - end_at > END_TTL]
        if behind:
            self._quiet_since = self._paced_to = None
            latest = [self._latest[topic] for topic in behind]
            self._reach(min((t for t in latest if t is not None), default=None) if None not in latest else None)
        else:
            self._reach(max((t for t in self._latest.values() if t is not None), default=None))
            self._pace(now)
        return self._watermark

    def _reach(self, latest: int | None) -> None:
        if latest is not None:
            self.restore(latest - self._out_of_orderness)

    def _pace(self, now: int) -> None:
        if self._quiet_since is None:
            self._quiet_since = now
        paced_from = self._paced_to or self._quiet_since + self._idle_timeout
        if self._watermark is not None and now > paced_from:
            self._watermark += now - paced_from
            self._paced_to = now
