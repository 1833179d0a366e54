"""Records and events for the tests of decoding."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contracts.events import Kind
from contracts.flags import Contract, ContractBook, load_contract

__all__ = ["BOOK", "CONTRACT", "EXAMPLE", "HOUR", "NOON", "VALID", "PlainRecord", "record", "value_of"]

EXAMPLE: Final = (Path(__file__).parents[2] / "examples" / "support_answer_model_route.yaml").read_text(
    encoding="utf-8"
)
CONTRACT: Final[Contract] = load_contract(EXAMPLE, "support_answer_model_route.yaml")
BOOK: Final = ContractBook([CONTRACT])

HOUR: Final = 3_600_000_000  # µs
NOON: Final = 1_780_833_600_000_000  # 2026-06-07T12:00:00Z

VALID: Final[dict[Kind, dict[str, Any]]] = {
    "exposure": {
        "event": "ai_model_route_exposure",
        "flagKey": "support_answer_model_route",
        "assignmentUnit": "conversation",
        "unitId": "conv_98271",
        "variation": "candidate",
        "modelRoute": "support_model_b",
        "promptVersion": "support_v3",
        "retrievalProfile": "baseline",
        "fallbackUsed": False,
        "timestamp": "2026-06-07T10:15:30Z",
    },
    "outcome": {
        "event": "support_conversation_outcome",
        "flagKey": "support_answer_model_route",
        "unitId": "conv_98271",
        "variation": "candidate",
        "resolvedWithoutEscalation": True,
        "humanCorrection": False,
        "latencyMs": 1840,
        "estimatedCost": 0.014,
    },
    "guardrail": {
        "event": "support_guardrail",
        "flagKey": "support_answer_model_route",
        "unitId": "conv_98271",
        "variation": "candidate",
        "guardrail": "unsafe_answer",
        "value": True,
        "severity": "severe",
        "confirmed": True,
    },
}


@dataclass(frozen=True, slots=True)
class PlainRecord:
    """A record as a consumer hands it on."""

    value: bytes | None
    offset: int = 0
    timestamp: int = NOON // 1000
    timestamp_type: int | None = 0
    key: bytes | None = b"conv_98271"
    headers: Sequence[tuple[str, bytes | None]] = ()


def value_of(kind: Kind, **changes: Any) -> bytes:  # noqa: ANN401 -- whatever JSON holds
    """Return a valid value of the kind, with some fields changed; `...` removes one."""
    fields = {name: value for name, value in (VALID[kind] | changes).items() if value is not ...}
    return json.dumps(fields).encode()


def record(kind: Kind, offset: int = 0, **changes: Any) -> PlainRecord:  # noqa: ANN401 -- whatever JSON holds
    """Return a record with such a value."""
    return PlainRecord(value_of(kind, **changes), offset)
