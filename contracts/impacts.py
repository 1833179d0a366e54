"""What each field of a flag file does to the evidence when it changes.

Three effects, worst last:

- `additive`: facts of before and after can be read together, and nobody has to change anything.
- `epoch`: facts of before and after answer different questions. A readout takes the one or the other.
- `breaking`: records that services publish are refused, or what services and queries name is gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["EFFECTS", "FIELDS", "Effect", "Field", "Impact"]

Effect = Literal["additive", "epoch", "breaking"]
EFFECTS: Final[tuple[Effect, ...]] = ("additive", "epoch", "breaking")


@dataclass(frozen=True, slots=True)
class Impact:
    """What one change does, and what to do about it."""

    effect: Effect
    means: str
    remedy: str = "nothing to do"


@dataclass(frozen=True, slots=True)
class Field:
    """What it does when a field of a flag file is added, removed or changed."""

    added: Impact
    removed: Impact
    changed: Impact
    parts_epochs: bool  # whether facts under different values of it belong to different epochs


_APART: Final = "read facts of before and after apart"


def _free(means: str) -> Field:
    impact = Impact("additive", means)
    return Field(impact, impact, impact, parts_epochs=False)


def _epoch(means: str, remedy: str = _APART, *, removed: Impact | None = None) -> Field:
    impact = Impact("epoch", means, remedy)
    return Field(impact, removed or impact, impact, parts_epochs=True)


def _breaking(means: str, remedy: str, *, added: Impact | None = None) -> Field:
    impact = Impact("breaking", means, remedy)
    return Field(added or impact, impact, impact, parts_epochs=True)


_ROUTE: Final = _epoch(
    "the variation runs something else than before, under the same name",
    "better a new variation, or a new experiment key; else read facts of before and after apart",
)
_POPULATION: Final = _epoch("other units are in the test, so the groups of before and after are not alike")
_SHARE: Final = _epoch("pooled groups are not alike, as the traffic of before and after is not and the shares differ")
_METRIC: Final = _epoch("the metric of before and after are two numbers under one name")
_DECISION: Final = _epoch(
    "facts hold the same, but another rule decides, chosen while evidence was in",
    "decide by the old rule, or by facts of after the change",
)
_FEWER: Final = Impact(
    "breaking", "facts from here on lack attributes that they had", "keep them, or change the queries"
)
_WORDS: Final = _free("nothing is measured otherwise")
_RULE: Final = _free("facts hold the same; another rule stops the experiment from here on")

FIELDS: Final[Mapping[str, Field]] = {
    "flag.key": _breaking(
        "records that name the old key are refused as unknown_flag",
        "keep the file until no service publishes the key; what was refused can be replayed",
        added=Impact("additive", "its records are joined from here on; earlier ones were refused as unknown_flag"),
    ),
    "flag.type": _breaking(
        "services that ask for the old type get their default instead of a variation",
        "change the services first, or make a new flag",
    ),
    "flag.owner": _WORDS,
    "flag.description": _WORDS,
    "flag.variations.*": _epoch(
        "the others get other shares of the traffic, or one is something else than before",
        removed=Impact(
            "breaking",
            "records that name it are refused as unknown_variation",
            "take it out of the flag first, and of the file when no service publishes it",
        ),
    ),
    "flag.variations.*.modelRoute": _ROUTE,
    "flag.variations.*.promptVersion": _ROUTE,
    "flag.variations.*.retrievalProfile": _ROUTE,
    "flag.assignment.unit": _epoch(
        "facts count other things than before, and exposures by the old unit are marked",
        "better a new experiment key; else read facts of before and after apart",
    ),
    "flag.assignment.eligibleSegment": _POPULATION,
    "flag.assignment.exclusions": _POPULATION,
    "flag.rollback.defaultVariation": _free("facts hold the same; a rollback leads elsewhere"),
    "experiment.key": _breaking(
        "records that name the old key are refused as unknown_flag, and facts stand under another key",
        "change the services that publish experimentKey at the same time; what was refused can be replayed",
        added=Impact(
            "epoch", "an experiment begins; earlier facts are of none", "read facts of before and after apart"
        ),
    ),
    "experiment.owner": _WORDS,
    "experiment.description": _WORDS,
    "experiment.hypothesis": _free("facts hold the same; but a hypothesis made after the data proves nothing"),
    "experiment.decisionDate": _free("facts hold the same; but a date moved after looking is peeking"),
    "experiment.cleanup": _WORDS,
    "experiment.states": _free("each fact has the state of its start, and is marked outside the live states"),
    "experiment.allocation.*": _SHARE,
    "experiment.minimumUnits": _free("facts hold the same; but a bound lowered after looking is peeking"),
    "experiment.attributes": Field(
        added=_FEWER,  # without the list a fact keeps all of them
        removed=Impact("additive", "facts from here on have more attributes"),
        changed=_FEWER,
        parts_epochs=False,
    ),
    "experiment.metrics.*": _epoch(
        "facts from here on have the metric, those of before have not",
        removed=Impact(
            "breaking",
            "facts from here on lack the metric",
            "change the queries that name it, and read facts of before and after apart",
        ),
    ),
    "experiment.metrics.*.event": _METRIC,
    "experiment.metrics.*.field": _METRIC,
    "experiment.metrics.*.kind": _METRIC,
    "experiment.metrics.*.quantile": _METRIC,
    "experiment.metrics.*.aggregate": _METRIC,
    "experiment.metrics.*.window": _epoch("outcomes count for another time, under one name"),
    "experiment.metrics.*.goal": _DECISION,
    "experiment.primaryMetric": _DECISION,
    "experiment.guardrailMetrics": _DECISION,
    "experiment.rollbackWhen.*": _RULE,
    "experiment.rollbackWhen.*.guardrails": _RULE,
    "experiment.rollbackWhen.*.confirmed": _RULE,
    "experiment.rollbackWhen.*.for": _RULE,
    "experiment.rollbackWhen.*.metric": _RULE,
    "experiment.rollbackWhen.*.above": _RULE,
    "experiment.rollbackWhen.*.below": _RULE,
    "experiment.rollbackWhen.*.window": _RULE,
    "experiment.rollbackWhen.*.minimumUnits": _RULE,
    "experiment.rollbackWhen.*.attribute": _RULE,
    "experiment.rollbackWhen.*.segments": _RULE,
    "experiment.rollbackWhen.*.worseBy": _RULE,
    "experiment.rollbackAction.immediate": _WORDS,
    "experiment.rollbackAction.scoped": _WORDS,
    "experiment.rollbackAction.aftercare": _WORDS,
}
"""By the pattern of the field's path, in which `*` is any name."""
