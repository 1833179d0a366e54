"""Whatever is passed, nothing raises; and whatever is published, the pipeline's own decoder accepts."""

import json
import math
import random
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Final, NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.decode import Decoder
from evidence_client import Evidence, Kind, Loss, MemoryPublisher, Run
from evidence_client.events import MAX_VALUE_BYTES
from tests.client.assignments import RAN, assigned
from tests.contracts.records import BOOK, NOON, PlainRecord

CALLS: Final = 10
KINDS: Final[tuple[Kind, ...]] = ("exposure", "outcome", "guardrail")
WIRE: Final = ("event", "eventId", "flagKey", "unitId", "unit_id", "variation", "timestamp", "segments", "metrics")


class Name(str, Enum):  # noqa: UP042  # as services on Python 3.10 write it
    """A text that is more than a text."""

    RIGHT = "support_answer_model_route"


class Hostile:
    """A value that raises wherever it is touched."""

    def _raise(self, *_: object) -> NoReturn:
        raise RuntimeError

    __class__ = property(_raise)
    __len__ = __iter__ = __hash__ = __bool__ = __float__ = __str__ = _raise


class Decisive(IntEnum):
    """A number that is more than a number."""

    YES = 1


SCALARS: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "Lu"])),
    st.binary(max_size=5),
    st.sampled_from(
        ["x" * 256, "x" * 257, "x" * 1025, "", "\0", "\n", "none", *WIRE, "info", "severe", "warning", Name.RIGHT]
    ),
    st.sampled_from(
        [10**308, 10**400, -(10**4000), math.nan, math.inf, -0.0, 5e-324, np.float64(1.5), np.float32(1.5), np.int64(1)]
    ),
    st.sampled_from([Decimal("0.1"), 1j, date(2026, 6, 7), object(), Decisive.YES, Ellipsis, print]),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
)
ANYTHING: Final = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)

Evidential = Callable[[Evidence, Run], None]


