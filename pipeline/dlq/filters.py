"""Which dead letters a command is about."""

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.durations import parse_duration
from contracts.errors import SettingsError
from contracts.times import parse_time
from pipeline.dlq.letters import Letter, named
from pipeline.dlq.places import Span

__all__ = ["Filter", "parse_moment"]


@dataclass(frozen=True, slots=True)
class Filter:
    """What letters must match; what is empty or None matches all. Times in µs, of the failure, `until` not included."""

    reasons: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()
    since: int | None = None
    until: int | None = None
    spans: Sequence[Span] = ()
    """Places of the records that failed, or of the letters themselves."""

    def matches(self, letter: Letter) -> bool:
        """Return whether the letter matches all that is asked for."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.since is None or letter.failed_at >= self.since)
            and (self.until is None or letter.failed_at < self.until)
            and (not self.spans or any(letter.origin in span or letter.place in span for span in self.spans))
            and (not self.flags or named(letter.value, letter.headers).flag in self.flags)
        )


def parse_moment(text: str | None, now: int) -> int | None:
    """Return a time in µs, from RFC 3339 or from how long ago it was, such as `2h`; SettingsError for other text."""
    if text is None:
        return None
    for read in (parse_time, lambda ago: now - parse_duration(ago)):
        try:
            return read(text)
        except ValueError:
            continue
    raise SettingsError(f"{text[:80]!r} is no time; write 2026-06-07T10:15:30Z, or how long ago, such as 2h")
