"""What a flag decided for a unit, and what its variations run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Assignment", "Route"]

_WIRE = {"model_route": "modelRoute", "prompt_version": "promptVersion", "retrieval_profile": "retrievalProfile"}


@dataclass(frozen=True)
class Route:
    """A model route: the model, its prompt, its retrieval. None where a variation promises nothing."""

    model_route: str | None = None
    prompt_version: str | None = None
    retrieval_profile: str | None = None

    @classmethod
    def promised_by(cls, value: object) -> "Route":
        """Return what a flag's value promises: a text is a model route, a mapping names its parts as flag files do.

        Whatever else the value holds is left out. Raises nothing.
        """
        if isinstance(value, str):
            return cls(model_route=value)
        if not isinstance(value, Mapping):
            return cls()
        parts = {ours: value.get(wire) for ours, wire in _WIRE.items()}
        return cls(**{ours: part for ours, part in parts.items() if isinstance(part, str)})


@dataclass(frozen=True)
class Assignment:
    """A flag assigned a variation to a unit: all that an event has to say about it.

    It is plain data: making one checks nothing, what is wrong with it is counted when an event is made of it. Kept
    beside a conversation or sent to another service (`to_json`), it lets outcomes be published hours later, elsewhere.
    """

    flag_key: str | None
    unit_id: str
    variation: str
    assignment_unit: str
    """What a unit is: conversation, user, account, ..."""
    experiment_key: str | None = None
    """In place of a flag key, which is then None, or beside it."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    segments: Sequence[str] = ()
    reason: str | None = None
    """Why the flag chose this variation."""
    promised: Route = Route()
    """What the variation is to run. Never evidence of what ran: that is for the run to say."""

    def to_json(self) -> str:
        """Return the assignment as one line of JSON. Raises TypeError where a field holds what JSON has not."""
        return json.dumps({**vars(self), "attributes": {**self.attributes}, "promised": vars(self.promised)})

    @classmethod
    def from_json(cls, text: str | bytes | None) -> "Assignment | None":
        """Return the assignment that `to_json` wrote, or None for anything else. Raises nothing.

        An outcome of None is counted as skipped (`no_assignment`) and logged.
        """
        try:
            fields = json.loads(text or "")
            return cls(**{**fields, "promised": Route(**fields.pop("promised", {}))})
        except (TypeError, ValueError, AttributeError, RecursionError):
            return None
