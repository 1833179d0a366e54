"""What breaches the checklist in one contract, rule by rule of `contracts.checklist.RULES`.

No check knows of another. Nothing here asks a clock.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Final

from contracts.changes import unit_name
from contracts.flag_files import FallbackRule, MetricRule, SegmentRule, TelemetryRule
from contracts.flags import DIMENSIONS, Contract, Route
from contracts.naming import measures_cost, measures_latency, named_after_models
from contracts.texts import Breach, Path, lack
from contracts.times import LATEST

__all__ = ["breaches"]

_HOUR: Final = 3_600_000_000  # µs
_DAY: Final = 24 * _HOUR
_LONGEST_OF_UNIT: Final = {
    "request": _HOUR,
    "message": _HOUR,
    "session": _DAY,
    "conversation": 7 * _DAY,
    "thread": 7 * _DAY,
    "ticket": 30 * _DAY,
    "workflow": 30 * _DAY,
    "task": 30 * _DAY,
}
"""How long outcomes of a unit may take (µs): beyond, they hardly are the unit's own."""
_SHORTEST_OF_UNIT: Final = {"user": _HOUR, "account": _DAY, "organization": _DAY, "tenant": _DAY}
"""How long a window of a lasting unit has to be (µs): below, one unit has many windows a day."""
_CLEANUP_DAYS: Final = 30


def breaches(contract: Contract, as_of: date) -> Iterator[Breach]:
    """Yield the breaches of a contract; `as_of` is the day at whose end it is judged."""
    for check in _CHECKS:
        yield from check(contract)
    yield from _dates(contract, as_of)


# the route under test


def _routes(contract: Contract) -> Iterator[Breach]:
    kind = contract.document.flag.type
    if kind in {"boolean", "number"}:
        yield "route-named", ("flag", "type"), f"a {kind} flag selects no model route by name"
        return
    for name in named_after_models(contract):
        yield "variation-name", ("flag", "variations", name), "is named like a model, or like a model route"
    for name, route in contract.variations.items():
        here = ("flag", "variations", name)
        missing = [wire for field, wire in DIMENSIONS.items() if getattr(route, field) is None]
        if "modelRoute" in missing:
            yield "route-named", here, "names no modelRoute"
        elif missing:
            yield "route-whole", here, f"does not name {' and '.join(missing)}, so drift of it goes unseen"


def _differences(contract: Contract) -> Iterator[Breach]:
    tested = _tested(contract)
    baseline = _baseline(contract)
    for name in tested:
        here = ("flag", "variations", name)
        same = next((other for other in tested[: tested.index(name)] if _same(contract, other, name)), None)
        if same is not None:
            yield "routes-differ", here, f"runs the same route as {same!r}"
        changed = _changed(contract.variations[baseline], contract.variations[name])
        if len(changed) == 1:
            yield "changed-dimensions", here, f"differs from {baseline!r} in {changed[0]}"
        elif changed:
            what = ", ".join(changed[:-1]) + f" and {changed[-1]}"
            yield "route-not-model", here, f"differs from {baseline!r} in {what}: the readout must say route, not model"


def _same(contract: Contract, one: str, other: str) -> bool:
    route = contract.variations[one]
    return route == contract.variations[other] and route != Route()


def _changed(one: Route, other: Route) -> list[str]:
    return [wire for field, wire in DIMENSIONS.items() if getattr(one, field) != getattr(other, field)]


def _tested(contract: Contract) -> list[str]:
    """Return the variations under test: those with a share, or all but where a rollback leads."""
    experiment, rollback = contract.document.experiment, contract.document.flag.rollback
    if experiment is not None and experiment.allocation:
        return [name for name in contract.variations if experiment.allocation.get(name, 0) > 0]
    default = rollback.default_variation if rollback else None
    return [name for name in contract.variations if name != default or name == "control"]


def _baseline(contract: Contract) -> str:
    tested = _tested(contract)
    return "control" if "control" in contract.variations else (tested or list(contract.variations))[0]


# the unit


def _unit(contract: Contract) -> Iterator[Breach]:
    here = ("flag", "assignment", "unit")
    if contract.assignment_unit is None:
        yield "unit", here, "is missing"
    if contract.assignment_unit is None or not contract.metrics:
        return
    unit, window = unit_name(contract.assignment_unit), contract.window_us
    if window > _LONGEST_OF_UNIT.get(unit, window):
        yield "unit-fits-windows", here, f"a {unit} hardly lasts {_span(window)}, the longest metric window"
    if window < _SHORTEST_OF_UNIT.get(unit, window):
        yield "unit-fits-windows", here, f"a {unit} comes again within {_span(window)}, the longest metric window"


def _span(us: int) -> str:
    return f"{us // _DAY} d" if us % _DAY == 0 else f"{us / _HOUR:.3g} h"


# what is measured


def _metrics(contract: Contract) -> Iterator[Breach]:
    experiment = contract.document.experiment
    here = "experiment"
    if experiment is None:
        yield "experiment", (here,), "is missing"
        return
    if experiment.primary_metric is None:
        yield "primary-metric", (here, "primaryMetric"), "is missing"
    if not experiment.guardrail_metrics:
        yield "guardrail-metrics", (here, "guardrailMetrics"), "is missing"
    if experiment.primary_metric in experiment.guardrail_metrics:
        yield "primary-apart", (here, "guardrailMetrics"), f"{experiment.primary_metric!r} is the primary metric too"
    for rule, measures, what in (
        ("latency-metric", measures_latency, "latency"),
        ("cost-metric", measures_cost, "cost"),
    ):
        if not any(map(measures, contract.metrics)):
            yield rule, (here, "metrics"), f"no metric measures {what}, by its name or its field"
    if experiment.minimum_units is None:
        yield "minimum-units", (here, "minimumUnits"), "is missing"


