"""Each fault alone is found, and nothing else is said because of it; several at once are all found."""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, get_args

import pytest

from contracts.flags import Contract, load_contract
from contracts.placement import crc32_partition, fnv1a_partition
from contracts.times import format_time, parse_time
from pipeline.doctor.findings import FAULTS, FaultId
from pipeline.doctor.sample import Topic
from tests.contracts.records import CONTRACT, EXAMPLE
from tests.pipeline.doctor.samples import BEGIN, HOUR, MINUTE, TAKEN, Sent, faults, healthy, looked_at, sample_of

Change = Callable[[Sent], Sent]


def contract(*changes: tuple[str, str], text: str = EXAMPLE) -> Contract:
    """Return the example's contract with some of its text changed."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return load_contract(text, "flag.yaml")


OTHER: Final = contract(("key: support_answer_model_route", "key: other_flag"), ("decisionDate: 2026-06-29\n", "\n"))


def crc32(key: bytes | None, partitions: int) -> int:
    """Place a key as librdkafka's default does."""
    return crc32_partition(key or b"", partitions)


def fnv1a(key: bytes | None, partitions: int) -> int:
    """Place a key as Sarama does."""
    return fnv1a_partition(key or b"", partitions)


def anywhere(seed: int = 1) -> Callable[[bytes | None, int], int]:
    """Place keys at random."""
    rng = random.Random(seed)  # noqa: S311
    return lambda _, partitions: rng.randrange(partitions)


def every(change: Change, *kinds: str, part: int = 1) -> Callable[[list[Sent]], list[Sent]]:
    """Change every record, or those of some kinds, or one of so many."""
    return lambda sent: [
        change(one) if (not kinds or one.kind in kinds) and number % part == 0 else one
        for number, one in enumerate(sent)
    ]


def without(kind: str, drop: Callable[[Sent], bool] = lambda _: True) -> Callable[[list[Sent]], list[Sent]]:
    """Leave out records of a kind."""
    return lambda sent: [one for one in sent if one.kind != kind or not drop(one)]


def framed(unit: str) -> bytes:
    """Frame a unit's ID as a schema registry's serialiser does."""
    return b"\0\0\0\0\x07" + unit.encode()


def later(one: Sent, by: int) -> Sent:
    """Move all its times."""
    return one.saying(timestamp=_shifted(one.body["timestamp"], by)).but(at=one.at + by)


def _shifted(text: str, by: int) -> str:
    return format_time(parse_time(text) + by)


def of_candidate(one: Sent) -> bool:
    return str(one.body["variation"]) == "candidate"


def renamed(one: Sent, unit: str) -> Sent:
    """Give it to another unit, key and all."""
    return one.saying(unitId=unit).but(key=unit.encode())


def twice(one: Sent) -> list[Sent]:
    """Let an outcome be followed by another, both with their unit as their ID."""
    named = one.saying(eventId=one.unit)
    return [named, later(named, MINUTE)] if one.kind == "outcome" else [named]


def ahead(by: int) -> Change:
    """Let the event times of one of two producers be ahead."""
    return lambda one: one.saying(timestamp=_shifted(one.body["timestamp"], by)) if one.producer == "gateway" else one


def moved(by: int) -> Callable[[list[Sent]], list[Sent]]:
    return lambda sent: [later(one, by) for one in sent]


def resent(sent: list[Sent]) -> list[Sent]:
    return [again for number, one in enumerate(sent) for again in ([one, one] if number % 10 == 0 else [one])]


def timed(one: Sent, by: int) -> Sent:
    """Move its event time alone."""
    return one.saying(timestamp=_shifted(one.body["timestamp"], by))


def crossed(sent: list[Sent]) -> list[Sent]:
    """Expose every fifth unit once more, to the other variation."""
    candidate = {"variation": "candidate", "modelRoute": "support_model_b"}
    control = {"variation": "control", "modelRoute": "support_model_a"}
    again = [
        later(one.saying(**(control if of_candidate(one) else candidate), eventId=f"again {one.unit}"), MINUTE)
        for number, one in enumerate(sent)
        if one.kind == "exposure" and number % 5 == 0
    ]
    return sorted([*sent, *again], key=lambda one: one.at)


PRODUCERS: Final = ("answers", "gateway")
ALL_SEGMENTS: Final = ["paid_support_chat", "incident_accounts"]

