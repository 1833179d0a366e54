"""Whether outcomes carry what their contract measures, latency and cost before all.

Judged by unit, not by outcome: a unit may tell its latency in one outcome and its result in the next.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from contracts.flags import Contract, Metric
from contracts.naming import measures_cost, measures_latency
from pipeline.dlq.places import Place
from pipeline.doctor.findings import FaultId, Finding, InOrder, NotJudged, Remark, share
from pipeline.doctor.reading import Reading, Row

__all__ = ["metrics"]

LEAST_UNITS: Final = 20
"""Units with outcomes, before one is missed."""

LEAST_SHARE: Final = 0.05
"""Of units without latency or cost: some answers are cut off before they have either."""

NEVER_SEEN: Final = 500
"""Units with outcomes, before an event or field that none of them has is called absent: some are rare."""

_SHOWN: Final = 5


def metrics(reading: Reading) -> Iterator[Remark]:
    """Tell of metrics that stay empty, and of outcomes without latency or cost."""
    outcomes: dict[str, list[Row]] = {}
    for row in reading.of_kind["outcome"]:
        if row.event is not None:
            outcomes.setdefault(row.event.flag_key, []).append(row)
    refused = {key for number, key in reading.flag_of.items() if reading.rows[number].kind == "outcome"}
    for contract in reading.book:
        theirs = outcomes.get(contract.flag_key, [])
        if contract.metrics and theirs:
            outcomes_of = _Outcomes.of(contract.flag_key, theirs)
            yield from _of_contract(contract, outcomes_of, partly_refused=contract.flag_key in refused)


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """The outcomes of one flag, and which numbers each unit has told in each event."""

    flag: str
    rows: Sequence[Row]
    told: Mapping[str, Mapping[str, set[str]]]

    @classmethod
    def of(cls, flag: str, rows: Sequence[Row]) -> "_Outcomes":
        """Collect what the units have told."""
        told: dict[str, dict[str, set[str]]] = {}
        for row in rows:
            if row.event is not None:
                told.setdefault(row.event.event, {}).setdefault(row.event.unit_id, set()).update(row.event.metrics)
        return cls(flag, rows, told)

    def example(self, metric: Metric) -> Place:
        """Return where an outcome of the metric's event lies whose unit lacks its field."""
        return next(
            row.place
            for row in self.rows
            if row.event is not None
            and row.event.event == metric.event
            and metric.field not in self.told[metric.event][row.event.unit_id]
        )


def _of_contract(contract: Contract, outcomes: _Outcomes, *, partly_refused: bool) -> Iterator[Remark]:
    units = len(set[str]().union(*outcomes.told.values()))
    if units < LEAST_UNITS:
        yield NotJudged(f"{outcomes.flag}: outcomes of {units} units are too few to judge its metrics")
        return
    remarks = list(_absent_events(contract, outcomes, units)) if not partly_refused else []
    remarks += _guarded(contract, outcomes)
    remarks += _absent_fields(contract, outcomes)
    yield from remarks
    if not remarks:
        yield InOrder(f"{outcomes.flag}: the outcomes of {units:,} units carry what it measures")


def _absent_events(contract: Contract, outcomes: _Outcomes, units: int) -> Iterator[Finding]:
    wanted = {metric.event for metric in contract.metrics}
    absent = sorted(wanted - outcomes.told.keys())
    if absent and (len(absent) == len(wanted) or units >= NEVER_SEEN):
        names = [metric.name for metric in contract.metrics if metric.event in absent]
        seen = ", ".join(sorted(outcomes.told, key=lambda event: -len(outcomes.told[event]))[:_SHOWN])
        what = f"{outcomes.flag} measures {', '.join(names)} by the event {' and '.join(absent)}, which no outcome has."
        total = len(outcomes.rows)
        lines = [f"of {total:,} outcomes of the flag none; they have: {seen}"]
        yield Finding("metric_event_absent", what, lines, total, total, outcomes.rows[0].place)


def _guarded(contract: Contract, outcomes: _Outcomes) -> Iterator[Finding]:
    kinds: tuple[tuple[FaultId, str, Callable[[Metric], bool]], ...] = (
        ("outcomes_without_latency", "latency", measures_latency),
        ("outcomes_without_cost", "cost", measures_cost),
    )
    for fault, name, chosen in kinds:
        several = [m for m in contract.metrics if chosen(m) and m.field is not None and m.event in outcomes.told]
        finding = _lacking(fault, name, several, outcomes)
        if finding is not None:
            yield finding


def _absent_fields(contract: Contract, outcomes: _Outcomes) -> Iterator[Finding]:
    for metric in contract.metrics:
        theirs = outcomes.told.get(metric.event, {})
        if metric.field is None or measures_latency(metric) or measures_cost(metric) or len(theirs) < NEVER_SEEN:
            continue
        if not any(metric.field in names for names in theirs.values()):
            subject = f"{outcomes.flag} measures {metric.name} by the field {metric.field}"
            what = f"{subject}, which no outcome {metric.event} has."
            lines = [f"of {len(theirs):,} units with that event none has the field"]
            yield Finding("metric_field_absent", what, lines, len(theirs), len(theirs), outcomes.example(metric))


def _lacking(fault: FaultId, name: str, several: Sequence[Metric], outcomes: _Outcomes) -> Finding | None:
    """Return the finding for the metric that most units lack; None where few do."""
    worst: tuple[int, int, Metric] | None = None
    for metric in several:
        theirs = outcomes.told[metric.event]
        lacking = sum(metric.field not in names for names in theirs.values())
        if len(theirs) >= LEAST_UNITS and lacking >= LEAST_SHARE * len(theirs) and (not worst or lacking > worst[0]):
            worst = lacking, len(theirs), metric
    if worst is None:
        return None
    lacking, of, metric = worst
    events = [row.event for row in outcomes.rows if row.event is not None and row.event.event == metric.event]
    without = sum(metric.field not in event.metrics for event in events)
    what = f"Units of {outcomes.flag} have outcomes without {name} ({metric.field}): {share(lacking, of)}."
    lines = [f"by outcome: {share(without, len(events))} lack {metric.field}, which the metric {metric.name} reads"]
    return Finding(fault, what, lines, lacking, of, outcomes.example(metric))
