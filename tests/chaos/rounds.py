"""The ledger of seeded rounds, `rounds.jsonl`: one line for each run of the long form."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["LEDGER", "Rounds", "append", "kills_of", "read_rounds", "rounds_of"]

LEDGER: Final = Path(__file__).parent / "rounds.jsonl"


@dataclass(frozen=True, slots=True)
class Rounds:
    """The rounds of one seed on one day; `kills` are SIGKILLs, a round is clean if its verdict found nothing."""

    date: str
    seed: int
    rounds: int
    kills: int
    clean: int
    kills_in_clean: int


def kills_of(done: Mapping[str, int]) -> int:
    """Return how many SIGKILLs there are among the faults of a round, at named points and at random times."""
    return sum(count for fault, count in done.items() if fault.startswith("SIGKILL"))


def rounds_of(date: str, seed: int, outcomes: Iterable[Mapping[str, Any]]) -> Rounds:
    """Sum up the outcomes of rounds, as the long form writes them."""
    kills = [(kills_of(each["done"]), each["failed"] is None) for each in outcomes]
    clean = [count for count, is_clean in kills if is_clean]
    return Rounds(date, seed, len(kills), sum(count for count, _ in kills), len(clean), sum(clean))


def append(rounds: Rounds, ledger: Path = LEDGER) -> None:
    """Write a line more."""
    with ledger.open("a") as lines:
        lines.write(json.dumps(asdict(rounds)) + "\n")


def read_rounds(ledger: Path = LEDGER) -> list[Rounds]:
    """Return all lines; none if there is no file."""
    return [Rounds(**json.loads(line)) for line in ledger.read_text().splitlines()] if ledger.exists() else []
