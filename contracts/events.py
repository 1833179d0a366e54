"""The three kinds of event, as services publish them: the one definition of what is valid.

The validator, the fast decoder (`contracts.structs`) and the JSON Schema all come from these models. Names are
snake_case here and camelCase on the wire. Types are strict: no number in a string, no time without a zone, no NaN.
Where a JSON object names a key twice, the last one counts. Lengths count characters (Unicode code points).
"""

import math
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from contracts.times import EARLIEST, format_time, parse_time

__all__ = [
    "MODELS",
    "Event",
    "EventTime",
    "Exposure",
    "Guardrail",
    "Kind",
    "Name",
    "Number",
    "Outcome",
    "UnitId",
    "json_schema",
]

Kind = Literal["exposure", "outcome", "guardrail"]

FLAG_MISSING: Final = ("flag_missing", (), "Input should have flagKey or experimentKey")
"""The type, place and message of the error of an event that names neither."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
UnitId = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


_GREATEST: Final = sys.float_info.max
_TIME: Final = (
    r"^(?:1999-12-31|[2-9][0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]))[Tt ]"
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
)
"""An RFC 3339 time as a pattern can say it: the length of months is left open, and the last hours of 1999."""


def _event_time(value: object) -> int:
    if not isinstance(value, str):
        raise PydanticCustomError("time_type", "Input should be a string that holds an RFC 3339 time with a zone")
    try:
        time = parse_time(value)
    except ValueError:
        raise PydanticCustomError(
            "time_parsing", "Input should be an RFC 3339 time with a zone, such as 2026-06-07T10:15:30Z"
        ) from None
    if time < EARLIEST:
        raise PydanticCustomError("time_too_early", "Input should be a time in or after the year 2000")
    return time


def _number(value: object) -> bool | float:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise PydanticCustomError("number_type", "Input should be a boolean or a number that fits a double")


EventTime = Annotated[
    int,
    BeforeValidator(_event_time),
    PlainSerializer(lambda time: format_time(time, "microseconds"), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": _TIME}),
]
"""RFC 3339 text on the wire, microseconds since the epoch (UTC, truncated) in Python; not before the year 2000."""

Number = Annotated[
    bool | float,
    PlainValidator(_number),
    WithJsonSchema({"type": ["boolean", "number"], "minimum": -_GREATEST, "maximum": _GREATEST}),
]
"""A boolean, or a number that fits a double; whole numbers are read as doubles."""


_FLAG_GIVEN: Final[dict[str, Any]] = {
    "anyOf": [
        {"required": [field], "properties": {field: {"type": "string"}}} for field in ("flagKey", "experimentKey")
    ]
}
_METRICS_NAMED: Final[dict[str, Any]] = {"propertyNames": {"minLength": 1, "maxLength": 256}}


class _Event(BaseModel):
    """What all three kinds have in common."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        json_schema_extra=_FLAG_GIVEN,
    )

    event: Name = Field(description="What happened, as the service names it.")
    flag_key: Name | None = Field(None, description="The flag that assigned the variation.")
    experiment_key: Name | None = Field(None, description="The experiment, in place of or beside its flag.")
    unit_id: UnitId = Field(description="The unit that was assigned, and the key of the message.")
    variation: Name = Field(description="The variation the unit was assigned.")
    timestamp: EventTime | None = Field(None, description="When it happened; without it, the record's time.")
    event_id: Annotated[str, StringConstraints(max_length=256)] | None = Field(
        None, description="Makes a repeated event recognisable; empty is absent."
    )
    attributes: dict[Name, str] | None = Field(None, description="Locale, plan, region and the like.")
    segments: tuple[Name, ...] | None = Field(None, description="The segments the unit belongs to.")

    @field_validator("event_id")
    @classmethod
    def _empty_is_absent(cls, value: str | None) -> str | None:
        return value or None

    @model_validator(mode="after")
    def _names_flag_or_experiment(self) -> Self:
        if self.flag_key is None and self.experiment_key is None:
            kind, _, message = FLAG_MISSING
            raise PydanticCustomError(kind, message)
        return self


class Exposure(_Event):
    """A unit met a variation; the route is what really ran."""

    assignment_unit: Name = Field(description="What a unit is: conversation, user, account, ...")
    model_route: Name
    prompt_version: Name
    retrieval_profile: Name
    fallback_used: bool = Field(description="Whether a fallback ran instead of the assigned route.")
    reason: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        None, description="Why the flag chose this variation."
    )


class Outcome(_Event):
    """What came of it: any further field is a metric, a boolean or a number."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_FLAG_GIVEN | _METRICS_NAMED)

    __pydantic_extra__: dict[Name, Number]

    @property
    def metrics(self) -> dict[str, bool | float]:
        """The metrics by their wire name."""
        return self.__pydantic_extra__


class Guardrail(_Event):
    """Something that must not happen, or that is watched, was measured."""

    guardrail: Name = Field(description="The name of the guardrail.")
    value: Number
    severity: Literal["info", "warning", "severe"]
    confirmed: bool | None = Field(None, description="Whether a person or a second system confirmed it.")


Event = Exposure | Outcome | Guardrail

MODELS: Final[Mapping[Kind, type[Event]]] = {
    "exposure": Exposure,
    "outcome": Outcome,
    "guardrail": Guardrail,
}


def json_schema(kind: Kind) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one kind of event, as it is on the wire."""
    schema = MODELS[kind].model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
