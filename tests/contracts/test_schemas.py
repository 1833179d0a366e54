"""The JSON Schemas say what the decoder and the reader of flag files do, where a JSON Schema can."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from referencing import Registry, Resource

from contracts.decode import Decoder
from contracts.errors import ContractError
from contracts.events import MODELS, Kind
from contracts.flags import ContractBook, load_contract
from contracts.schemas import UNSAID, bundle, event_schema, flag_file_schema, schemas
from tests.contracts.records import BOOK, CONTRACT, EXAMPLE, NOON, VALID, PlainRecord

OTHER: Final = load_contract("flag: {key: other, type: string, variations: {a: m, control: n}}", "other.yaml")
BOTH: Final = ContractBook([CONTRACT, OTHER])
BOOKS: Final = {"one": BOOK, "two": BOTH}

VALIDATORS: Final = {
    (name, kind): jsonschema.Draft202012Validator(event_schema(kind, book))
    for name, book in BOOKS.items()
    for kind in MODELS
}
DECODERS: Final = {name: Decoder(book, 1 << 20, 10**15) for name, book in BOOKS.items()}


@pytest.mark.parametrize("book", [None, BOOK, BOTH], ids=["any", "one", "two"])
def test_every_schema_is_one(book: ContractBook | None) -> None:
    made = [*schemas(book).values(), bundle(book)]
    for schema in made:
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    assert len({schema["$id"] for schema in made}) == len(made)
    assert made == [*schemas(book).values(), bundle(book)]


def test_schemas_of_other_contracts_have_other_ids() -> None:
    for kind in MODELS:
        ids = {event_schema(kind, book)["$id"] for book in (None, BOOK, BOTH)}
        assert len(ids) == 3
    backwards = ContractBook([OTHER, CONTRACT])
    assert schemas(backwards) == schemas(BOTH)


@pytest.mark.parametrize("kind", MODELS)
def test_the_bundle_takes_an_event_of_any_kind(kind: Kind) -> None:
    schema = bundle(BOOK)
    registry: Registry[Any] = Registry().with_resource(schema["$id"], Resource.from_contents(schema))
    validator = jsonschema.Draft202012Validator(schema, registry=registry)
    assert validator.is_valid(VALID[kind])
    assert not validator.is_valid({**VALID[kind], "flagKey": "unknown"})


def accepted(name: str, kind: Kind, event: dict[str, Any]) -> bool:
    record = PlainRecord(json.dumps(event).encode(), timestamp=NOON // 1000)
    return not DECODERS[name].decode(kind, "topic", [record], 4 * NOON).refused


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
_KEYS = st.sampled_from(
    ["support_answer_model_route", "support_answer_model_route_2026_06", "other", "unknown", "", None, 1]
)
_TELLING: dict[str, st.SearchStrategy[Any]] = {
    "flagKey": _KEYS,
    "experimentKey": _KEYS,
    "variation": st.sampled_from(["control", "candidate", "a", "", "unknown", None]),
    "timestamp": st.sampled_from(
        [
            "2026-06-07T10:15:30Z",
            "2026-06-07t10:15:30.123456789z",
            "2026-06-07 10:15:30+05:30",
            "2026-06-07T10:15:30",
            "2026-06-07T24:15:30Z",
            "2026-06-07T10:15:60Z",
            "2026-13-07T10:15:30Z",
            "1998-06-07T10:15:30Z",
            "1999-12-31T23:30:00-01:00",
            "2026-06-07T10:15:30+0530",
            "2026-06-07",
            None,
            7,
        ]
    ),
    "value": st.sampled_from([1, 0.5, True, "1", None, 1e308, 10**308, 10**309]),
    "latencyMs": st.sampled_from([1, -1, 0.5, True, "1", None, 10**308, 10**309, -(10**309)]),
    "eventId": st.sampled_from(["", "x", "x" * 257, None, 1]),
    "segments": st.sampled_from([[], ["a"], [""], [1], None, "a"]),
    "attributes": st.sampled_from([{}, {"a": "b"}, {"": "b"}, {"a": 1}, None, []]),
    "severity": st.sampled_from(["info", "fatal", None]),
}


def _mutated(data: st.DataObject, kind: Kind) -> dict[str, Any]:
    """Draw an event that is valid but for some fields."""
    names = sorted({str(field.alias) for field in MODELS[kind].model_fields.values()} | {"latencyMs"})
    event = dict(VALID[kind])
    for name in data.draw(st.lists(st.sampled_from(names) | st.text(max_size=3), max_size=3, unique=True)):
        change = data.draw(st.just(...) | _TELLING.get(name, _JSON) | _JSON)
        event = {**event, name: change} if change is not ... else {k: v for k, v in event.items() if k != name}
    return event


@given(st.data(), st.sampled_from(list(MODELS)), st.sampled_from(list(BOOKS)))
def test_the_schema_of_contracts_accepts_what_the_decoder_accepts(data: st.DataObject, kind: Kind, name: str) -> None:
    event = _mutated(data, kind)
    assert VALIDATORS[name, kind].is_valid(event) is accepted(name, kind, event)


@pytest.mark.parametrize(
    ("event", "by_schema"),
    [
        pytest.param({"timestamp": "2026-02-30T10:15:30Z"}, True, id="a day that does not exist"),
        pytest.param({"timestamp": "2000-01-01T00:00:00+01:00"}, True, id="just before the year 2000, by its offset"),
        pytest.param({"timestamp": "9999-01-01T00:00:00Z"}, True, id="the future"),
        pytest.param({"timestamp": "2026-06-07T10:15:30Z\n"}, True, id="a newline that Python's $ lets pass"),
        pytest.param({"modelRoute": "\ud800"}, True, id="half a surrogate pair"),
    ],
)
def test_what_schemas_leave_unsaid_of_events(event: dict[str, Any], by_schema: bool) -> None:  # noqa: FBT001
    whole = {**VALID["exposure"], **event}
    assert VALIDATORS["one", "exposure"].is_valid(whole) is by_schema
    assert not accepted("one", "exposure", whole)


def test_metrics_are_described_and_others_may_stand_beside_them() -> None:
    properties = event_schema("outcome", BOOK)["properties"]
    assert properties["latencyMs"]["description"] == "Read by latency of support_answer_model_route (quantile, max)."
    assert VALIDATORS["one", "outcome"].is_valid({**VALID["outcome"], "another": 1})


def test_a_metric_that_reads_no_further_field_needs_no_description() -> None:
    text = EXAMPLE.replace(
        "field: latencyMs, kind: quantile, quantile: 0.95, aggregate: max", "kind: mean, aggregate: count"
    )
    text = text.replace("field: estimatedCost", "field: variation")
    before = set(event_schema("outcome", BOOK)["properties"])
    now = set(event_schema("outcome", ContractBook([load_contract(text, "flag.yaml")]))["properties"])
    assert before - now == {"latencyMs", "estimatedCost"}


def test_an_exposure_may_run_another_route_than_the_contracts() -> None:
    properties = event_schema("exposure", BOOK)["properties"]
    assert properties["modelRoute"]["examples"] == ["support_model_a", "support_model_b"]
    assert VALIDATORS["one", "exposure"].is_valid({**VALID["exposure"], "modelRoute": "another"})


# flag files

FILE: Final = jsonschema.Draft202012Validator(flag_file_schema())


def loads(document: object) -> bool:
    try:
        load_contract(json.dumps(document), "flag.yaml")
    except ContractError:
        return False
    return True


def as_editor(text: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Read YAML as an editor does: times and days are text."""
    return json.loads(json.dumps(yaml.safe_load(text), default=_text))


