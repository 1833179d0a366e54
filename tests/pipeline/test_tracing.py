"""Traces of checkpoints: sent where an endpoint is set, and otherwise nothing."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from contracts.errors import StorageUnavailable
from pipeline.tracing import ENDPOINTS, tracing
from tests.pipeline.collector import Collector, collecting


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as server:
        yield server


def test_a_checkpoint_is_a_trace_and_its_steps_are_spans(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    traces = tracing("1.2.3")
    with traces.checkpoint(5, 41, 1_000, close=True):
        traces.step("stage")
        traces.step("commit")
    with suppress(StorageUnavailable), traces.checkpoint(5, 42, 7, close=False):
        traces.step("stage")
        raise StorageUnavailable("the disk is full")
    traces.close()

    resources = collector.resources()
    about = {each.key: each.value.string_value for resource in resources for each in resource.resource.attributes}
    assert (about["service.name"], about["service.version"]) == ("evidence", "1.2.3")
    spans = collector.spans()
    first, second = (span for span in spans if span.name == "checkpoint")
    assert {each.key: each.value.int_value for each in first.attributes} == {
        "evidence.partition": 5,
        "evidence.checkpoint": 41,
        "evidence.events": 1_000,
        "evidence.close": 0,  # a boolean, which stands elsewhere
    }
    assert [span.name for span in spans if span.parent_span_id == first.span_id] == ["stage", "commit"]
    assert [span.name for span in spans if span.parent_span_id == second.span_id] == ["stage"]
    assert second.status.message == "StorageUnavailable: the disk is full"


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="no endpoint"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, id="disabled"),
    ],
)
def test_without_a_collector_nothing_is_traced(environment: dict[str, str]) -> None:
    traces = tracing("1", environment)
    with traces.checkpoint(0, 1, 2, close=False):
        traces.step("stage")
    traces.close()


def test_without_an_endpoint_no_package_is_imported() -> None:
    script = "import sys, pipeline.tracing as t; t.tracing('1', {}); print('opentelemetry' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"


def test_a_missing_package_is_said_and_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    traces = tracing("1", {ENDPOINTS[0]: "http://x"})
    with traces.checkpoint(0, 1, 2, close=False):
        traces.step("stage")
    assert "install evidence-pipeline[otel]" in caplog.text
