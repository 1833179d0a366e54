"""Traces of checkpoints: sent where an endpoint is set, and otherwise nothing."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from contracts.errors import StorageUnavailable
from pipeline.tracing import ENDPOINTS, tracing


class Collector(HTTPServer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:  # the name is http.server's
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            self.server.bodies.append(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


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

    told = [ExportTraceServiceRequest.FromString(body) for body in collector.bodies]
    resources = [resource for request in told for resource in request.resource_spans]
    about = {each.key: each.value.string_value for resource in resources for each in resource.resource.attributes}
    assert (about["service.name"], about["service.version"]) == ("evidence", "1.2.3")
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
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
