"""The contract of a flag: the routes of its variations, its metric windows, its exposure ladder.

A flag file is YAML text (see `contracts.flag_files` for its fields). The text's hash is the contract's version, so
that a record can be judged by the very contract under which it was read. Nothing here reads a file.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError

from contracts.flag_errors import first_error
from contracts.flag_files import (
    Aggregate,
    Experiment,
    Flag,
    FlagFile,
    MetricDefinition,
    MetricRule,
    SegmentRule,
    State,
    VariationRoute,
)
from contracts.lookalikes import oddity, revealed
from contracts.marked_yaml import MarkedYaml, load_yaml

__all__ = [
    "DEFAULT_WINDOW",
    "DIMENSIONS",
    "Contract",
    "ContractBook",
    "Metric",
    "Route",
    "load_contract",
    "read_contracts",
]

DEFAULT_WINDOW: Final = 86_400_000_000  # µs: the metric window of a flag without metrics
DIMENSIONS: Final[Mapping[str, str]] = {
    "model_route": "modelRoute",
    "prompt_version": "promptVersion",
    "retrieval_profile": "retrievalProfile",
}
"""The dimensions of a route, by their names here and on the wire."""

_VERSION_LENGTH: Final = 16  # hexadecimal digits, 64 bits: no two of the versions a lake sees share them
_ROUNDING: Final = 1e-9  # shares such as 0.1, 0.2 and 0.7 add up to a little more than 1

_YES_OR_NO: Final = frozenset({"last", "first", "any", "all", "max", "min"})  # aggregates that keep a boolean one


@dataclass(frozen=True, slots=True)
class Route:
    """What a variation runs. A dimension that is None is not checked for drift."""

    model_route: str | None = None
    prompt_version: str | None = None
    retrieval_profile: str | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of an experiment: how the outcomes in `window_us` from the window's start become one number."""

    name: str
    event: str
    field: str | None  # None only where the events are counted
    kind: str  # proportion, mean, quantile
    aggregate: Aggregate
    window_us: int
    goal: str  # increase, decrease
    quantile: float | None = None  # only of kind quantile


@dataclass(frozen=True, slots=True)
class Contract:
    """One version of the contract of one flag. Two with the same flag key and version are equal."""

    flag_key: str
    version: str  # the first 16 hexadecimal digits of the text's SHA-256
    text: str = field(compare=False, repr=False)
    file: str = field(compare=False)
    experiment_key: str | None = field(compare=False)
    window_us: int = field(compare=False)  # the longest metric window
    assignment_unit: str | None = field(compare=False)
    eligible_segment: str | None = field(compare=False)
    exclusions: tuple[str, ...] = field(compare=False)
    attributes: tuple[str, ...] | None = field(compare=False)  # which a fact keeps; None: all
    variations: Mapping[str, Route] = field(compare=False)
    states: tuple[tuple[State, int], ...] = field(compare=False)  # (state, from in µs), ascending
    metrics: tuple[Metric, ...] = field(compare=False)
    document: FlagFile = field(compare=False, repr=False)  # the file as it was read, with all its fields

    def state_at(self, at_us: int) -> State | None:
        """Return the state of the exposure ladder at a time; None before its first, and for a flag without one."""
        return next((state for state, since in reversed(self.states) if since <= at_us), None)


class ContractBook:
    """The contracts in force: one a flag. Immutable."""

    def __init__(self, contracts: Iterable[Contract] = ()) -> None:
        """Bind the contracts; raises ContractError if two are of one flag or of one experiment."""
        flags: dict[str, Contract] = {}
        experiments: dict[str, Contract] = {}
        for contract in contracts:
            _enter(flags, contract.flag_key, contract, "flag.key")
            if contract.experiment_key is not None:
                _enter(experiments, contract.experiment_key, contract, "experiment.key")
        self.flags: Mapping[str, Contract] = MappingProxyType(flags)
        self.experiments: Mapping[str, Contract] = MappingProxyType(experiments)
        self.versions: Mapping[str, Contract] = MappingProxyType({c.version: c for c in flags.values()})

    def __iter__(self) -> Iterator[Contract]:
        """Iterate over the contracts, in the order given."""
        return iter(self.flags.values())

    def __len__(self) -> int:
        """Return the number of flags."""
        return len(self.flags)

    def __eq__(self, other: object) -> bool:
        """Tell whether both hold the same versions."""
        return isinstance(other, ContractBook) and self.versions.keys() == other.versions.keys()

    def __hash__(self) -> int:
        """Hash the versions."""
        return hash(frozenset(self.versions))


def load_contract(text: str, file: str) -> Contract:
    """Read one flag file; `file` is its name in messages.

    Raises ContractError, and nothing else, with the line and the field that breaks the contract.
    """
    source = load_yaml(text, file)
    try:
        document = FlagFile.model_validate_json(json.dumps(source.value))
    except ValidationError as invalid:
        raise first_error(invalid, source) from None
    flag, experiment = document.flag, document.experiment
    _check_flag(flag, source)
    if experiment is not None:
        _check_experiment(experiment, flag, source)
    metrics = tuple(_metric(*item) for item in experiment.metrics.items()) if experiment else ()
    assignment = flag.assignment
    return Contract(
        flag_key=flag.key,
        version=hashlib.sha256(text.encode()).hexdigest()[:_VERSION_LENGTH],
        text=text,
        file=file,
        experiment_key=experiment.key if experiment else None,
        window_us=max((metric.window_us for metric in metrics), default=DEFAULT_WINDOW),
        assignment_unit=assignment.unit if assignment else None,
        eligible_segment=assignment.eligible_segment if assignment else None,
        exclusions=assignment.exclusions if assignment else (),
        attributes=experiment.attributes if experiment else None,
        variations=MappingProxyType({name: _route(flag, value) for name, value in flag.variations.items()}),
        states=tuple((entry.state, entry.from_) for entry in experiment.states) if experiment else (),
        metrics=metrics,
        document=document,
    )


