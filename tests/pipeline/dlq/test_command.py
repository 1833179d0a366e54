"""What is typed: places, times, filters, targets; and the errors of a wrong word."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import SettingsError
from pipeline.cli import Exit, main
from pipeline.dlq.command import targets_of
from pipeline.dlq.filters import Filter, parse_moment
from pipeline.dlq.places import Place, Span
from pipeline.dlq.planning import Targets
from tests.pipeline.dlq.letters import LATER, letter
from tests.pipeline.lab import HOUR, NOON, outcome

TOPICS = ("exposures", "outcomes", "guardrails")


@given(
    topic=st.from_regex(r"[A-Za-z0-9._-]{1,249}", fullmatch=True),
    partition=st.integers(0, 10**9 - 1),
    offset=st.integers(0, 10**18 - 1),
)
def test_a_place_is_read_as_it_is_written(topic: str, partition: int, offset: int) -> None:
    place = Place(topic, partition, offset)
    span = Span.parse(str(place))
    assert span == Span(topic, partition, offset, offset)
    assert place in span


def test_a_range_holds_its_ends() -> None:
    span = Span.parse("outcomes/5/17-40")
    inside = [offset for offset in range(100) if Place("outcomes", 5, offset) in span]
    assert inside == list(range(17, 41))
    assert Place("outcomes", 4, 20) not in span
    assert None not in span


@pytest.mark.parametrize("text", ["outcomes", "outcomes/5", "outcomes/5/x", "outcomes/5/9-3", "a b/1/2", "\x1b/1/2"])
def test_what_is_no_place_is_said(text: str) -> None:
    with pytest.raises(SettingsError, match="is no place of records; write outcomes/5/17"):
        Span.parse(text)


def test_moments_are_times_or_how_long_ago() -> None:
    assert parse_moment(None, NOON) is None
    assert parse_moment("2h", NOON) == NOON - 2 * HOUR
    assert parse_moment("2026-06-07T12:00:00Z", 0) == NOON
    with pytest.raises(SettingsError, match="is no time; write"):
        parse_moment("yesterday", NOON)


@pytest.mark.parametrize(
    ("chosen", "matches"),
    [
        pytest.param(Filter(), True, id="all"),
        pytest.param(Filter(reasons=frozenset({"late", "not_json"})), True, id="reason"),
        pytest.param(Filter(reasons=frozenset({"late"})), False, id="another reason"),
        pytest.param(Filter(flags=frozenset({"route"})), True, id="flag"),
        pytest.param(Filter(flags=frozenset({"other"})), False, id="another flag"),
        pytest.param(Filter(since=LATER), True, id="since then"),
        pytest.param(Filter(since=LATER + 1), False, id="since later"),
        pytest.param(Filter(until=LATER), False, id="until then"),
        pytest.param(Filter(until=LATER + 1), True, id="until later"),
        pytest.param(Filter(spans=[Span("x", 0, 0, 9), Span("outcomes", 0, 7, 7)]), True, id="where it was"),
        pytest.param(Filter(spans=[Span("outcomes.dlq", 0, 3, 3)]), True, id="where it lies"),
        pytest.param(Filter(spans=[Span("outcomes.dlq", 0, 4, 9)]), False, id="elsewhere"),
        pytest.param(Filter(reasons=frozenset({"not_json"}), flags=frozenset({"other"})), False, id="not all"),
    ],
)
def test_filters_choose(chosen: Filter, matches: bool) -> None:  # noqa: FBT001
    assert chosen.matches(letter(outcome("u1", 1))) is matches


def test_targets_are_one_topic_or_one_for_each() -> None:
    assert targets_of(["a"]) == {"": "a"}
    assert targets_of(["outcomes=a", "exposures=b", "c"]) == {"outcomes": "a", "exposures": "b", "": "c"}


@pytest.mark.parametrize("texts", [["a", "b"], ["x=a", "x=b"], ["x="], ["x=y=z"], [""]])
def test_targets_that_make_no_sense_are_said(texts: list[str]) -> None:
    with pytest.raises(SettingsError, match="name a topic once, or each as FROM=TOPIC"):
        targets_of(texts)


def test_a_record_goes_back_to_its_topic_or_where_it_is_sent() -> None:
    made = letter(b"{")
    assert (Targets(TOPICS).of(made), Targets(TOPICS).kind(made)) == ("outcomes", "outcome")
    elsewhere = Targets(TOPICS, {"outcomes": "outcomes-v2"})
    assert (elsewhere.of(made), elsewhere.kind(made)) == ("outcomes-v2", "outcome")
    assert Targets(TOPICS, {"outcomes": "guardrails"}).kind(made) == "guardrail"
    foreign = letter(b"{", at=Place("orders", 0, 1))
    assert (Targets(TOPICS).of(foreign), Targets(TOPICS).kind(foreign)) == (None, None)
    assert Targets(TOPICS, {"": "exposures"}).kind(foreign) == "exposure"
    assert Targets(TOPICS, {"": "lost"}).kind(foreign) is None


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["ls", "--since", "soon"], Exit.USAGE, "'soon' is no time", id="time"),
        pytest.param(["show", "outcomes"], Exit.USAGE, "'outcomes' is no place of records", id="place"),
        pytest.param(["show", "outcomes/0/1-2"], Exit.USAGE, "is a range; name one record", id="range"),
        pytest.param(["export"], Exit.WRONG, "EVIDENCE_LAKE", id="no lake"),
        pytest.param(["replay"], Exit.USAGE, "EVIDENCE_FLAGS", id="no flags"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: Exit,
    says: str,
) -> None:
    monkeypatch.setenv("EVIDENCE_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("EVIDENCE_FLAGS", str(tmp_path / "flags"))
    monkeypatch.setattr(sys, "argv", ["evidence", "dlq", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (code, "")
    [line] = told.err.splitlines()
    assert says in line
