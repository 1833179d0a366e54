"""OpenFeature: evaluations become assignments, tracked events become outcomes. Needs openfeature-sdk.

    assignments = Assignments({"support_answer_model_route": "conversation"}, attributes=["plan"])
    api.set_provider(EvidenceProvider(provider, evidence, assignments))

An evaluation alone says what was decided, not what ran: it becomes an exposure when a run says what executed. It
decides nothing, and is no evidence, where it ended in an error, or in a default or disabled flag (whose value no
experiment chose), where the provider names no variant, or where the context has no targeting key (which is the unit).
"""

import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from openfeature.hook import Hook, HookContext, HookHints
from openfeature.provider import FeatureProvider

from evidence_client.assignments import Assignments
from evidence_client.evidence import Evidence
from evidence_client.guard import guarded

if TYPE_CHECKING:
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.event import ProviderEvent, ProviderEventDetails
    from openfeature.flag_evaluation import FlagEvaluationDetails
    from openfeature.track import TrackingEventDetails

    from evidence_client.assignment import Assignment

__all__ = ["EvidenceHook", "EvidenceProvider"]

UNDECIDED: Final = frozenset({"ERROR", "DEFAULT", "DISABLED"})
VALUE: Final = "value"  # the metric that a tracked event's own value becomes

P = ParamSpec("P")
R = TypeVar("R")

_asked: ContextVar[Mapping[str, "EvaluationContext | None"]] = ContextVar("asked", default=MappingProxyType({}))
"""By flag, the contexts that providers were given in evaluations that are not over."""


class EvidenceHook(Hook):
    """Remembers what flags decide. Needed by itself only where the provider cannot be wrapped.

    By itself it does not see what other hooks have put into the evaluation context.
    """

    def __init__(self, assignments: Assignments) -> None:
        """Bind where assignments are kept."""
        self._assignments = assignments

    def finally_after(
        self,
        hook_context: HookContext,
        details: "FlagEvaluationDetails[Any]",
        hints: HookHints,  # noqa: ARG002  # so the SDK calls it
    ) -> None:
        """Remember what the evaluation decided, or that it decided nothing."""
        flag = details.flag_key
        context = _given(flag) or hook_context.evaluation_context
        unit_id = context.targeting_key
        if flag not in self._assignments.flags or not unit_id:
            return
        reason = None if details.reason is None else str(details.reason)
        if details.error_code is not None or not details.variant or (reason or "").upper() in UNDECIDED:
            self._assignments.decided_nothing(flag, unit_id)
        else:
            self._assignments.remember(flag, unit_id, details.variant, details.value, context.attributes, reason=reason)


class EvidenceProvider:
    """Any provider, with the hook; and what is tracked also becomes an outcome of the unit's assignments.

    A tracked event is an outcome of each flag that was evaluated for its targeting key in this process. The event's
    value is the metric `value`; of its attributes, booleans and numbers are metrics, by their names. Without a
    targeting key or an assignment it is counted as `no_assignment`: publish such outcomes with `Evidence.outcome`.
    """

    def __init__(self, provider: FeatureProvider, evidence: Evidence, assignments: Assignments) -> None:
        """Wrap the provider, which goes on evaluating and tracking as before."""
        self._provider, self._evidence, self._assignments = provider, evidence, assignments
        self._hook = EvidenceHook(assignments)
        self.initialize, self.shutdown, self.detach = provider.initialize, provider.shutdown, provider.detach
        self.get_metadata = provider.get_metadata
        self.resolve_boolean_details = _noted(provider.resolve_boolean_details)
        self.resolve_boolean_details_async = _noted(provider.resolve_boolean_details_async)
        self.resolve_string_details = _noted(provider.resolve_string_details)
        self.resolve_string_details_async = _noted(provider.resolve_string_details_async)
        self.resolve_integer_details = _noted(provider.resolve_integer_details)
        self.resolve_integer_details_async = _noted(provider.resolve_integer_details_async)
        self.resolve_float_details = _noted(provider.resolve_float_details)
        self.resolve_float_details_async = _noted(provider.resolve_float_details_async)
        self.resolve_object_details = _noted(provider.resolve_object_details)
        self.resolve_object_details_async = _noted(provider.resolve_object_details_async)

    def attach(self, on_emit: "Callable[[FeatureProvider, ProviderEvent, ProviderEventDetails], None]") -> None:
        """Let the provider's events be this one's, which is the one the SDK knows."""
        self._provider.attach(lambda _, event, details: on_emit(self, event, details))

    def get_provider_hooks(self) -> list[Hook]:
        """Return the provider's hooks, and the one that remembers."""
        return [*self._provider.get_provider_hooks(), self._hook]

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: "EvaluationContext | None" = None,
        tracking_event_details: "TrackingEventDetails | None" = None,
    ) -> None:
        """Record an outcome of each of the unit's assignments; then let the provider track the event."""
        self._record(tracking_event_name, evaluation_context, tracking_event_details)
        self._provider.track(tracking_event_name, evaluation_context, tracking_event_details)

    @guarded
    def _record(self, event: str, context: "EvaluationContext | None", details: "TrackingEventDetails | None") -> None:
        unit_id = context.targeting_key if context is not None else None
        metrics = _metrics(details)
        assignments: list[Assignment | None] = [*self._assignments.all_of(unit_id or "")]
        for assignment in assignments or [None]:
            self._evidence.outcome(assignment, event, metrics)

    def _failed(self, error: Exception) -> None:
        self._evidence.fail(error)


def _noted(resolve: Callable[P, R]) -> Callable[P, R]:
    """Return the method of a provider such that the hook will know its context: the SDK shows it an earlier one."""

    @functools.wraps(resolve)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        _note(*args, **kwargs)  # type: ignore[arg-type]  # the arguments that all of them have
        return resolve(*args, **kwargs)

    return call


def _note(
    flag_key: str,
    default_value: object,  # noqa: ARG001  # as the SDK names it
    evaluation_context: "EvaluationContext | None" = None,
) -> None:
    _asked.set({**_asked.get(), flag_key: evaluation_context})


def _given(flag: str) -> "EvaluationContext | None":
    """Return the context of the flag's evaluation, which is over; None where no provider was asked."""
    contexts = {**_asked.get()}
    context = contexts.pop(flag, None)
    _asked.set(contexts)
    return context


def _metrics(details: "TrackingEventDetails | None") -> Mapping[str, bool | float]:
    if details is None:
        return {}
    metrics = {name: value for name, value in details.attributes.items() if isinstance(value, (bool, int, float))}
    return metrics if details.value is None else {**metrics, VALUE: details.value}