def usually(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Give something right, one time in eight anything."""
    return st.integers(0, 7).flatmap(lambda n: ANYTHING if n == 0 else right)


NAMES: Final = st.one_of(st.text(min_size=1, max_size=40), st.sampled_from(["x" * 256, "größer", "\U0001d4b3", *WIRE]))
NUMBERS: Final = st.one_of(st.booleans(), st.integers(), st.floats(), st.sampled_from([Decisive.YES, np.float64(2)]))
ASSIGNMENTS: Final = st.fixed_dictionaries(
    {"flag_key": usually(st.sampled_from(["support_answer_model_route", Name.RIGHT])), "unit_id": usually(NAMES)},
    optional={
        "variation": usually(st.sampled_from(["control", "candidate", "fallback"])),
        "assignment_unit": usually(NAMES),
        "experiment_key": usually(st.sampled_from([None, "support_answer_model_route_2026_06"])),
        "attributes": usually(st.dictionaries(NAMES, st.text(), max_size=3)),
        "segments": usually(st.lists(NAMES, max_size=3)),
        "reason": usually(st.one_of(st.none(), st.text(max_size=20))),
    },
).map(lambda fields: assigned(**fields))
ROUTES: Final = st.fixed_dictionaries(
    {"model_route": usually(NAMES)},
    optional={name: usually(NAMES) for name in ("prompt_version", "retrieval_profile", "nonsense")},
)
TIMES: Final = st.fixed_dictionaries(
    {},
    optional={
        "at": usually(st.datetimes(datetime(1999, 1, 1), datetime(2026, 6, 8), timezones=st.timezones())),  # noqa: DTZ001
        "event_id": usually(NAMES),
    },
)


@st.composite
def calls(draw: st.DrawFn) -> Evidential:
    """Draw a call of the client."""
    assignment = draw(st.one_of(ASSIGNMENTS, ANYTHING))
    match draw(st.sampled_from(KINDS)):
        case "exposure":
            route, fallback = draw(ROUTES), draw(st.booleans())

            def expose(evidence: Evidence, _: Run) -> None:
                with evidence.run(assignment) as run:
                    (run.fell_back if fallback else run.executed)(**route)

            return expose
        case "outcome":
            event, when = draw(usually(NAMES)), draw(TIMES)
            metrics = draw(usually(st.dictionaries(NAMES, usually(NUMBERS), max_size=4)))
            return lambda evidence, _: evidence.outcome(assignment, event, metrics, **when)
    name, value, when = draw(usually(NAMES)), draw(usually(NUMBERS)), draw(TIMES)
    more = {
        "severity": draw(usually(st.sampled_from(["info", "warning", "severe"]))),
        "confirmed": draw(usually(st.sampled_from([None, True, False]))),
        "event": draw(usually(NAMES)),
    }
    return lambda evidence, _: evidence.guardrail(assignment, name, value, **more, **when)


def refusals(published: MemoryPublisher) -> list[tuple[str, str, bytes]]:
    """Return reason, message and value of each event that the pipeline's decoder refuses."""
    decoder = Decoder(BOOK, max_value_bytes=1 << 20, max_future_us=600_000_000)
    found: list[tuple[str, str, bytes]] = []
    for kind in KINDS:
        records = [
            PlainRecord(message.value, offset, key=message.key)
            for offset, message in enumerate(published.messages)
            if message.kind == kind
        ]
        decoded = decoder.decode(kind, kind, records, NOON)
        assert decoded.events.num_rows + len(decoded.refused) == len(records)
        units = decoded.events.column("unit_id").cast("string").to_pylist()
        refused = {refusal.record.offset for refusal in decoded.refused}
        assert units == [record.key.decode() for record in records if record.offset not in refused]  # type: ignore[union-attr]
        found += [(refusal.reason, refusal.message, refusal.record.value or b"") for refusal in decoded.refused]
    return found


@given(st.lists(calls(), min_size=CALLS, max_size=CALLS))
def test_whatever_is_passed_nothing_raises_and_nothing_is_refused(drawn: list[Evidential]) -> None:
    """But for flags and variations that no flag file has: the client knows no flag files."""
    published = MemoryPublisher()
    evidence = Evidence(published, clock=lambda: NOON / 1e6)
    for call in drawn:
        call(evidence, evidence.run())
    unknown = {"unknown_flag", "unknown_variation"}
    assert [refusal for refusal in refusals(published) if refusal[0] not in unknown] == []
    counts = evidence.counts()
    assert counts.recorded == counts.acknowledged + sum(counts.dropped.values())


def test_five_thousand_calls_at_random() -> None:
    """Of values that are each right somewhere, in any place."""
    rng = random.Random(7)  # noqa: S311  # made-up calls
    published = MemoryPublisher()
    evidence = Evidence(published, clock=lambda: NOON / 1e6, repeat_s=0)
    zone = timezone(timedelta(hours=2))
    values: list[Any] = [None, True, 0, -1.5, math.nan, 10**400, 3 + 1j, "", "x" * 300, "\ud800", "größer", b""]
    values += [{}, {"plan": "pro"}, {"cost": 0.01}, {"unitId": 1}, {"": 1}, [], ["paid"], [1], "candidate", "severe"]
    values += [datetime(2026, 6, 7, tzinfo=zone), datetime(2036, 6, 7, tzinfo=zone), datetime(2026, 6, 7), object()]  # noqa: DTZ001

    def some(right: object) -> Any:  # noqa: ANN401  # anything
        return right if rng.random() < 0.9 else rng.choice(values)

    for number in range(5_000):
        fields = {"attributes": some({}), "segments": some([]), "reason": some(None), "assignment_unit": some("user")}
        assignment = some(assigned(some(f"conv_{number}"), variation=some("control"), **fields))
        when = {"at": some(None), "event_id": some(None)}
        match number % 3:
            case 0:
                with evidence.run(assignment) as run:
                    run.executed(model_route=some("a"), prompt_version=some("b"), retrieval_profile=some(None))
            case 1:
                evidence.outcome(assignment, some("answered"), some({"turns": some(3)}), **when)
            case _:
                evidence.guardrail(assignment, some("g"), some(1), severity=some("info"), confirmed=some(None), **when)
    assert {refusal[0] for refusal in refusals(published)} <= {"unknown_variation"}
    counts = evidence.counts()
    assert counts.recorded + sum(counts.skipped.values()) == 5_000
    assert counts.acknowledged > 1_500
    assert counts.dropped["invalid"] > 1_500
    assert set(counts.dropped) == {"invalid"}


@given(
    st.text(min_size=1, max_size=1024),
    st.dictionaries(st.text(min_size=1, max_size=256), st.text(), max_size=3),
    st.lists(st.text(min_size=1, max_size=256), max_size=3),
    st.dictionaries(
        st.text(min_size=1, max_size=256),
        st.one_of(st.booleans(), st.integers(-(10**300), 10**300), st.floats(allow_nan=False, allow_infinity=False)),
        max_size=5,
    ),
)
def test_whatever_the_contract_allows_is_published(
    unit_id: str, attributes: dict[str, str], segments: list[str], metrics: dict[str, float]
) -> None:
    published = MemoryPublisher()
    evidence = Evidence(published, clock=lambda: NOON / 1e6)
    assignment = assigned(unit_id, attributes=attributes, segments=segments)
    with evidence.run(assignment) as run:
        run.executed(**RAN)
    run.outcome("answered", metrics)
    run.guardrail("unsafe_answer", 0, severity="info")
    assert evidence.counts().dropped == {}
    assert refusals(published) == []
    told = {name: value for name, value in published.outcomes[0].items() if name in metrics}
    assert told == metrics


WRONG = [
    pytest.param({"unit_id": 98271}, "unitId should be a text, not int", id="unit ID"),
    pytest.param({"unit_id": ""}, "unitId should have 1 to 1024 characters, not 0", id="empty unit ID"),
    pytest.param({"unit_id": "x" * 1025}, "unitId should have 1 to 1024 characters, not 1025", id="long unit ID"),
    pytest.param(
        {"unit_id": "\ud800"}, "a text holds half of a surrogate pair, which UTF-8 does not have", id="surrogate"
    ),
    pytest.param({"flag_key": None}, "an assignment should have a flag_key or an experiment_key", id="no flag"),
    pytest.param({"attributes": {"plan": 3}}, "the attribute 'plan' should be a text, not int", id="attribute"),
    pytest.param({"attributes": "plan"}, "attributes should map names to texts, not be a str", id="attributes"),
    pytest.param({"segments": "paid"}, "segments should be a list of names, not a str", id="segments"),
    pytest.param({"variation": None}, "variation should be a text, not NoneType", id="variation"),
]


@pytest.mark.parametrize(("changes", "why"), WRONG)
def test_a_wrong_assignment_is_a_loss_with_its_field_named(changes: dict[str, Any], why: str) -> None:
    losses: list[Loss] = []
    evidence = Evidence(MemoryPublisher(losses.append))
    evidence.outcome(assigned(**changes), "answered", {})
    assert [(loss.reason, loss.why) for loss in losses] == [("invalid", why)]


@pytest.mark.parametrize(
    ("metrics", "why"),
    [
        pytest.param({"cost": math.nan}, "the metric 'cost' should be a number that fits a double", id="NaN"),
        pytest.param({"cost": 10**5000}, "the metric 'cost' should be a number that fits a double", id="too great"),
        pytest.param({"cost": "3"}, "the metric 'cost' should be a bool, an int or a float, not str", id="text"),
        pytest.param(
            {"cost": Decimal(3)},
            "the metric 'cost' should be a bool, an int or a float, not decimal.Decimal",
            id="exact",
        ),
        pytest.param(
            {"cost": np.bool_(1)}, "the metric 'cost' should be a bool, an int or a float, not numpy.bool", id="numpy"
        ),
        pytest.param({"unitId": 3}, "a metric cannot have the name unitId, which every event has", id="field"),
        pytest.param({3: 3}, "the name of a metric should be a text, not int", id="name"),
        pytest.param(3, "metrics should map names to booleans and numbers, not be a int", id="no metrics"),
    ],
)
def test_a_wrong_metric_is_a_loss_with_its_name(metrics: Any, why: str) -> None:  # noqa: ANN401  # anything
    losses: list[Loss] = []
    evidence = Evidence(MemoryPublisher(losses.append))
    evidence.outcome(assigned(), "answered", metrics)
    assert [(loss.reason, loss.why) for loss in losses] == [("invalid", why)]


@pytest.mark.parametrize(
    ("at", "why"),
    [
        pytest.param(datetime(2026, 6, 7), "at should be a datetime with a zone", id="naive"),  # noqa: DTZ001
        pytest.param("2026-06-07T10:15:30Z", "at should be a datetime with a zone", id="text"),
        pytest.param(datetime(1999, 12, 31, tzinfo=UTC), "in or after the year 2000", id="early"),
        pytest.param(datetime(2126, 6, 7, tzinfo=UTC), "s ahead of the clock", id="future"),
    ],
)
def test_a_wrong_time_is_a_loss(at: Any, why: str) -> None:  # noqa: ANN401  # anything
    losses: list[Loss] = []
    evidence = Evidence(MemoryPublisher(losses.append))
    evidence.outcome(assigned(), "answered", {}, at=at)
    [loss] = losses
    assert loss.reason == "invalid"
    assert why in loss.why


def test_values_that_raise_wherever_they_are_touched() -> None:
    hostile: Any = Hostile()
    evidence = Evidence(MemoryPublisher())
    for assignment in (hostile, *(assigned(**{name: hostile}) for name in ("unit_id", "variation", "segments"))):
        evidence.outcome(assignment, "answered", {})
        with evidence.run(assignment) as run:
            run.executed(**RAN)
    evidence.outcome(assigned(), hostile, hostile, at=hostile, event_id=hostile)
    evidence.outcome(assigned(), "answered", {"cost": hostile})
    evidence.guardrail(assigned(), hostile, hostile, severity=hostile)
    with evidence.run(assigned()) as run:
        run.executed(model_route=hostile, prompt_version=hostile)
    assert sum(evidence.counts().dropped.values()) == evidence.counts().recorded == 12


def test_calls_that_fit_no_method_are_losses() -> None:
    losses: list[Loss] = []
    evidence = Evidence(MemoryPublisher(losses.append))
    wrong: Any = evidence
    wrong.outcome()
    wrong.guardrail(assigned(), "unsafe_answer", 1)
    with wrong.run(assigned()) as run:
        run.executed(model="support_model_b")
        run.executed("support_model_b")
    assert [loss.reason for loss in losses] == ["invalid"] * 4
    assert evidence.counts().skipped == {"not_executed": 1}


def test_an_event_that_brokers_would_not_take_is_too_large() -> None:
    losses: list[Loss] = []
    evidence = Evidence(MemoryPublisher(losses.append))
    evidence.outcome(assigned(attributes={"essay": "x" * (MAX_VALUE_BYTES - 500)}), "answered", {})
    evidence.outcome(assigned(attributes={"essay": "ü" * (MAX_VALUE_BYTES // 2)}), "answered", {})
    assert [loss.reason for loss in losses] == ["too_large"]
    assert evidence.counts().acknowledged == 1


def test_every_event_has_an_id_of_its_own() -> None:
    published = MemoryPublisher()
    evidence = Evidence(published)
    for _ in range(100):
        evidence.outcome(assigned(), "answered", {})
    assert len({uuid.UUID(outcome["eventId"]) for outcome in published.outcomes}) == 100


def test_what_losses_say_holds_no_value() -> None:
    """Logs are not the place for what units said."""
    losses: list[Loss] = []
    evidence = Evidence(MemoryPublisher(losses.append))
    evidence.outcome(assigned("s3cret" * 1_000, attributes={"plan": "s3cret"}), "s3cret", {"cost": 1})
    evidence.outcome(assigned(), "answered", {"cost": "s3cret"})  # type: ignore[dict-item]
    assert len(losses) == 2
    assert "s3cret" not in json.dumps([loss.why for loss in losses])


def test_zones_of_any_kind_become_utc() -> None:
    published = MemoryPublisher()
    evidence = Evidence(published)
    odd = timezone(timedelta(hours=-11, minutes=-7, seconds=-13))
    evidence.outcome(assigned(), "answered", {}, at=datetime(2026, 6, 7, 1, 2, 3, 4, tzinfo=odd))
    assert published.outcomes[0]["timestamp"] == "2026-06-07T12:09:16.000004Z"
