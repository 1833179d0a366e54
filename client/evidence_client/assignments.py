"""What flags have decided lately, by unit: where flag SDKs leave assignments, for runs and tracked events to find."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from evidence_client.assignment import Assignment, Route
from evidence_client.recent import Recent

__all__ = ["Assignments"]

DAY_S: Final = 86_400.0


class Assignments:
    """Remembers the last assignment of each unit by each flag, for a while and in this process only.

    An evaluation that decided nothing (an error, a default) hides the earlier one from runs: what runs then was not
    assigned. Events that are tracked later still belong to it.
    """

    def __init__(
        self,
        flags: Mapping[str, str],
        *,
        attributes: Sequence[str] = (),
        segments: str | None = None,
        most: int = 100_000,
        ttl_s: float = DAY_S,
    ) -> None:
        """Remember the assignments of these flags: by flag key, what a unit is (conversation, user, account, ...).

        Name the flags that have a flag file; the rest of a service's flags are no evidence. A GrowthBook experiment
        without a feature goes by its own key. `attributes` names the texts of the evaluation context that events carry,
        `segments` its list of the unit's segments; nothing else of it leaves the service. Segments that are no list of
        texts make events `invalid`, lest an excluded unit pass for another. Assignments beyond `most`, or older than
        `ttl_s` seconds, are forgotten.
        """
        self.flags = dict(flags)
        self._attributes, self._segments = tuple(attributes), segments
        self._last: Recent[tuple[str, str], tuple[Assignment, bool]] = Recent(most, ttl_s)  # and whether it still holds

    def of(self, flag: str, unit_id: str) -> Assignment | None:
        """Return the assignment of the unit by the flag's last evaluation; None if that decided nothing."""
        assignment, holds = self._last.get((flag, unit_id)) or (None, False)
        return assignment if holds else None

    def all_of(self, unit_id: str) -> list[Assignment]:
        """Return the last assignment of the unit by each flag, whatever was decided since."""
        found = [self._last.get((flag, unit_id)) for flag in self.flags]
        return [last[0] for last in found if last is not None]

    def remember(  # noqa: PLR0913  # what an evaluation tells
        self,
        flag: str,
        unit_id: str,
        variation: str,
        value: object,
        context: Mapping[str, object],
        *,
        reason: str | None = None,
        is_experiment: bool = False,
    ) -> Assignment:
        """Remember, and return, the assignment that an evaluation made; the flag is one of `flags`."""
        segments: Any = context.get(self._segments, ()) if self._segments else ()
        assignment = Assignment(
            flag_key=None if is_experiment else flag,
            experiment_key=flag if is_experiment else None,
            unit_id=unit_id,
            variation=variation,
            assignment_unit=self.flags[flag],
            attributes={name: text for name in self._attributes if isinstance(text := context.get(name), str)},
            segments=tuple(segments) if isinstance(segments, list) else segments,
            reason=reason,
            promised=Route.promised_by(value),
        )
        self._last.put((flag, unit_id), (assignment, True))
        return assignment

    def decided_nothing(self, flag: str, unit_id: str) -> None:
        """Hide the unit's assignment by the flag from runs: its last evaluation decided nothing."""
        last = self._last.get((flag, unit_id))
        if last is not None:
            self._last.put((flag, unit_id), (last[0], False))
