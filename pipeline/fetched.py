"""What one fetch brought of one partition: the message that goes from the transport to a partition."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from contracts.decode import Record

__all__ = ["Fetched"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """The records of one fetch, in offset order.

    `records` have offsets in `[start, next_offset)`; what is missing there (control records, aborted or compacted ones)
    is never delivered. `end` is the next offset of a reader that has read everything, as the response told it. `at_end`
    says that a response after the last record found nothing more. `lost` says that `start` is no longer (or not yet) an
    offset of the partition; then nothing else is known.
    """

    start: int
    next_offset: int
    records: Sequence[Record]
    end: int
    at_end: bool
    lost: bool = False

    def parts(self, most: int) -> Iterator["Fetched"]:
        """Yield the same news in parts of at most so many records each."""
        part, start = self, self.start
        for first in range(most, len(self.records), most):
            stop = self.records[first].offset
            yield replace(self, start=start, next_offset=stop, records=self.records[first - most : first], at_end=False)
            start, part = stop, replace(self, start=stop, records=self.records[first:])
        yield part
