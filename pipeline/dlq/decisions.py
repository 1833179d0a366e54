"""What is to become of a dead letter that someone wants replayed: a pure decision, with its reason.

A record is sent again only if that can do some good. What the lake has joined, or a replay has sent, is passed over;
what would be refused or be late again stays where it is, so that no record goes round in circles; and what has been
replayed too often is parked, for someone to look at.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from pipeline.dlq.judging import Event, Refused, Verdict
from pipeline.dlq.lateness import NOTHING, Past, only_late
from pipeline.dlq.places import Place

__all__ = ["MEANINGS", "REFUSALS", "Code", "Decision", "Fate", "Known", "Policy", "Sent", "Subject", "decide"]

Code = Literal[
    "send",
    "park",
    "over_max",
    "repeated",
    "replayed",
    "parked",
    "joined",
    "decided",
    "undecided",
    "truncated",
    "no_origin",
    "no_time",
    "refused_again",
    "late",
]

MEANINGS: Final[Mapping[Code, str]] = {
    "send": "to be sent",
    "park": "replayed too often: to be parked in the .dlq.parked topic",
    "over_max": "beyond --max: run it again for these",
    "repeated": "copies of a letter among these",
    "replayed": "sent by an earlier replay",
    "parked": "parked by an earlier replay",
    "joined": "in a fact already: the letter is spurious",
    "decided": "valid, and decided by the lake: a duplicate, after its window, or copied to the right partition",
    "undecided": "not decided by the lake yet: run it again after the next checkpoint, or close",
    "truncated": "only a part of the value is left: publish them anew",
    "no_origin": "of no topic of this pipeline: name one with --to",
    "no_time": "without a time of their own, which the letter has lost: publish them anew",
    "refused_again": "would be refused again: mend the flag file or the service, or add --anyway",
    "late": "can only be late again: replay them --to the topics of a new lake, or add --anyway",
}
"""What each decision says of its letters, in the order in which people are told."""

REFUSALS: Final[frozenset[Code]] = frozenset(
    {"undecided", "truncated", "no_origin", "no_time", "refused_again", "late"}
)
"""Decisions that leave undone what was asked for."""

Fate = Literal["joined", "unjoined", "refused", "open", "ahead", "unseen"]
"""What a lake says of an offset: `ahead` of what it has read; `unseen` where it never read the topic there."""

Sent = tuple[str, str]
"""A letter's identity, and the topic that its record was sent to."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What of a letter a decision depends on; small, so that many fit into memory."""

    place: Place
    identity: Place
    origin: Place | None
    replays: int
    cut: bool
    timed: bool
    """Whether its event time is known."""
    target: str | None
    """The topic to send it to; None where that is unknown."""
    verdict: Verdict | None
    """None where nobody can tell, for the kind of event is unknown."""


class Decision(NamedTuple):
    """What to do, and why, in a line of its own for this letter."""

    code: Code
    why: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """What whoever is on call allows."""

    anyway: bool = False
    """Send also what would be refused or late again."""
    max_replays: int = 3
    parked_suffix: str = ".parked"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of all letters together."""

    topics: AbstractSet[str]
    """Those whose records the lake reads."""
    fates: Mapping[Place, tuple[Fate, str]]
    """Of each origin: what became of it, and the reason."""
    pasts: Mapping[tuple[str, str], Past]
    """By flag and unit."""
    sent: AbstractSet[Sent]
    """By earlier replays."""


def decide(subject: Subject, known: Known, policy: Policy) -> Decision:
    """Decide about one letter; copies of it are the caller's to tell."""
    target = subject.target
    if subject.cut:
        return Decision("truncated")
    if target is None:
        return Decision("no_origin", "its headers name no topic of this pipeline")
    return (
        _sent(subject, target, known, policy)
        or (_decided(subject, known) if target in known.topics else None)
        or (None if subject.timed else Decision("no_time"))
        or (None if policy.anyway else _in_vain(subject, target, known))
        or (
            Decision("park", f"replayed {subject.replays} times")
            if subject.replays >= policy.max_replays
            else Decision("send")
        )
    )


def _sent(subject: Subject, target: str, known: Known, policy: Policy) -> Decision | None:
    """Return the decision about a letter that an earlier replay has dealt with."""
    identity = str(subject.identity)
    if (identity, target) in known.sent:
        return Decision("replayed")
    return Decision("parked") if (identity, subject.place.topic + policy.parked_suffix) in known.sent else None


def _decided(subject: Subject, known: Known) -> Decision | None:
    """Return the decision about a record that its lake has taken, or may yet take."""
    match known.fates.get(subject.origin, ("unseen", "")) if subject.origin else ("unseen", ""):
        case "joined", _:
            return Decision("joined")
        case "open", _:
            return Decision("undecided", "it is open")
        case "ahead", _:
            return Decision("undecided", "the lake has not come so far")
        case (("unjoined" | "refused"), ("duplicate" | "outside_window" | "rerouted") as reason):
            return Decision("decided", reason)
        case _:
            return None


def _in_vain(subject: Subject, target: str, known: Known) -> Decision | None:
    """Return the decision about a record that would only come back."""
    match subject.verdict:
        case Refused(reason, message):
            return Decision("refused_again", f"{reason}: {message}")
        case Event() as event if target in known.topics:
            late = only_late(event, known.pasts.get((event.flag_key, event.unit_id), NOTHING))
            return Decision("late", late) if late is not None else None
        case _:
            return None
