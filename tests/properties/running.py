"""Runs of a stream: through the oracle, through a chain, and through both side by side."""

from collections.abc import Callable, Sequence
from pathlib import Path

from contracts.columns import utf8
from contracts.flags import Contract
from sinks import tables
from tests.properties.chain import Chain, published, rows_of, waiting
from tests.properties.comparing import differences, row_differences
from tests.properties.events import Event, plain_table
from tests.properties.flags import CONTRACTS, STEADY
from tests.properties.oracle import Oracle, Rows
from tests.properties.streams import ALLOWED_LATENESS, Arrive, Checkpoint, Close, Crash, Merge, Step

__all__ = ["PARTITION", "disagreements", "homeless_alike", "new_chain", "new_oracle", "oracle_rows", "with_last_close"]

PARTITION = 3


def new_oracle(used: Sequence[Contract] = STEADY) -> Oracle:
    """Return an oracle that has seen nothing."""
    return Oracle(CONTRACTS, ALLOWED_LATENESS, PARTITION, [contract.version for contract in used])


def new_chain(used: Sequence[Contract] = STEADY, directory: Path | None = None) -> Chain:
    """Return an empty chain."""
    return Chain(CONTRACTS, ALLOWED_LATENESS, PARTITION, [contract.version for contract in used], directory)


def oracle_rows(steps: Sequence[Step], used: Sequence[Contract] = STEADY) -> Rows:
    """Return all that the oracle publishes for the steps."""
    oracle, rows = new_oracle(used), Rows()
    for step in steps:
        match step:
            case Arrive(event):
                oracle.arrive([event])
            case Close(watermark):
                rows.extend(oracle.close(watermark))
            case _:
                pass
    return rows


def with_last_close(steps: Sequence[Step], used: Sequence[Contract] = STEADY) -> list[Step]:
    """Return the steps and, if an event is left without a fate, the close that decides everything."""
    oracle, closed_through = new_oracle(used), 0
    for step in steps:
        match step:
            case Arrive(event):
                oracle.arrive([event])
            case Close(watermark):
                oracle.close(watermark)
                closed_through = watermark
            case _:
                pass
    last = oracle.closes_through
    return [*steps] if last is None else [*steps, Close(max(last, closed_through))]


def disagreements(
    steps: Sequence[Step],
    used: Sequence[Contract] = STEADY,
    directory: Path | None = None,
    seen_as: Callable[[Rows], Rows] = lambda rows: rows,
) -> list[str]:
    """Run oracle and chain side by side; return what the first close that differs does differently.

    Beside the published rows, as `seen_as` shows them, each close is held to what it leaves behind: undecided events,
    residue, horizons.
    """
    oracle, chain = new_oracle(used), new_chain(used, directory)
    fresh: list[Event] = []
    for number, step in enumerate(steps):
        found: list[str] = []
        match step:
            case Arrive(event):
                oracle.arrive([event])
                chain.arrive([event])
                fresh.append(event)
            case Checkpoint():
                chain.checkpoint()
            case Merge():
                chain.merge()
            case Crash(watermark):
                chain.attempt(watermark)
                chain.arrive(chain.crash())
            case Close(watermark):
                found = _close_both(oracle, chain, fresh, watermark, seen_as)
                fresh = []
        if found:
            return [f"step {number}: {line}" for line in found]
    return []


def homeless_alike(rows: Rows) -> Rows:
    """Return the rows with one reason for all events that no window took.

    Residue is kept for as long as the longest window of its time. When a longer one comes later, an `outside_window`
    that it reaches back to may be told as `no_exposure`.
    """
    homeless = {"outside_window", "no_exposure"}
    unjoined = [row | {"reason": "homeless"} if row["reason"] in homeless else row for row in rows.unjoined]
    return Rows(rows.facts, rows.events, unjoined, [row for row in rows.dead_letters if row["reason"] not in homeless])


def _close_both(
    oracle: Oracle, chain: Chain, fresh: Sequence[Event], watermark: int, seen_as: Callable[[Rows], Rows]
) -> list[str]:
    due = chain.due(watermark)
    closed = chain.attempt(watermark)
    chain.commit(due, closed)
    expected = oracle.close(watermark)
    still_open = {(event.topic, event.offset) for event in oracle.undecided}
    undecided = [event for event in fresh if (event.topic, event.offset) in still_open]
    windows = [
        {name: fact[name] for name in ("flag_key", "unit_id", "variation", "window_start", "window_end")}
        for fact in expected.facts
    ]
    lines = differences(seen_as(expected), seen_as(published(closed)))
    lines += row_differences("undecided", rows_of(plain_table(undecided)), rows_of(waiting(due, closed)))
    lines += row_differences("residue", windows, rows_of(closed.residue))
    schemas = {"facts": tables.FACTS, "events": tables.EVENTS, "unjoined": tables.UNJOINED, "residue": tables.RESIDUE}
    lines += [
        f"{name}: schema differs"
        for name, kind in schemas.items()
        if not utf8(getattr(closed, name).schema).equals(kind)
    ]
    for flag_key, horizon in chain.horizons.items():
        decided = oracle.decided_through(flag_key)
        if horizon.decided_through != decided:
            lines.append(f"horizon of {flag_key}: missing {decided} unexpected {horizon.decided_through}")
    return lines
