"""`evidence contracts diff`: what changed between two states of the flag files, as lines and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.changes import Change, changes, rewritten
from contracts.flags import ContractBook
from contracts.impacts import EFFECTS, Effect
from pipeline.contracts.files import book, find, read
from pipeline.contracts.revisions import is_revision, read_revision
from pipeline.terminal import safe

__all__ = ["Diff", "compare"]

_WORDS: dict[Effect, str] = {"breaking": "breaking", "epoch": "new epoch", "additive": "additive"}


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed, worst first, and the flags of which only the text did."""

    changes: Sequence[Change]
    rewritten: Sequence[str]

    @property
    def worst(self) -> Effect | None:
        """The worst effect; None where nothing changed."""
        return max((change.effect for change in self.changes), key=EFFECTS.index, default=None)

    def fails(self, on: Effect | None) -> bool:
        """Return whether a change is as bad as `on`, or worse."""
        return on is not None and self.worst is not None and EFFECTS.index(self.worst) >= EFFECTS.index(on)

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "worst": self.worst,
            "changes": [change.as_json() for change in self.changes],
            "rewritten": list(self.rewritten),
        }

    def lines(self) -> Iterator[str]:
        """Yield it for people, harmless to a terminal."""
        for change in self.changes:
            yield safe(f"{change.file}:{change.line}: {_WORDS[change.effect]}: {change.field}: {change.what}")
            yield f"    {change.means}"
            if change.remedy != "nothing to do":
                yield f"    do: {change.remedy}"
        for flag in self.rewritten:
            yield safe(f"{flag}: only words, comments or layout of the file changed: a new version, the same epoch")
        counts = [f"{sum(c.effect == effect for c in self.changes)} {_WORDS[effect]}" for effect in reversed(EFFECTS)]
        yield ", ".join(counts) if self.changes else "no change of a contract"


def compare(old: str, new: str, now_us: int) -> Diff:
    """Compare two flag files, or two directories of them, as they are or as they were at a revision of git.

    Raises SettingsError or ContractError for what is no such.
    """
    before, after = _book(old), _book(new)
    return Diff(changes(before, after, now_us), rewritten(before, after))


def _book(place: str) -> ContractBook:
    if is_revision(place) and not Path(place).exists():
        return book(read_revision(place))
    return book(read(find([Path(place)])))