ALONE: Final[Sequence[tuple[FaultId, str, Callable[[list[Sent]], list[Sent]]]]] = (
    ("crc32_partitioner", "all", every(lambda one: one.but(place=crc32))),
    ("crc32_partitioner", "outcomes", every(lambda one: one.but(place=crc32), "outcome")),
    ("crc32_partitioner", "a fifth", every(lambda one: one.but(place=crc32), part=5)),
    ("fnv1a_partitioner", "all", every(lambda one: one.but(place=fnv1a))),
    ("unknown_partitioner", "all", every(lambda one: one.but(place=anywhere()))),
    ("unknown_partitioner", "guardrails", every(lambda one: one.but(place=lambda *_: 3), "guardrail")),
    ("added_partitions", "a third", every(lambda one: one.but(place=lambda key, _: one.place(key, 7)), part=3)),
    ("null_keys", "outcomes", every(lambda one: one.but(keyless=True, place=anywhere()), "outcome")),
    ("null_keys", "empty", every(lambda one: one.but(key=b""), "exposure")),
    ("quoted_keys", "all", every(lambda one: one.but(key=json.dumps(one.unit).encode()))),
    ("quoted_keys", "objects", every(lambda one: one.but(key=json.dumps({"id": one.unit}).encode()), part=4)),
    ("framed_keys", "exposures", every(lambda one: one.but(key=framed(one.unit)), "exposure")),
    ("framed_keys", "quoted", every(lambda one: one.but(key=framed(f'"{one.unit}"')))),
    ("framed_keys", "of Avro", every(lambda one: one.but(key=framed(chr(2 * len(one.unit)) + one.unit)))),
    ("utf16_keys", "little end first", every(lambda one: one.but(key=one.unit.encode("utf-16")))),
    ("padded_keys", "space", every(lambda one: one.but(key=one.unit.encode() + b" "), "outcome")),
    ("padded_keys", "upper case", every(lambda one: one.but(key=one.unit.upper().encode()), "outcome")),
    ("foreign_keys", "eventId", every(lambda one: one.but(key=one.body["eventId"].encode()), "outcome")),
    ("foreign_keys", "flagKey", every(lambda one: one.but(key=one.body["flagKey"].encode()))),
    ("variation_is_route", "all", every(lambda one: one.saying(variation="support_model_b"))),
    ("variation_is_route", "exposures", every(lambda one: one.saying(variation="support_model_c"), "exposure", part=3)),
    ("unknown_flag", "all", every(lambda one: one.saying(flagKey="support_answer"))),
    ("unknown_flag", "the experiment's", every(lambda o: o.saying(flagKey="support_answer_model_route_2026_06"))),
    ("unknown_variation", "some", every(lambda one: one.saying(variation="blue"), part=9)),
    ("refused_records", "numbers in strings", every(lambda one: one.saying(latencyMs="1840"), "outcome")),
    ("refused_records", "no unit", every(lambda one: one.saying(unitId=...), "outcome", part=3)),
    ("refused_records", "no JSON", every(lambda one: one.but(value=b"\0\0\0\0\7Obj"), "exposure", part=3)),
    ("refused_records", "tombstones", every(lambda one: one.but(value=b""), "guardrail")),
    ("route_drift", "a prompt", every(lambda one: one.saying(promptVersion="v4"), "exposure", part=4)),
    ("assignment_unit_mismatch", "all", every(lambda one: one.saying(assignmentUnit="user"), "exposure")),
    ("excluded_unit", "not eligible", every(lambda one: one.saying(segments=["free"]), "exposure", part=9)),
    ("excluded_unit", "excluded", every(lambda o: o.saying(segments=ALL_SEGMENTS), "exposure", part=9)),
    ("events_before_exposure", "local time", every(lambda one: timed(one, -2 * HOUR), "outcome")),
    ("events_after_window", "days later", every(lambda one: later(one, 30 * HOUR), "outcome")),
    ("variation_mismatch", "a constant", every(lambda one: one.saying(variation="control"), "outcome")),
    ("variation_mismatch", "guardrails", every(lambda one: one.saying(variation="fallback"), "guardrail")),
    ("crossover", "evaluated anew", crossed),
    ("events_without_exposure", "half", without("exposure", lambda one: int(one.unit[-1]) % 2 == 0)),
    ("events_without_exposure", "another unit", every(lambda one: renamed(one, f"x_{one.unit}"), "outcome")),
    ("events_without_exposure", "one variation's", without("exposure", of_candidate)),
    ("exposures_without_outcomes", "one variation", without("outcome", of_candidate)),
    ("metric_event_absent", "renamed", every(lambda one: one.saying(event="support_outcome"), "outcome")),
    ("outcomes_without_latency", "all", every(lambda one: one.saying(latencyMs=...), "outcome")),
    ("outcomes_without_latency", "a tenth", every(lambda one: one.saying(latencyMs=...), "outcome", part=5)),
    ("outcomes_without_cost", "all", every(lambda one: one.saying(estimatedCost=...), "outcome")),
    ("wrong_state", "not begun", moved(-60 * 24 * HOUR)),
    ("past_decision_date", "a day", moved(23 * 24 * HOUR)),
    ("variation_without_traffic", "candidate", lambda sent: [one for one in sent if not of_candidate(one)]),
    ("sample_ratio_mismatch", "half of one", lambda s: [o for o in s if not (of_candidate(o) and int(o.unit[-1]) % 2)]),
    ("high_fallback", "a fifth", every(lambda one: one.saying(fallbackUsed=True), "exposure", part=5)),
    ("missing_timestamps", "outcomes", every(lambda one: one.saying(timestamp=...), "outcome")),
    ("missing_event_ids", "all", every(lambda one: one.saying(eventId=...))),
    ("reused_event_ids", "the unit's", lambda sent: [each for one in sent for each in twice(one)]),
    ("duplicates", "a tenth", resent),
)


