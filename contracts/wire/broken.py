"""What is told of a record whose envelope is recognised and cannot be opened, or holds no event of its topic."""

from collections.abc import Sequence
from typing import Literal

from contracts.dead_letters import Reason, Stage
from contracts.refusals import Problem, problem

__all__ = ["Broken", "Layer", "bad_framing", "missing", "violation"]

Layer = Literal["schema_registry", "cloudevents", "featbit", "opentelemetry"]


class Broken(Exception):
    """There is no event in an envelope, and why: what a refusal is made of, at least one problem among it."""

    def __init__(self, reason: Reason, stage: Stage, problems: Sequence[Problem]) -> None:
        """Bind what is told."""
        super().__init__(reason, problems)
        self.reason = reason
        self.stage = stage
        self.problems = problems


def bad_framing(layer: Layer, path: Sequence[str | int], remedy: str) -> Broken:
    """Return that the envelope itself is broken, where, and what should be there."""
    return Broken("bad_framing", "decode", [problem(layer, path, remedy)])


def violation(layer: Layer, path: Sequence[str | int], remedy: str) -> Broken:
    """Return that an intact envelope holds something else than an event of its topic."""
    return Broken("schema_violation", "validate", [problem(layer, path, remedy)])


def missing(fields: Sequence[tuple[str, str]]) -> Broken:
    """Return that an event lacks these fields of the contract; beside each, where its producer should put it."""
    told = [problem("missing", (field,), f"Field required; put it into {place}") for field, place in fields]
    return Broken("schema_violation", "validate", told)
