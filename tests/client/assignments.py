"""An assignment that the example flag file knows, and a route."""

from typing import Any, Final

from evidence_client import Assignment

__all__ = ["RAN", "assigned"]

RAN: Final = {"model_route": "support_model_b", "prompt_version": "support_v3", "retrieval_profile": "baseline"}


def assigned(unit_id: str = "conv_98271", **changes: Any) -> Assignment:  # noqa: ANN401  # any field
    """Return an assignment of the unit to the candidate, with some fields changed."""
    fields: dict[str, Any] = {
        "flag_key": "support_answer_model_route",
        "unit_id": unit_id,
        "variation": "candidate",
        "assignment_unit": "conversation",
    }
    return Assignment(**fields | changes)