@pytest.mark.parametrize(
    ("fault", "change"), [pytest.param(fault, change, id=f"{fault}: {name}") for fault, name, change in ALONE]
)
def test_a_fault_alone_is_found_alone(fault: FaultId, change: Callable[[list[Sent]], list[Sent]]) -> None:
    sent = change(healthy(producers=PRODUCERS))
    assert faults(sample_of(sent, taken=max(TAKEN, *(one.at for one in sent)))) == [fault]


def test_a_missing_topic_is_found_alone() -> None:
    sample = sample_of(healthy())
    assert faults(replace(sample, exposures=Topic("exposures", 0))) == ["missing_topic"]
    assert faults(replace(sample, outcomes=Topic("outcomes", 0))) == ["missing_topic"]
    assert faults(replace(sample, guardrails=Topic("guardrails", 0))) == ["missing_topic"]


def test_unequal_partition_counts_are_found_alone() -> None:
    assert faults(sample_of(healthy(), (12, 12, 6))) == ["unequal_partitions"]


@pytest.mark.parametrize("kind", ["exposure", "outcome"])
def test_an_empty_topic_is_found_alone(kind: str) -> None:
    assert faults(sample_of(without(kind)(healthy()))) == ["empty_topic"]


def test_empty_topics_are_one_finding() -> None:
    assert faults(sample_of([])) == ["empty_topic"]


def test_no_guardrails_are_no_fault() -> None:
    assert faults(sample_of(without("guardrail")(healthy()))) == []


def test_unread_partitions_are_found_alone() -> None:
    """What lies in them may be what seems to be missing elsewhere."""
    sample = sample_of(without("exposure", lambda one: int(one.unit[-1]) % 2 == 0)(healthy()))
    unread = replace(sample.exposures, unread={3: "the time limit was over"})
    assert faults(replace(sample, exposures=unread)) == ["unread_partitions"]


@pytest.mark.parametrize("by", [pytest.param(2 * MINUTE, id="accepted"), pytest.param(2 * HOUR, id="refused")])
def test_a_clock_that_is_ahead_of_the_broker_is_found_alone(by: int) -> None:
    examined = looked_at(sample_of(map(ahead(by), healthy(producers=PRODUCERS)), appended=True))
    assert [finding.id for finding in examined.findings] == ["clock_ahead"]
    assert "header service gateway" in examined.findings[0].evidence[0]


def test_events_from_the_future_are_counted_among_those_of_their_topics() -> None:
    sent = [one.saying(timestamp="2099-01-01T00:00:00Z") if one.kind == "outcome" else one for one in healthy()]
    [finding] = looked_at(sample_of(sent)).findings
    assert (finding.id, finding.count) == ("clock_ahead", finding.of)


def test_two_events_from_the_future_are_told_and_blame_nobody() -> None:
    sent = [one.saying(timestamp="2099-01-01T00:00:00Z") if n < 2 else one for n, one in enumerate(healthy())]
    examined = looked_at(sample_of(sent))
    assert examined.findings == []
    assert any("clocks: 2 of " in remark.what for remark in examined.not_judged)


