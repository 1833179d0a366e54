"""The columns of decoded events: what `decode` returns, segments keep and the close reads.

One row is one valid record in its right partition. The partition number is not a column: a table of events always
belongs to one partition of the three copartitioned topics.
"""

from typing import Final, Literal

import pyarrow as pa

__all__ = ["EVENT", "KINDS", "TIMESTAMP", "coded", "utf8"]

KINDS: Final[tuple[Literal["exposure"], Literal["outcome"], Literal["guardrail"]]] = (
    "exposure",
    "outcome",
    "guardrail",
)
TIMESTAMP: Final = pa.timestamp("us", tz="UTC")

_CODE: Final = pa.dictionary(pa.int32(), pa.string())


EVENT: Final = pa.schema(
    [
        # where the record lies
        pa.field("kind", _CODE, nullable=False),  # one of KINDS
        pa.field("topic", _CODE, nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("record_time", TIMESTAMP, nullable=False),  # Kafka's own, millisecond resolution
        # the join
        pa.field("event_time", TIMESTAMP, nullable=False),
        pa.field("flag_key", _CODE, nullable=False),
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field("variation", _CODE, nullable=False),
        pa.field("event", _CODE, nullable=False),
        pa.field("event_id", pa.string()),
        pa.field("contract_version", _CODE, nullable=False),
        pa.field("attributes", pa.map_(pa.string(), pa.string())),
        pa.field("segments", pa.list_(pa.string())),
        # exposures: what really ran
        pa.field("assignment_unit", _CODE),
        pa.field("model_route", _CODE),
        pa.field("prompt_version", _CODE),
        pa.field("retrieval_profile", _CODE),
        pa.field("fallback_used", pa.bool_()),
        # outcomes: every number and boolean by its wire name; guardrails: {"value": …}
        pa.field("values", pa.map_(pa.string(), pa.float64())),
        # guardrails
        pa.field("guardrail", _CODE),
        pa.field("severity", _CODE),
        pa.field("confirmed", pa.bool_()),
        # the record as it came, for dead letters and for ties
        pa.field("value", pa.binary(), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
    ]
)


def utf8(schema: pa.Schema) -> pa.Schema:
    """Return the schema with dictionary codes written out as strings, as files keep it."""
    fields = [f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in schema]
    return pa.schema(fields, metadata=schema.metadata)


def coded(events: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the events under the schema, `EVENT` or some of its columns; texts that are written out become codes.

    ArrowInvalid where they do not fit. To look first saves 40 calls, each of which lets go of the interpreter lock.
    """
    if events.schema.equals(schema, check_metadata=True):
        return events
    return events.replace_schema_metadata(None).cast(schema)
