"""Stories that break looser rules of the join and of its checkpoints, each told to the close and to the oracle.

Times are hours. Metric windows last 24 hours, allowed lateness is 1; C is the watermark of the last close.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import pyarrow as pa
import pytest

from contracts.decode import Decoder
from contracts.flags import ContractBook, load_contract
from pipeline.close import close_through
from tests.golden.records import PlainRecord
from tests.properties.chain import Chain, published
from tests.properties.events import EPOCH, HOUR, SECOND, Event, events_of
from tests.properties.oracle import Oracle, Row, Rows

_FLAG: Final = """\
flag:
  key: answers
  type: json
  variations: {{A: {{modelRoute: model_a}}, B: {{modelRoute: model_b}}}}
experiment:
  key: answers_2026
  metrics:
    solved: {{event: done, field: solved, kind: proportion, aggregate: last, window: {window}, goal: increase}}
"""

DAY = load_contract(_FLAG.format(window="24h"), "answers.yaml")
BRIEF = load_contract(_FLAG.format(window="1h"), "answers.yaml")
CONTRACTS = {contract.version: contract for contract in (DAY, BRIEF)}


def event(kind: str, hours: float, variation: str, body: str = "", contract_version: str = DAY.version) -> Event:
    """Return an event of the one unit; `body` is what else makes its bytes differ."""
    return Event(
        kind=kind,
        topic=f"{kind}s",
        offset=-1,
        event_time=EPOCH + round(hours * HOUR),
        flag_key="answers",
        unit_id="unit",
        variation=variation,
        contract_version=contract_version,
        value=f"{kind} {hours} {variation} {body}".encode(),
    )


def exposure(hours: float, variation: str = "A", model_route: str = "model_a") -> Event:
    """Return an exposure that ran the route."""
    bare = event("exposure", hours, variation, model_route)
    return replace(
        bare,
        assignment_unit="user",
        model_route=model_route,
        prompt_version="p1",
        retrieval_profile="plain",
        fallback_used=False,
    )


def outcome(hours: float, variation: str = "A", contract_version: str = DAY.version) -> Event:
    """Return an outcome that says it was solved."""
    return replace(event("outcome", hours, variation, "", contract_version), values={"solved": 1.0})


@dataclass(slots=True)
class Story:
    """What one partition reads and when it closes; the fates are those of all closes so far."""

    join: Chain | Oracle
    rows: Rows = field(default_factory=Rows)
    next_offsets: dict[str, int] = field(default_factory=dict)

    def read(self, *events: Event) -> None:
        """Read the events, in this order."""
        for item in events:
            offset = self.next_offsets.get(item.topic, 0)
            self.next_offsets[item.topic] = offset + 1
            self.join.arrive([replace(item, offset=offset)])

    def checkpoint(self) -> None:
        """Make what was read durable, without a close."""
        if isinstance(self.join, Chain):
            self.join.checkpoint()

    def close(self, *hours: float) -> None:
        """Close at each of the watermarks."""
        for watermark in hours:
            self.rows.extend(self.join.close(EPOCH + round(watermark * HOUR)))

    @property
    def facts(self) -> list[tuple[float, str]]:
        """The facts: start of the window in hours, and variation."""
        return [(hours_of(row["window_start"]), row["variation"]) for row in self.rows.facts]

    @property
    def joined(self) -> list[tuple[str, float, str]]:
        """The joined records: kind, hours, and the variation of the fact."""
        return sorted((row["kind"], hours_of(row["event_time"]), row["fact_variation"]) for row in self.rows.events)

    @property
    def unjoined(self) -> list[tuple[str, float, str]]:
        """The unjoined records: reason, hours, variation."""
        return sorted((row["reason"], hours_of(row["event_time"]), row["variation"]) for row in self.rows.unjoined)

    def fact(self) -> Row:
        """Return the only fact."""
        (fact,) = self.rows.facts
        return fact


def hours_of(instant: int) -> float:
    """Return a time as hours of the story."""
    return (instant - EPOCH) / HOUR


def new_chain() -> Chain:
    """Return an empty chain that has used the contract of a day."""
    return Chain(CONTRACTS, HOUR, 3, [DAY.version])


@pytest.fixture(params=["close", "oracle"])
def story(request: pytest.FixtureRequest) -> Story:
    """Tell the story to the close, and to the oracle."""
    return Story(new_chain() if request.param == "close" else Oracle(CONTRACTS, HOUR, 3, [DAY.version]))


def test_1_an_exposure_that_overlaps_a_closed_window_is_late(story: Story) -> None:
    """Or the closed window would lack its crossover, and keep an outcome that is another's."""
    story.read(exposure(0, "A"), outcome(10, "B"))
    story.close(25, 26)
    story.read(exposure(9, "B", "model_b"))
    story.close(60)
    assert story.fact()["flags"] == ["variation_mismatch"]
    assert story.unjoined == [("late", 9, "B")]