def test_a_clock_that_is_ahead_of_the_sending_is_found_alone() -> None:
    """Which of the two is wrong is not known: stream processors give records the times of their input."""
    examined = looked_at(sample_of(map(ahead(3 * MINUTE), healthy(producers=PRODUCERS))))
    assert [finding.id for finding in examined.findings] == ["clock_skew"]
    assert "header service gateway is 3.0 minutes ahead of the others" in examined.findings[0].evidence[0]
    assert faults(sample_of(map(ahead(2 * MINUTE), healthy(producers=["gateway"])))) == []


def test_a_clock_that_is_ahead_shows_in_the_newest_records() -> None:
    """Where the producer's clock gives both times, they agree; only the doctor's own clock tells."""
    sent = healthy(hours=2.0)
    sample = sample_of(sent, taken=max(one.at for one in sent) - 5 * MINUTE)
    assert faults(sample) == ["clock_ahead"]


@pytest.mark.parametrize("appended", [pytest.param(True, id="append time"), pytest.param(False, id="sending time")])
def test_a_clock_that_is_behind_is_found_alone(*, appended: bool) -> None:
    by = -20 * MINUTE
    sent = [
        replace(later(one, by), at=one.at if appended else one.at + by) if one.producer == "old" else one
        for one in healthy(units=2_000, producers=("answers", "gateway", "old"), hours=2.0)
    ]
    examined = looked_at(sample_of(sent, appended=appended))
    assert [finding.id for finding in examined.findings] == ["clock_skew"]
    told = "\n".join(examined.findings[0].evidence)
    assert re.search(r"header service old is (20\.0|19\.\d) minutes behind the others", told)


@pytest.mark.parametrize("appended", [pytest.param(True, id="append time"), pytest.param(False, id="sending time")])
def test_event_times_from_another_clock_than_the_sending_are_found_alone(*, appended: bool) -> None:
    """The broker or the client's machine is right; the service that makes the events is behind."""
    sent = [
        one.saying(timestamp=_shifted(one.body["timestamp"], -20 * MINUTE)) if one.producer == "old" else one
        for one in healthy(producers=("answers", "old"))
    ]
    examined = looked_at(sample_of(sent, appended=appended))
    assert [finding.id for finding in examined.findings] == ["clock_skew"]
    assert not any("answers" in line for line in examined.findings[0].evidence)


def test_a_backfill_is_no_clock() -> None:
    """Days of events, published within a minute by two processes."""
    sent = [one.but(at=TAKEN - MINUTE + number) for number, one in enumerate(healthy(producers=PRODUCERS))]
    assert faults(sample_of(sent)) == []
    assert faults(sample_of(sent, appended=True)) == []


def test_delays_that_vary_are_no_clock() -> None:
    """One of two services publishes in batches, up to two hours late."""
    rng = random.Random(1)  # noqa: S311
    sent = [
        one.but(at=one.at + rng.randrange(2 * HOUR)) if one.producer == "old" else one
        for one in healthy(units=2_000, producers=("answers", "old"), hours=2.0)
    ]
    sent.sort(key=lambda one: one.at)
    assert faults(sample_of(sent, appended=True)) == []
    assert faults(sample_of(sent)) == []


def test_no_outcome_at_all_is_found_alone() -> None:
    """Another flag has some, so that the topic is not empty."""
    lost = [one for one in healthy(2) if one.kind != "outcome"]
    of_other = [one.saying(flagKey="other_flag") for one in healthy(3)]
    assert faults(sample_of(lost + of_other), (CONTRACT, OTHER)) == ["exposures_without_outcomes"]


def test_open_windows_are_not_missed() -> None:
    lost = [one for one in healthy(2, hours=1.0) if one.kind != "outcome"]
    of_other = [one.saying(flagKey="other_flag") for one in healthy(3, hours=1.0)]
    examined = looked_at(sample_of(lost + of_other, taken=BEGIN + 6 * HOUR), (CONTRACT, OTHER))
    assert examined.findings == []
    assert any("still open" in remark.what for remark in examined.not_judged)


def test_a_field_that_no_outcome_has_is_found_alone() -> None:
    sent = [one.saying(resolvedWithoutEscalation=...) if one.kind == "outcome" else one for one in healthy(units=800)]
    assert faults(sample_of(sent)) == ["metric_field_absent"]


def test_a_rare_event_is_not_missed() -> None:
    usual = "human_correction:\n      {event: support_conversation_outcome"
    rare = contract((usual, "human_correction:\n      {event: survey"))
    assert faults(sample_of(healthy()), [rare]) == []


