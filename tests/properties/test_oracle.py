"""What the join promises, shown of the oracle alone: it is cheap, so it is tried often."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties.comparing import differences, fates, without_offsets
from tests.properties.flags import GROWING
from tests.properties.oracle import Rows
from tests.properties.running import new_oracle, oracle_rows, with_last_close
from tests.properties.streams import (
    Arrive,
    Choices,
    Close,
    Seeded,
    Step,
    any_steps,
    draw_events,
    drawn,
    in_order_of_arrival,
    punctual_steps,
    steps_with_growth,
)

OFTEN = settings(max_examples=3 * settings().max_examples)


def two_orders(choices: Choices) -> tuple[list[Step], list[Step]]:
    """Return one punctual stream twice: in some order with closes, and in another with one close at the end."""
    events = draw_events(choices, 12, by_body=True)
    arrivals = in_order_of_arrival(choices.shuffle(events))
    return with_last_close(punctual_steps(choices, events)), with_last_close([Arrive(e) for e in arrivals])


def any_stream(choices: Choices) -> list[Step]:
    """Return a stream where much is late, up to its end."""
    return with_last_close(any_steps(choices, draw_events(choices, 12)))


def growing_stream(choices: Choices) -> list[Step]:
    """Return a stream whose windows grow, up to its end."""
    return with_last_close(steps_with_growth(choices, 12), GROWING[:1])


@OFTEN
@given(drawn(two_orders))
def test_facts_do_not_depend_on_the_order_of_arrival_or_on_when_closes_ran(
    steps: tuple[list[Step], list[Step]],
) -> None:
    """A stream without late events publishes a function of the set of its events."""
    often, once = map(oracle_rows, steps)
    assert not differences(without_offsets(once), without_offsets(often))


@OFTEN
@given(drawn(any_stream))
def test_every_event_has_exactly_one_fate(steps: list[Step]) -> None:
    """Joined or unjoined, once, whatever is late."""
    expected = {(step.event.topic, step.event.offset): 1 for step in steps if isinstance(step, Arrive)}
    assert fates(oracle_rows(steps)) == expected


@OFTEN
@given(drawn(growing_stream))
def test_every_event_has_exactly_one_fate_while_windows_grow(steps: list[Step]) -> None:
    """A longer window opens nothing again that was decided, and loses nothing that was not."""
    expected = {(step.event.topic, step.event.offset): 1 for step in steps if isinstance(step, Arrive)}
    assert fates(oracle_rows(steps, GROWING[:1])) == expected


@OFTEN
@given(drawn(any_stream))
def test_late_events_change_no_fact(steps: list[Step]) -> None:
    """Without the events that came late, all that is published is the same."""
    rows = oracle_rows(steps)
    late = {(row["topic"], row["offset"]) for row in rows.unjoined if row["reason"] == "late"}
    kept = [s for s in steps if not (isinstance(s, Arrive) and (s.event.topic, s.event.offset) in late)]
    rows.unjoined[:] = [row for row in rows.unjoined if row["reason"] != "late"]
    rows.dead_letters[:] = [row for row in rows.dead_letters if row["reason"] != "late"]
    assert not differences(rows, oracle_rows(kept))


@OFTEN
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_a_close_where_nothing_is_due_changes_nothing(seed: int, times: int) -> None:
    """Closing again at the same watermark publishes nothing."""
    steps = any_steps(Seeded(seed), draw_events(Seeded(seed), 12))
    oracle = new_oracle()
    for step in steps:
        match step:
            case Arrive(event):
                oracle.arrive([event])
            case Close(watermark):
                oracle.close(watermark)
                for _ in range(times):
                    again = oracle.close(watermark)
                    assert again == Rows()
            case _:
                pass
