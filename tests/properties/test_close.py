"""The close against the oracle: every order of arrival, any closes, checkpoints, crashes and merged segments."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.close import close, close_through
from tests.properties.chain import published, rows_of, waiting
from tests.properties.comparing import differences, fates
from tests.properties.flags import GROWING
from tests.properties.oracle import Rows
from tests.properties.running import disagreements, homeless_alike, new_chain, oracle_rows, with_last_close
from tests.properties.simulate import stream
from tests.properties.streams import (
    Arrive,
    Checkpoint,
    Choices,
    Close,
    Crash,
    Merge,
    Step,
    any_steps,
    draw_events,
    drawn,
    in_order_of_arrival,
    punctual_steps,
    steps_with_growth,
)

SIZE = 10

# A close takes a tenth of a second to start up, whatever it is given: an eighth of the profile's examples.
SOME = settings(
    max_examples=max(1, settings().max_examples // 8),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def any_stream(choices: Choices) -> list[Step]:
    """Return a stream where much is late, up to its end."""
    return with_last_close(any_steps(choices, draw_events(choices, SIZE)))


def punctual_stream(choices: Choices) -> list[Step]:
    """Return a stream where nothing is late, up to its end."""
    return with_last_close(punctual_steps(choices, draw_events(choices, SIZE)))


def growing_stream(choices: Choices) -> list[Step]:
    """Return a stream whose windows grow, up to its end."""
    return with_last_close(steps_with_growth(choices, SIZE), GROWING[:1])


def chain_rows(steps: Sequence[Step]) -> Rows:
    """Return all that a chain publishes for the steps."""
    chain, rows = new_chain(), Rows()
    for step in steps:
        match step:
            case Arrive(event):
                chain.arrive([event])
            case Checkpoint():
                chain.checkpoint()
            case Merge():
                chain.merge()
            case Crash():
                chain.arrive(chain.crash())
            case Close(watermark):
                rows.extend(chain.close(watermark))
    return rows


@SOME
@given(drawn(any_stream))
def test_the_close_equals_the_oracle(steps: list[Step]) -> None:
    """In any order of arrival, with late events, close by close."""
    assert not disagreements(steps)


@SOME
@given(drawn(punctual_stream))
def test_the_close_equals_the_oracle_without_late_events(steps: list[Step]) -> None:
    """In many closes, none of which makes an event late."""
    assert not disagreements(steps)


@SOME
@given(drawn(growing_stream))
def test_the_close_equals_the_oracle_while_windows_grow(steps: list[Step]) -> None:
    """With contracts whose windows get longer while events are open."""
    assert not disagreements(steps, GROWING[:1], seen_as=homeless_alike)


@SOME
@given(drawn(any_stream))
def test_the_close_reads_files_as_it_reads_tables(steps: list[Step]) -> None:
    """Segments and residue may lie in Parquet files."""
    with TemporaryDirectory() as directory:
        assert not disagreements(steps, directory=Path(directory))


@SOME
@given(st.integers(0, 2**32))
def test_the_close_equals_the_oracle_with_many_units(seed: int) -> None:
    """Units of a partition do not touch each other. `simulate` reduces a failure."""
    _, steps, used, seen_as = stream(seed)
    assert not disagreements(steps, used, seen_as=seen_as)


@SOME
@given(drawn(punctual_stream))
def test_many_closes_publish_what_one_does(steps: list[Step]) -> None:
    """Without late events it does not matter when closes ran."""
    arrivals = [step for step in steps if isinstance(step, Arrive)]
    assert not differences(chain_rows(with_last_close(arrivals)), chain_rows(steps))


@SOME
@given(drawn(any_stream))
def test_every_event_has_exactly_one_fate(steps: list[Step]) -> None:
    """Joined or unjoined, once, whatever is late."""
    expected = {(step.event.topic, step.event.offset): 1 for step in steps if isinstance(step, Arrive)}
    assert fates(chain_rows(steps)) == expected


@SOME
@given(drawn(any_stream))
def test_late_events_change_no_fact(steps: list[Step]) -> None:
    """Without the events that came late, all that is published is the same."""
    rows = oracle_rows(steps)
    late = {(row["topic"], row["offset"]) for row in rows.unjoined if row["reason"] == "late"}
    kept = [s for s in steps if not (isinstance(s, Arrive) and (s.event.topic, s.event.offset) in late)]
    rows.unjoined[:] = [row for row in rows.unjoined if row["reason"] != "late"]
    rows.dead_letters[:] = [row for row in rows.dead_letters if row["reason"] != "late"]
    assert not differences(rows, chain_rows(kept))


@SOME
@given(drawn(any_stream))
def test_checkpoints_and_crashes_between_closes_change_nothing(steps: list[Step]) -> None:
    """What is buffered, segmented, merged or read again is decided alike."""
    without = [step for step in steps if isinstance(step, Arrive | Close)]
    every: list[Step] = [item for step in without for item in (step, Checkpoint(), Merge())]
    expected = chain_rows(steps)
    assert not differences(expected, chain_rows(without))
    assert not differences(expected, chain_rows(every))


@SOME
@given(drawn(any_stream))
def test_a_close_repeated_after_a_crash_decides_the_same(steps: list[Step]) -> None:
    """The close is a function of what is due: the retry of a close that was not committed is equal to it."""
    chain = new_chain()
    for step in steps:
        match step:
            case Arrive(event):
                chain.arrive([event])
            case Close(watermark):
                due = chain.due(watermark)
                first, second = close(due), close(due)
                assert not differences(published(first), published(second))
                assert first.horizons == second.horizons
                assert rows_of(waiting(due, first)) == rows_of(waiting(due, second))
                chain.commit(due, second)
            case _:
                pass


def unfinished_stream(choices: Choices) -> list[Step]:
    """Return a stream that ends in the middle."""
    return any_steps(choices, in_order_of_arrival(draw_events(choices, SIZE)))


@SOME
@given(drawn(unfinished_stream))
def test_a_close_through_the_last_open_event_leaves_nothing_open(steps: list[Step]) -> None:
    """`close_through` is the watermark at which every event has its fate."""
    chain = new_chain()
    reached = 0
    for step in steps:
        match step:
            case Arrive(event):
                chain.arrive([event])
            case Close(watermark):
                chain.close(watermark)
                reached = watermark
            case _:
                pass
    last = close_through(chain.due(reached))
    if last is not None:
        due = chain.due(max(last, reached))
        assert waiting(due, close(due)).num_rows == 0
        chain.close(max(last, reached))
    assert close_through(chain.due(max(last or 0, reached))) is None
