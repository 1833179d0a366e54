"""A run: the block around one model call, which tells at its end what really ran.

What becomes of the exposure, by how the block ends and what was said in it:

| said | ends well | ends in an exception |
|---|---|---|
| nothing | none, `not_executed` | none, `failed_before_output` |
| `executed` | what executed | none, `failed_before_output` |
| `executed`, `output_began` | what executed | what executed |
| `fell_back`, before or after `executed` | the fallback | the fallback |

An exception is whatever leaves the block, also a cancelled task, a generator that is closed early, or an exit. A run
gives one exposure at most. Once something fell back, the exposure says so, whatever is said later; its route is the
last one that was said, which is what answered. Its time is when the block was entered, so that nothing that came of the
run lies before it.
"""

import threading
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, final

from evidence_client.assignment import Assignment, Route
from evidence_client.guard import guarded

if TYPE_CHECKING:
    from evidence_client.evidence import Evidence

__all__ = ["Run"]


@final
class Run:
    """One model call for one assignment; made by `Evidence.run`. No method raises or waits, whatever it is given.

    It may be told from any thread or task. It may be entered again when it is over; a run that is entered while it is
    open records nothing (`overlapping`).
    """

    def __init__(self, evidence: "Evidence", assignment: Assignment | None) -> None:
        """Bind the assignment; None is a run without evidence."""
        self.assignment = assignment
        self._evidence = evidence
        self._lock = threading.RLock()
        self._entered = 0  # blocks that are open now
        self._overlapping = False
        self._began_at = 0.0
        self._route: Route | None = None
        self._fallback_used = self._output_began = False

    @property
    def promised(self) -> Route:
        """The route that the variation promises, for the service to run; empty without an assignment."""
        return self.assignment.promised if isinstance(self.assignment, Assignment) else Route()

    @guarded
    def executed(
        self, *, model_route: str, prompt_version: str | None = None, retrieval_profile: str | None = None
    ) -> None:
        """Say that the assigned route ran, and what it was: never what it should have been.

        Without a prompt version or retrieval profile the exposure says "none": that none was used.
        """
        if self._is_open():
            self._route = Route(model_route, prompt_version, retrieval_profile)

    @guarded
    def fell_back(
        self, *, model_route: str, prompt_version: str | None = None, retrieval_profile: str | None = None
    ) -> None:
        """Say that a fallback answers instead of the assigned route, and what it is."""
        if self._is_open():
            self._route = Route(model_route, prompt_version, retrieval_profile)
            self._fallback_used = True

    @guarded
    def output_began(self) -> None:
        """Say that the unit has seen some of the output, as when a stream begins: an exception undoes it no more."""
        if self._is_open():
            self._output_began = True

    @guarded
    def outcome(
        self,
        event: str,
        metrics: Mapping[str, bool | float],
        *,
        at: datetime | None = None,
        event_id: str | None = None,
    ) -> None:
        """Record what came of it, now or later; see `Evidence.outcome`."""
        self._evidence.outcome(self.assignment, event, metrics, at=at, event_id=event_id)

    @guarded
    def guardrail(  # noqa: PLR0913  # the fields of a guardrail
        self,
        name: str,
        value: bool | float,  # noqa: FBT001  # a measurement
        *,
        severity: str,
        confirmed: bool | None = None,
        event: str = "ai_guardrail",
        at: datetime | None = None,
        event_id: str | None = None,
    ) -> None:
        """Record that something was measured which must not happen; see `Evidence.guardrail`."""
        self._evidence.guardrail(
            self.assignment,
            name,
            value,
            severity=severity,
            confirmed=confirmed,
            event=event,
            at=at,
            event_id=event_id,
        )

    def __enter__(self) -> "Run":
        """Begin."""
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record the exposure, if there is one to record; let an exception pass."""
        self._exit(kind)

    async def __aenter__(self) -> "Run":
        """Begin."""
        self._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record the exposure, if there is one to record; let an exception pass."""
        self._exit(kind)

    @guarded
    def _enter(self) -> None:
        with self._lock:
            self._entered += 1
            if self._entered > 1:
                self._overlapping = True
                return
            self._route = None
            self._fallback_used = self._output_began = False
            self._began_at = self._evidence.now()

    @guarded
    def _exit(self, error: type[BaseException] | None) -> None:
        with self._lock:
            self._entered -= 1
            if self._entered > 0:
                return
            overlapping, self._overlapping = self._overlapping, False
        if overlapping:
            self._evidence.skip("overlapping", "a run was entered while it was open; make one for each call")
        elif error is not None and not (self._fallback_used or (self._route and self._output_began)):
            self._evidence.skip("failed_before_output", f"the run ended in {error.__name__}")
        elif self._route is None:
            self._evidence.skip("not_executed", "call run.executed() or run.fell_back() when the model has answered")
        else:
            self._evidence.expose(self.assignment, self._route, self._began_at, fallback_used=self._fallback_used)

    def _is_open(self) -> bool:
        if self._entered:
            return True
        self._evidence.skip("outside_run", "a run tells what executed inside of its with block")
        return False

    def _failed(self, error: Exception) -> None:
        self._evidence.fail(error)
