"""The account of one partition: how often each offset was given a fate, in a byte or two an offset, on disk."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline.verify.report import Findings
from sinks.manifest import Manifest, Range

__all__ = ["Account"]

Offsets = npt.NDArray[np.int64]

_AT_ONCE: Final = 1 << 22  # offsets judged at a time
_OVERDUE: Final = 0x80  # marks an open event that the rules say is decided


class Account:
    """Counts the fates of the offsets `[first_offset, next_offset)` of each topic."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        """Begin with none; the counts are kept below the directory."""
        self._topics = {topic.name: (topic.first_offset, topic.next_offset) for topic in manifest.topics.values()}
        self._partition = manifest.partition
        self._decided = {name: self._counts(directory / f"{place}.d", name) for place, name in enumerate(self._topics)}
        self._open = {name: self._counts(directory / f"{place}.o", name) for place, name in enumerate(self._topics)}
        self._beyond: dict[str, list[int]] = {}

    def decided(self, topic: str, offsets: Offsets) -> None:
        """Take note of offsets with a fate."""
        np.add.at(*self._placed(self._decided, topic, offsets), 1)

    def open(self, topic: str, offsets: Offsets, overdue: npt.NDArray[np.bool_]) -> None:
        """Take note of offsets in a live segment, and of which it is known that a close has decided them."""
        np.add.at(*self._placed(self._open, topic, offsets), 1)
        counts, places = self._placed(self._open, topic, offsets[overdue])
        counts[places] |= _OVERDUE

    def undelivered(self, topic: str, ranges: Iterable[Range]) -> None:
        """Take note of offsets that hold no record."""
        first, following = self._topics[topic]
        for begin, end in ranges:
            self._decided[topic][max(begin, first) - first : max(min(end, following) - first, 0)] += 1

    def judge(self, findings: Findings) -> dict[str, int]:
        """Tell what is wrong; return how many offsets are open, by topic."""
        still_open = {}
        for topic, (first, following) in self._topics.items():
            still_open[topic] = 0
            for begin in range(0, following - first, _AT_ONCE):
                end = min(begin + _AT_ONCE, following - first)
                decided = np.asarray(self._decided[topic][begin:end])
                listed = np.asarray(self._open[topic][begin:end])
                times = listed & ~np.uint8(_OVERDUE)
                overdue = (listed & _OVERDUE > 0) & (decided == 0)
                found = {
                    "with two fates": decided > 1,
                    "twice in segments": times > 1,
                    "without fate": ((decided == 0) & (times == 0)) | overdue,
                }
                for what, where in found.items():
                    if count := int(where.sum()):
                        place = first + begin + int(np.argmax(where))
                        findings.wrong("account", what, f"{topic} [{self._partition}] offset {place}", count)
                still_open[topic] += int(((decided == 0) & (times > 0)).sum())
            findings.did("account", "offsets", following - first)
        for topic, offsets in self._beyond.items():
            example = f"{topic} [{self._partition}] offset {offsets[0]}"
            findings.wrong("account", "never read", example, len(offsets))
        findings.did("account", "open", sum(still_open.values()))
        return still_open

    def _placed(
        self, counts: dict[str, npt.NDArray[np.uint8]], topic: str, offsets: Offsets
    ) -> tuple[npt.NDArray[np.uint8], Offsets]:
        if topic not in self._topics:
            self._beyond.setdefault(topic, []).extend(offsets.tolist())
            return np.zeros(1, np.uint8), offsets[:0]
        first, following = self._topics[topic]
        within = (offsets >= first) & (offsets < following)
        if not within.all():
            self._beyond.setdefault(topic, []).extend(offsets[~within].tolist())
            offsets = offsets[within]
        return counts[topic], offsets - first

    def _counts(self, file: Path, topic: str) -> npt.NDArray[np.uint8]:
        first, following = self._topics[topic]
        return np.memmap(file, np.uint8, "w+", shape=(max(following - first, 1),))