def read_contracts(files: Mapping[str, str]) -> ContractBook:
    """Read flag files, texts by name; raises ContractError for the first that is wrong, by name."""
    return ContractBook(load_contract(files[name], name) for name in sorted(files))


def _enter(known: dict[str, Contract], key: str, contract: Contract, place: str) -> None:
    if key in known:
        source = load_yaml(contract.text, contract.file)
        raise source.wrong(place.split("."), f"{key!r} is also the key of {known[key].file}; each has one file")
    known[key] = contract


def _check_flag(flag: Flag, source: MarkedYaml) -> None:
    for name, value in flag.variations.items():
        path = ("flag", "variations", name)
        match flag.type, value:
            case ("json", VariationRoute()) | ("boolean", bool()):
                pass
            case "string", str():
                if not value:
                    raise source.wrong(path, "is empty; name a model route")
            case "number", float() if not isinstance(value, bool):
                pass
            case _:
                raise source.wrong(path, f"is not what a flag of type {flag.type} holds")
    if flag.rollback and flag.rollback.default_variation not in flag.variations:
        raise source.wrong(
            ("flag", "rollback", "defaultVariation"), _unknown(flag.rollback.default_variation, flag.variations)
        )


def _check_experiment(experiment: Experiment, flag: Flag, source: MarkedYaml) -> None:
    here = "experiment"
    for index, (earlier, later) in enumerate(pairwise(experiment.states), 1):
        if later.from_ <= earlier.from_:
            raise source.wrong((here, "states", index, "from"), "is not after the state before; order states by time")
    for name in experiment.allocation or {}:
        if name not in flag.variations:
            raise source.wrong((here, "allocation", name), _unknown(name, flag.variations))
    if sum((experiment.allocation or {}).values()) > 1 + _ROUNDING:
        raise source.wrong((here, "allocation"), "the shares add up to more than 1")
    for name, metric in experiment.metrics.items():
        _check_metric(metric, (here, "metrics", name), source)
    if experiment.primary_metric is not None and experiment.primary_metric not in experiment.metrics:
        raise source.wrong((here, "primaryMetric"), _unknown(experiment.primary_metric, experiment.metrics))
    _check_names(experiment.guardrail_metrics, experiment.metrics, (here, "guardrailMetrics"), source)
    _check_names(experiment.attributes or (), None, (here, "attributes"), source)
    _check_rollback(experiment, (here, "rollbackWhen"), source)


def _check_rollback(experiment: Experiment, path: tuple[str, ...], source: MarkedYaml) -> None:
    kept = experiment.attributes
    for name, rule in experiment.rollback_when.items():
        if isinstance(rule, MetricRule | SegmentRule) and rule.metric not in experiment.metrics:
            raise source.wrong((*path, name, "metric"), _unknown(rule.metric, experiment.metrics))
        if isinstance(rule, MetricRule) and (rule.above is None) == (rule.below is None):
            raise source.wrong((*path, name), "needs either above or below")
        if isinstance(rule, SegmentRule) and kept is not None and rule.attribute not in kept:
            raise source.wrong((*path, name, "attribute"), f"{rule.attribute!r} is not in the experiment's attributes")


def _check_metric(metric: MetricDefinition, path: tuple[str, ...], source: MarkedYaml) -> None:
    if metric.field is None and metric.aggregate != "count":
        raise source.wrong(path, "has no field; only the aggregate count can do without")
    if metric.kind == "proportion" and metric.aggregate not in _YES_OR_NO:
        raise source.wrong(
            (*path, "aggregate"), f"a proportion is of yes or no; take one of {', '.join(sorted(_YES_OR_NO))}"
        )
    if metric.kind == "quantile" and metric.quantile is None:
        raise source.wrong(path, "is of kind quantile and has no quantile; add one, such as quantile: 0.95")
    if metric.kind != "quantile" and metric.quantile is not None:
        raise source.wrong((*path, "quantile"), "is only for kind quantile; remove it")


def _check_names(names: Sequence[str], known: Iterable[str] | None, path: tuple[str, ...], source: MarkedYaml) -> None:
    for index, name in enumerate(names):
        if known is not None and name not in known:
            raise source.wrong((*path, index), _unknown(name, known))
        if name in names[:index]:
            raise source.wrong((*path, index), f"{name!r} is given twice; remove one")


def _unknown(name: str, known: Iterable[str]) -> str:
    wanted = repr(name) if oddity(name) is None else ascii(name)
    there = ", ".join(map(revealed, sorted(known)))
    return f"{wanted} is not defined; there is {there}" if there else f"{wanted} is not defined, nor is any other"


def _route(flag: Flag, value: VariationRoute | str | float) -> Route:
    if isinstance(value, VariationRoute):
        return Route(value.model_route, value.prompt_version, value.retrieval_profile)
    return Route(str(value)) if flag.type == "string" else Route()


def _metric(name: str, of: MetricDefinition) -> Metric:
    return Metric(name, of.event, of.field, of.kind, of.aggregate, of.window, of.goal, of.quantile)
