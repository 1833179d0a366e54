"""Run many random streams: `python -m tests.properties.simulate STREAMS SEED`.

Each stream has sixteen units, which do not touch each other. In two orders of arrival and with different closes,
the oracle must publish the same for a stream without late events; and the close must agree with the oracle, close by
close, on streams with late events, without, and with contracts whose windows grow. The first disagreements are printed,
reduced to the steps they need. Exits 1 when there is one.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from contracts.flags import Contract
from tests.properties.comparing import differences, fates, without_offsets
from tests.properties.flags import GROWING, STEADY
from tests.properties.oracle import Rows
from tests.properties.running import disagreements, homeless_alike, oracle_rows, with_last_close
from tests.properties.streams import (
    Arrive,
    Close,
    Seeded,
    Step,
    any_steps,
    draw_events,
    in_order_of_arrival,
    punctual_steps,
    steps_with_growth,
)

__all__ = ["main", "reduced", "stream"]

UNITS: Final = 16
EVENTS: Final = 240
_SHOWN: Final = 3
_STEPS: Final = 400  # what is printed of a disagreement is read by people


def reduced(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """Return as few of the steps as still fail, by leaving out ever smaller runs of them."""
    kept, size = list(steps), max(1, len(steps) // 2)
    while size:
        start, shorter = 0, False
        while start < len(kept):
            attempt = kept[:start] + kept[start + size :]
            if fails(attempt):
                kept, shorter = attempt, True
            else:
                start += size
        size = size if shorter and size == 1 else size // 2
    return kept


def _unordered(seed: int) -> list[str]:
    """Return how one punctual stream differs between two orders of arrival."""
    choices = Seeded(seed)
    events = draw_events(choices, EVENTS, UNITS, EVENTS, by_body=True)
    often = oracle_rows(with_last_close(punctual_steps(choices, events)))
    once = oracle_rows(with_last_close([Arrive(e) for e in in_order_of_arrival(choices.shuffle(events))]))
    twice = [f"{record} has {count} fates" for record, count in fates(often).items() if count != 1]
    return differences(without_offsets(once), without_offsets(often)) + twice


def stream(seed: int) -> tuple[str, list[Step], Sequence[Contract], Callable[[Rows], Rows]]:
    """Return a stream of many units, some ten closes long.

    That is its kind, its steps, the contracts in use from the start, and how its rows are compared.
    """
    choices = Seeded(seed)
    kind = choices.pick(("any", "punctual", "growing"))
    if kind == "growing":
        return (
            kind,
            with_last_close(steps_with_growth(choices, EVENTS, UNITS, EVENTS), GROWING[:1]),
            GROWING[:1],
            homeless_alike,
        )
    events = draw_events(choices, EVENTS, UNITS, EVENTS)
    steps = any_steps(choices, events) if kind == "any" else punctual_steps(choices, events)
    return kind, with_last_close(steps), STEADY, lambda rows: rows


def _fails(used: Sequence[Contract], seen_as: Callable[[Rows], Rows], steps: Sequence[Step]) -> bool:
    return bool(disagreements(steps, used, seen_as=seen_as))


def main(arguments: Sequence[str]) -> int:
    """Run the streams, print figures, and return the exit code."""
    streams, seed = int(arguments[0]), int(arguments[1])
    begun, counts, shown = time.monotonic(), Counter[str](), 0
    for number in range(streams):
        found = _unordered(seed * 1_000_000 + number)
        counts["orders compared"] += 1
        counts["orders differing"] += bool(found)
        kind, steps, used, seen_as = stream(seed * 1_000_000 + number)
        expected = oracle_rows(steps, used)
        counts[f"{kind} streams"] += 1
        counts["events"] += sum(isinstance(step, Arrive) for step in steps)
        counts["closes"] += sum(isinstance(step, Close) for step in steps)
        counts["facts"] += len(expected.facts)
        counts.update(row["reason"] for row in expected.unjoined)
        lines = disagreements(steps, used, seen_as=seen_as)
        counts["streams disagreeing"] += bool(lines)
        if (found or lines) and shown < _SHOWN:
            shown += 1
            least = reduced(steps, partial(_fails, used, seen_as)) if lines else []
            report = [f"seed {seed}, stream {number} ({kind})", *map(str, least), *found, *lines]
            sys.stdout.write("\n".join(report[:_STEPS]) + "\n")
    counts["seconds"] = round(time.monotonic() - begun)
    sys.stdout.write("".join(f"{name}: {count}\n" for name, count in counts.items()))
    return int(bool(counts["orders differing"] or counts["streams disagreeing"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
