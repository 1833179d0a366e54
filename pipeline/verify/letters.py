"""The records that owe a dead letter, or were refused without: by offset, in some twenty bytes each."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from contracts.dead_letters import without_ours
from pipeline.verify.report import Findings
from pipeline.verify.topics import Record

__all__ = ["BY_CLOSE", "Refusals", "digest_of"]

BY_CLOSE: Final = frozenset({"late", "no_exposure"})
"""Reasons of unjoined events that have a dead letter."""

_UNKNOWN: Final = -1  # digest of a record that was not read
_NONE, _ALTERED, _RIGHT = range(3)  # what was seen of a dead letter


@dataclass(slots=True)
class _Topic:
    offsets: npt.NDArray[np.int64]
    reasons: npt.NDArray[np.int16]
    record_times: npt.NDArray[np.int64]
    digests: npt.NDArray[np.int64]
    met: npt.NDArray[np.bool_]
    letters: npt.NDArray[np.int8]


class Refusals:
    """What the lake says of records that were refused on reading, or by a close with a dead letter."""

    def __init__(self, partition: int) -> None:
        """Begin with none."""
        self._partition = partition
        self._codes: dict[str, int] = {}
        self._parts: dict[str, list[tuple[npt.NDArray[np.int64], ...]]] = {}
        self._topics: dict[str, _Topic] = {}

    def add(self, topic: str, offsets: Sequence[int], reasons: Sequence[str], record_times: Sequence[int]) -> None:
        """Take note of records; all of them before the first question."""
        codes = [self._codes.setdefault(reason, len(self._codes)) for reason in reasons]
        self._parts.setdefault(topic, []).append(
            tuple(np.array(each, np.int64) for each in (offsets, codes, record_times))
        )

    def between(self, topic: str, first: int, last: int) -> dict[int, tuple[str, int, int]]:
        """Return reason, record time and place of those refused on reading in the range, both ends included."""
        of, names = self._of(topic), list(self._codes)
        begin, end = np.searchsorted(of.offsets, [first, last + 1])
        rows = zip(
            of.offsets[begin:end].tolist(),
            of.reasons[begin:end].tolist(),
            of.record_times[begin:end].tolist(),
            range(int(begin), int(end)),
            strict=True,
        )
        return {offset: (names[code], time, place) for offset, code, time, place in rows}

    def meet(self, topic: str, place: int, record: Record) -> None:
        """Keep what the record holds, to compare its dead letter."""
        of = self._of(topic)
        of.met[place] = True
        of.digests[place] = digest_of(record.key, record.value, record.headers)

    def unmet(self, topic: str, start: int) -> tuple[int, int]:
        """Return how many were refused on reading but not met from `start` on, and the offset of one."""
        of = self._of(topic)
        closes = [code for reason, code in self._codes.items() if reason in BY_CLOSE]
        unmet = ~of.met & ~np.isin(of.reasons, closes) & (of.offsets >= start)
        return int(unmet.sum()), int(of.offsets[np.argmax(unmet)]) if unmet.any() else 0

    def rerouted(self, topic: str) -> npt.NDArray[np.int64]:
        """Return the offsets of those that were copied to another partition."""
        of = self._of(topic)
        rerouted: npt.NDArray[np.int64] = of.offsets[of.reasons == self._codes.get("rerouted", -1)]
        return rerouted

    def receive(self, topic: str, letters: Iterable[Record], findings: Findings) -> None:
        """Look at dead letters of the topic; those that nobody owes are spurious, and no fault."""
        of, names = self._of(topic), list(self._codes)
        here = self._partition
        for letter in letters:
            headers = dict(letter.headers)
            findings.did("dead letters", "letters")
            origin = _origin(headers)
            place = int(np.searchsorted(of.offsets, origin[2])) if origin is not None else 0
            if (
                origin is None
                or origin[:2] != (topic, here)
                or place == len(of.offsets)
                or of.offsets[place] != origin[2]
                or headers.get("evidence.dlq.reason") != names[of.reasons[place]].encode()
            ):
                findings.did("dead letters", "spurious")
                continue
            expected = int(of.digests[place])
            right = (
                expected == _UNKNOWN
                or headers.get("evidence.dlq.truncated") == b"true"
                or expected == digest_of(letter.key, letter.value, letter.headers)
            )
            of.letters[place] = max(of.letters[place], _RIGHT if right else _ALTERED)

    def judge(self, topic: str, findings: Findings, first_letter: int) -> None:
        """Tell what dead letters are missing or altered; `first_letter` is the first offset their topic still has."""
        of = self._of(topic)
        owed = of.reasons != self._codes.get("rerouted", -1)
        findings.did("dead letters", "owed", int(owed.sum()))
        missing, altered = owed & (of.letters == _NONE), owed & (of.letters == _ALTERED)
        for what, where in ("missing", missing), ("altered", altered):
            if count := int(where.sum()):
                place = int(np.argmax(where))
                reason = list(self._codes)[of.reasons[place]]
                told = f"{topic} [{self._partition}] offset {of.offsets[place]}, {reason}"
                if what == "missing" and first_letter > 0:
                    why = f"{topic}.dlq [{self._partition}] begins at offset {first_letter}: {count:,} cannot be told"
                    findings.undone(why, "dead letters")
                else:
                    findings.wrong("dead letters", what, told, count)

    def _of(self, topic: str) -> _Topic:
        if topic not in self._topics:
            parts = self._parts.pop(topic, [])
            columns = [np.concatenate(each) for each in zip(*parts, strict=True)] or [np.zeros(0, np.int64)] * 3
            order = np.argsort(columns[0], kind="stable")
            offsets, reasons, times = (column[order] for column in columns)
            self._topics[topic] = _Topic(
                offsets=offsets,
                reasons=reasons.astype(np.int16),
                record_times=times,
                digests=np.full(len(offsets), _UNKNOWN),
                met=np.zeros(len(offsets), np.bool_),
                letters=np.zeros(len(offsets), np.int8),
            )
        return self._topics[topic]


def digest_of(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> int:
    """Return a checksum of all that a dead letter keeps of its record."""
    return zlib.crc32(repr((key, value, without_ours(headers))).encode())


def _origin(headers: dict[str, bytes | None]) -> tuple[str, int, int] | None:
    topic, partition, offset = (headers.get(f"__dlq.errors.{part}") or b"" for part in ("topic", "partition", "offset"))
    if not (partition.isdigit() and offset.isdigit()):
        return None
    return topic.decode(errors="replace"), int(partition), int(offset)