def test_1_the_same_exposure_in_time_is_a_crossover_and_takes_its_outcome(story: Story) -> None:
    """That is what the closed window could no longer say."""
    story.read(exposure(0, "A"), outcome(10, "B"), exposure(9, "B", "model_b"))
    story.close(60)
    assert {row["variation"]: row["flags"] for row in story.rows.facts} == {"A": ["crossover"], "B": ["crossover"]}
    assert ("outcome", 10, "B") in story.joined


@pytest.mark.parametrize("closes", [pytest.param((25, 49, 55), id="many"), pytest.param((60,), id="one")])
def test_2_an_outcome_after_the_window_is_outside_it_whenever_closes_run(story: Story, closes: Sequence[float]) -> None:
    """The residue of the window lives as long as somebody may ask for it."""
    story.read(exposure(0), outcome(30))
    story.close(*closes)
    assert story.unjoined == [("outside_window", 30, "A")]


@pytest.mark.parametrize("arrives_after", [25, 60, 77, 78, 79])
def test_2_an_exposure_after_an_outcome_does_not_change_its_reason(story: Story, arrives_after: float) -> None:
    """Only windows that opened at or before the outcome count, and the last of them ended too long ago."""
    story.read(exposure(0), outcome(53))
    closes = [25, 60, 77, 78, 79, 120]
    story.close(*(hours for hours in closes if hours < arrives_after))
    story.read(exposure(79))
    story.close(*(hours for hours in closes if hours >= arrives_after))
    assert story.unjoined == [("no_exposure", 53, "A")]
    assert story.facts == [(0, "A"), (79, "A")]


@pytest.mark.parametrize("closes", [pytest.param((4, 24, 25), id="many"), pytest.param((25,), id="one")])
def test_3_a_shorter_window_in_a_new_contract_does_not_shorten_open_ones(story: Story, closes: Sequence[float]) -> None:
    """An outcome read under the new version joins the window that the old one opened."""
    story.read(exposure(0))
    story.checkpoint()
    story.read(outcome(2, contract_version=BRIEF.version))
    story.close(*closes)
    assert story.fact()["metrics"] == {"solved": 1.0}
    assert story.fact()["contract_version"] == DAY.version
    assert ("outcome", 2, "A") in story.joined


def test_4_a_copy_with_a_later_time_has_its_own_fate(story: Story) -> None:
    """Duplicates are found in a window, and the window of the first is closed."""
    first = replace(outcome(10), event_id="x")
    story.read(exposure(0), first)
    story.close(25)
    story.read(replace(first, event_time=EPOCH + 30 * HOUR))
    story.close(100)
    assert story.joined == [("exposure", 0, "A"), ("outcome", 10, "A")]
    assert story.unjoined == [("outside_window", 30, "A")]


def test_4_equal_bytes_at_different_times_are_two_guardrails(story: Story) -> None:
    """Without an ID and a time in the body it is the record's time that tells them apart."""
    first = replace(event("guardrail", 1, "A"), guardrail="complaint", severity="info", values={"value": 1.0})
    story.read(exposure(0), first, replace(first, event_time=first.event_time + SECOND), first)
    story.close(25)
    assert story.fact()["guardrails"] == 2
    assert story.unjoined == [("duplicate", 1, "A")]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_5_of_two_exposures_at_one_instant_the_bytes_say_which_opens(story: Story, order: Iterable[int]) -> None:
    """The fact names the same route whatever their order of arrival."""
    routes = (exposure(0, "A", "model_a"), exposure(0, "A", "model_z"))
    story.read(*(routes[index] for index in order))
    story.close(25)
    assert story.fact()["model_route"] == "model_a"
    assert story.fact()["flags"] == ["route_drift"]