def _text(value: Any) -> str:  # noqa: ANN401
    text: str = value.isoformat().replace("+00:00", "Z")
    return text


WHOLE: Final = as_editor(EXAMPLE)


def at(*path: str | int) -> Callable[[Any], Any]:
    def part(document: Any) -> Any:  # noqa: ANN401
        for step in path:
            document = document[step]
        return document

    return part


PLACES: Final[list[tuple[tuple[str | int, ...], list[Any]]]] = [
    (("flag", "type"), ["string", "boolean", "number", "text", None]),
    (("flag", "variations", "control"), ["m", "", True, 1, {}, {"modelRoute": ""}, {"model": "x"}, None]),
    (("flag", "variations"), [{}, None, [], {"": {}}]),
    (("flag", "key"), ["", "k" * 257, 1, None]),
    (("flag", "owner"), [None, "", 1, "x" * 4097]),
    (("flag", "assignment"), [None, {}, {"unit": 1}, {"exclusions": None}]),
    (("experiment", "decisionDate"), [None, "2026-6-29", "2026-06-29T00:00:00Z", "1780272000", 20260629, "2026-13-01"]),
    (("experiment", "states", 0, "from"), ["2026-05-25", "2026-05-25T00:00:00", "1998-05-25T00:00:00Z", None, 5]),
    (("experiment", "states", 0, "state"), ["begun", None]),
    (("experiment", "allocation", "control"), [0, 0.25, -0.1, 1.5, True, "0.5", None]),
    (("experiment", "minimumUnits"), [0, 1, -1, 1.5, True, "1", None]),
    (("experiment", "attributes"), [None, ["plan", "plan"], [1], [""]]),
    (("experiment", "guardrailMetrics"), [[], ["cost", "cost"], None]),
    (("experiment", "metrics", "latency", "quantile"), [None, 0, 1, 0.5, "0.5"]),
    (("experiment", "metrics", "latency", "kind"), ["mean", "proportion", "median"]),
    (("experiment", "metrics", "latency", "aggregate"), ["count", "sum", "median"]),
    (("experiment", "metrics", "latency", "field"), [None, "", 1]),
    (("experiment", "metrics", "resolved", "aggregate"), ["sum", "count", "mean", "any"]),
    (
        ("experiment", "metrics", "latency", "window"),
        ["1h", "PT1H", "1h30m", "30m1h", "P1DT2H3M4.5S", "PT", "P", "", "1", "1.5h", "P1M", "1y", "60", 60, None],
    ),
    (("experiment", "rollbackWhen", "latency_guardrail", "above"), [None, "4000", True]),
    (("experiment", "rollbackWhen", "latency_guardrail", "below"), [1, None]),
    (("experiment", "rollbackWhen", "severe_quality_issue"), [{}, {"guardrails": []}, {"above": 0.5, "window": "1h"}]),
    (("experiment", "rollbackWhen", "segment_harm", "worseBy"), [0, -1, 0.5, None]),
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place[0])))
def test_the_schema_of_flag_files_accepts_what_loads(place: tuple[tuple[str | int, ...], list[Any]]) -> None:
    path, values = place
    assert FILE.is_valid(WHOLE)
    for value in values:
        changed = json.loads(json.dumps(WHOLE))
        at(*path[:-1])(changed)[path[-1]] = value
        assert FILE.is_valid(changed) is loads(changed), (path, value)


