"""With the real OpenFeature SDK: what a flag decided, and what is tracked."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent, ProviderEventDetails
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagEvaluationOptions, FlagResolutionDetails, Reason
from openfeature.hook import Hook, HookContext, HookHints
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
from openfeature.track import TrackingEventDetails

from evidence_client import Assignment, Assignments, Evidence, MemoryPublisher, Route
from evidence_client.openfeature import EvidenceHook, EvidenceProvider
from tests.waiting import until

FLAG: Final = "support_answer_model_route"
ROUTES: Final[dict[str, dict[str, Any]]] = {
    "control": {"modelRoute": "support_model_a", "promptVersion": "support_v3", "retrievalProfile": "baseline"},
    "candidate": {"modelRoute": "support_model_b", "promptVersion": "support_v3", "retrievalProfile": "baseline"},
}


def resolve(flag: InMemoryFlag[Any], context: EvaluationContext) -> FlagResolutionDetails[Any]:
    """Decide as the context asks for."""
    wanted = context.attributes.get("resolve", "candidate")
    if wanted == "fail":
        raise RuntimeError("the provider's own fault")
    if wanted in ROUTES:
        return FlagResolutionDetails(ROUTES[str(wanted)], reason=Reason.SPLIT, variant=str(wanted))
    value = ROUTES["control"]
    return {
        "default": FlagResolutionDetails(value, reason=Reason.DEFAULT, variant="control"),
        "disabled": FlagResolutionDetails(value, reason=Reason.DISABLED, variant="control"),
        "error": FlagResolutionDetails(value, reason=Reason.ERROR, error_code=ErrorCode.PARSE_ERROR, variant="control"),
        "no reason": FlagResolutionDetails(value, variant="control"),
        "no variant": FlagResolutionDetails(value, reason=Reason.SPLIT),
        "wrong type": FlagResolutionDetails("support_model_a", reason=Reason.SPLIT, variant="control"),
    }[str(wanted)]


@pytest.fixture
def published() -> MemoryPublisher:
    return MemoryPublisher()


@pytest.fixture
def evidence(published: MemoryPublisher) -> Evidence:
    return Evidence(published)


@pytest.fixture
def assignments() -> Assignments:
    return Assignments({FLAG: "conversation"}, attributes=["plan"], segments="segments")


@pytest.fixture
def inner() -> InMemoryProvider:
    flags: dict[str, InMemoryFlag[Any]] = {
        FLAG: InMemoryFlag("control", ROUTES, context_evaluator=resolve),
        "dark_mode": InMemoryFlag("on", {"on": True}),
    }
    return InMemoryProvider(flags)


@pytest.fixture
def client(inner: InMemoryProvider, evidence: Evidence, assignments: Assignments) -> Iterator[OpenFeatureClient]:
    api.set_provider_and_wait(EvidenceProvider(inner, evidence, assignments))
    yield api.get_client()
    api.shutdown()


def asked(resolve: str = "candidate", unit: str | None = "conv_1", **more: Any) -> EvaluationContext:  # noqa: ANN401  # any attribute
    return EvaluationContext(unit, {"resolve": resolve, "plan": "pro", "email": "a@example.org", **more})


def test_an_evaluation_alone_is_no_evidence(client: OpenFeatureClient, published: MemoryPublisher) -> None:
    client.get_object_value(FLAG, {}, asked())
    assert published.messages == []


def test_an_evaluation_becomes_an_assignment(client: OpenFeatureClient, assignments: Assignments) -> None:
    details = client.get_object_details(FLAG, {}, asked(segments=["paid_support_chat"]))
    assert details.variant == "candidate"
    assert assignments.of(FLAG, "conv_1") == Assignment(
        flag_key=FLAG,
        unit_id="conv_1",
        variation="candidate",
        assignment_unit="conversation",
        attributes={"plan": "pro"},
        segments=("paid_support_chat",),
        reason="SPLIT",
        promised=Route("support_model_b", "support_v3", "baseline"),
    )


@pytest.mark.parametrize("segments", ["internal", {"internal"}, [3]])
def test_segments_that_cannot_be_told_are_not_left_out(
    client: OpenFeatureClient, assignments: Assignments, evidence: Evidence, segments: object
) -> None:
    """Or a unit that the experiment excludes would be evidence."""
    client.get_object_value(FLAG, {}, asked(segments=segments))
    with evidence.run(assignments.of(FLAG, "conv_1")) as run:
        run.executed(model_route="support_model_b")
    assert evidence.counts().dropped == {"invalid": 1}


def test_asynchronous_evaluations_become_assignments(client: OpenFeatureClient, assignments: Assignments) -> None:
    asyncio.run(client.get_object_value_async(FLAG, {}, asked()))
    assert assignments.of(FLAG, "conv_1") is not None


class Enriching(Hook):
    """Puts what the service knows of a request into the context, and may fail after."""

    def __init__(self, unit: str, fault: str = "") -> None:
        self._unit, self._fault = unit, fault

    def before(self, hook_context: HookContext, hints: HookHints) -> EvaluationContext:  # noqa: ARG002  # as the SDK has it
        if self._fault == "before":
            raise RuntimeError
        return EvaluationContext(self._unit, {"segments": ["internal"]})

    def after(self, *_: object, **__: object) -> None:
        if self._fault == "after":
            raise RuntimeError


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_unit_is_the_one_that_the_provider_was_asked_for(
    client: OpenFeatureClient, assignments: Assignments, *, asynchronous: bool
) -> None:
    """Whatever the context said before other hooks."""
    options = FlagEvaluationOptions(hooks=[Enriching("conv_2")])
    if asynchronous:
        asyncio.run(client.get_object_value_async(FLAG, {}, asked(), options))
    else:
        client.get_object_value(FLAG, {}, asked(), options)
    assert assignments.of(FLAG, "conv_1") is None
    found = assignments.of(FLAG, "conv_2")
    assert found is not None
    assert (found.segments, found.attributes) == (("internal",), {"plan": "pro"})


@pytest.mark.parametrize(("fault", "unit"), [("before", "conv_1"), ("after", "conv_2")])
def test_a_hook_that_fails_undoes_the_decision(
    client: OpenFeatureClient, assignments: Assignments, fault: str, unit: str
) -> None:
    """Before the provider was asked, there is no other unit than that of the context as it was."""
    client.get_object_value(FLAG, {}, asked(unit="conv_1"))
    client.get_object_value(FLAG, {}, asked(unit="conv_2"))
    client.get_object_value(FLAG, {}, asked(), FlagEvaluationOptions(hooks=[Enriching("conv_2", fault)]))
    assert [each for each in ("conv_1", "conv_2") if assignments.of(FLAG, each) is None] == [unit]


def test_a_flag_that_depends_on_another_keeps_its_unit(evidence: Evidence, assignments: Assignments) -> None:
    def depend(_: InMemoryFlag[Any], context: EvaluationContext) -> FlagResolutionDetails[Any]:
        account = EvaluationContext(str(context.attributes["account"]))
        other = api.get_client().get_string_value("tier", "", account)
        return FlagResolutionDetails(ROUTES["candidate"], reason=Reason.TARGETING_MATCH, variant=other)

    flags: dict[str, InMemoryFlag[Any]] = {
        FLAG: InMemoryFlag("control", ROUTES, context_evaluator=depend),
        "tier": InMemoryFlag("control", {"control": "candidate"}),
    }
    api.set_provider_and_wait(EvidenceProvider(InMemoryProvider(flags), evidence, assignments))
    try:
        api.get_client().get_object_value(FLAG, {}, asked(account="acme"))
    finally:
        api.shutdown()
    found = assignments.of(FLAG, "conv_1")
    assert found is not None
    assert found.variation == "candidate"


def test_the_hook_works_without_the_provider(inner: InMemoryProvider, assignments: Assignments) -> None:
    api.set_provider_and_wait(inner)
    try:
        options = FlagEvaluationOptions(hooks=[EvidenceHook(assignments)])
        api.get_client().get_object_value(FLAG, {}, asked(), options)
    finally:
        api.shutdown()
    assert assignments.of(FLAG, "conv_1") is not None


@pytest.mark.parametrize("how", ["default", "disabled", "error", "no variant", "wrong type", "fail"])
def test_what_no_experiment_decided_is_no_assignment(
    client: OpenFeatureClient, assignments: Assignments, evidence: Evidence, published: MemoryPublisher, how: str
) -> None:
    """Whatever was assigned earlier: what runs now was not."""
    client.get_object_value(FLAG, {}, asked())
    client.get_object_value(FLAG, {}, asked(how))
    with evidence.run(assignments.of(FLAG, "conv_1")) as run:
        run.executed(model_route="support_model_a")
    assert published.messages == []
    assert evidence.counts().skipped == {"no_assignment": 1}


def test_a_reason_may_be_missing(client: OpenFeatureClient, assignments: Assignments) -> None:
    client.get_object_value(FLAG, {}, asked("no reason"))
    found = assignments.of(FLAG, "conv_1")
    assert found is not None
    assert (found.variation, found.reason) == ("control", None)


@pytest.mark.parametrize("unit", [None, ""])
def test_without_a_targeting_key_there_is_no_unit(
    client: OpenFeatureClient, assignments: Assignments, unit: str | None
) -> None:
    client.get_object_value(FLAG, {}, asked(unit=unit))
    assert assignments.all_of("") == []


def test_other_flags_are_none_of_its_business(client: OpenFeatureClient, assignments: Assignments) -> None:
    assert client.get_boolean_value("dark_mode", False, asked()) is True  # noqa: FBT003  # as the SDK has it
    assert client.get_boolean_value("missing", False, asked()) is False  # noqa: FBT003
    assert assignments.all_of("conv_1") == []


def test_tracked_events_become_outcomes(
    client: OpenFeatureClient, inner: InMemoryProvider, published: MemoryPublisher
) -> None:
    client.get_object_value(FLAG, {}, asked())
    details = TrackingEventDetails(99.5, {"resolved": True, "turns": 3, "currency": "EUR", "tags": ["a"]})
    client.track("answered", asked(), details)
    [outcome] = published.outcomes
    assert (outcome["event"], outcome["flagKey"], outcome["unitId"]) == ("answered", FLAG, "conv_1")
    assert outcome["variation"] == "candidate"
    fields = {"event", "eventId", "flagKey", "unitId", "variation", "timestamp", "attributes"}
    assert {name: outcome[name] for name in outcome.keys() - fields} == {"resolved": True, "turns": 3, "value": 99.5}
    assert inner._tracking_events["answered"].value == 99.5  # noqa: SLF001  # the provider has no other way to ask


def test_what_is_tracked_after_an_error_still_came_of_what_was_assigned(
    client: OpenFeatureClient, published: MemoryPublisher
) -> None:
    client.get_object_value(FLAG, {}, asked())
    client.get_object_value(FLAG, {}, asked("error"))
    client.track("closed", asked())
    assert [outcome["variation"] for outcome in published.outcomes] == ["candidate"]


def test_what_is_tracked_for_nobody_is_counted(client: OpenFeatureClient, evidence: Evidence) -> None:
    client.track("answered")
    client.track("answered", asked(unit="never_evaluated"))
    assert evidence.counts().skipped == {"no_assignment": 2}


def test_nothing_that_is_tracked_raises(client: OpenFeatureClient, evidence: Evidence) -> None:
    client.get_object_value(FLAG, {}, asked())
    wrong: Any = client
    wrong.track(3, asked(), TrackingEventDetails(float("nan")))
    wrong.track("answered", asked(), TrackingEventDetails(attributes={"unitId": 3}))
    wrong.track("answered", EvaluationContext(["no", "text"]))  # type: ignore[arg-type]  # on purpose
    assert evidence.counts().dropped == {"invalid": 3}


def test_the_events_of_the_provider_are_those_of_its_wrapper(
    client: OpenFeatureClient, inner: InMemoryProvider
) -> None:
    seen: list[EventDetails] = []
    client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, seen.append)
    inner.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=[FLAG]))
    until(lambda: seen, what="the event")
    assert seen[0].flags_changed == [FLAG]
    assert client.get_metadata().name == api.get_client().get_metadata().name
    assert api.get_provider_metadata().name == "In-Memory Provider"
