"""The circuit breaker: when refusals mean that a producer is broken."""

import pytest

from pipeline.breaker import Breaker, Limits

LIMITS = Limits(share=0.5, minimum=100, in_a_row=30)


def test_a_row_across_batches_trips_it() -> None:
    breaker = Breaker(LIMITS)
    assert breaker.observe(40, list(range(20, 40))) is None
    assert breaker.observe(15, list(range(10))) == "30 records in a row were refused"


def test_a_valid_record_ends_a_row() -> None:
    breaker = Breaker(LIMITS)
    assert breaker.observe(40, [*range(20), *range(21, 40)]) is None


@pytest.mark.parametrize(
    ("read", "refused", "trips"),
    [
        pytest.param(99, 90, False, id="too few to judge"),
        pytest.param(100, 49, False, id="less than the share"),
        pytest.param(100, 50, True, id="the share"),
    ],
)
def test_the_share_counts_from_a_minimum_on(read: int, refused: int, *, trips: bool) -> None:
    breaker = Breaker(Limits(share=0.5, minimum=100, in_a_row=1_000))
    assert (breaker.observe(read, list(range(refused))) is not None) == trips


def test_a_freeze_begins_a_new_span_for_the_share() -> None:
    breaker = Breaker(Limits(share=0.5, minimum=100, in_a_row=1_000))
    assert breaker.observe(99, list(range(99))) is None
    breaker.reset()
    assert breaker.observe(99, []) is None


def test_a_row_goes_on_over_a_freeze() -> None:
    breaker = Breaker(LIMITS)
    assert breaker.observe(29, list(range(29))) is None
    breaker.reset()
    assert breaker.observe(1, [0]) is not None
