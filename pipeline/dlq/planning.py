"""The plan of a replay: every chosen letter with what is to become of it, before anything is sent."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from contracts.columns import KINDS
from contracts.dead_letters import TIMESTAMP_HEADER
from contracts.decode import Decoder
from contracts.events import Kind
from contracts.placement import murmur2_partition
from pipeline.dlq.decisions import MEANINGS, REFUSALS, Code, Decision, Fate, Known, Policy, Sent, Subject, decide
from pipeline.dlq.filters import Filter
from pipeline.dlq.histogram import bars, histogram
from pipeline.dlq.judging import Event, Verdict, judge
from pipeline.dlq.lateness import Past
from pipeline.dlq.letters import Letter, named, read_letter
from pipeline.dlq.places import Place
from pipeline.dlq.reading import Bounds, Reader
from pipeline.terminal import safe, shortened

__all__ = ["Facts", "Plan", "Targets", "make_plan"]

_EXAMPLES: Final = 3  # of each decision that needs a reason
_WIDEST: Final = 160  # characters of a reason

_Progress = Callable[[int, int], None]


class Facts(Protocol):
    """What a lake must tell: see `pipeline.dlq.lake.LakeState`."""

    @property
    def topics(self) -> frozenset[str]:
        """The topics whose records it reads."""

    def partitions(self, topic: str) -> int:
        """Return how many partitions one of these topics has."""

    def fates(self, origins: Sequence[Place]) -> Mapping[Place, tuple[Fate, str]]:
        """Return what became of each record."""

    def pasts(self, units: Mapping[tuple[str, str], int]) -> Mapping[tuple[str, str], Past]:
        """Return what is decided of each flag and unit; `units` tells the partition of each."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Where the records of each topic go again."""

    topics: Sequence[str]
    """Of the pipeline: exposures, outcomes, guardrails."""
    to: Mapping[str, str] = field(default_factory=dict)
    """By topic of the record that failed; the empty name stands for all others."""

    def of(self, letter: Letter) -> str | None:
        """Return the topic to send the letter's record to; None where nobody says."""
        named_topic = self.to.get(letter.topic or "", self.to.get(""))
        return named_topic or (letter.topic if letter.topic in self.topics else None)

    def kind(self, letter: Letter) -> Kind | None:
        """Return the kind of event that the letter's record is to be; None where nobody says."""
        kinds: Mapping[str | None, Kind] = dict(zip(self.topics, KINDS, strict=True))
        return kinds.get(self.of(letter)) or kinds.get(letter.topic)


@dataclass(slots=True)
class Plan:
    """What is to become of each letter; about a kilobyte a letter."""

    decided: list[tuple[Subject, Decision]] = field(default_factory=list)

    @property
    def counts(self) -> Counter[Code]:
        """How many letters have each decision."""
        return Counter(decision.code for _, decision in self.decided)

    @property
    def refused(self) -> bool:
        """Whether something that was asked for will not be done."""
        return any(code in REFUSALS for code in self.counts)

    def todo(self) -> list[tuple[Subject, Code]]:
        """Return the letters to send or park."""
        return [(subject, decision.code) for subject, decision in self.decided if decision.code in {"send", "park"}]

    def examples(self, code: Code) -> list[tuple[Place, str]]:
        """Return some letters with this decision, and the reason of each."""
        return [(subject.identity, decision.why) for subject, decision in self.decided if decision.code == code][
            :_EXAMPLES
        ]

    def times(self) -> list[int]:
        """Return the event times (µs) of what is to be sent."""
        return [
            subject.verdict.event_time
            for subject, decision in self.decided
            if decision.code == "send" and isinstance(subject.verdict, Event)
        ]

    def lines(self) -> Iterator[str]:
        """Yield what is planned, for a terminal."""
        counts = self.counts
        yield f"{len(self.decided):,} dead letters chosen"
        widest = len(f"{max(counts.values(), default=0):,}")
        for code in (code for code in MEANINGS if counts[code]):
            yield f"  {code:<14} {counts[code]:>{widest},}  {MEANINGS[code]}"
            for identity, why in self.examples(code) if code in REFUSALS or code == "park" else ():
                told = f"{identity}: {why}" if why else str(identity)
                yield f"  {'':<14} {'':>{widest}}  {safe(shortened(told, _WIDEST))}"
        spread = bars(histogram(self.times()))
        if spread:
            yield "by event time, what is to be sent"
            yield from (f"  {bar}" for bar in spread)

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "chosen": len(self.decided),
            "decisions": {code: self.counts[code] for code in MEANINGS if self.counts[code]},
            "examples": {
                code: [{"letter": str(identity), "why": why} for identity, why in self.examples(code)]
                for code in MEANINGS
                if self.counts[code]
            },
            "histogram": [each._asdict() for each in histogram(self.times())],
        }


