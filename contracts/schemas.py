"""JSON Schemas (draft 2020-12) of the events and of the flag file, for producers, editors and other tools.

Made from the models that judge records and files, so they accept what those accept, as far as a JSON Schema can say
it. With contracts given, the schemas of events name their flags, experiments and variations, and describe their
metrics. What no schema says is in `UNSAID`.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Final, Literal

from pydantic.json_schema import GenerateJsonSchema

from contracts.events import MODELS, Kind
from contracts.flag_files import FlagFile
from contracts.flags import DIMENSIONS, Contract, ContractBook

__all__ = ["DIALECT", "UNSAID", "SchemaName", "bundle", "event_schema", "flag_file_schema", "schemas"]

Schema = dict[str, Any]
SchemaName = Literal["exposure", "outcome", "guardrail", "flag-file"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_BASE: Final = "urn:evidence:schema:"

UNSAID: Final = (
    "what an envelope looks like that a record comes in: they describe the event in it",
    "that a day exists (February 30), and on which side of the year 2000 a time with an offset lies",
    "that a time does not lie in the future: that depends on the clock",
    "that a text is no half of a surrogate pair, and that a record is UTF-8 and not too large",
    "of a whole number in a flag file, that it is written without a decimal point (2, not 2.0)",
    "that a duration is at most 90 days, and longer than nothing",
    "that names in a flag file are defined there: variations of the rollback and the allocation, metrics, attributes",
    "that shares add up to at most 1, and that states come in the order of their times",
    "a newline after a time, a day or a duration, where a validator's `$` lets one pass, as Python's does",
)
"""What the models refuse and the schemas cannot say."""

_ROUTE: Final = "What really ran. Another value than a variation's is no error: the fact is marked route_drift."


class _Plain(GenerateJsonSchema):
    """Schemas without a title for each field: it would only repeat the field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - the parent's signature
        return False


def event_schema(kind: Kind, book: ContractBook | None = None) -> Schema:
    """Return the schema of one kind of event, as it is on the wire; of the given contracts alone, if there are any."""
    schema: Schema = MODELS[kind].model_json_schema(by_alias=True, schema_generator=_Plain)
    if not book:
        return {"$schema": DIALECT, "$id": f"{_BASE}{kind}", **schema}
    properties: Schema = schema["properties"]
    properties["flagKey"]["enum"] = [*sorted(book.flags), None]
    properties["experimentKey"]["enum"] = [*sorted(book.experiments), None]
    properties["variation"]["enum"] = sorted({name for contract in book for name in contract.variations})
    schema["anyOf"] = [falls for contract in _ordered(book) for falls in _falls_under(contract)]
    if kind == "exposure":
        _name_routes(properties, book)
    if kind == "outcome":
        schema["properties"] = properties | _metrics(book, schema["additionalProperties"])
    return {"$schema": DIALECT, "$id": f"{_BASE}{kind}:{_digest(book)}", **schema}


def flag_file_schema() -> Schema:
    """Return the schema of a flag file, as a YAML 1.2 reader or an editor sees it."""
    schema: Schema = FlagFile.model_json_schema(by_alias=True, schema_generator=_Plain)
    parts: Schema = schema["$defs"]
    parts["Flag"] |= _typed_variations(parts["Flag"])
    parts["MetricDefinition"]["allOf"] = list(_METRIC)
    parts["MetricRule"]["oneOf"] = [_either("above", "below"), _either("below", "above")]
    for name in ("attributes", "guardrailMetrics"):
        _list(parts["Experiment"]["properties"][name])["uniqueItems"] = True
    return {"$schema": DIALECT, "$id": f"{_BASE}flag-file", **schema}


def schemas(book: ContractBook | None = None) -> dict[SchemaName, Schema]:
    """Return all four schemas by name."""
    events: dict[SchemaName, Schema] = {kind: event_schema(kind, book) for kind in MODELS}
    return events | {"flag-file": flag_file_schema()}


def bundle(book: ContractBook | None = None) -> Schema:
    """Return one schema that any event matches, with all four in it, each under its own ID."""
    parts = schemas(book)
    return {
        "$schema": DIALECT,
        "$id": _BASE + "event" + (f":{_digest(book)}" if book else ""),
        "description": "Any event of the three topics.",
        "anyOf": [{"$ref": parts[kind]["$id"]} for kind in MODELS],
        "$defs": parts,
    }


