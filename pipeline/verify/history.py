"""The closes of a chain, and what each could know: the past that the audit joins by."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from contracts.flags import Contract
from sinks.manifest import Close, HorizonState, Manifest

__all__ = ["History"]

_NEVER = -(2**62)  # before any event


class History:
    """The closes in their order, by index.

    `reach` is a flag's longest metric window of any version that the chain had used by then; `gone_by` the time at or
    before which an event is late that this close is the first to see.
    """

    def __init__(self, manifest: Manifest, closes: Sequence[Close], contracts: Mapping[str, Contract]) -> None:
        """Bind the closes of the manifest's chain and the contracts of the versions in use."""
        self.closes = closes
        self.contracts = contracts
        self.end = len(closes)
        self.least_lateness = min((close.allowed_lateness for close in closes), default=0)
        self._through = [close.closed_through for close in closes]
        self._offsets = {
            topic.name: [close.next_offsets.get(topic.name, 0) for close in closes]
            for topic in manifest.topics.values()
        }
        self.reach: dict[str, list[int]] = {}
        self.gone_by: dict[str, list[int]] = {}
        self._decided: dict[str, int] = {}
        uses: dict[str, list[tuple[int, int]]] = {}
        for version, use in manifest.contracts.items():
            if version in contracts:
                begin = min(self.arrival(topic, first) for topic, (first, _) in use.offsets.items())
                uses.setdefault(use.flag_key, []).append((begin, contracts[version].window_us))
        for flag, windows in uses.items():
            self._follow(flag, windows)

    def arrival(self, topic: str, offset: int) -> int:
        """Return the first close that had read the offset; `end` if none has."""
        return bisect_right(self._offsets[topic], offset)

    def reaching(self, instant: int, after: int) -> int:
        """Return the first close after that one which decided everything up to the instant; `end` if none has."""
        return max(bisect_left(self._through, instant), after + 1)

    def horizons(self) -> dict[str, HorizonState]:
        """Return what the newest manifest should say of each flag."""
        return {
            flag: HorizonState(longest_window=self.reach[flag][-1], decided_through=self._decided.get(flag))
            for flag in self.reach
        }

    def _follow(self, flag: str, windows: Sequence[tuple[int, int]]) -> None:
        """Find the flag's past; `windows` are those of its versions, each with the close that first used it."""
        reach: list[int] = []
        gone_by: list[int] = []
        decided, before = _NEVER, _NEVER
        for index, close in enumerate(self.closes):
            longest = max((window for begin, window in windows if begin <= index), default=0)
            reach.append(longest)
            gone_by.append(max(decided, before - longest - close.allowed_lateness))
            before = close.closed_through
            if any(begin <= index for begin, _ in windows):
                decided = max(decided, before - longest - close.allowed_lateness)
        self.reach[flag] = [*reach, max(window for _, window in windows)]  # the last: what is read and not closed yet
        self.gone_by[flag] = gone_by
        if decided != _NEVER:
            self._decided[flag] = decided
