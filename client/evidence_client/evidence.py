"""Evidence: what a service calls. Nothing here waits or raises in the request path, whatever it is given."""

import hashlib
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeGuard

from evidence_client import events
from evidence_client.assignment import Assignment, Route
from evidence_client.counts import Counts, SkipReason
from evidence_client.events import Invalid, Kind, TooLarge
from evidence_client.guard import guarded
from evidence_client.publisher import Publisher
from evidence_client.recent import Recent
from evidence_client.run import Run

__all__ = ["Evidence"]

EXPOSURE: Final = "ai_model_route_exposure"
GUARDRAIL: Final = "ai_guardrail"


class Evidence:
    """Records exposures, outcomes and guardrails with a publisher; one for the life of a service, from all its threads.

    What a call cannot record is counted by reason, logged and told to the publisher's callback, never raised. An
    assignment of None (no flag decided anything) is evidence of nothing: it is counted as `no_assignment`.
    """

    def __init__(  # noqa: PLR0913  # few services name more than the first
        self,
        publisher: Publisher,
        *,
        exposure_event: str = EXPOSURE,
        repeat_s: float = 60.0,
        repeat_entries: int = 10_000,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """Bind the publisher.

        Within `repeat_s` seconds an exposure that equals an earlier one in all but time and ID is not published again,
        for the last `repeat_entries` of them, even where that one was queued and then lost; 0 publishes all. Keep it
        far below the metric windows, or the first exposure of a next window is taken for a repetition. `clock` gives
        seconds since the epoch.
        """
        self._publisher = publisher
        self._exposure_event = exposure_event
        self._exposed: Recent[bytes, bool] = Recent(repeat_entries, repeat_s)
        self._new_id = new_id
        self.now = clock

    def run(self, assignment: Assignment | None = None) -> Run:
        """Return a run, to be entered around the model call: `with evidence.run(assignment) as run:`, or `async with`.

        With None the block runs all the same, and nothing is recorded.
        """
        return Run(self, assignment)

    @guarded
    def outcome(
        self,
        assignment: Assignment | None,
        event: str,
        metrics: Mapping[str, bool | float],
        *,
        at: datetime | None = None,
        event_id: str | None = None,
    ) -> None:
        """Record what came of it: metrics by name, as they stand in the flag file.

        At any time after the run, from any process that has the assignment. `at` is when it happened, now without.
        With an `event_id` of its own an outcome that is recorded again counts once.
        """
        if self._assigned(assignment):
            self._publish("outcome", events.outcome(assignment, event, metrics), event_id, at)

    @guarded
    def guardrail(  # noqa: PLR0913  # the fields of a guardrail
        self,
        assignment: Assignment | None,
        name: str,
        value: bool | float,  # noqa: FBT001  # a measurement
        *,
        severity: str,
        confirmed: bool | None = None,
        event: str = GUARDRAIL,
        at: datetime | None = None,
        event_id: str | None = None,
    ) -> None:
        """Record that something was measured which must not happen: severity is info, warning or severe.

        `confirmed` tells whether a person or a second system agrees. The rest is as with outcomes.
        """
        if self._assigned(assignment):
            body = events.guardrail(assignment, event, name, value, severity=severity, confirmed=confirmed)
            self._publish("guardrail", body, event_id, at)

    def counts(self) -> Counts:
        """Return what became of all events so far."""
        return self._publisher.counts()

    def flush(self, timeout: float = 10.0) -> int:
        """Wait until nothing is queued, at most so many seconds; return how many events still are."""
        return self._publisher.flush(timeout)

    def close(self, timeout: float = 10.0) -> int:
        """Flush, drop what is left and return how many events that were. Closing again is harmless."""
        return self._publisher.close(timeout)

    # what a run needs

    def expose(self, assignment: Assignment | None, route: Route, began_at: float, *, fallback_used: bool) -> None:
        """Record the exposure of a run, unless the same was recorded a moment ago. Raises Invalid."""
        if not self._assigned(assignment):
            return
        body = events.exposure(assignment, self._exposure_event, route, fallback_used=fallback_used)
        message = events.encode("exposure", body, self._new_id(), events.time_of(None, began_at))
        key = hashlib.blake2b(repr(body).encode(), digest_size=16).digest()
        if not self._exposed.put_new(key, True):  # noqa: FBT003  # of a set
            self.skip("repeated", "")
        elif not self._publisher.publish(message):
            self._exposed.forget(key)

    def skip(self, reason: SkipReason, why: str) -> None:
        """Count what was not to be an event."""
        self._publisher.skip(reason, why)

    def fail(self, error: Exception) -> None:
        """Count an event that could not be made, by what prevented it."""
        if isinstance(error, TooLarge):
            self._publisher.drop("too_large", str(error))
        elif isinstance(error, (Invalid, TypeError)):  # a TypeError: the call does not fit the method
            self._publisher.drop("invalid", str(error))
        else:
            self._publisher.drop("internal", type(error).__name__)

    _failed = fail

    def _assigned(self, assignment: Assignment | None) -> TypeGuard[Assignment]:
        if assignment is None:
            self.skip("no_assignment", "no flag assigned a variation, or its assignment was not kept")
        return assignment is not None

    def _publish(self, kind: Kind, body: dict[str, Any], event_id: str | None, at: datetime | None) -> None:
        identity = self._new_id() if event_id is None else event_id
        self._publisher.publish(events.encode(kind, body, identity, events.time_of(at, self.now())))
