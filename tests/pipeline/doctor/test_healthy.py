"""Where nothing is wrong, nothing is found, whatever the traffic looks like."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.dead_letters import ORIGIN_HEADER, REPLAYED_HEADER
from contracts.flags import load_contract
from pipeline.doctor.sample import Record
from pipeline.traffic import encode
from tests.contracts.records import CONTRACT, EXAMPLE
from tests.contracts.wire.envelopes import FORMS
from tests.pipeline.doctor.samples import HOUR, MINUTE, TAKEN, Sent, faults, healthy, looked_at, sample_of

PLAIN = load_contract(EXAMPLE[: EXAMPLE.index("# The experiment on it")], "plain.yaml")

PODS = tuple(f"pod-{number}" for number in range(9))
SHAPES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1_000_000),
        "units": st.integers(0, 500),
        "outcomes": st.floats(0.2, 1),
        "guardrails": st.floats(0, 0.5),
        "exposures": st.integers(1, 4),
        "producers": st.sampled_from(
            [("",), ("answers",), ("answers", "gateway"), tuple(f"pod-{n}" for n in range(9))]
        ),
        "idempotent": st.booleans(),
        "hours": st.floats(0.1, 48),
        "delay": st.integers(0, 30 * MINUTE),
    }
)


@settings(max_examples=25)
@given(
    shape=SHAPES,
    partitions=st.integers(1, 30),
    newest=st.one_of(st.none(), st.integers(1, 60)),
    appended=st.booleans(),
    after=st.integers(0, 48 * HOUR),
    mixed=st.booleans(),
)
def test_healthy_traffic_of_any_shape_has_no_finding(
    *, shape: dict[str, Any], partitions: int, newest: int | None, appended: bool, after: int, mixed: bool
) -> None:
    sent = healthy(**shape)
    taken = (sent[-1].at if sent else TAKEN) + after
    if mixed:  # a backfill, in no order
        sent.sort(key=lambda one: str(one.body["eventId"]))
    sample = sample_of(sent, partitions, newest=newest, appended=appended, taken=taken)
    found = faults(sample)
    assert found == ([] if all(topic.count for topic in (sample.exposures, sample.outcomes)) else ["empty_topic"])


@settings(max_examples=4)
@given(seed=st.integers(0, 1_000_000), partitions=st.integers(1, 12))
def test_several_flags_one_of_them_without_experiment(*, seed: int, partitions: int) -> None:
    plain = load_contract(PLAIN.text.replace("support_answer_model_route", "plain"), "plain.yaml")
    sent = sorted([*healthy(seed), *healthy(seed + 1, contract=plain)], key=lambda one: one.at)
    assert faults(sample_of(sent, partitions), (CONTRACT, plain)) == []


@settings(max_examples=5)
@given(seed=st.integers(0, 1_000_000), partitions=st.integers(2, 12), strays=st.integers(0, 9))
def test_a_handful_of_misplaced_or_odd_records_is_no_finding(*, seed: int, partitions: int, strays: int) -> None:
    """Placed by hand, keyless, or refused: fewer than anything tells by."""
    sent = healthy(seed, units=450)
    odd = [one.but(place=lambda *_: 0) for one in sent[:strays]]
    odd += [one.but(keyless=True, place=lambda *_: 1) for one in sent[strays : strays + 4]]
    odd += [one.saying(variation=...) for one in sent[strays + 4 : strays + 6]]
    assert faults(sample_of([*odd, *sent[strays + 6 :]], partitions)) == []


@pytest.mark.parametrize("form", FORMS)
def test_envelopes_are_no_fault(form: str) -> None:
    def enveloped(one: Sent) -> Sent:
        value, headers = FORMS[form](encode(one.body))
        return one.but(value=value, headers=headers)

    assert faults(sample_of(map(enveloped, healthy()))) == []


def test_copies_of_this_software_are_not_laid_on_producers() -> None:
    """Rerouted and replayed records keep their key, and are placed by their unit."""
    sample = sample_of(healthy())
    for header in (ORIGIN_HEADER, REPLAYED_HEADER):

        def copied(record: Record, header: str = header) -> Record:
            return record._replace(offset=record.offset + 1_000, key=b"?", headers=((header, b"x/0/0"),))

        doubled = {number: [*log, *map(copied, log)] for number, log in sample.exposures.records.items()}
        examined = looked_at(replace(sample, exposures=replace(sample.exposures, records=doubled)))
        assert examined.findings == []
        assert examined.flags[0].exposures == 400
