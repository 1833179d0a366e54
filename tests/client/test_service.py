"""A small service with flags of both SDKs, from the request to what the pipeline decodes."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from growthbook import GrowthBook
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
from openfeature.track import TrackingEventDetails

from contracts.decode import Decoder
from evidence_client import Assignment, Assignments, Evidence, Kind
from evidence_client.growthbook import Views
from evidence_client.openfeature import EvidenceProvider
from pipeline.settings import Settings
from tests.client.topics import Topics
from tests.contracts.records import BOOK, PlainRecord

FLAG: Final = "support_answer_model_route"
ROUTES: Final[dict[str, dict[str, Any]]] = {
    "control": {"modelRoute": "support_model_a", "promptVersion": "support_v3", "retrievalProfile": "baseline"},
    "candidate": {"modelRoute": "support_model_b", "promptVersion": "support_v3", "retrievalProfile": "baseline"},
}
FALLBACK: Final = {"modelRoute": "support_model_a", "promptVersion": "support_v3", "retrievalProfile": "safe_fallback"}
CONVERSATIONS: Final = 60


class Unanswered(Exception):
    """No model answers."""


class Service:
    """Answers questions by the route that a flag assigns; every tenth falls back, every thirtieth fails."""

    def __init__(self, evidence: Evidence) -> None:
        """Bind the evidence."""
        self.evidence = evidence

    def answer(self, number: int, assignment: Assignment | None, route: dict[str, Any]) -> None:
        """Answer one question."""
        with self.evidence.run(assignment) as run:
            if number % 30 == 0:
                raise Unanswered
            if number % 10 == 0:
                run.fell_back(**named(FALLBACK))
            else:
                run.executed(**named(route))
        run.guardrail("unsafe_answer", number % 7 == 0, severity="warning")


def named(route: dict[str, Any]) -> dict[str, str]:
    """Return the route as a run is told it."""
    return {
        "model_route": route["modelRoute"],
        "prompt_version": route["promptVersion"],
        "retrieval_profile": route["retrievalProfile"],
    }


def variation(unit_id: str) -> str:
    return "candidate" if unit_id[-1] in "02468" else "control"


def resolve(_: InMemoryFlag[Any], context: EvaluationContext) -> FlagResolutionDetails[Any]:
    if not context.targeting_key:
        return FlagResolutionDetails(ROUTES["control"], reason=Reason.DEFAULT, variant="control")
    wanted = variation(context.targeting_key)
    return FlagResolutionDetails(ROUTES[wanted], reason=Reason.SPLIT, variant=wanted)


@pytest.fixture
def topics(embedded: str, settings_for: Callable[..., Settings]) -> Topics:
    return Topics(settings_for(embedded))


@pytest.fixture(autouse=True)
def _forget_providers() -> Iterator[None]:
    yield
    api.shutdown()


def with_openfeature(service: Service) -> None:
    assignments = Assignments({FLAG: "conversation"}, attributes=["plan"], segments="segments")
    provider = InMemoryProvider({FLAG: InMemoryFlag("control", ROUTES, context_evaluator=resolve)})
    api.set_provider_and_wait(EvidenceProvider(provider, service.evidence, assignments))
    client = api.get_client()
    for number in range(CONVERSATIONS):
        unit_id = f"conv_{number}"
        context = EvaluationContext(unit_id, {"plan": "pro", "segments": ["paid_support_chat"]})
        route: Any = client.get_object_value(FLAG, {}, context)
        try:
            service.answer(number, assignments.of(FLAG, unit_id), route)
        except Unanswered:
            continue
        details = TrackingEventDetails(attributes={"resolvedWithoutEscalation": True, "latencyMs": 1840, "note": "!"})
        client.track("support_conversation_outcome", context, details)
    route = client.get_object_value(FLAG, {})  # without a targeting key
    service.answer(1, assignments.of(FLAG, ""), route)


def with_growthbook(service: Service) -> None:
    views = Views(Assignments({FLAG: "conversation"}, attributes=["plan"], segments="segments"))
    kept: dict[str, str] = {}
    for number in range(CONVERSATIONS):
        unit_id = f"conv_{number}"
        weights = [0.0, 1.0] if variation(unit_id) == "candidate" else [1.0, 0.0]
        rule = {"variations": [*ROUTES.values()], "weights": weights, "hashAttribute": "conversation"}
        rule["meta"] = [{"key": name} for name in ROUTES]
        growthbook = GrowthBook(
            attributes={"conversation": unit_id, "plan": "pro", "segments": ["paid_support_chat"]},
            features={FLAG: {"defaultValue": ROUTES["control"], "rules": [rule]}},
            on_experiment_viewed=views.viewed,
            on_feature_usage=views.used,
        )
        route: Any = growthbook.get_feature_value(FLAG, {})
        growthbook.destroy()
        assignment = views.assignments.of(FLAG, unit_id)
        try:
            service.answer(number, assignment, route)
        except Unanswered:
            continue
        assert assignment is not None
        kept[unit_id] = assignment.to_json()
    for text in kept.values():  # hours later, elsewhere
        metrics = {"resolvedWithoutEscalation": True, "latencyMs": 1840}
        service.evidence.outcome(Assignment.from_json(text), "support_conversation_outcome", metrics)
    service.answer(1, views.assignments.of(FLAG, ""), ROUTES["control"])


@pytest.mark.parametrize("serve", [with_openfeature, with_growthbook], ids=["OpenFeature", "GrowthBook"])
def test_a_service_publishes_what_ran_and_what_came_of_it(topics: Topics, serve: Callable[[Service], None]) -> None:
    evidence = Evidence(topics.publisher())
    serve(Service(evidence))
    assert evidence.close(20) == 0
    answered = [f"conv_{number}" for number in range(CONVERSATIONS) if number % 30]
    counts = evidence.counts()
    assert (counts.recorded, counts.acknowledged) == (3 * len(answered), 3 * len(answered))
    assert counts.skipped == {"failed_before_output": 2, "no_assignment": 2}  # its exposure, its guardrail

    rows = decoded(topics, 3 * len(answered))
    exposures = {row["unit_id"]: row for row in rows["exposure"]}
    assert (
        set(exposures) == {row["unit_id"] for row in rows["outcome"]} == {row["unit_id"] for row in rows["guardrail"]}
    )
    assert set(exposures) == set(answered)
    for row in [*rows["exposure"], *rows["outcome"], *rows["guardrail"]]:
        assert (row["flag_key"], row["variation"]) == (FLAG, variation(row["unit_id"]))
    for unit_id, row in exposures.items():
        fell_back = unit_id.endswith("0")
        expected = named(FALLBACK if fell_back else ROUTES[variation(unit_id)])
        assert {name: row[name] for name in expected} == expected
        assert row["fallback_used"] == fell_back
        assert row["assignment_unit"] == "conversation"


def decoded(topics: Topics, count: int) -> dict[Kind, list[dict[str, Any]]]:
    """Return the rows that the pipeline makes of what lies in the topics; nothing of it is refused."""
    decoder = Decoder(BOOK, max_value_bytes=1 << 20, max_future_us=600_000_000)
    values: dict[Kind, list[bytes]] = {"exposure": [], "outcome": [], "guardrail": []}
    for _, _, body in topics.read(count):
        kind: Kind = "exposure" if "modelRoute" in body else "guardrail" if "guardrail" in body else "outcome"
        values[kind].append(json.dumps(body).encode())
    rows: dict[Kind, list[dict[str, Any]]] = {}
    for kind, of_kind in values.items():
        made = decoder.decode(kind, kind, [PlainRecord(value, n) for n, value in enumerate(of_kind)], 1 << 60)
        assert made.refused == ()
        rows[kind] = made.events.to_pylist()
    return rows