@given(st.data())
@example(None)
def test_any_two_changes_of_a_flag_file_are_judged_alike(data: st.DataObject | None) -> None:
    """Names and orders that only the whole file can tell are left out: see the next test."""
    changed = json.loads(json.dumps(WHOLE))
    for path, values in data.draw(st.lists(st.sampled_from(PLACES), max_size=2)) if data else []:
        try:
            at(*path[:-1])(changed)[path[-1]] = data.draw(st.sampled_from(values)) if data else None
        except (KeyError, TypeError, IndexError):
            continue  # the first change took that place away
    if FILE.is_valid(changed) is not loads(changed):
        with pytest.raises(ContractError, match=r"is not defined|add up to more|is not after|not in the experiment's"):
            load_contract(json.dumps(changed), "flag.yaml")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param(("flag", "rollback", "defaultVariation"), "nowhere", id="a name that is not defined"),
        pytest.param(("experiment", "primaryMetric"), "nowhere", id="a metric that is not defined"),
        pytest.param(("experiment", "allocation", "control"), 0.9, id="shares of more than 1"),
        pytest.param(("experiment", "states", 0, "from"), "2036-01-01T00:00:00Z", id="states out of order"),
        pytest.param(("experiment", "decisionDate"), "2026-02-30", id="a day that does not exist"),
        pytest.param(("experiment", "metrics", "latency", "window"), "91d", id="a window of more than 90 days"),
        pytest.param(("experiment", "metrics", "latency", "window"), "0s", id="a window of nothing"),
        pytest.param(("experiment", "minimumUnits"), 2.0, id="a whole number with a decimal point"),
    ],
)
def test_what_the_schema_leaves_unsaid_of_flag_files(path: tuple[str | int, ...], value: object) -> None:
    changed = json.loads(json.dumps(WHOLE))
    at(*path[:-1])(changed)[path[-1]] = value
    assert FILE.is_valid(changed)
    assert not loads(changed)


def test_the_example_is_valid_as_an_editor_reads_it() -> None:
    assert [error.message for error in FILE.iter_errors(as_editor(EXAMPLE))] == []
    assert yaml.safe_load(EXAMPLE)["experiment"]["decisionDate"] == date(2026, 6, 29)


def test_the_page_says_what_schemas_leave_unsaid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "contracts.md").read_text(encoding="utf-8")
    assert [line for line in UNSAID if f"- {line}" not in page] == []
