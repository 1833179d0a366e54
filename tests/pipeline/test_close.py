"""What a close decides, rule by rule.

Times are hours; the metric window is 24 of them and the allowed lateness 1, unless a test says otherwise. Each event
is called by its value, so that `fates` can tell what became of it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.columns import EVENT, utf8
from contracts.flags import Contract, load_contract
from pipeline.close import Closed, Due, Horizon, close, close_through
from pipeline.close_tables import DEAD_LETTERS
from sinks import tables
from tests.properties.chain import waiting

HOUR = 3_600_000_000
EPOCH = 1_767_225_600_000_000  # hour 0: 2026-01-01T00:00Z
FLAG = "f"

Row = dict[str, Any]


# ── Contracts ─────────────────────────────────────────────────────────────────────────────────────────────────────────

VARIATIONS = """
flag:
  key: f
  type: json
  owner: team
  variations:
    A: {modelRoute: model_a, promptVersion: p, retrievalProfile: r}
    B: {modelRoute: model_b, promptVersion: p, retrievalProfile: r}
    C: {modelRoute: model_c, promptVersion: p, retrievalProfile: r}
"""


def with_window(hours: int) -> Contract:
    """Give a contract whose only metric has a window of so many hours."""
    return with_metrics(f"m: {{event: done, field: x, kind: mean, aggregate: last, window: {hours}h, goal: increase}}")


def with_metrics(*metrics: str) -> Contract:
    lines = "\n".join(f"    {metric}" for metric in metrics)
    experiment = f"experiment:\n  key: e\n  owner: team\n  metrics:\n{lines}\n"
    return load_contract(VARIATIONS + experiment, "f.yaml")


PLAIN = load_contract(VARIATIONS, "f.yaml")


# ── Events ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def at(hours: float) -> int:
    return EPOCH + round(hours * HOUR)


def hour(time: datetime) -> float:
    """Give the hour of a timestamp that a table returned."""
    return float((round(time.timestamp() * 1e6) - EPOCH) / HOUR)


def event(kind: str, hours: float, variation: str, value: str | None, contract: Contract, **columns: object) -> Row:
    row: Row = dict.fromkeys(EVENT.names)
    row |= {
        "kind": kind,
        "topic": f"{kind}s",
        "record_time": at(hours),
        "event_time": at(hours),
        "flag_key": contract.flag_key,
        "unit_id": "u",
        "variation": variation,
        "event": "done",
        "contract_version": contract.version,
        "value": (value or f"{kind} {variation} {hours:g}").encode(),
        "key": b"u",
        "headers": [],
    }
    return row | columns


def exposure(
    hours: float, variation: str = "A", value: str | None = None, *, contract: Contract = PLAIN, **columns: object
) -> Row:
    ran = {
        "assignment_unit": "conversation",
        "model_route": f"model_{variation.lower()}",
        "prompt_version": "p",
        "retrieval_profile": "r",
        "fallback_used": False,
    }
    return event("exposure", hours, variation, value, contract, **(ran | columns))


def outcome(
    hours: float, variation: str = "A", value: str | None = None, *, contract: Contract = PLAIN, **columns: object
) -> Row:
    return event("outcome", hours, variation, value, contract, **({"values": {"x": 1.0}} | columns))


def guardrail(
    hours: float, variation: str = "A", value: str | None = None, *, contract: Contract = PLAIN, **columns: object
) -> Row:
    alarm = {"values": {"value": 1.0}, "guardrail": "unsafe", "severity": "severe"}
    return event("guardrail", hours, variation, value, contract, **(alarm | columns))


def table(rows: Iterable[Row]) -> pa.Table:
    def plain(value: object) -> object:
        return list(value.items()) if isinstance(value, dict) else value

    return pa.Table.from_pylist(
        [{name: plain(value) for name, value in row.items()} for row in rows], schema=utf8(EVENT)
    )


# ── Chains of closes ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Chain:
    """One partition across closes, without files: what a checkpoint would carry from one close to the next."""

    lateness: int = 1
    closed_through: float | None = None
    contracts: dict[str, Contract] = field(default_factory=dict)
    horizons: Mapping[str, Horizon] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    old: list[pa.Table] = field(default_factory=list)
    new: list[pa.Table] = field(default_factory=list)
    residue: list[pa.Table] = field(default_factory=list)
    facts: list[Row] = field(default_factory=list)
    decided: dict[str, str] = field(default_factory=dict)
    waiting: pa.Table = field(default_factory=utf8(EVENT).empty_table)

    def arrive(self, *events: Row, contracts: Sequence[Contract] = ()) -> None:
        """Take events in, in the order given."""
        rows = []
        for row in events:
            rows.append(row | {"offset": self.ends[row["topic"]]})
            self.ends[row["topic"]] += 1
        self.new.append(table(rows))
        for contract in contracts or (PLAIN,):
            self.contracts[contract.version] = contract
            known = self.horizons.get(contract.flag_key, Horizon(0, None))
            longest = max(known.longest_window, contract.window_us)
            self.horizons = {**self.horizons, contract.flag_key: Horizon(longest, known.decided_through)}

    def due(self, watermark: float) -> Due:
        """Give the input of a close through that hour."""
        return Due(
            partition=3,
            closed_through=None if self.closed_through is None else at(self.closed_through),
            watermark=at(watermark),
            allowed_lateness=self.lateness * HOUR,
            horizons=self.horizons,
            contracts=self.contracts,
            old=self.old,
            new=self.new,
            residue=self.residue,
        )

    def close(self, watermark: float) -> Closed:
        """Close, check that each new event has one fate and no old one a second, and carry on."""
        due = self.due(watermark)
        closed, self.waiting = close_and_wait(due)
        fates = fates_of(closed, self.waiting, [*self.old, *self.new])
        assert not self.decided.keys() & fates.keys(), "decided twice"
        self.decided |= {name: fate for name, fate in fates.items() if fate != "undecided"}
        assert {text for new in self.new for text in texts(new)} <= fates.keys(), "a new event without a fate"
        self.facts += closed.facts.to_pylist()
        self.residue.append(closed.residue)
        self.old, self.new = [*self.old, self.waiting], []
        self.horizons, self.closed_through = closed.horizons, watermark
        return closed


def texts(events: pa.Table) -> list[str]:
    return [f"{value.decode()}" for value in events["value"].to_pylist()]


def close_and_wait(due: Due) -> tuple[Closed, pa.Table]:
    """Close; return the new events that wait for a later close, too."""
    closed = close(due)
    return closed, waiting(due, closed)


def fates_of(closed: Closed, waiting: pa.Table, events: Sequence[pa.Table]) -> dict[str, str]:
    names = {(row["topic"], row["offset"]): row["value"].decode() for rows in events for row in rows.to_pylist()}
    found = [
        *((names[row["topic"], row["offset"]], "joined") for row in closed.events.to_pylist()),
        *((names[row["topic"], row["offset"]], row["reason"]) for row in closed.unjoined.to_pylist()),
        *((names[row["topic"], row["offset"]], "undecided") for row in waiting.to_pylist()),
    ]
    assert len(dict(found)) == len(found), "two fates for one event"
    return dict(found)


def close_all(*events: Row, contracts: Sequence[Contract] = (PLAIN,), watermark: float = 1000) -> Chain:
    """Close once, over events that are all new."""
    chain = Chain()
    chain.arrive(*events, contracts=contracts)
    chain.close(watermark)
    return chain


def the_fact(*events: Row, contract: Contract = PLAIN) -> Row:
    """Give the only fact of the events."""
    (fact,) = close_all(*events, contracts=[contract]).facts
    return fact


def spans(chain: Chain) -> list[tuple[str, float, float]]:
    return [(fact["variation"], hour(fact["window_start"]), hour(fact["window_end"])) for fact in chain.facts]


# ── Metric windows ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_window_opens_at_the_first_exposure_and_lasts_its_contracts_longest_metric() -> None:
    chain = close_all(exposure(5, contract=(c := with_window(6))), contracts=[c])
    assert spans(chain) == [("A", 5, 11)]


def test_a_later_exposure_inside_the_window_belongs_to_it() -> None:
    fact = the_fact(exposure(0), exposure(23.9))
    assert fact["exposures"] == 2
    assert hour(fact["last_exposure_at"]) == 23.9


def test_the_first_exposure_at_the_end_of_a_window_opens_the_next() -> None:
    assert spans(close_all(exposure(0), exposure(24), exposure(47), exposure(60))) == [
        ("A", 0, 24),
        ("A", 24, 48),
        ("A", 60, 84),
    ]


def test_windows_are_the_same_whatever_the_order_of_arrival() -> None:
    forwards = [exposure(h) for h in (0, 10, 24, 30, 50)]
    assert spans(close_all(*forwards)) == spans(close_all(*reversed(forwards)))


def test_each_variation_of_a_unit_has_windows_of_its_own() -> None:
    assert spans(close_all(exposure(0, "A"), exposure(30, "B"))) == [("A", 0, 24), ("B", 30, 54)]


def test_units_do_not_share_windows() -> None:
    chain = close_all(exposure(0, unit_id="u"), exposure(1, unit_id="v"))
    assert [(fact["unit_id"], hour(fact["window_start"])) for fact in chain.facts] == [("u", 0), ("v", 1)]


def test_flags_do_not_share_windows() -> None:
    other = load_contract(VARIATIONS.replace("key: f", "key: g"), "g.yaml")
    chain = close_all(exposure(0), exposure(1, contract=other), outcome(2, contract=other), contracts=[PLAIN, other])
    assert [(fact["flag_key"], fact["outcomes"]) for fact in chain.facts] == [("f", 0), ("g", 1)]


@pytest.mark.parametrize(
    ("watermark", "facts"), [pytest.param(24.999, 0, id="before"), pytest.param(25, 1, id="when-reached")]
)
def test_a_window_closes_when_the_watermark_reaches_its_end_and_the_lateness(watermark: float, facts: int) -> None:
    assert len(close_all(exposure(0), watermark=watermark).facts) == facts


def test_a_chain_of_hundreds_of_windows_closes_at_once() -> None:
    chain = close_all(*(exposure(h, value=str(h)) for h in range(0, 24 * 300, 6)), watermark=10_000)
    assert [start for _, start, _ in spans(chain)] == list(range(0, 24 * 300, 24))


def test_hourly_exposures_of_a_month_make_one_window_a_day_whenever_closes_ran() -> None:
    hourly = [exposure(h, value=str(h)) for h in range(24 * 30)]
    at_once = close_all(*hourly)
    daily = Chain()
    for day in range(30):
        daily.arrive(*hourly[24 * day : 24 * (day + 1)])
        daily.close(24 * (day + 1))
    daily.close(1000)
    assert spans(daily) == spans(at_once)
    assert [start for _, start, _ in spans(daily)] == list(range(0, 24 * 30, 24))


def test_a_window_keeps_the_length_of_the_version_it_opened_under() -> None:
    """An outcome read under a shorter version still joins, and its event lives as long as the window."""
    long, short = with_window(24), with_window(1)
    chain = Chain()
    chain.arrive(exposure(0, contract=long), contracts=[long])
    chain.arrive(outcome(2, contract=short), contracts=[short])
    chain.close(20)
    chain.close(25)
    assert chain.decided == {"exposure A 0": "joined", "outcome A 2": "joined"}


def test_a_shorter_version_closes_its_own_windows_earlier() -> None:
    long, short = with_window(24), with_window(1)
    chain = Chain()
    chain.arrive(exposure(0, contract=short), exposure(0, "B", contract=long), contracts=[long, short])
    chain.close(2)
    assert spans(chain) == [("A", 0, 1)]


# ── Attachment ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("make", [outcome, guardrail])
@pytest.mark.parametrize(
    ("hours", "fate"),
    [
        pytest.param(0, "joined", id="at-the-start"),
        pytest.param(23.999, "joined", id="just-inside"),
        pytest.param(24, "outside_window", id="at-the-end"),
        pytest.param(-0.001, "no_exposure", id="before"),
    ],
)
def test_an_event_belongs_to_the_window_that_contains_its_time(
    make: Callable[..., Row], hours: float, fate: str
) -> None:
    chain = close_all(exposure(0), make(hours, value="it"))
    assert chain.decided["it"] == fate


def test_an_event_attaches_to_its_own_variation_though_another_window_began_earlier() -> None:
    chain = close_all(exposure(0, "A"), exposure(5, "B"), outcome(10, "B"))
    assert [(f["variation"], f["outcomes"], "variation_mismatch" in f["flags"]) for f in chain.facts] == [
        ("A", 0, False),
        ("B", 1, False),
    ]


def test_an_event_of_another_variation_attaches_to_the_earliest_window_and_is_marked() -> None:
    chain = Chain()
    chain.arrive(exposure(1, "B"), exposure(0, "C"), outcome(10, "A"), contracts=[PLAIN])
    closed = chain.close(1000)
    marked = [row for row in closed.events.to_pylist() if row["mismatched"]]
    assert [(row["variation"], row["fact_variation"], hour(row["window_start"])) for row in marked] == [("A", "C", 0)]


def test_windows_that_start_together_go_by_variation() -> None:
    chain = Chain()
    chain.arrive(exposure(0, "C"), exposure(0, "B"), outcome(10, "A"))
    closed = chain.close(1000)
    assert [row["fact_variation"] for row in closed.events.to_pylist() if row["mismatched"]] == ["B"]


def test_a_mismatched_event_is_counted_but_not_measured() -> None:
    metrics = with_metrics("m: {event: done, field: x, kind: mean, aggregate: last, window: 24h, goal: increase}")
    fact = the_fact(exposure(0, contract=metrics), outcome(1, "B", contract=metrics), contract=metrics)
    assert (fact["outcomes"], fact["metrics"], fact["flags"]) == (1, [], ["variation_mismatch"])


def test_an_event_that_falls_to_an_open_window_stays_undecided_however_old() -> None:
    long, short = with_window(100), with_window(1)
    chain = Chain()
    chain.arrive(exposure(0, contract=long), outcome(2, contract=short), contracts=[long, short])
    chain.close(100)
    assert chain.decided == {}


# ── Late ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("make", [exposure, outcome, guardrail])
@pytest.mark.parametrize(
    ("hours", "fate"), [pytest.param(25, "late", id="at-the-bound"), pytest.param(25.001, None, id="after-it")]
)
def test_an_event_is_late_once_its_window_would_have_closed(
    make: Callable[..., Row], hours: float, fate: str | None
) -> None:
    chain = Chain()
    chain.close(50)
    chain.arrive(make(hours, value="it"))
    chain.close(50)
    assert chain.decided.get("it") == fate


def test_an_exposure_is_late_where_its_window_would_overlap_a_closed_one_of_any_variation() -> None:
    """Or the published fact would lack `crossover`, and keep an outcome that is not its own."""
    chain = Chain()
    chain.arrive(exposure(0, "A"), outcome(10, "B"))
    chain.close(25)
    assert chain.facts[0]["flags"] == ["variation_mismatch"]
    chain.arrive(exposure(9, "B"))
    chain.close(26)
    assert chain.decided["exposure B 9"] == "late"


@pytest.mark.parametrize(
    ("hours", "fate"), [pytest.param(43.9, "late", id="overlaps"), pytest.param(44, "joined", id="touches")]
)
def test_an_exposure_that_only_touches_a_closed_window_is_not_late(hours: float, fate: str) -> None:
    chain = Chain()
    chain.arrive(exposure(20))
    chain.close(45)
    chain.arrive(exposure(hours, "B", value="it"))
    chain.close(1000)
    assert chain.decided["it"] == fate


def test_an_outcome_that_falls_to_a_closed_window_is_late_though_another_is_open() -> None:
    chain = Chain()
    chain.arrive(exposure(0, "A"), exposure(10, "B"))
    chain.close(25)
    chain.arrive(outcome(20, "A"))
    chain.close(100)
    assert chain.decided["outcome A 20"] == "late"
    assert [fact["outcomes"] for fact in chain.facts] == [0, 0]


def test_an_outcome_is_not_late_where_its_own_window_is_open() -> None:
    chain = Chain()
    chain.arrive(exposure(0, "A"), exposure(10, "B"))
    chain.close(25)
    chain.arrive(outcome(20, "B"))
    chain.close(100)
    assert chain.decided["outcome B 20"] == "joined"


def test_late_goes_before_duplicate() -> None:
    chain = Chain()
    chain.arrive(exposure(0, event_id="x"))
    chain.close(25)
    chain.arrive(exposure(0, value="again", event_id="x"))
    chain.close(26)
    assert chain.decided["again"] == "late"


def test_a_late_exposure_opens_no_window_and_crosses_none() -> None:
    chain = Chain()
    chain.arrive(exposure(20, "A"))
    chain.close(45)
    chain.arrive(exposure(30, "B", value="late one"), exposure(44, "C"), outcome(50, "B"))
    chain.close(1000)
    assert chain.decided["late one"] == "late"
    assert [(fact["variation"], fact["flags"]) for fact in chain.facts] == [
        ("A", []),
        ("C", ["variation_mismatch"]),
    ]


def test_a_late_event_has_one_fate_though_it_came_in_an_earlier_checkpoint_than_the_close() -> None:
    chain = Chain()
    chain.arrive(exposure(20, "A"))
    chain.close(45)
    chain.arrive(exposure(30, "B"), outcome(22, "A"))
    chain.arrive(exposure(60, "A"))
    chain.close(46)
    chain.close(1000)
    assert chain.decided["exposure B 30"] == "late"
    assert chain.decided["outcome A 22"] == "late"
    assert len(chain.facts) == 2


def test_what_was_decided_before_a_longer_version_came_stays_decided() -> None:
    """A window grown after a close makes nothing undecided again: what comes so late is late, and not lost."""
    short, long = with_window(24), with_window(48)
    chain = Chain()
    chain.arrive(exposure(0, contract=short), contracts=[short])
    chain.close(100)
    chain.arrive(outcome(70, contract=long), contracts=[long])
    chain.close(101)
    chain.close(1000)
    assert chain.decided["outcome A 70"] == "late"


# ── Duplicates ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("first", "second", "fates"),
    [
        pytest.param(
            outcome(1, value="p", event_id="x"),
            outcome(2, value="q", event_id="x"),
            ["joined", "duplicate"],
            id="one-id",
        ),
        pytest.param(
            outcome(1, value="p", event_id="x"), outcome(1, value="q", event_id="y"), ["joined", "joined"], id="two-ids"
        ),
        pytest.param(
            outcome(1, value="p"), outcome(2, value="q", event_id="x"), ["joined", "joined"], id="one-without"
        ),
        pytest.param(
            outcome(1, value="p", event_id="x"),
            guardrail(2, value="q", event_id="x"),
            ["joined", "joined"],
            id="one-id-in-two-topics",
        ),
        pytest.param(
            outcome(1, value="p", event_id="x"),
            outcome(2, "B", value="q", event_id="x"),
            ["joined", "duplicate"],
            id="mismatched",
        ),
        pytest.param(
            outcome(2, value="p", event_id="x"),
            outcome(1, value="q", event_id="x"),
            ["duplicate", "joined"],
            id="by-time",
        ),
        pytest.param(
            outcome(1, value="q", event_id="x"),
            outcome(1, value="p", event_id="x"),
            ["duplicate", "joined"],
            id="by-value",
        ),
    ],
)
def test_the_first_event_of_an_id_counts_within_window_and_topic(first: Row, second: Row, fates: list[str]) -> None:
    chain = close_all(exposure(0), first, second)
    assert [chain.decided[row["value"].decode()] for row in (first, second)] == fates


def test_equal_bytes_at_one_time_without_an_id_are_duplicates_and_the_lower_offset_counts() -> None:
    chain = Chain()
    chain.arrive(exposure(0), guardrail(1, value="same"), outcome(1, value="o"))
    chain.new.append(table([guardrail(1, value="same") | {"offset": 1}]))
    closed = close(chain.due(1000))
    assert [(row["reason"], row["offset"]) for row in closed.unjoined.to_pylist()] == [("duplicate", 1)]
    assert closed.facts["guardrails"].to_pylist() == [1]


def test_equal_bytes_at_two_times_both_count() -> None:
    """Two alarms without ID and timestamp, told apart by the time of their records."""
    chain = Chain()
    chain.arrive(exposure(0), guardrail(1, value="same"))
    chain.new.append(table([guardrail(2, value="same") | {"offset": 1}]))
    assert close(chain.due(1000)).facts["guardrails"].to_pylist() == [2]


def test_a_copy_outside_the_window_has_its_own_fate() -> None:
    chain = Chain()
    chain.arrive(exposure(0), outcome(10, event_id="x"))
    chain.close(25)
    chain.arrive(outcome(30, event_id="x"))
    chain.close(1000)
    assert chain.decided["outcome A 30"] == "outside_window"


def test_duplicates_count_nowhere() -> None:
    contract = with_metrics("m: {event: done, field: x, kind: mean, aggregate: sum, window: 24h, goal: increase}")
    fact = the_fact(
        exposure(0, event_id="a", contract=contract),
        exposure(5, event_id="a", contract=contract, fallback_used=True),
        outcome(1, event_id="b", contract=contract),
        outcome(2, event_id="b", contract=contract),
        guardrail(1, event_id="c", contract=contract),
        guardrail(2, "B", event_id="c", contract=contract),
        contract=contract,
    )
    assert (fact["exposures"], fact["fallbacks"], fact["outcomes"], fact["guardrails"]) == (1, 0, 1, 1)
    assert (fact["metrics"], fact["flags"], hour(fact["last_exposure_at"])) == ([("m", 1.0)], [], 0)


# ── Without a window ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("watermarks", [(1000,), (25, 49, 55, 1000), (60, 1000)])
def test_an_outcome_after_a_window_is_outside_it_whenever_closes_ran(watermarks: tuple[float, ...]) -> None:
    chain = Chain()
    chain.arrive(exposure(0), outcome(30))
    for watermark in watermarks:
        chain.close(watermark)
    assert chain.decided["outcome A 30"] == "outside_window"


@pytest.mark.parametrize("before", [True, False])
def test_an_outcome_long_after_a_window_had_no_exposure_whatever_comes_later(before: bool) -> None:  # noqa: FBT001
    chain = Chain()
    chain.arrive(exposure(0), outcome(53))
    chain.close(25)
    if before:
        chain.arrive(exposure(79))
    chain.close(78)
    if not before:
        chain.arrive(exposure(79))
    chain.close(1000)
    assert chain.decided["outcome A 53"] == "no_exposure"


@pytest.mark.parametrize(
    ("hours", "fate"), [pytest.param(47.9, "outside_window", id="within"), pytest.param(48, "no_exposure", id="at-w")]
)
def test_outside_window_reaches_one_window_back(hours: float, fate: str) -> None:
    assert close_all(exposure(0), outcome(hours, "B", value="it")).decided["it"] == fate


@pytest.mark.parametrize(
    ("watermark", "fate"), [pytest.param(34.9, None, id="before"), pytest.param(35, "no_exposure", id="at-expiry")]
)
def test_an_outcome_without_exposure_waits_as_long_as_a_window(watermark: float, fate: str | None) -> None:
    assert close_all(outcome(10, value="it"), watermark=watermark).decided.get("it") == fate


def test_an_outcome_that_comes_before_its_exposure_joins() -> None:
    chain = Chain()
    chain.arrive(outcome(10))
    chain.close(20)
    chain.arrive(exposure(5))
    chain.close(30)
    assert chain.decided == {"exposure A 5": "joined", "outcome A 10": "joined"}


def test_late_and_no_exposure_leave_a_dead_letter_with_the_record_as_it_came() -> None:
    chain = Chain()
    chain.arrive(exposure(0), outcome(30))
    assert chain.close(55).dead_letters.num_rows == 0
    chain.arrive(
        outcome(1, value="late", key=b"k", headers=[{"key": "h", "value": b"1"}]),
        guardrail(60, value="lonely", key=None),
    )
    letters = chain.close(1000).dead_letters
    assert utf8(letters.schema).equals(DEAD_LETTERS)
    kept = {row.pop("value"): row for row in letters.to_pylist()}
    assert kept[b"late"] | {"record_time": 0} == {
        "reason": "late",
        "stage": "close",
        "topic": "outcomes",
        "offset": 1,
        "record_time": 0,
        "key": b"k",
        "headers": [{"key": "h", "value": b"1"}],
    }
    assert (kept[b"lonely"]["reason"], kept[b"lonely"]["key"]) == ("no_exposure", None)


# ── Facts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_unit_without_an_outcome_is_a_fact() -> None:
    fact = the_fact(exposure(0))
    assert (fact["outcomes"], fact["guardrails"], fact["metrics"], fact["clean"]) == (0, 0, [], True)


def test_a_fact_tells_what_ran_at_its_first_exposure() -> None:
    fact = the_fact(
        exposure(1, model_route="second", assignment_unit="account", attributes={"plan": "free"}),
        exposure(0, model_route="first", prompt_version="pp", retrieval_profile="rr", attributes={"plan": "paid"}),
    )
    assert (fact["model_route"], fact["prompt_version"], fact["retrieval_profile"]) == ("first", "pp", "rr")
    assert (fact["assignment_unit"], fact["attributes"]) == ("conversation", [("plan", "paid")])


@pytest.mark.parametrize("reverse", [False, True])
def test_exposures_of_one_instant_go_by_their_bytes_whatever_the_order_of_arrival(reverse: bool) -> None:  # noqa: FBT001
    events = [exposure(0, value="\u00e9", model_route="late"), exposure(0, value="z", model_route="early")]
    assert the_fact(*(events[::-1] if reverse else events))["model_route"] == "early"


def test_a_fact_keeps_the_attributes_that_the_experiment_names() -> None:
    contract = load_contract(VARIATIONS + "experiment: {key: e, owner: t, attributes: [plan, region]}\n", "f.yaml")
    fact = the_fact(
        exposure(0, contract=contract, attributes={"locale": "de", "plan": "paid", "tier": "1"}), contract=contract
    )
    assert fact["attributes"] == [("plan", "paid")]


def test_a_fact_carries_the_version_and_experiment_it_opened_under() -> None:
    contract = with_window(24)
    fact = the_fact(exposure(0, contract=contract), contract=contract)
    assert (fact["contract_version"], fact["experiment_key"]) == (contract.version, "e")


def test_facts_come_by_flag_then_window_start() -> None:
    other = load_contract(VARIATIONS.replace("key: f", "key: a"), "a.yaml")
    rows = [exposure(h, unit_id=u, contract=c) for h, u, c in [(3, "x", PLAIN), (1, "y", PLAIN), (9, "z", other)]]
    chain = close_all(*rows, contracts=[PLAIN, other])
    assert [(fact["flag_key"], fact["unit_id"]) for fact in chain.facts] == [("a", "z"), ("f", "y"), ("f", "x")]


# ── Flags ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fallback_contaminates_its_window() -> None:
    fact = the_fact(exposure(0), exposure(1, fallback_used=True, model_route="safe"))
    assert (fact["flags"], fact["fallbacks"], fact["clean"]) == (["fallback_contaminated"], 1, False)


@pytest.mark.parametrize("dimension", ["model_route", "prompt_version", "retrieval_profile"])
def test_a_route_that_the_contract_does_not_name_drifts(dimension: str) -> None:
    assert the_fact(exposure(0), exposure(1) | {dimension: "other"})["flags"] == ["route_drift"]


def test_a_dimension_that_the_contract_leaves_open_does_not_drift() -> None:
    contract = load_contract("flag: {key: f, type: string, owner: t, variations: {A: model_a}}\n", "f.yaml")
    fact = the_fact(exposure(0, prompt_version="any", retrieval_profile="any", contract=contract), contract=contract)
    assert fact["flags"] == []


def test_an_exposure_is_held_against_the_version_its_window_opened_under() -> None:
    moved = load_contract(VARIATIONS.replace("model_a", "model_new"), "f.yaml")
    chain = close_all(exposure(0), exposure(1, contract=moved, model_route="model_new"), contracts=[PLAIN, moved])
    assert chain.facts[0]["flags"] == ["route_drift"]


def test_overlapping_windows_of_two_variations_cross() -> None:
    assert [fact["flags"] for fact in close_all(exposure(0, "A"), exposure(23, "B")).facts] == [["crossover"]] * 2


def test_windows_that_touch_do_not_cross() -> None:
    assert [fact["flags"] for fact in close_all(exposure(0, "A"), exposure(24, "B")).facts] == [[], []]


def test_a_window_crosses_whether_the_other_is_open_or_closed() -> None:
    chain = Chain()
    chain.arrive(exposure(0, "A"), exposure(10, "B"))
    chain.close(25)
    chain.close(35)
    assert [fact["flags"] for fact in chain.facts] == [["crossover"], ["crossover"]]


ASSIGNED = VARIATIONS + "  assignment: {unit: conversation_id, eligibleSegment: paid, exclusions: [staff, banned]}\n"


@pytest.mark.parametrize(
    ("unit", "flags"),
    [
        ("conversation", []),
        ("conversation_id", []),
        ("conversationId", []),
        ("Conversation", []),
        ("account", ["assignment_unit_mismatch"]),
    ],
)
def test_one_assignment_unit_has_several_spellings(unit: str, flags: list[str]) -> None:
    contract = load_contract(ASSIGNED, "f.yaml")
    assert the_fact(exposure(0, contract=contract, assignment_unit=unit), contract=contract)["flags"] == flags


@pytest.mark.parametrize(
    ("segments", "flags"),
    [
        pytest.param(["paid"], [], id="eligible"),
        pytest.param(["paid", "banned"], ["excluded_unit"], id="excluded"),
        pytest.param(["other"], ["excluded_unit"], id="not-eligible"),
        pytest.param([], [], id="empty"),
        pytest.param(None, [], id="not-given"),
    ],
)
def test_a_unit_is_excluded_by_its_segments(segments: list[str] | None, flags: list[str]) -> None:
    contract = load_contract(ASSIGNED, "f.yaml")
    assert the_fact(exposure(0, contract=contract, segments=segments), contract=contract)["flags"] == flags


LADDER = (
    VARIATIONS
    + """
