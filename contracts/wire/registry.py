"""Schema-registry framing: a magic byte and a schema ID before the payload, or the ID in a header.

| first byte | then |
|---|---|
| 0 | the schema's ID, 4 bytes |
| 1 | the schema's GUID, 16 bytes |
| another | the value is the bare payload; header `__value_schema_id` may hold a 1 and the GUID |

These are the layouts of `SchemaId`, and of `prefix_schema_id_serializer` and `header_schema_id_serializer`, in
confluent-kafka-python's `schema_registry`. No JSON text begins with 0 or 1 as a byte. The ID is not looked up: the
contract, not the registry, says what is valid.
"""

from collections.abc import Sequence
from typing import Final

from contracts.wire.broken import Broken, bad_framing

__all__ = ["has_id", "not_json", "unframed"]

_ID_HEADER: Final = "__value_schema_id"
_FRAMES: Final = {0: 1 + 4, 1: 1 + 16}  # bytes before the payload, by the magic byte


def unframed(value: bytes) -> bytes | None:
    """Return the payload behind a magic byte and a schema ID; None where the value begins with no magic byte."""
    frame = _FRAMES.get(value[0]) if value else None
    return None if frame is None else value[frame:]


def has_id(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Return whether a header holds the ID of the value's schema."""
    return any(name == _ID_HEADER for name, _ in headers)


def not_json() -> Broken:
    """Return that a framed payload is no JSON object."""
    text = "Input should be a JSON object behind the schema ID; publish with a JSON serializer, not Avro or Protobuf"
    return bad_framing("schema_registry", ("value",), text)
