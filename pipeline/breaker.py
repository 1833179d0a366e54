"""The circuit breaker of one topic and partition: when refusals say that a producer, not a record, is broken."""

from dataclasses import dataclass

__all__ = ["Breaker", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a breaker trips: `in_a_row` refusals, or a `share` of at least `minimum` records since the last freeze."""

    share: float
    minimum: int
    in_a_row: int


class Breaker:
    """Counts the refusals made on reading; those of a close do not concern it."""

    def __init__(self, limits: Limits) -> None:
        """Start closed, with nothing counted."""
        self._limits = limits
        self._read = self._refused = self._row = 0

    def observe(self, read: int, refused_at: list[int]) -> str | None:
        """Count a batch of `read` records of which those at positions `refused_at` were refused.

        Returns why the breaker trips, in words, or None. `refused_at` is ascending.
        """
        self._read += read
        self._refused += len(refused_at)
        longest = self._longest_row(read, refused_at)
        if longest >= self._limits.in_a_row:
            return f"{longest} records in a row were refused"
        if self._read >= self._limits.minimum and self._refused >= self._read * self._limits.share:
            return f"{self._refused} of the last {self._read} records were refused"
        return None

    def reset(self) -> None:
        """Begin a new span for the share; a row goes on."""
        self._read = self._refused = 0

    def _longest_row(self, read: int, refused_at: list[int]) -> int:
        longest = row = self._row
        expected = 0
        for position in refused_at:
            row = row + 1 if position == expected else 1
            longest = max(longest, row)
            expected = position + 1
        self._row = row if expected == read else 0
        return longest
