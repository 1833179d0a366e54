"""What becomes of a letter, rule by rule, and in which order the rules count."""

from dataclasses import replace
from typing import Any, Final

import pytest

from pipeline.dlq.decisions import MEANINGS, REFUSALS, Code, Fate, Known, Policy, Subject, decide
from pipeline.dlq.judging import Event, Refused
from pipeline.dlq.lateness import Past
from pipeline.dlq.places import Place
from tests.pipeline.lab import NOON

AT: Final = Place("outcomes", 0, 7)
EVENT: Final = Event("outcome", "route", "u1", "control", NOON)
SUBJECT: Final = Subject(
    place=Place("outcomes.dlq", 0, 3),
    identity=AT,
    origin=AT,
    replays=0,
    cut=False,
    timed=True,
    target="outcomes",
    verdict=EVENT,
)
LATE: Final = {("route", "u1"): Past(late_through=NOON, longest=1)}
AGAIN: Final = Refused("unknown_flag", "flagKey: no such flag")


def known(fate: Fate = "refused", reason: str = "unknown_flag", **more: Any) -> Known:  # noqa: ANN401 - any field
    fields: dict[str, Any] = {"topics": {"outcomes"}, "fates": {AT: (fate, reason)}, "pasts": {}, "sent": set()}
    return Known(**(fields | more))


@pytest.mark.parametrize(
    ("subject", "about", "policy", "code"),
    [
        pytest.param(SUBJECT, known(), Policy(), "send", id="a record that would count now"),
        pytest.param(replace(SUBJECT, cut=True), known("joined"), Policy(), "truncated", id="a part of a record"),
        pytest.param(replace(SUBJECT, target=None), known(), Policy(), "no_origin", id="no target"),
        pytest.param(SUBJECT, known("joined"), Policy(anyway=True), "joined", id="in a fact, whatever is asked"),
        pytest.param(SUBJECT, known("open"), Policy(anyway=True), "undecided", id="open"),
        pytest.param(SUBJECT, known("ahead"), Policy(), "undecided", id="ahead of the lake"),
        pytest.param(SUBJECT, known("unjoined", "duplicate"), Policy(), "decided", id="a duplicate"),
        pytest.param(SUBJECT, known("refused", "rerouted"), Policy(), "decided", id="copied to its partition"),
        pytest.param(SUBJECT, known("unseen"), Policy(), "send", id="of an offset that the lake began after"),
        pytest.param(SUBJECT, known("unjoined", "late", pasts=LATE), Policy(), "late", id="late"),
        pytest.param(SUBJECT, known("unjoined", "late", pasts=LATE), Policy(anyway=True), "send", id="late, anyway"),
        pytest.param(replace(SUBJECT, verdict=AGAIN), known(), Policy(), "refused_again", id="refused again"),
        pytest.param(replace(SUBJECT, verdict=AGAIN), known(), Policy(anyway=True), "send", id="refused, anyway"),
        pytest.param(replace(SUBJECT, verdict=None), known(), Policy(), "send", id="of a kind nobody can judge"),
        pytest.param(replace(SUBJECT, timed=False), known(), Policy(anyway=True), "no_time", id="its time is lost"),
        pytest.param(replace(SUBJECT, replays=3), known(), Policy(anyway=True), "park", id="replayed too often"),
        pytest.param(replace(SUBJECT, replays=3, verdict=AGAIN), known(), Policy(), "refused_again", id="not parked"),
        pytest.param(replace(SUBJECT, replays=3), known(), Policy(max_replays=4), "send", id="more are allowed"),
        pytest.param(SUBJECT, known(sent={(str(AT), "outcomes")}), Policy(anyway=True), "replayed", id="sent before"),
        pytest.param(SUBJECT, known(sent={(str(AT), "elsewhere")}), Policy(), "send", id="sent to another topic"),
        pytest.param(SUBJECT, known(sent={(str(AT), "outcomes.dlq.parked")}), Policy(), "parked", id="parked before"),
    ],
)
def test_a_letter_is_decided(subject: Subject, about: Known, policy: Policy, code: Code) -> None:
    assert decide(subject, about, policy).code == code


@pytest.mark.parametrize("fate", ["joined", "open", "ahead"])
def test_another_lakes_topics_know_nothing_of_this_lake(fate: Fate) -> None:
    elsewhere = replace(SUBJECT, target="outcomes-v2")
    assert decide(elsewhere, known(fate, pasts=LATE), Policy()).code == "send"


def test_a_letter_without_origin_has_no_fate_in_the_lake() -> None:
    assert decide(replace(SUBJECT, origin=None, identity=SUBJECT.place), known("joined"), Policy()).code == "send"


def test_a_refusal_says_why() -> None:
    decision = decide(replace(SUBJECT, verdict=AGAIN), known(), Policy())
    assert decision.why == "unknown_flag: flagKey: no such flag"
    assert decide(SUBJECT, known(pasts=LATE), Policy()).why == "all up to 2026-06-07T12:00:00.000Z is decided"


def test_every_refusal_has_a_meaning() -> None:
    assert set(MEANINGS) > REFUSALS