def test_6_an_outcome_for_a_closed_window_is_late_even_where_another_is_open(story: Story) -> None:
    """It is never handed to the other variation."""
    story.read(exposure(0, "A"), exposure(20, "B", "model_b"))
    story.close(25)
    story.read(outcome(22, "A"))
    story.close(60)
    assert story.unjoined == [("late", 22, "A")]
    assert {row["variation"]: row["outcomes"] for row in story.rows.facts} == {"A": 0, "B": 0}


@pytest.mark.parametrize(
    ("timestamp_type", "headers"),
    [
        pytest.param(0, [("evidence.timestamp", b"2026-06-01T10:00:00.5Z")], id="replayed"),
        pytest.param(1, [("evidence.timestamp", b"2026-06-01T10:00:00.5Z")], id="rerouted-to-append-time"),
    ],
)
def test_7_a_record_without_timestamp_keeps_its_time_when_it_is_sent_again(
    timestamp_type: int, headers: list[tuple[str, bytes]]
) -> None:
    """Two days later, or on a topic that keeps the time of the append, the header says when it was."""
    body = {"event": "done", "flagKey": "answers", "unitId": "unit", "variation": "A", "solved": True}
    value = json.dumps(body).encode()
    sent = EPOCH + 10 * HOUR + SECOND // 2
    first = PlainRecord(offset=0, timestamp=sent // 1000, value=value)
    again = PlainRecord(
        offset=1,
        timestamp=(sent + 48 * HOUR) // 1000,
        timestamp_type=timestamp_type,
        value=value,
        headers=headers,
    )
    decoder = Decoder(ContractBook([DAY]), 1 << 20, 600 * SECOND)
    decoded = decoder.decode("outcome", "outcomes", [first, again], EPOCH + 100 * HOUR)
    assert [item.event_time for item in events_of(pa.Table.from_batches([decoded.events]))] == [sent, sent]


@pytest.mark.parametrize(
    "every", [pytest.param(31, id="often"), pytest.param(200, id="seldom"), pytest.param(745, id="once")]
)
def test_8_a_month_of_hourly_exposures_is_a_window_a_day(story: Story, every: int) -> None:
    """Whenever closes ran."""
    for hour in range(720):
        story.read(exposure(hour))
        if hour % every == every - 1:
            story.close(hour)
    story.close(745)
    assert story.facts == [(24 * day, "A") for day in range(30)]
    assert {row["exposures"] for row in story.rows.facts} == {24}
    assert not story.unjoined


def test_14_a_segment_that_outlives_one_of_its_events_does_not_tell_it_twice(story: Story) -> None:
    """The segment stays for the event at 30; the one at 10 is decided, neither late nor published again."""
    story.read(exposure(0), outcome(10), outcome(30))
    story.close(5, 25, 26, 40, 55)
    assert story.joined == [("exposure", 0, "A"), ("outcome", 10, "A")]
    assert story.unjoined == [("outside_window", 30, "A")]
    assert len(story.facts) == 1


def test_15_a_late_event_in_a_checkpoint_without_a_close_is_late_in_the_next(story: Story) -> None:
    """Its offset has passed, its fate is still told."""
    story.read(exposure(0))
    story.close(25)
    story.read(outcome(10))
    story.checkpoint()
    story.read(outcome(11))
    story.close(26)
    assert story.unjoined == [("late", 10, "A"), ("late", 11, "A")]


def test_16_a_close_that_was_not_committed_decided_nothing() -> None:
    """Its dead letter is spurious; the retry joins the outcome, because its exposure was read meanwhile."""
    story = Story(chain := new_chain())
    story.read(outcome(10))
    lost = published(chain.attempt(EPOCH + 35 * HOUR))
    assert [row["reason"] for row in lost.dead_letters] == ["no_exposure"]
    chain.arrive(chain.crash())
    story.read(exposure(0))
    story.close(35)
    assert story.joined == [("exposure", 0, "A"), ("outcome", 10, "A")]
    assert not story.rows.dead_letters


def test_22_the_close_at_the_end_of_input_decides_the_very_last_event() -> None:
    """The window that the last event opens, and an outcome without exposure beside it."""
    story = Story(chain := new_chain())
    story.read(outcome(99, "B"), exposure(100, "A"))
    last = close_through(chain.due(EPOCH + 90 * HOUR))
    assert last == EPOCH + 125 * HOUR
    story.close(hours_of(last))
    assert story.facts == [(100, "A")]
    assert story.unjoined == [("no_exposure", 99, "B")]
    assert close_through(chain.due(last)) is None
