"""One fact by hand: from the events that count in a metric window, and the contract of its opening exposure."""

from collections.abc import Sequence

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
    fallbacks = [event for event in exposures if event.fallback_used]
    state = _state_at(start, contract)
    found = {
        "fallback_contaminated": bool(fallbacks),
        "variation_mismatch": any(event.variation != opener.variation for event in others),
        "route_drift": any(_drifts(event, contract) for event in exposures),
        "crossover": crossed,
        "assignment_unit_mismatch": any(_is_other_unit(event, contract) for event in exposures),
        "excluded_unit": any(_is_excluded(event, contract) for event in exposures),
        "wrong_state": bool(contract.states) and state in {None, "offline", "cleanup"},
    }
    flags = [flag for flag, is_so in found.items() if is_so]
    kept = opener.attributes or {}
    if contract.attributes is not None:
        kept = {name: text for name, text in kept.items() if name in contract.attributes}
    return Fact(
        flag_key=opener.flag_key,
        experiment_key=contract.experiment_key,
        unit_id=opener.unit_id,
        assignment_unit=opener.assignment_unit,
        variation=opener.variation,
        state=state,
        window_start=start,
        window_end=end,
        last_exposure_at=exposures[-1].event_time,
        exposures=len(exposures),
        fallbacks=len(fallbacks),
        model_route=opener.model_route,
        prompt_version=opener.prompt_version,
        retrieval_profile=opener.retrieval_profile,
        outcomes=len(outcomes),
        guardrails=len(others) - len(outcomes),
        metrics=_metrics(start, opener, outcomes, contract),
        flags=flags,
        clean=not flags,
        attributes=kept,
        contract_version=opener.contract_version,
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
    pairs = (
        (route.model_route, exposure.model_route),
        (route.prompt_version, exposure.prompt_version),
        (route.retrieval_profile, exposure.retrieval_profile),
    )
    return any(contracted is not None and contracted != ran for contracted, ran in pairs)


def _is_other_unit(exposure: Event, contract: Contract) -> bool:
    if contract.assignment_unit is None or exposure.assignment_unit is None:
        return False
    if exposure.assignment_unit == contract.assignment_unit:
        return False
    return _bare(exposure.assignment_unit) != _bare(contract.assignment_unit)


def _bare(unit: str) -> str:
    """Return the unit's name without the ending that says it is an identifier: `userId` and `user_id` are `user`."""
    for ending in ("_id", "Id"):
        if unit.endswith(ending):
            return unit[: -len(ending)].lower()
    return unit.lower()


def _is_excluded(exposure: Event, contract: Contract) -> bool:
    names = exposure.segments
    if not names:
        return False
    if any(name in contract.exclusions for name in names):
        return True
    return contract.eligible_segment is not None and contract.eligible_segment not in names


def _metrics(start: int, opener: Event, outcomes: Sequence[Event], contract: Contract) -> dict[str, float]:
    metrics: dict[str, float] = {}
    outcomes = [event for event in outcomes if event.variation == opener.variation]
    if not outcomes:
        return metrics
    for metric in contract.metrics:
        events = [
            event
            for event in outcomes
            if event.event == metric.event
            and event.event_time < start + metric.window_us
            and (metric.field is None or metric.field in event.values)
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
