"""What may stand in a flag file: the `flag:` block, and the `experiment:` block on it.

These models say which fields there are and what each may hold. The rules that look at several fields at once are in
`contracts.flags`.
"""

import re
from contextlib import suppress
from datetime import date
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema
from pydantic.alias_generators import to_camel

from contracts.durations import Duration
from contracts.events import EventTime, Name

__all__ = [
    "Aggregate",
    "Assignment",
    "Experiment",
    "FallbackRule",
    "Flag",
    "FlagFile",
    "GuardrailRule",
    "MetricDefinition",
    "MetricRule",
    "RollbackAction",
    "RollbackDefault",
    "RollbackRule",
    "SegmentRule",
    "State",
    "StateEntry",
    "TelemetryRule",
    "VariationRoute",
]

_LONGEST_WINDOW: Final = (
    90 * 86_400_000_000
)  # events of open windows stay on disk, and an experiment must come to an end


_DAY_FORM: Final = "^[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])$"
_DAY: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _window(microseconds: int) -> int:
    if not 0 < microseconds <= _LONGEST_WINDOW:
        raise ValueError("is no window; give it more than 0s and 90d at most")
    return microseconds


def _day(value: object) -> date:
    if isinstance(value, str) and _DAY.fullmatch(value):
        with suppress(ValueError):
            return date.fromisoformat(value)
    raise ValueError("is no day of the calendar; write one as 2026-06-07")


Window = Annotated[Duration, AfterValidator(_window)]
Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date", "pattern": _DAY_FORM})]
Text = Annotated[str, Field(max_length=4096)]
Share = Annotated[float, Field(ge=0, le=1)]
Units = Annotated[int, Field(ge=1)]
State = Literal["offline", "internal", "canary", "ab", "decision", "cleanup"]
Aggregate = Literal["last", "first", "any", "all", "sum", "max", "min", "mean", "count"]


class _Block(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", alias_generator=to_camel)


class VariationRoute(_Block):
    """What a variation runs; a dimension that is absent is not checked."""

    model_route: Name | None = None
    prompt_version: Name | None = None
    retrieval_profile: Name | None = None


class Assignment(_Block):
    """Who gets a variation."""

    unit: Name | None = None
    eligible_segment: Name | None = None
    exclusions: tuple[Name, ...] = ()


class RollbackDefault(_Block):
    """Where a rollback leads."""

    default_variation: Name


def _shape(variations: object) -> str:
    """Say what the variations of a flag are: routes or plain values."""
    if isinstance(variations, dict) and any(isinstance(value, dict) for value in variations.values()):
        return "[routes]"
    return "[values]"


class Flag(_Block):
    """How a unit gets its variation, and what each variation runs."""

    key: Name
    type: Literal["json", "string", "boolean", "number"]
    owner: Text | None = None
    description: Text | None = None
    variations: Annotated[
        Annotated[dict[Name, VariationRoute], Field(min_length=1), Tag("[routes]")]
        | Annotated[dict[Name, str | bool | float], Field(min_length=1), Tag("[values]")],
        Discriminator(_shape),
    ]
    assignment: Assignment | None = None
    rollback: RollbackDefault | None = None


class StateEntry(_Block):
    """A state of the exposure ladder, from its time on."""

    state: State
    from_: EventTime = Field(alias="from")


class MetricDefinition(_Block):
    """How the outcomes of one window become one number."""

    event: Name
    field: Name | None = None
    kind: Literal["proportion", "mean", "quantile"]
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    aggregate: Aggregate
    window: Window
    goal: Literal["increase", "decrease"]


class GuardrailRule(_Block):
    """Roll back when one of these guardrails is reported (where `confirmed`, only a confirmed one)."""

    guardrails: Annotated[tuple[Name, ...], Field(min_length=1)]
    confirmed: bool = False


class TelemetryRule(_Block):
    """Roll back when exposures or outcomes are missing for so long."""

    for_: Window = Field(alias="for")


class MetricRule(_Block):
    """Roll back when a metric of the last window is beyond a bound."""

    metric: Name
    above: float | None = None
    below: float | None = None
    window: Window
    minimum_units: Units = 1


class FallbackRule(_Block):
    """Roll back when the share of units that fell back is above a bound."""

    above: Share
    window: Window
    minimum_units: Units = 1


class SegmentRule(_Block):
    """Roll back when a metric of one of these segments is worse than the control's by so much."""

    attribute: Name
    segments: Annotated[tuple[Name, ...], Field(min_length=1)]
    metric: Name
    worse_by: Annotated[float, Field(gt=0)]
    minimum_units: Units = 1


_RULES: Final = {
    "guardrails": "[guardrail rule]",
    "for": "[telemetry rule]",
    "attribute": "[segment rule]",
    "segments": "[segment rule]",
    "worseBy": "[segment rule]",
    "metric": "[metric rule]",
}


def _rule(fields: object) -> str:
    """Tell the rules apart by a field that only one of them has."""
    names = fields.keys() if isinstance(fields, dict) else ()
    return next((rule for name, rule in _RULES.items() if name in names), "[fallback rule]")


RollbackRule = Annotated[
    Annotated[GuardrailRule, Tag("[guardrail rule]")]
    | Annotated[TelemetryRule, Tag("[telemetry rule]")]
    | Annotated[SegmentRule, Tag("[segment rule]")]
    | Annotated[MetricRule, Tag("[metric rule]")]
    | Annotated[FallbackRule, Tag("[fallback rule]")],
    Discriminator(_rule),
]


class RollbackAction(_Block):
    """What people do when a rule says to roll back."""

    immediate: Text | None = None
    scoped: Text | None = None
    aftercare: Text | None = None


class Experiment(_Block):
    """What is measured on a flag, for how long, and what stops it."""

    key: Name
    owner: Text | None = None
    description: Text | None = None
    hypothesis: Text | None = None
    decision_date: Day | None = None
    cleanup: Text | None = None
    states: tuple[StateEntry, ...] = ()
    allocation: dict[Name, Share] | None = None
    minimum_units: Units | None = None
    attributes: tuple[Name, ...] | None = None
    metrics: dict[Name, MetricDefinition] = Field(default_factory=dict)
    primary_metric: Name | None = None
    guardrail_metrics: tuple[Name, ...] = ()
    rollback_when: dict[Name, RollbackRule] = Field(default_factory=dict)
    rollback_action: RollbackAction | None = None


class FlagFile(_Block):
    """One flag file."""

    flag: Flag
    experiment: Experiment | None = None