def make_plan(  # noqa: PLR0913 - what is read, what is asked for, and what is known
    reader: Reader,
    spans: Mapping[tuple[str, int], Bounds],
    *,
    chosen: Filter,
    targets: Targets,
    decoder: Decoder,
    lake: Facts,
    sent: AbstractSet[Sent],
    policy: Policy,
    most: int | None,
    now: int,
    progress: _Progress = lambda _done, _all: None,
) -> Plan:
    """Read those dead letters and decide about each one that is chosen; nothing is changed anywhere.

    `sent` is what earlier replays sent, `most` how many are to be sent at most, `now` the time in µs. Raises
    KafkaUnavailable.
    """
    subjects = _subjects(reader, spans, chosen, targets, decoder, now, progress)
    here = [subject for subject in subjects if subject.target in lake.topics]
    known = Known(
        topics=lake.topics,
        fates=lake.fates([subject.origin for subject in here if subject.origin is not None]),
        pasts=lake.pasts(_units(here, lake)),
        sent=sent,
    )
    plan, met, left = Plan(), set[tuple[Place, str | None]](), most
    for subject in subjects:
        decision = decide(subject, known, policy)
        if (subject.identity, subject.target) in met:
            decision = Decision("repeated")
        elif decision.code in {"send", "park"} and left is not None:
            decision = decision if left > 0 else Decision("over_max")
            left -= decision.code != "over_max"
        if not subject.cut:  # another copy of it may be whole
            met.add((subject.identity, subject.target))
        plan.decided.append((subject, decision))
    return plan


def _subjects(  # noqa: PLR0913, PLR0917 - see make_plan
    reader: Reader,
    spans: Mapping[tuple[str, int], Bounds],
    chosen: Filter,
    targets: Targets,
    decoder: Decoder,
    now: int,
    progress: _Progress,
) -> list[Subject]:
    total, done = sum(end - first for first, end in spans.values()), 0
    subjects = []
    for records in reader.read(spans):
        letters = [letter for letter in (read_letter(*each) for each in records) if chosen.matches(letter)]
        kinds = [(kind, letter) for letter in letters if (kind := targets.kind(letter)) is not None and not letter.cut]
        verdicts: dict[Place, Verdict] = dict(
            zip((letter.place for _, letter in kinds), judge(decoder, kinds, now), strict=True)
        )
        subjects += [
            Subject(
                place=letter.place,
                identity=letter.identity,
                origin=letter.origin,
                replays=letter.replays,
                cut=letter.cut,
                timed=_timed(letter),
                target=targets.of(letter),
                verdict=verdicts.get(letter.place),
            )
            for letter in letters
        ]
        done += len(records)
        progress(done, total)
    return subjects


def _timed(letter: Letter) -> bool:
    """Return whether the record's event time is known after all."""
    marked = any(name == TIMESTAMP_HEADER for name, _ in letter.headers)
    return letter.timestamp is not None or marked or named(letter.value, letter.headers).timed


def _units(subjects: Sequence[Subject], lake: Facts) -> dict[tuple[str, str], int]:
    """Return the partition of each flag and unit that is to come again."""
    events = [(each.verdict, each.target) for each in subjects if isinstance(each.verdict, Event) and each.target]
    units: dict[tuple[str, str], int] = {}
    for topic in {target for _, target in events}:
        of = [event for event, target in events if target == topic]
        places = murmur2_partition([event.unit_id for event in of], lake.partitions(topic)).tolist()
        units |= {(event.flag_key, event.unit_id): place for event, place in zip(of, places, strict=True)}
    return units


def full_spans(places: Sequence[Place]) -> dict[tuple[str, int], Bounds]:
    """Return, for each partition, the span from the first of the places to the last."""
    spans: dict[tuple[str, int], Bounds] = {}
    for topic, partition, offset in places:
        first, end = spans.get((topic, partition), Bounds(offset, offset + 1))
        spans[topic, partition] = Bounds(min(first, offset), max(end, offset + 1))
    return spans
