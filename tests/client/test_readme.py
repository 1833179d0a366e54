"""What the client's README says is so: its code runs, and its tables are complete."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from growthbook import GrowthBook
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
from openfeature.track import TrackingEventDetails

from evidence_client import Assignment, DropReason, Evidence, KafkaPublisher, MemoryPublisher, SkipReason
from evidence_client.events import MAX_VALUE_BYTES
from evidence_client.kafka import DEFAULTS


@pytest.fixture
def readme(checkout: Path) -> str:
    return (checkout / "client" / "README.md").read_text()


def test_its_code_runs(readme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom, with a broker that nobody has; and the double sees what is promised."""
    monkeypatch.setattr("evidence_client.KafkaPublisher", lambda _: MemoryPublisher())
    asked: list[Any] = []

    def call_model(*arguments: object) -> str:
        asked.append(arguments)
        if len(asked) == 1:
            raise TimeoutError
        return "It left our warehouse on Friday."

    names: dict[str, Any] = {
        "Iterator": Iterator,
        "call_model": call_model,
        "stream_model": lambda _: ["It left", " our warehouse"],
        "api": api,
        "EvaluationContext": EvaluationContext,
        "TrackingEventDetails": TrackingEventDetails,
        "provider": InMemoryProvider({"support_answer_model_route": InMemoryFlag("candidate", {"candidate": {}})}),
        "GrowthBook": GrowthBook,
        "features": {},
    }
    for block in re.findall(r"^( *)```python\n(.*?)^ *```$", readme, re.MULTILINE | re.DOTALL):
        exec(textwrap.dedent(block[1]), names)  # noqa: S102  # our own page
        if "def ticket_closed" in block[1]:
            published: MemoryPublisher = names["evidence"]._publisher  # noqa: SLF001  # the page does not keep it
            assignment = Assignment("support_answer_model_route", "conv_1", "candidate", "conversation")
            names["answer"]("Where is my order?", {"modelRoute": "support_model_b"}, assignment)
            names["ticket_closed"](assignment.to_json(), resolved=True, wrong=False)
            [exposure] = published.exposures
            assert (exposure["fallbackUsed"], exposure["modelRoute"]) == (True, "support_model_a")
            assert len(published.outcomes) == 2
            assert published.guardrails[0]["confirmed"] is True
        if "def stream" in block[1]:
            reading = names["stream"](
                "Where?", Assignment("support_answer_model_route", "conv_2", "control", "conversation")
            )
            assert next(reading) == "It left"
            reading.close()
            assert [each["unitId"] for each in published.exposures] == ["conv_1", "conv_2"]
    api.shutdown()
    names["growthbook"].destroy()
    [tracked] = [outcome for outcome in published.outcomes if outcome["event"] == "ticket_closed"]
    assert tracked["resolved"] is True
    assert set(names["evidence"].counts().skipped) == set()


def test_every_reason_is_told(readme: str) -> None:
    rows = re.findall(r"^ +\| `(\w+)` \|", readme, re.MULTILINE)
    assert rows == list(get_args(DropReason))
    assert [reason for reason in get_args(SkipReason) if f"`{reason}`" not in readme] == []


def test_its_numbers_are_those_of_the_code(readme: str) -> None:
    publisher, evidence = inspect.signature(KafkaPublisher), inspect.signature(Evidence)
    assert f"over {MAX_VALUE_BYTES:,} bytes" in readme
    assert f"`exit_timeout` ({publisher.parameters['exit_timeout'].default:.0f} s)" in readme
    assert f"`repeat_s` ({evidence.parameters['repeat_s'].default:.0f} s)" in readme
    assert f"`message.timeout.ms` ({DEFAULTS['message.timeout.ms'] // 60_000} min)" in readme


def test_its_table_of_runs_is_that_of_the_code(readme: str, checkout: Path) -> None:
    """The docstring of the module says the same, in fewer words."""
    told = re.findall(r"^\| (?:nothing|`\w+`.*?) \| (.+) \| (.+) \|$", readme, re.MULTILINE)[:4]
    module = (checkout / "client" / "evidence_client" / "run.py").read_text()
    coded = re.findall(r"^\| (?:nothing|`\w+`.*?) \| (.+) \| (.+) \|$", module, re.MULTILINE)
    assert [[cell.replace("nothing", "none") for cell in row] for row in told] == [list(row) for row in coded]
