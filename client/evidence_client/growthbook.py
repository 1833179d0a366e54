"""GrowthBook: experiments that were viewed become assignments. Needs growthbook.

    views = Views(Assignments({"support_answer_model_route": "conversation"}, attributes=["plan"]))
    client = GrowthBook(..., on_experiment_viewed=views.viewed, on_feature_usage=views.used)
    route = client.get_feature_value("support_answer_model_route", default)
    with evidence.run(views.assignments.of("support_answer_model_route", conversation_id)) as run:

A view alone says what was decided, not what ran: it becomes an exposure when a run says what executed. Forced
variations and features that no experiment decided are no evidence; nor are holdouts, whose variation is not the
feature's.

A client calls `on_experiment_viewed` once for each user and variation, however often it evaluates: a service whose
client lives for more than one request gives `on_feature_usage` too.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evidence_client.assignments import Assignments

if TYPE_CHECKING:
    from growthbook import Experiment, FeatureResult, UserContext
    from growthbook import Result as ExperimentResult

__all__ = ["Views"]


class Views:
    """What GrowthBook's callbacks leave in `assignments`; from its sync and async clients alike.

    A unit is the value of the experiment's hash attribute, a variation its key, which GrowthBook counts from "0" where
    the experiment names none: `variations` gives those the names of the flag file.
    """

    def __init__(self, assignments: Assignments, variations: Mapping[str, str] | None = None) -> None:
        """Bind where assignments are kept."""
        self.assignments = assignments
        self._variations = dict(variations or {})
        self._units: dict[str, str] = {}  # the hash attribute of each flag

    def viewed(
        self, *, experiment: "Experiment[Any]", result: "ExperimentResult[Any]", user_context: "UserContext"
    ) -> None:
        """Remember the assignment: for `on_experiment_viewed`."""
        feature = result.featureId
        flag = feature if feature in self.assignments.flags else experiment.key
        if flag not in self.assignments.flags or result.passthrough or not result.hashValue:
            return
        self._units[flag] = result.hashAttribute
        unit_id = str(result.hashValue)
        if not (result.inExperiment and result.hashUsed):
            self.assignments.decided_nothing(flag, unit_id)
            return
        self.assignments.remember(
            flag,
            unit_id,
            self._variations.get(result.key, result.key),
            result.value,
            user_context.attributes,
            is_experiment=flag != feature,
        )

    def used(self, key: str, result: "FeatureResult[Any]", user_context: "UserContext") -> None:
        """Remember the assignment, or that no experiment decided: for `on_feature_usage`."""
        if result.experiment is not None and result.experimentResult is not None:
            self.viewed(experiment=result.experiment, result=result.experimentResult, user_context=user_context)
        elif key in self._units:
            self.assignments.decided_nothing(key, str(user_context.attributes.get(self._units[key])))
