"""When a checkpoint and when a close is due. Pure; times are monotonic µs where not said otherwise."""

from typing import Final

from sinks.manifest import Manifest

__all__ = ["PAUSE_FACTOR", "close_is_due", "rows_due"]

# A close scans all open events; waiting ten times as long as the last one took keeps it under 10 % of the time.
PAUSE_FACTOR: Final = 10
"""How many times as long as the last close, or compaction, took one waits for the next."""


def close_is_due(  # noqa: PLR0913 - all that the decision rests on
    base: Manifest,
    watermark: int | None,
    *,
    buffered: int,
    waited: int,
    took: int,
    interval: int,
    due_rows: int,
    lateness: int,
) -> bool:
    """Return whether the next checkpoint of a partition should close.

    `waited` is the time since its last close, which `took` so long; `buffered` counts the events since the checkpoint.
    """
    if watermark is None or waited < took * PAUSE_FACTOR:
        return False
    if not buffered and (not base.segments or (watermark == base.closed_through and not _fresh(base))):
        return False
    return waited >= interval or rows_due(base, watermark, lateness) >= due_rows


def _fresh(base: Manifest) -> bool:
    """Return whether anything was read that no close has judged yet."""
    return any(topic.closed_offset < topic.next_offset for topic in base.topics.values())


def rows_due(base: Manifest, watermark: int, lateness: int) -> int:
    """Estimate how many events in the segments became due since the last close, taking them as evenly spread in time.

    `watermark` and `lateness` are µs of event time.
    """
    longest = max((horizon.longest_window for horizon in base.horizons.values()), default=0)
    through = watermark - longest - lateness
    decided = min((h.decided_through for h in base.horizons.values() if h.decided_through is not None), default=None)
    total = 0.0
    for segment in base.segments:
        first = segment.min_event_time if decided is None else max(segment.min_event_time, decided)
        span = max(segment.max_event_time - segment.min_event_time, 1)
        total += segment.rows * min(max(through - first, 0), span) / span
    return int(total)