def test_latency_may_be_told_in_another_outcome_of_the_unit() -> None:
    sent = [
        each
        for one in healthy()
        for each in (
            (one.saying(latencyMs=..., eventId=f"{one.body['eventId']}x"), one.saying(resolvedWithoutEscalation=...))
            if one.kind == "outcome"
            else (one,)
        )
    ]
    assert faults(sample_of(sent)) == []


def test_contracts_that_name_routes_are_found_alone() -> None:
    named = contract(("    candidate:\n", "    support_model_b:\n"), ("candidate: 0.5", "support_model_b: 0.5"))
    assert faults(sample_of(healthy(contract=named)), [named]) == ["contract_names_routes"]


def test_a_flag_without_traffic_is_found_alone() -> None:
    sent = healthy(hours=60.0)
    assert faults(sample_of(sent), (CONTRACT, OTHER)) == ["flag_without_traffic"]
    framed_as_avro = every(lambda one: one.but(value=b"\0\0\0\0\7Obj"))(sent)
    assert faults(sample_of(framed_as_avro), (CONTRACT, OTHER)) == ["refused_records"]
    stray = [one.saying(flagKey="typo") if number == 7 else one for number, one in enumerate(sent)]
    assert faults(sample_of(stray), (CONTRACT, OTHER)) == ["flag_without_traffic"]
    switched_off = contract(("state: ab", "state: offline"), text=OTHER.text)
    assert faults(sample_of(sent), (CONTRACT, switched_off)) == []


def test_a_short_sample_does_not_tell_of_silent_flags() -> None:
    sent = [one for one in healthy(units=4_000, hours=2.0) if one.at < BEGIN + 2 * HOUR]
    examined = looked_at(sample_of(sent, newest=30, taken=sent[-1].at), (CONTRACT, OTHER))
    assert examined.findings == []
    assert any("other_flag has no traffic in the sample, which is short" in each.what for each in examined.not_judged)


def test_faults_at_once_are_all_found() -> None:
    """In one topic each, of one producer each."""

    def spoilt(one: Sent) -> Sent:
        if one.kind == "exposure":
            return one.but(place=crc32)
        return one.but(key=json.dumps(one.unit).encode()).saying(latencyMs=...) if one.kind == "outcome" else one

    found = faults(sample_of(map(spoilt, healthy())))
    assert found == ["crc32_partitioner", "quoted_keys", "outcomes_without_latency"]


def test_errors_come_before_warnings_and_notes() -> None:
    sent = [one.but(keyless=True, place=anywhere()).saying(eventId=..., estimatedCost=...) for one in healthy()]
    assert faults(sample_of(sent)) == ["null_keys", "outcomes_without_cost", "missing_event_ids"]


def test_producers_with_another_partitioner_are_named() -> None:
    sent = [one.but(place=crc32) if one.producer == "gateway" else one for one in healthy(producers=PRODUCERS)]
    [finding] = looked_at(sample_of(sent)).findings
    assert finding.id == "crc32_partitioner"
    assert any(": so places header service gateway (" in line for line in finding.evidence)
    assert any(": so does not header service answers (" in line for line in finding.evidence)


@pytest.mark.parametrize("partitions", [2, 3, 12, 50])
@pytest.mark.parametrize(
    ("place", "fault"),
    [(crc32, "crc32_partitioner"), (fnv1a, "fnv1a_partitioner"), (anywhere(), "unknown_partitioner")],
)
def test_partitioners_are_told_apart_with_any_number_of_partitions(
    partitions: int, place: Callable[[bytes | None, int], int], fault: FaultId
) -> None:
    assert faults(sample_of([one.but(place=place) for one in healthy()], partitions)) == [fault]


def test_three_partitioners_in_one_topic_are_all_found() -> None:
    places = (crc32, fnv1a, anywhere())
    sent = [one.but(place=places[number % 3]) for number, one in enumerate(healthy(units=900))]
    assert faults(sample_of(sent)) == ["crc32_partitioner", "fnv1a_partitioner", "unknown_partitioner"]


def test_every_fault_is_planted_in_this_file() -> None:
    apart = {"missing_topic", "unequal_partitions", "empty_topic", "unread_partitions", "clock_ahead", "clock_skew"}
    apart |= {"metric_field_absent", "contract_names_routes", "flag_without_traffic"}
    assert {fault for fault, _, _ in ALONE} | apart == set(get_args(FaultId)) == set(FAULTS)