def _measured(contract: Contract) -> Iterator[Breach]:
    for index, metric in enumerate(contract.metrics):
        here, before = ("experiment", "metrics", metric.name), contract.metrics[:index]
        same = next((each.name for each in before if replace(each, name=metric.name, goal=metric.goal) == metric), None)
        if same is not None:
            yield "metrics-differ", here, f"measures what {same!r} measures"
        reads = [each for each in before if each.field and (each.event, each.field) == (metric.event, metric.field)]
        other = next((each for each in reads if (each.kind == "proportion") != (metric.kind == "proportion")), None)
        if other is not None:
            told = f"{metric.field!r} is read as a {metric.kind} here, and as a {other.kind} by {other.name!r}"
            yield "field-kind", (*here, "field"), told


def _exposure(contract: Contract) -> Iterator[Breach]:
    experiment = contract.document.experiment
    here = "experiment"
    if experiment is None:
        return
    if sum(share > 0 for share in (experiment.allocation or {}).values()) <= 1:
        yield "allocation", (here, "allocation"), "gives a share to fewer than two variations"
    if not experiment.states:
        yield "states", (here, "states"), "is missing"
    states = [entry.state for entry in experiment.states]
    if "ab" in states and not {"internal", "canary"} & set(states[: states.index("ab")]):
        yield "ladder", (here, "states"), "goes to ab without internal traffic or a canary before"


# the way back


def _rollback(contract: Contract) -> Iterator[Breach]:
    rollback = contract.document.flag.rollback
    here = ("flag", "rollback", "defaultVariation")
    if rollback is None:
        yield "rollback-default", here, "is missing"
        return
    default = rollback.default_variation
    tested, baseline = _tested(contract), _baseline(contract)
    alike = [name for name in tested if name != baseline and _same(contract, name, default)]
    if alike:
        what = "" if default in alike else f"runs the route of {alike[0]!r}, which "
        yield "rollback-apart", here, f"{default!r} {what}is under test"


def _rollback_rules(contract: Contract) -> Iterator[Breach]:
    experiment = contract.document.experiment
    if experiment is None:
        return
    here: Path = ("experiment", "rollbackWhen")
    rules = list(experiment.rollback_when.values())
    if not rules:
        yield "rollback-rules", here, "is missing"
    for rule, kind, what in (
        ("fallback-rule", FallbackRule, "no rule looks at the share of fallbacks"),
        ("telemetry-rule", TelemetryRule, "no rule looks for missing exposures and outcomes"),
        ("segment-rule", SegmentRule, "no rule looks at a segment"),
    ):
        if not any(isinstance(each, kind) for each in rules):
            yield rule, here, what
    bounded = {each.metric for each in rules if isinstance(each, MetricRule | SegmentRule)}
    for index, name in enumerate(experiment.guardrail_metrics):
        if name not in bounded:
            yield "guardrail-bound", ("experiment", "guardrailMetrics", index), f"no rule bounds {name!r}"
    action = experiment.rollback_action
    for rule, field, text in (
        ("rollback-steps", "immediate", action.immediate if action else None),
        ("rollback-segment", "scoped", action.scoped if action else None),
    ):
        if lacking := lack(text):
            yield rule, ("experiment", "rollbackAction", field), lacking
    if experiment.attributes == ():
        yield "segment-attributes", ("experiment", "attributes"), "is empty"


# who decides, and when


def _owner(contract: Contract) -> Iterator[Breach]:
    flag, experiment = contract.document.flag, contract.document.experiment
    owners = [("experiment", experiment.owner)] if experiment else []
    lacking = [(block, lack(owner)) for block, owner in [*owners, ("flag", flag.owner)]]
    block, what = lacking[0]
    if what is not None and all(each for _, each in lacking):
        yield "owner", (block, "owner"), what
    if experiment is None:
        return
    here = "experiment"
    if experiment.decision_date is None:
        yield "decision-date", (here, "decisionDate"), "is missing"
    if lacks := lack(experiment.cleanup):
        yield "cleanup", (here, "cleanup"), lacks


def _dates(contract: Contract, as_of: date) -> Iterator[Breach]:
    experiment = contract.document.experiment
    if experiment is None:
        return
    here = ("experiment", "decisionDate")
    begun = [(entry.state, _day(entry.from_)) for entry in experiment.states if _day(entry.from_) <= as_of]
    state, since = begun[-1] if begun else (None, as_of)
    decision = experiment.decision_date
    if decision is not None:
        if decision < as_of and state != "cleanup":
            told = f"and the state is {state}" if state else "and no state says that it is over"
            yield "decision-date-past", here, f"{decision} has passed on {as_of}, {told}"
        starts = [entry.from_ for entry in experiment.states if entry.state == "ab"]
        if starts and decision < _day(starts[0] + contract.window_us):
            over = _day(starts[0] + contract.window_us)
            yield "decision-date-early", here, f"{decision} is before {over}, when the first window of ab is over"
    if state == "cleanup" and (as_of - since).days > _CLEANUP_DAYS:
        yield "cleanup-due", ("experiment", "states", len(begun) - 1), f"in cleanup since {since}"


def _day(us: int) -> date:
    return datetime.fromtimestamp(min(us, LATEST) // 1_000_000, UTC).date()


_CHECKS: Final[Sequence[Callable[[Contract], Iterator[Breach]]]] = (
    _routes,
    _differences,
    _unit,
    _metrics,
    _measured,
    _exposure,
    _rollback,
    _rollback_rules,
    _owner,
)