experiment:
  key: e
  owner: t
  states:
    - {state: offline, from: 2026-01-01T01:00:00Z}
    - {state: ab, from: 2026-01-01T02:00:00Z}
    - {state: cleanup, from: 2026-01-01T03:00:00Z}
"""
)


@pytest.mark.parametrize(
    ("hours", "state", "flags"),
    [
        pytest.param(0.5, None, ["wrong_state"], id="not-begun"),
        pytest.param(1, "offline", ["wrong_state"], id="offline"),
        pytest.param(2, "ab", [], id="running"),
        pytest.param(3, "cleanup", ["wrong_state"], id="cleanup"),
    ],
)
def test_the_state_is_that_of_the_experiment_when_the_window_opened(
    hours: float, state: str | None, flags: list[str]
) -> None:
    contract = load_contract(LADDER, "f.yaml")
    fact = the_fact(exposure(hours, contract=contract), contract=contract)
    assert (fact["state"], fact["flags"]) == (state, flags)


def test_flags_come_in_one_order() -> None:
    contract = load_contract(ASSIGNED + LADDER.removeprefix(VARIATIONS), "f.yaml")
    fact = close_all(
        exposure(0, contract=contract, fallback_used=True),
        exposure(1, contract=contract, model_route="x", assignment_unit="account", segments=["staff"]),
        exposure(2, "B", contract=contract),
        outcome(3, "C", contract=contract),
        contracts=[contract],
    ).facts[0]
    assert fact["flags"] == [
        "fallback_contaminated",
        "variation_mismatch",
        "route_drift",
        "crossover",
        "assignment_unit_mismatch",
        "excluded_unit",
        "wrong_state",
    ]


# ── Metrics ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("aggregate", "value"),
    [
        ("last", 0.0),
        ("first", 3.0),
        ("sum", 4.5),
        ("mean", 1.5),
        ("max", 3.0),
        ("min", 0.0),
        ("count", 3.0),
        ("any", 1.0),
        ("all", 0.0),
    ],
)
def test_a_metric_aggregates_the_outcomes_of_its_window(aggregate: str, value: float) -> None:
    contract = with_metrics(
        f"m: {{event: done, field: x, kind: mean, aggregate: {aggregate}, window: 24h, goal: increase}}"
    )
    readings = [outcome(h, contract=contract, values={"x": x}) for h, x in [(2, 1.5), (3, 0.0), (1, 3.0)]]
    fact = the_fact(exposure(0, contract=contract), *readings, contract=contract)
    assert fact["metrics"] == [("m", value)]


@pytest.mark.parametrize(("aggregate", "value"), [("first", 1.0), ("last", 2.0)])
def test_outcomes_of_one_instant_go_by_their_bytes(aggregate: str, value: float) -> None:
    contract = with_metrics(
        f"m: {{event: done, field: x, kind: mean, aggregate: {aggregate}, window: 24h, goal: increase}}"
    )
    fact = the_fact(
        exposure(0, contract=contract),
        outcome(1, contract=contract, value="b", values={"x": 2.0}),
        outcome(1, contract=contract, value="a", values={"x": 1.0}),
        contract=contract,
    )
    assert fact["metrics"] == [("m", value)]


def test_a_metric_counts_only_in_its_own_window() -> None:
    contract = with_metrics(
        "short: {event: done, field: x, kind: mean, aggregate: sum, window: 1h, goal: increase}",
        "long: {event: done, field: x, kind: mean, aggregate: sum, window: 24h, goal: increase}",
    )
    readings = [outcome(h, contract=contract) for h in (0, 0.999, 1)]
    fact = the_fact(exposure(0, contract=contract), *readings, contract=contract)
    assert dict(fact["metrics"]) == {"short": 2.0, "long": 3.0}


def test_a_metric_reads_outcomes_of_its_event_that_have_its_field() -> None:
    contract = with_metrics(
        "m: {event: done, field: x, kind: mean, aggregate: sum, window: 24h, goal: increase}",
        "unread: {event: done, field: z, kind: mean, aggregate: sum, window: 24h, goal: increase}",
    )
    fact = the_fact(
        exposure(0, contract=contract),
        outcome(1, contract=contract, values={"x": 1.0, "y": 5.0}),
        outcome(2, contract=contract, values={"y": 5.0}),
        outcome(3, contract=contract, event="other"),
        guardrail(4, contract=contract, values={"x": 7.0}),
        contract=contract,
    )
    assert fact["metrics"] == [("m", 1.0)]


def test_a_count_without_a_field_counts_events() -> None:
    contract = with_metrics("m: {event: done, kind: mean, aggregate: count, window: 24h, goal: increase}")
    fact = the_fact(
        exposure(0, contract=contract),
        outcome(1, contract=contract, values={}),
        outcome(2, contract=contract),
        contract=contract,
    )
    assert fact["metrics"] == [("m", 2.0)]


# ── Joined events ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_joined_event_names_its_fact_and_where_its_record_lies() -> None:
    chain = Chain()
    chain.arrive(exposure(0, attributes={"plan": "paid"}), guardrail(1, "B", confirmed=True))
    rows = {row["kind"]: row for row in chain.close(1000).events.to_pylist()}
    alarm, seen = rows["guardrail"], rows["exposure"]
    assert (alarm["flag_key"], alarm["unit_id"], alarm["fact_variation"]) == ("f", "u", "A")
    assert hour(alarm["window_start"]) == 0
    assert (alarm["topic"], alarm["partition"], alarm["offset"]) == ("guardrails", 3, 0)
    assert (alarm["variation"], alarm["mismatched"], alarm["values"]) == ("B", True, [("value", 1.0)])
    assert (alarm["guardrail"], alarm["severity"], alarm["confirmed"]) == ("unsafe", "severe", True)
    assert (seen["model_route"], seen["fallback_used"], seen["values"]) == ("model_a", False, [])


def test_an_unjoined_event_keeps_its_text() -> None:
    chain = Chain()
    chain.arrive(outcome(0, value='{"é": 1}'))
    (row,) = chain.close(1000).unjoined.to_pylist()
    assert (row["value"], row["reason"], row["partition"], hour(row["event_time"])) == ('{"é": 1}', "no_exposure", 3, 0)


# ── Closes in a row ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_event_decided_earlier_is_ignored_though_its_segment_lives() -> None:
    chain = Chain()
    chain.arrive(exposure(10, unit_id="p"), exposure(30, unit_id="q"))
    chain.close(11)
    chain.close(35)
    assert chain.decided == {"exposure A 10": "joined"}
    chain.close(40)
    chain.close(1000)
    assert chain.decided == {"exposure A 10": "joined", "exposure A 30": "joined"}
    assert len(chain.facts) == 2


def test_everything_of_a_closed_window_is_decided_though_it_came_late_in_it() -> None:
    chain = Chain()
    chain.arrive(exposure(0), exposure(23), outcome(22), outcome(23, "B"))
    chain.close(10)
    chain.close(25)
    for watermark in (26, 40, 60, 1000):
        assert chain.close(watermark).events.num_rows == 0
    assert len(chain.facts) == 1


def test_decided_names_the_rows_of_each_source_that_wait_no_longer() -> None:
    chain = Chain()
    chain.arrive(exposure(5))
    chain.close(6)
    chain.arrive(exposure(40), outcome(6), outcome(41))
    chain.arrive(outcome(42), outcome(2, "C"))
    closed = close(chain.due(31))
    assert [each.rows.tolist() for each in closed.decided] == [[1], [1]]
    assert not any(each.forgotten for each in closed.decided)


def test_a_late_exposure_beside_a_closed_window_would_be_forgotten() -> None:
    """Neither its time nor a window of its variation says later that it is decided."""
    chain = Chain()
    chain.arrive(exposure(10))
    chain.close(35)
    chain.arrive(exposure(30, "B"), exposure(31, unit_id="other"))
    closed = chain.close(36)
    assert chain.decided["exposure B 30"] == "late"
    assert [(each.rows.tolist(), each.forgotten) for each in closed.decided] == [([0], True)]


def test_a_retry_that_finds_the_exposure_joins_what_a_dead_close_gave_up() -> None:
    chain = Chain()
    chain.arrive(outcome(10))
    assert close(chain.due(35)).unjoined["reason"].to_pylist() == ["no_exposure"]
    chain.arrive(exposure(9))
    chain.close(35)
    assert chain.decided["outcome A 10"] == "joined"


def test_the_horizon_moves_with_the_watermark_and_never_back() -> None:
    chain = close_all(exposure(0), watermark=100)
    assert chain.horizons[FLAG] == Horizon(24 * HOUR, at(75))
    longer = with_window(48)
    chain.arrive(contracts=[longer])
    chain.close(110)
    assert chain.horizons[FLAG] == Horizon(48 * HOUR, at(75))


def test_residue_has_the_windows_closed_here() -> None:
    chain = Chain()
    chain.arrive(exposure(0), exposure(30, "B"))
    assert chain.close(25).residue.to_pylist() == [
        {
            "flag_key": "f",
            "unit_id": "u",
            "variation": "A",
            "window_start": chain.facts[0]["window_start"],
            "window_end": chain.facts[0]["window_end"],
        }
    ]
    assert chain.close(55).residue["variation"].to_pylist() == ["B"]


def test_nothing_in_gives_nothing_of_every_schema_out() -> None:
    closed = close(Chain().due(10))
    assert utf8(closed.facts.schema).equals(tables.FACTS)
    assert utf8(closed.events.schema).equals(tables.EVENTS)
    assert utf8(closed.unjoined.schema).equals(tables.UNJOINED)
    assert utf8(closed.residue.schema).equals(tables.RESIDUE)
    assert closed.decided == []
    assert sum(part.num_rows for part in (closed.facts, closed.events, closed.unjoined)) == 0


def test_closing_through_the_last_ripening_leaves_nothing_undecided() -> None:
    chain = Chain()
    chain.arrive(exposure(0), exposure(23), outcome(90, "B"), exposure(100, "C"))
    chain.close(25)
    through = close_through(chain.due(0))
    assert through == at(125)
    chain.close(125)
    assert set(chain.decided.values()) == {"joined", "no_exposure"}
    assert close_through(chain.due(0)) is None


def test_a_close_does_not_go_back() -> None:
    chain = close_all(exposure(0), watermark=100)
    with pytest.raises(ValueError, match="lies before closed_through"):
        close(chain.due(99))


@pytest.mark.parametrize("horizons", [{}, {FLAG: Horizon(23 * HOUR, None)}], ids=["none", "too-short"])
def test_every_contract_needs_a_horizon_as_long_as_its_window(horizons: dict[str, Horizon]) -> None:
    chain = Chain()
    chain.arrive(exposure(0))
    with pytest.raises(ValueError, match="the horizon of f is shorter than the window of"):
        close(replace(chain.due(10), horizons=horizons))


# ── Sources ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_events_come_from_files_and_from_coded_tables_alike(tmp_path: Path) -> None:
    rows = [exposure(0) | {"offset": 0}, outcome(1) | {"offset": 0}, guardrail(2) | {"offset": 0}]
    segment = tmp_path / "it's a segment.parquet"
    pq.write_table(table(rows[:1]), segment)
    old = tmp_path / "residue.parquet"
    pq.write_table(tables.RESIDUE.empty_table(), old)
    chain = Chain()
    chain.arrive()
    sources = [str(segment), table(rows[1:2]).cast(EVENT), table(rows[2:])]
    closed = close(replace(chain.due(1000), new=sources, residue=[str(old)]))
    assert closed.events.num_rows == 3
    assert closed.facts["guardrails"].to_pylist() == [1]


def few_among_many() -> list[Row]:
    """Make forty units, of which the first has all that is due at hour 25."""
    due = [exposure(0, unit_id="u0"), outcome(1, unit_id="u0"), guardrail(2, "B", value="other", unit_id="u0")]
    rest = [
        make(10, value=f"{make.__name__} {n}", unit_id=f"u{n}") for n in range(1, 40) for make in (exposure, outcome)
    ]
    return [*due, *rest]


def test_few_due_units_among_many_are_decided_alone() -> None:
    chain = Chain()
    chain.arrive(*few_among_many())
    chain.close(25)
    assert chain.decided == {"exposure A 0": "joined", "outcome A 1": "joined", "other": "joined"}
    assert chain.waiting.num_rows == 78
    assert chain.facts[0]["flags"] == ["variation_mismatch"]


def test_few_due_units_are_found_in_files(tmp_path: Path) -> None:
    chain = Chain()
    chain.arrive(*few_among_many())
    rows = chain.new[0]
    paths = [str(tmp_path / f"{start}.parquet") for start in range(0, len(rows), 20)]
    for start, path in zip(range(0, len(rows), 20), paths, strict=True):
        pq.write_table(rows.slice(start, 20), path)
    closed, undecided = close_and_wait(replace(chain.due(25), new=[*paths, rows.slice(0, 0)]))
    assert (closed.facts.num_rows, closed.events.num_rows, undecided.num_rows) == (1, 3, 78)
