"""With the real GrowthBook SDK: what an experiment decided."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest
from growthbook import Experiment, GrowthBook, GrowthBookClient, Options, UserContext

from evidence_client import Assignments, Evidence, MemoryPublisher, Route
from evidence_client.growthbook import Views

FLAG: Final = "support_answer_model_route"
EXPERIMENT: Final = "support_answer_model_route_2026_06"
ROUTES: Final = [
    {"modelRoute": "support_model_a", "promptVersion": "support_v3", "retrievalProfile": "baseline"},
    {"modelRoute": "support_model_b", "promptVersion": "support_v3", "retrievalProfile": "baseline"},
]
META: Final = [{"key": "control"}, {"key": "candidate"}]


def features(*rules: dict[str, Any]) -> dict[str, Any]:
    return {FLAG: {"defaultValue": ROUTES[0], "rules": list(rules)}, "dark_mode": {"defaultValue": True}}


def split(**more: Any) -> dict[str, Any]:  # noqa: ANN401  # any part of a rule
    """Give a rule that assigns every conversation to the candidate."""
    rule = {"key": EXPERIMENT, "variations": ROUTES, "weights": [0.0, 1.0], "hashAttribute": "conversation_id"}
    return rule | {"meta": META} | more


@pytest.fixture
def views() -> Views:
    return Views(Assignments({FLAG: "conversation", "inline": "conversation"}, attributes=["plan"]))


@pytest.fixture
def opened() -> Iterator[list[GrowthBook]]:
    clients: list[GrowthBook] = []
    yield clients
    for client in clients:
        client.destroy()


def client_for(views: Views, opened: list[GrowthBook], *rules: dict[str, Any], **more: Any) -> GrowthBook:  # noqa: ANN401  # any option
    client = GrowthBook(
        attributes={"conversation_id": "conv_1", "plan": "pro", "email": "a@example.org"},
        features=features(*rules),
        on_experiment_viewed=views.viewed,
        on_feature_usage=views.used,
        **more,
    )
    opened.append(client)
    return client


def test_a_view_becomes_an_assignment_and_no_evidence(views: Views, opened: list[GrowthBook]) -> None:
    client = client_for(views, opened, split())
    assert client.get_feature_value(FLAG, None) == ROUTES[1]
    found = views.assignments.of(FLAG, "conv_1")
    assert found is not None
    assert (found.flag_key, found.experiment_key, found.unit_id) == (FLAG, None, "conv_1")
    assert (found.variation, found.assignment_unit, found.attributes) == ("candidate", "conversation", {"plan": "pro"})
    assert found.promised == Route("support_model_b", "support_v3", "baseline")


def test_each_callback_suffices_by_itself(views: Views) -> None:
    for callback in ({"on_experiment_viewed": views.viewed}, {"on_feature_usage": views.used}):
        client = GrowthBook(attributes={"conversation_id": str(callback)}, features=features(split()), **callback)
        client.get_feature_value(FLAG, None)
        client.destroy()
        assert views.assignments.of(FLAG, str(callback)) is not None


def test_variations_without_a_key_get_their_name(opened: list[GrowthBook]) -> None:
    views = Views(Assignments({FLAG: "conversation"}), variations={"0": "control", "1": "candidate"})
    client_for(views, opened, split(meta=None)).get_feature_value(FLAG, None)
    found = views.assignments.of(FLAG, "conv_1")
    assert found is not None
    assert found.variation == "candidate"


def test_an_experiment_without_a_feature_goes_by_its_own_key(views: Views, opened: list[GrowthBook]) -> None:
    client_for(views, opened).run(
        Experiment(key="inline", variations=["a", "b"], weights=[1.0, 0.0], hashAttribute="conversation_id")
    )
    found = views.assignments.of("inline", "conv_1")
    assert found is not None
    assert (found.flag_key, found.experiment_key, found.variation) == (None, "inline", "0")
    assert found.promised == Route("a")


@pytest.mark.parametrize(
    ("rules", "more"),
    [
        pytest.param([], {}, id="default"),
        pytest.param([{"force": ROUTES[1]}], {}, id="forced value"),
        pytest.param([split(condition={"plan": "free"})], {}, id="not targeted"),
        pytest.param([split(coverage=0.0)], {}, id="not covered"),
        pytest.param([split()], {"forced_variations": {EXPERIMENT: 1}}, id="forced variation"),
        pytest.param([split()], {"qa_mode": True}, id="QA"),
        pytest.param([split()], {"enabled": False}, id="off"),
        pytest.param([split(hashAttribute="absent")], {}, id="no unit"),
        pytest.param([split(meta=[META[0], META[1] | {"passthrough": True}])], {}, id="holdout"),
    ],
)
def test_what_no_experiment_decided_is_no_assignment(
    views: Views, opened: list[GrowthBook], rules: list[dict[str, Any]], more: dict[str, Any]
) -> None:
    """Whatever was assigned earlier: what runs now was not."""
    client_for(views, opened, split()).get_feature_value(FLAG, None)
    assert views.assignments.of(FLAG, "conv_1") is not None
    client_for(views, opened, *rules, **more).get_feature_value(FLAG, None)
    assert views.assignments.of(FLAG, "conv_1") is None
    assert [each.variation for each in views.assignments.all_of("conv_1")] == ["candidate"]


def test_other_features_are_none_of_its_business(views: Views, opened: list[GrowthBook]) -> None:
    assert client_for(views, opened, split()).is_on("dark_mode")
    assert views.assignments.all_of("conv_1") == []


def test_the_asynchronous_client(views: Views) -> None:
    """It calls `on_experiment_viewed` once; that it evaluated again is seen by `on_feature_usage`."""

    async def serve() -> None:
        client = GrowthBookClient(Options(on_experiment_viewed=views.viewed, on_feature_usage=views.used))
        await client.initialize()
        await client.set_features(features(split()))
        user = UserContext(attributes={"conversation_id": "conv_1", "plan": "pro"})
        for rules, assigned in ((split(),), True), ((), False), ((split(),), True):
            await client.set_features(features(*rules))
            await client.get_feature_value(FLAG, None, user)
            assert (views.assignments.of(FLAG, "conv_1") is not None) == assigned
        await client.close()

    asyncio.run(serve())


def test_a_run_with_it(views: Views, opened: list[GrowthBook]) -> None:
    published = MemoryPublisher()
    evidence = Evidence(published)
    route = client_for(views, opened, split()).get_feature_value(FLAG, ROUTES[0])
    with evidence.run(views.assignments.of(FLAG, "conv_1")) as run:
        run.executed(
            model_route=route["modelRoute"],
            prompt_version=route["promptVersion"],
            retrieval_profile=route["retrievalProfile"],
        )
    assert [(each["variation"], each["modelRoute"]) for each in published.exposures] == [
        ("candidate", "support_model_b")
    ]
