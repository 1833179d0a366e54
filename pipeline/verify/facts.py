"""One fact by hand: from the events that count in a metric window, and the contract of its opening exposure."""

from collections.abc import Sequence
from functools import lru_cache

from contracts.flags import Contract, Metric
from pipeline.verify.rows import Event, Fact

__all__ = ["fact_of"]


def fact_of(  # noqa: PLR0913, PLR0917 - all that a fact is made of
    start: int,
    end: int,
    opener: Event,
    counted: Sequence[Event],
    contract: Contract,
    crossed: bool,  # noqa: FBT001
) -> Fact:
    """Return the fact; `counted` are its events in order, without duplicates."""
    exposures = [event for event in counted if event.kind == "exposure"]
    others = [event for event in counted if event.kind != "exposure"]
    outcomes = [event for event in others if event.kind == "outcome"]
    own = [event for event in outcomes if event.variation == opener.variation]
    fallbacks = [event for event in exposures if event.fallback_used]
    state = _state_at(start, contract)
    found = (
        ("fallback_contaminated", fallbacks),
        ("variation_mismatch", [event for event in others if event.variation != opener.variation]),
        ("route_drift", [event for event in exposures if _drifts(event, contract)]),
        ("crossover", crossed),
        ("assignment_unit_mismatch", [event for event in exposures if _is_other_unit(event, contract)]),
        ("excluded_unit", [event for event in exposures if event.segments and _is_excluded(event.segments, contract)]),
        ("wrong_state", contract.states and state in {None, "offline", "cleanup"}),
    )
    flags = [flag for flag, because in found if because]
    kept = opener.attributes or {}
    if contract.attributes is not None:
        kept = {name: text for name, text in kept.items() if name in contract.attributes}
    return Fact(  # in the order of the table; by name it takes twice as long
        opener.flag_key,
        contract.experiment_key,
        opener.unit_id,
        opener.assignment_unit,
        opener.variation,
        state,
        start,
        end,
        exposures[-1].event_time,
        len(exposures),
        len(fallbacks),
        opener.model_route,
        opener.prompt_version,
        opener.retrieval_profile,
        len(outcomes),
        len(others) - len(outcomes),
        _metrics(start, own, contract) if own else {},
        flags,
        not flags,
        kept,
        opener.versions[0],
    )


def _state_at(instant: int, contract: Contract) -> str | None:
    begun = [state for state, since in contract.states if since <= instant]
    return begun[-1] if begun else None


def _drifts(exposure: Event, contract: Contract) -> bool:
    """Tell whether what ran is not the variation's route; what a fallback ran and what is not named is not compared."""
    if exposure.fallback_used:
        return False
    route = contract.variations.get(exposure.variation)
    if route is None:
        return False
    return (
        route.model_route not in {None, exposure.model_route}
        or route.prompt_version not in {None, exposure.prompt_version}
        or route.retrieval_profile not in {None, exposure.retrieval_profile}
    )


def _is_other_unit(exposure: Event, contract: Contract) -> bool:
    if contract.assignment_unit is None or exposure.assignment_unit is None:
        return False
    if exposure.assignment_unit == contract.assignment_unit:
        return False
    return _bare(exposure.assignment_unit) != _bare(contract.assignment_unit)


@lru_cache(maxsize=1_024)
def _bare(unit: str) -> str:
    """Return the unit's name without the ending that says it is an identifier: `userId` and `user_id` are `user`."""
    for ending in ("_id", "Id"):
        if unit.endswith(ending):
            return unit[: -len(ending)].lower()
    return unit.lower()


def _is_excluded(names: Sequence[str], contract: Contract) -> bool:
    if any(name in contract.exclusions for name in names):
        return True
    return contract.eligible_segment is not None and contract.eligible_segment not in names


def _metrics(start: int, outcomes: Sequence[Event], contract: Contract) -> dict[str, float]:
    """Return the metrics of the window's own outcomes; each counts inside its own window from the start."""
    metrics = {}
    for metric in contract.metrics:
        name, field, end = metric.event, metric.field, start + metric.window_us
        events = [
            event
            for event in outcomes
            if event.event == name and event.event_time < end and (field is None or field in event.values)
        ]
        if events:
            metrics[metric.name] = _aggregate(metric, events)
    return metrics


def _aggregate(metric: Metric, events: Sequence[Event]) -> float:  # noqa: PLR0911 - one for each aggregate
    if metric.aggregate == "count":
        return float(len(events))
    numbers = [event.values[metric.field or ""] for event in events]
    match metric.aggregate:
        case "first":
            return numbers[0]
        case "last":
            return numbers[-1]
        case "any":
            return float(any(numbers))
        case "all":
            return float(all(numbers))
        case "sum":
            return sum(numbers)
        case "mean":
            return sum(numbers) / len(numbers)
        case "min":
            return min(numbers)
        case "max":
            return max(numbers)