def _ordered(book: Iterable[Contract]) -> list[Contract]:
    return sorted(book, key=lambda contract: contract.flag_key)


def _digest(book: ContractBook) -> str:
    """Return what tells these contracts from others."""
    versions = ",".join(contract.version for contract in _ordered(book))
    return hashlib.sha256(versions.encode()).hexdigest()[:16]


def _falls_under(contract: Contract) -> list[Schema]:
    """Return the ways in which an event names a contract: by its flag, or by its experiment, with the flag or not."""
    names = {"variation": {"enum": list(contract.variations)}}
    by_flag = {"flagKey": {"const": contract.flag_key}, "experimentKey": {"type": "null"}, **names}
    ways: list[Schema] = [{"required": ["flagKey"], "properties": by_flag}]
    if contract.experiment_key is not None:
        keys = {"experimentKey": {"const": contract.experiment_key}, "flagKey": {"enum": [contract.flag_key, None]}}
        ways.append({"required": ["experimentKey"], "properties": keys | names})
    return ways


def _name_routes(properties: Schema, book: ContractBook) -> None:
    for field, wire in DIMENSIONS.items():
        routes = {getattr(route, field) for contract in book for route in contract.variations.values()}
        properties[wire] |= {"description": _ROUTE} | _examples(routes)
    units = {contract.assignment_unit for contract in book}
    properties["assignmentUnit"] |= _examples(units)


def _examples(values: Iterable[str | None]) -> Schema:
    given = sorted(value for value in values if value is not None)
    return {"examples": given} if given else {}


def _metrics(book: ContractBook, number: Schema) -> Schema:
    """Return a property for each field that a metric reads; any other number may stand beside them."""
    fields: dict[str, list[str]] = {}
    known = {info.alias for info in MODELS["outcome"].model_fields.values()}
    for contract in _ordered(book):
        for metric in contract.metrics:
            if metric.field is not None and metric.field not in known:
                said = f"{metric.name} of {contract.flag_key} ({metric.kind}, {metric.aggregate})"
                fields.setdefault(metric.field, []).append(said)
    return {name: {**number, "description": f"Read by {'; '.join(said)}."} for name, said in sorted(fields.items())}


# what a flag file's models leave to contracts.flags


def _typed_variations(flag: Schema) -> Schema:
    """Return what ties the variations to the flag's type."""
    routes, values = flag["properties"]["variations"]["oneOf"]
    kinds = {
        "json": routes["additionalProperties"],
        "string": {"type": "string", "minLength": 1},
        "boolean": {"type": "boolean"},
        "number": {"type": "number"},
    }
    variations = {name: rule for name, rule in values.items() if name != "additionalProperties"}
    return {
        "properties": flag["properties"] | {"variations": variations},
        "allOf": [
            {
                "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
                "then": {"properties": {"variations": {"type": "object", "additionalProperties": value}}},
            }
            for kind, value in kinds.items()
        ],
    }


def _given(name: str, rule: Schema) -> Schema:
    return {"properties": {name: rule}, "required": [name]}


_METRIC: Final[tuple[Schema, ...]] = (
    {"anyOf": [_given("field", {"type": "string"}), _given("aggregate", {"const": "count"})]},
    {
        "if": _given("kind", {"const": "proportion"}),
        "then": {"properties": {"aggregate": {"enum": ["all", "any", "first", "last", "max", "min"]}}},
    },
    {
        "if": _given("kind", {"const": "quantile"}),
        "then": _given("quantile", {"type": "number"}),
        "else": {"properties": {"quantile": {"type": "null"}}},
    },
)


def _either(one: str, other: str) -> Schema:
    return {"required": [one], "properties": {one: {"type": "number"}, other: {"type": "null"}}}


def _list(rule: Schema) -> Schema:
    """Return the part of a rule that is about a list: the rule itself, unless it allows null too."""
    return next((part for part in rule.get("anyOf", ()) if part.get("type") == "array"), rule)
