"""What an audit found: one line a check, with counts and a few examples, and a verdict."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = ["CHECKS", "Check", "CheckName", "Findings"]

CheckName = Literal[
    "manifests",
    "contracts",
    "files",
    "footers",
    "strays",
    "account",
    "totals",
    "closes",
    "input",
    "refused",
    "facts",
    "events",
    "unjoined",
    "open",
    "dead letters",
    "copies",
]

CHECKS: Final[dict[CheckName, str]] = {
    "manifests": "every manifest that is kept can be read and goes on from the one before",
    "contracts": "every contract version in use has its text in the lake",
    "files": "every file that a manifest names is there, with its size and CRC-32",
    "footers": "rows, columns, day and metadata of each file are what its manifest and its name say",
    "strays": "no table holds a file that no manifest names",
    "account": "every offset that was read has exactly one fate, or is open once",
    "totals": "the running totals of the manifests are the rows of the files",
    "closes": "closes go forward, and end where the manifest says",
    "input": "the topics still hold what was read, and no record was passed over",
    "refused": "what was refused is what breaks the contract, for a reason that applies",
    "facts": "every metric window that was closed has its fact, computed anew from the topics",
    "events": "every event that belongs to a fact is there once, with what its record says",
    "unjoined": "every decided event that belongs to no fact is there once, with its reason",
    "open": "every event that is not decided is in a live segment",
    "dead letters": "every refused, late or unexposed record has its dead letter, with its content",
    "copies": "every rerouted record has its copy in the right partition",
}
"""What each check states, in the order in which they are shown."""

_EXAMPLES: Final = 5  # shown of each check


@dataclass(frozen=True, slots=True)
class Check:
    """One check: how much was looked at, what was wrong by kind, some examples, and what could not be done."""

    name: CheckName
    counts: dict[str, int]
    wrong: dict[str, int]
    examples: tuple[str, ...]
    undone: tuple[str, ...]

    @property
    def status(self) -> Literal["ok", "wrong", "not done"]:
        """Whether it found something wrong, or could not look (at everything)."""
        if self.wrong:
            return "wrong"
        return "not done" if self.undone else "ok"

    def lines(self) -> Iterator[str]:
        """Yield its line, and one for each example of what is wrong."""
        told = [f"{what} {count:,}" for what, count in (*self.counts.items(), *self.wrong.items())]
        yield f"{self.name:<13} {self.status.upper() if self.wrong else self.status:<9} {', '.join(told)}".rstrip()
        for example in self.examples:
            yield f"{'':<24}{example}"

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "check": self.name,
            "states": CHECKS[self.name],
            "status": self.status,
            "counts": self.counts,
            "wrong": self.wrong,
            "examples": list(self.examples),
            "not_done": list(self.undone),
        }


@dataclass(slots=True)
class _Told:
    counts: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    undone: dict[str, None] = field(default_factory=dict)


class Findings:
    """What was found so far, of one partition or of a lake."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.told: dict[CheckName, _Told] = {name: _Told() for name in CHECKS}

    def did(self, check: CheckName, what: str, count: int = 1) -> None:
        """Count what was looked at."""
        self.told[check].counts[what] += count

    def wrong(self, check: CheckName, what: str, example: str, count: int = 1) -> None:
        """Count what is wrong, of which `example` is one."""
        told = self.told[check]
        told.wrong[what] += count
        if len(told.examples) < _EXAMPLES:
            told.examples.append(f"{what}: {example}")

    def undone(self, why: str, *checks: CheckName) -> None:
        """Take note that the checks could not be done, or not for everything."""
        for check in checks:
            self.told[check].undone[why] = None

    def add(self, other: "Findings") -> None:
        """Add what was found elsewhere."""
        for check, told in self.told.items():
            more = other.told[check]
            told.counts.update(more.counts)
            told.wrong.update(more.wrong)
            told.undone.update(more.undone)
            told.examples = (told.examples + more.examples)[:_EXAMPLES]

    def checks(self) -> tuple[Check, ...]:
        """Return the checks, in their order."""
        return tuple(
            Check(name, dict(told.counts), dict(told.wrong), tuple(told.examples), tuple(told.undone))
            for name, told in self.told.items()
        )
