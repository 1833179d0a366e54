"""A run: what ran is evidence, what was only decided is not, whichever way the block ends."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import pytest

from evidence_client import Assignment, Evidence, MemoryPublisher, Route, Run
from tests.client.assignments import RAN, assigned

FALLBACK = {"model_route": "support_model_a", "prompt_version": "support_v3", "retrieval_profile": "safe_fallback"}


class Boom(Exception):
    """What goes wrong in a service."""


@pytest.fixture
def published() -> MemoryPublisher:
    return MemoryPublisher()


@pytest.fixture
def evidence(published: MemoryPublisher) -> Evidence:
    return Evidence(published)


def execute(run: Run) -> None:
    run.executed(**RAN)


def fall_back(run: Run) -> None:
    run.fell_back(**FALLBACK)


def begin_output(run: Run) -> None:
    run.output_began()


def fail(run: Run) -> None:
    raise Boom


Step = Callable[[Run], None]

PATHS = [
    pytest.param([], None, "not_executed", id="nothing said"),
    pytest.param([fail], None, "failed_before_output", id="failed"),
    pytest.param([begin_output], None, "not_executed", id="output of what"),
    pytest.param([begin_output, fail], None, "failed_before_output", id="output of what, failed"),
    pytest.param([execute], (RAN, False), None, id="executed"),
    pytest.param([execute, fail], None, "failed_before_output", id="executed, failed before output"),
    pytest.param([execute, begin_output, fail], (RAN, False), None, id="executed, failed after output began"),
    pytest.param([begin_output, execute, fail], (RAN, False), None, id="output began, executed, failed"),
    pytest.param([fall_back], (FALLBACK, True), None, id="fell back"),
    pytest.param([fall_back, fail], (FALLBACK, True), None, id="fell back, failed"),
    pytest.param([execute, fall_back], (FALLBACK, True), None, id="executed, failed midway, fell back"),
    pytest.param([execute, begin_output, fall_back], (FALLBACK, True), None, id="output began, fell back"),
    pytest.param([fall_back, execute], (RAN, True), None, id="fell back, executed: a fallback sticks"),
    pytest.param([execute, execute], (RAN, False), None, id="executed, said twice"),
]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("steps", "exposed", "skipped"), PATHS)
def test_every_way_through_a_run(  # noqa: PLR0917  # what the table has
    evidence: Evidence,
    published: MemoryPublisher,
    steps: list[Step],
    exposed: tuple[dict[str, str], bool] | None,
    skipped: str | None,
    asynchronous: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    run = evidence.run(assigned())
    with suppress(Boom):
        if asynchronous:
            asyncio.run(take_async(run, steps))
        else:
            take(run, steps)
    assert [what_ran(exposure) for exposure in published.exposures] == ([exposed] if exposed else [])
    assert evidence.counts().skipped == ({skipped: 1} if skipped else {})


def take(run: Run, steps: list[Step]) -> None:
    with run as entered:
        for step in steps:
            step(entered)


async def take_async(run: Run, steps: list[Step]) -> None:
    async with run as entered:
        for step in steps:
            await asyncio.sleep(0)
            step(entered)


def what_ran(exposure: dict[str, Any]) -> tuple[dict[str, str], bool]:
    route = {
        "model_route": exposure["modelRoute"],
        "prompt_version": exposure["promptVersion"],
        "retrieval_profile": exposure["retrievalProfile"],
    }
    return route, exposure["fallbackUsed"]


def test_exceptions_pass_through(evidence: Evidence) -> None:
    with pytest.raises(Boom), evidence.run(assigned()):
        raise Boom


def test_an_exposure_says_who_was_assigned_what_and_when(published: MemoryPublisher) -> None:
    began = datetime(2026, 6, 7, 10, 15, 30, 250_000, tzinfo=UTC)
    now = [began.timestamp()]
    evidence = Evidence(published, clock=lambda: now[0], new_id=lambda: "5a1c")
    assignment = assigned(attributes={"plan": "enterprise"}, segments=["paid_support_chat"], reason="SPLIT")
    with evidence.run(assignment) as run:
        now[0] += 5
        run.executed(**RAN)
    assert published.exposures == [
        {
            "event": "ai_model_route_exposure",
            "eventId": "5a1c",
            "flagKey": "support_answer_model_route",
            "assignmentUnit": "conversation",
            "unitId": "conv_98271",
            "variation": "candidate",
            "modelRoute": "support_model_b",
            "promptVersion": "support_v3",
            "retrievalProfile": "baseline",
            "fallbackUsed": False,
            "attributes": {"plan": "enterprise"},
            "segments": ["paid_support_chat"],
            "reason": "SPLIT",
            "timestamp": "2026-06-07T10:15:30.250000Z",
        }
    ]
    assert published.messages[0].key == b"conv_98271"


def test_nothing_that_comes_of_a_run_lies_before_its_exposure(evidence: Evidence, published: MemoryPublisher) -> None:
    """Or the outcome would belong to no window."""
    with evidence.run(assigned()) as run:
        run.outcome("answered", {"latencyMs": 1840})
        run.executed(**RAN)
    assert published.exposures[0]["timestamp"] <= published.outcomes[0]["timestamp"]


@pytest.mark.parametrize(
    ("value", "promised"),
    [
        pytest.param("support_model_a", Route("support_model_a"), id="text"),
        pytest.param({"modelRoute": "m", "promptVersion": "p", "temperature": 0.2}, Route("m", "p"), id="mapping"),
        pytest.param({"modelRoute": 3}, Route(), id="no text"),
        pytest.param(True, Route(), id="boolean"),
        pytest.param(None, Route(), id="nothing"),
    ],
)
def test_a_flags_value_promises_a_route(value: object, promised: Route) -> None:
    assert Route.promised_by(value) == promised


def test_what_a_variation_promises_is_no_evidence(evidence: Evidence, published: MemoryPublisher) -> None:
    with evidence.run(assigned(promised=Route.promised_by({"modelRoute": "support_model_b"}))) as run:
        assert run.promised == Route(model_route="support_model_b")
    assert published.messages == []


def test_a_route_without_prompt_or_retrieval_says_none(evidence: Evidence, published: MemoryPublisher) -> None:
    with evidence.run(assigned()) as run:
        run.executed(model_route="support_model_b")
    assert (published.exposures[0]["promptVersion"], published.exposures[0]["retrievalProfile"]) == ("none", "none")


def test_a_run_without_an_assignment_runs_and_leaves_nothing(evidence: Evidence, published: MemoryPublisher) -> None:
    with evidence.run(None) as run:
        run.executed(**RAN)
        assert run.promised == Route()
    run.outcome("answered", {})
    run.guardrail("unsafe_answer", 1, severity="severe")
    assert published.messages == []
    assert evidence.counts().skipped == {"no_assignment": 3}


def test_statements_outside_of_the_block_are_no_evidence(evidence: Evidence, published: MemoryPublisher) -> None:
    run = evidence.run(assigned())
    run.executed(**RAN)
    with run:
        pass
    run.fell_back(**FALLBACK)
    run.output_began()
    assert published.exposures == []
    assert evidence.counts().skipped == {"outside_run": 3, "not_executed": 1}


def test_a_run_begins_anew_when_it_is_entered_again(published: MemoryPublisher) -> None:
    evidence = Evidence(published, repeat_s=0)
    run = evidence.run(assigned())
    take(run, [fall_back])
    take(run, [execute])
    take(run, [])
    assert [what_ran(exposure) for exposure in published.exposures] == [(FALLBACK, True), (RAN, False)]
    assert evidence.counts().skipped == {"not_executed": 1}


def test_a_run_that_is_entered_while_open_records_nothing(evidence: Evidence, published: MemoryPublisher) -> None:
    run = evidence.run(assigned())
    with run, run:
        run.executed(**RAN)
    assert published.exposures == []
    assert evidence.counts().skipped == {"overlapping": 1}
    take(run, [execute])
    assert len(published.exposures) == 1


def test_runs_in_one_another_keep_apart(evidence: Evidence, published: MemoryPublisher) -> None:
    with evidence.run(assigned("outer")) as outer:
        with evidence.run(assigned("inner")) as inner:
            inner.fell_back(**FALLBACK)
        outer.executed(**RAN)
    assert [(each["unitId"], each["fallbackUsed"]) for each in published.exposures] == [
        ("inner", True),
        ("outer", False),
    ]


def test_threads_keep_apart(evidence: Evidence, published: MemoryPublisher) -> None:
    ready = threading.Barrier(8)

    def serve(number: int) -> None:
        ready.wait()
        for call in range(50):
            with evidence.run(assigned(f"conv_{number}_{call}")) as run:
                run.executed(model_route=f"route_{number}")

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {(f"conv_{number}_{call}", f"route_{number}") for number in range(8) for call in range(50)}
    assert {(each["unitId"], each["modelRoute"]) for each in published.exposures} == expected
    assert evidence.counts().acknowledged == 400


@pytest.mark.parametrize(("begun", "exposures"), [(False, 0), (True, 1)], ids=["before output", "after output began"])
def test_a_cancelled_task(
    evidence: Evidence,
    published: MemoryPublisher,
    begun: bool,  # noqa: FBT001  # a parameter of the test
    exposures: int,
) -> None:
    async def serve(executed: asyncio.Event) -> None:
        async with evidence.run(assigned()) as run:
            run.executed(**RAN)
            if begun:
                run.output_began()
            executed.set()
            await asyncio.Event().wait()

    async def cancel() -> None:
        executed = asyncio.Event()
        task = asyncio.create_task(serve(executed))
        await executed.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert len(published.exposures) == exposures


def stream(evidence: Evidence) -> Iterator[str]:
    with evidence.run(assigned()) as run:
        run.executed(**RAN)
        for chunk in ("Your", " order", " is on its way"):
            run.output_began()
            yield chunk


def test_a_stream_that_is_read_to_its_end(evidence: Evidence, published: MemoryPublisher) -> None:
    assert "".join(stream(evidence)) == "Your order is on its way"
    assert len(published.exposures) == 1


def test_a_stream_whose_reader_leaves(evidence: Evidence, published: MemoryPublisher) -> None:
    chunks = stream(evidence)
    next(chunks)
    assert published.exposures == []  # it is not known yet what answers in the end
    chunks.close()  # type: ignore[attr-defined]  # a generator
    assert len(published.exposures) == 1


def test_an_asynchronous_stream_whose_reader_leaves(evidence: Evidence, published: MemoryPublisher) -> None:
    async def chunks() -> AsyncIterator[str]:
        async with evidence.run(assigned()) as run:
            run.executed(**RAN)
            run.output_began()
            yield "Your"
            yield " order"

    async def leave() -> None:
        reading = chunks()
        await anext(reading)
        await reading.aclose()  # type: ignore[attr-defined]  # a generator

    asyncio.run(leave())
    assert len(published.exposures) == 1


def test_an_outcome_may_come_long_after_from_elsewhere(published: MemoryPublisher) -> None:
    kept = assigned(attributes={"plan": "pro"}, promised=Route(model_route="support_model_b")).to_json()
    later = Evidence(published)
    assignment = Assignment.from_json(kept)
    later.outcome(assignment, "ticket_closed", {"resolved": True}, event_id="ticket-7")
    later.guardrail(assignment, "unsafe_answer", 0.7, severity="warning", confirmed=False)
    [outcome], [guardrail] = published.outcomes, published.guardrails
    assert (outcome["unitId"], outcome["variation"], outcome["resolved"]) == ("conv_98271", "candidate", True)
    assert outcome["eventId"] == "ticket-7"
    assert (guardrail["guardrail"], guardrail["value"], guardrail["confirmed"]) == ("unsafe_answer", 0.7, False)
    assert outcome["attributes"] == guardrail["attributes"] == {"plan": "pro"}


def test_an_assignment_survives_being_kept() -> None:
    whole = assigned(
        experiment_key="e", attributes={"a": "b"}, segments=("s",), reason="r", promised=Route("m", "p", "r")
    )
    kept = Assignment.from_json(whole.to_json())
    assert kept is not None
    assert kept == assigned(
        experiment_key="e", attributes={"a": "b"}, segments=["s"], reason="r", promised=Route("m", "p", "r")
    )


def test_an_assignment_of_a_read_only_mapping_can_be_kept() -> None:
    kept = Assignment.from_json(assigned(attributes=MappingProxyType({"plan": "pro"})).to_json())
    assert kept == assigned(attributes={"plan": "pro"}, segments=[])


NO_ASSIGNMENT = (None, "", "{", "[]", "3", "null", b"\xff", '{"unit_id": 1}', '{"promised": 3}', "[" * 100_000)


@pytest.mark.parametrize("text", NO_ASSIGNMENT, ids=range(len(NO_ASSIGNMENT)))
def test_what_is_no_assignment_is_none(text: str | bytes | None) -> None:
    assert Assignment.from_json(text) is None


def test_an_outcome_has_the_time_it_is_given(evidence: Evidence, published: MemoryPublisher) -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    evidence.outcome(assigned(), "closed", {}, at=datetime(2026, 6, 7, 15, 45, 30, tzinfo=east))
    assert published.outcomes[0]["timestamp"] == "2026-06-07T10:15:30.000000Z"
