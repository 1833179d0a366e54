"""The guarantees as pages: the table in the README, and docs/guarantees.md with each test and the rounds of chaos."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tests.chaos.rounds import Rounds
from tests.guarantees.proofs import Guarantee, Passed, Proof

__all__ = ["page", "table", "with_table"]

_NEVER: Final = "never"
_HEAD: Final = ("| | What holds | Shown by | Last shown |", "|---|---|---|---|")
_TABLE: Final = re.compile(r"^\| \| What holds \|.*\n(?:\|.*\n)+", re.MULTILINE)


def table(guarantees: Iterable[Guarantee], record: Mapping[str, Passed]) -> str:
    """Return the README's table: a line a guarantee, with its tests and the day since when all of them have passed."""
    lines = [*_HEAD]
    for guarantee in guarantees:
        tests = ", ".join(f'[{proof.what}]({proof.file} "{proof.test}")' for proof in guarantee.proofs)
        lines.append(f"| **{guarantee.name}** | {guarantee.promise} | {tests} | {_since(guarantee, record)} |")
    return "\n".join(lines) + "\n"


def with_table(readme: str, made: str) -> str:
    """Return the README with this table in the place of the one it has."""
    text, count = _TABLE.subn(lambda _: made, readme)
    assert count == 1, "the README has no table of guarantees"
    return text


def page(guarantees: Iterable[Guarantee], record: Mapping[str, Passed], rounds: Sequence[Rounds]) -> str:
    """Return docs/guarantees.md."""
    parts = [_INTRODUCTION]
    for guarantee in guarantees:
        rows = "".join(_row(proof, record.get(proof.id)) for proof in guarantee.proofs)
        parts.append(f"## {guarantee.name}\n\n{guarantee.promise}\n\n{_COLUMNS}{rows}")
    rows = "".join(
        f"| {each.date} | {each.seed} | {each.rounds} | {each.kills} | {each.clean} | {each.kills_in_clean} |\n"
        for each in rounds
    )
    return "\n".join([*parts, f"{_ROUNDS}{rows}"])


def _since(guarantee: Guarantee, record: Mapping[str, Passed]) -> str:
    runs = [record.get(proof.id) for proof in guarantee.proofs]
    return min((run.date if run else _NEVER for run in runs), default=_NEVER) if all(runs) else _NEVER


def _row(proof: Proof, run: Passed | None) -> str:
    told = f"{run.cases} | {run.date}" if run else f"0 | {_NEVER}"
    return f"| {proof.what} | [`{proof.test}`](../{proof.file}) | {told} |\n"


_INTRODUCTION: Final = """\
# Guarantees

`make guarantees` runs the tests below and writes this page, and the table in the [README](../README.md), from what it
saw. A date is that of the last run in which all cases of the test passed; a property counts as one case, whatever the
number of its examples. `make test` fails where a guarantee has no test, or one that does not exist or never passed.
"""

_COLUMNS: Final = "| what | test | cases | last passed |\n|---|---|---|---|\n"

_ROUNDS: Final = """\
## Rounds of chaos

The long form (`make chaos`): three workers on six partitions of Apache Kafka, 25 faults a round, by seed; what a round
does is told in [tests/chaos](../tests/chaos/README.md). Clean: nothing lost, nothing doubled, every fact as expected,
`evidence verify` finds nothing.

| date | seed | rounds | SIGKILLs | rounds judged clean | SIGKILLs in those |
|---|---|---|---|---|---|
"""
