"""Traces of checkpoints in OpenTelemetry, where its environment variables name a collector; otherwise nothing at all.

A trace is one checkpoint, its children are the steps. The packages are an extra (`evidence-pipeline[otel]`) and are not
imported without an endpoint. What else OpenTelemetry's variables say holds, such as OTEL_EXPORTER_OTLP_HEADERS.
"""

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Protocol

__all__ = ["ENDPOINTS", "Tracing", "tracing"]

log = logging.getLogger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing(Protocol):
    """Hears of checkpoints and their steps; each thread has one checkpoint at a time."""

    def checkpoint(self, partition: int, seq: int, events: int, *, close: bool) -> AbstractContextManager[None]:
        """Trace what is done inside of the block as one checkpoint."""

    def step(self, name: str) -> None:
        """Hear that the next step of this thread's checkpoint begins."""

    def close(self) -> None:
        """Send what is not sent yet; gives up after a few seconds."""


class _Silent:
    """No collector: nothing is traced, and nothing is spent on it."""

    def checkpoint(self, partition: int, seq: int, events: int, *, close: bool) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def step(self, name: str) -> None:
        pass

    def close(self) -> None:
        pass


class _Spans:
    """Spans of the steps, one after the other, under that of their checkpoint."""

    def __init__(self, provider: Any) -> None:  # noqa: ANN401 - an optional package
        self._provider = provider
        self._tracer = provider.get_tracer("evidence")
        self._open = threading.local()

    @contextmanager
    def checkpoint(self, partition: int, seq: int, events: int, *, close: bool) -> Iterator[None]:
        about = {
            "evidence.partition": partition,
            "evidence.checkpoint": seq,
            "evidence.events": events,
            "evidence.close": close,
        }
        with self._tracer.start_as_current_span("checkpoint", attributes=about):
            try:
                yield
            finally:
                self._end_step()

    def step(self, name: str) -> None:
        self._end_step()
        self._open.step = self._tracer.start_span(name)

    def close(self) -> None:
        self._provider.shutdown()

    def _end_step(self) -> None:
        step = getattr(self._open, "step", None)
        if step is not None:
            step.end()
            self._open.step = None


def tracing(version: str, environment: Mapping[str, str] = os.environ) -> Tracing:
    """Return what traces to the collector that the environment names, or what does nothing.

    Where the packages are missing it says so in the log: a worker without traces is better than none.
    """
    if not any(environment.get(name) for name in ENDPOINTS) or environment.get("OTEL_SDK_DISABLED") == "true":
        return _Silent()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        log.warning("no traces: an endpoint is set, but not its packages; install evidence-pipeline[otel]")
        return _Silent()
    about = {"service.version": version, **({} if "OTEL_SERVICE_NAME" in environment else {"service.name": "evidence"})}
    provider = TracerProvider(resource=Resource.create(about))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return _Spans(provider)
