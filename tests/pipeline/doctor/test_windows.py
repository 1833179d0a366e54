"""Where events fall: returning units, and what the edge of a sample hides."""

import random
from dataclasses import replace

import pytest

from contracts.times import format_time, parse_time
from pipeline.doctor.sample import Sample
from tests.pipeline.doctor.samples import BEGIN, HOUR, MINUTE, TAKEN, Sent, faults, healthy, looked_at, sample_of
from tests.pipeline.doctor.test_faults import later

CANDIDATE = {"variation": "candidate", "modelRoute": "support_model_b"}
CONTROL = {"variation": "control", "modelRoute": "support_model_a"}


def again(sent: list[Sent], after: int, **saying: str) -> list[Sent]:
    """Expose each unit once more."""
    return sorted(
        [
            *sent,
            *(
                later(one.saying(eventId=f"again {one.unit}", **saying), after)
                for one in sent
                if one.kind == "exposure"
            ),
        ],
        key=lambda one: one.at,
    )


def test_a_unit_that_comes_back_has_another_window() -> None:
    sent = again(healthy(), 25 * HOUR)
    sent += [later(one.saying(eventId=f"late {one.unit}"), 25 * HOUR) for one in sent if one.kind == "outcome"]
    assert faults(sample_of(sorted(sent, key=lambda one: one.at))) == []


def test_a_unit_may_have_another_variation_when_its_window_is_over() -> None:
    units = [one.saying(**CONTROL) if one.kind == "exposure" else one.saying(variation="control") for one in healthy()]
    found = faults(sample_of(again(units, 24 * HOUR, **CANDIDATE)))
    assert "crossover" not in found
    assert "crossover" in faults(sample_of(again(units, 24 * HOUR - MINUTE, **CANDIDATE)))


def test_outcomes_that_come_late_are_not_missed_at_the_edge_of_a_sample() -> None:
    """Some come 30 hours after their exposure, which lies before the sample for a part of them."""
    rng = random.Random(1)  # noqa: S311
    sent = [
        later(one, 30 * HOUR) if one.kind == "outcome" and rng.random() < 0.15 else one
        for one in healthy(units=3_000, hours=30.0)
    ]
    sent.sort(key=lambda one: one.at)
    begin = BEGIN + 8 * HOUR
    cut = [one for one in sent if one.at >= begin]
    sample = sample_of(cut, taken=TAKEN + 30 * HOUR)
    assert faults(with_older(sample)) == []


def with_older(sample: Sample) -> Sample:
    """Say that older exposures are in Kafka."""
    exposures = replace(sample.exposures, cut=frozenset(sample.exposures.records))
    return replace(sample, exposures=exposures)


@pytest.mark.parametrize(("by", "told"), [(-1, "less than a second"), (-30 * MINUTE, "minutes"), (-3 * HOUR, "hours")])
def test_how_much_too_early_is_told(by: int, told: str) -> None:
    times = {one.unit: one for one in healthy() if one.kind == "exposure"}
    sent = [
        one.saying(timestamp=format_time(parse_time(times[one.unit].body["timestamp"]) + by, "microseconds"))
        if one.kind == "outcome"
        else one
        for one in healthy()
    ]
    [finding] = looked_at(sample_of(sent)).findings
    assert finding.id == "events_before_exposure"
    assert finding.evidence == [f"outcomes: {told} before it, in {finding.count}"]
