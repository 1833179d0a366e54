"""What every table and view of the lake holds, in words: one entry a column.

The views carry these texts as DuckDB comments; `python -m sinks.dictionary` prints them as the page
`docs/data-dictionary.md`. Tests prove that no column is missing.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Final

import pyarrow as pa

from sinks.tables import EXPORTED, TABLES

__all__ = ["COLUMNS", "FLAGS", "REASONS", "REFUSALS", "RELATIONS", "main", "markdown"]

RELATIONS: Final[Mapping[str, str]] = {
    "facts": "One row a metric window: a unit that met a variation, and all that came of it. The evidence.",
    "events": "One row a record that belongs to a fact.",
    "unjoined": "One row a valid record that belongs to no fact, and why.",
    "refused": "One row a record that was turned away on reading, and why.",
    "dead_letters": "One row a dead letter that `evidence dlq export` has brought here, however often it was sent; the "
    "files have one a record of a dead-letter topic.",
    "facts_by_variation": "One row a flag, epoch and variation: how many facts, and how many carry each flag.",
    "contracts": "One row a contract version that the lake keeps: its epoch, and the facts that follow it.",
    "exposures_open": "One row an exposure whose window has not been closed yet.",
    "open_events": "One row a record that was read and not decided yet.",
    "account": "One row a topic and partition: what became of every offset. Other than 0 in `unaccounted` is a fault, "
    "unless `manifests` shows unpublished files.",
    "account_offsets": "One row an offset and fate. An offset with two rows is a fault.",
    "manifests": "One row a partition: its newest checkpoint, at the time of connecting.",
    "topics": "One row a topic and partition: how far it has been read, at the time of connecting.",
}

_FLAG_KEY: Final = "The key of the feature flag."
_UNIT: Final = "The unit that the flag assigns a variation to, such as a conversation; the key of its records."
_TOPIC: Final = "The Kafka topic of the record."
_PARTITION: Final = "The number of the partition, the same in all three topics."
_OFFSET: Final = "The offset of the record in its topic and partition. A reserved word in SQL: quote it."
_VERSION: Final = (
    "The contract the record was validated under: the first 16 hex digits of the SHA-256 of the flag file."
)
_EPOCH: Final = (
    "The epoch of the fact's contract, from 1 on for each flag, in the order of their first facts: facts of different "
    "epochs answer different questions. At the time of connecting; null for a contract that came later."
)
_DT: Final = "The day of the file's directory (UTC): filter by it to read fewer files."

FLAGS: Final = {
    "fallback_contaminated": "A fallback ran in place of the assigned route in at least one exposure.",
    "variation_mismatch": "An outcome or guardrail that names another variation fell into the window.",
    "route_drift": "An exposure without fallback ran another model, prompt or retrieval profile than the contract.",
    "crossover": "The unit has a window of another variation that overlaps this one.",
    "assignment_unit_mismatch": "An exposure names another kind of unit than the contract.",
    "excluded_unit": "The unit is in an excluded segment, or not in the eligible one.",
    "wrong_state": "The experiment had not begun, was offline or in cleanup when the window opened.",
}
"""What each flag of a fact means."""

REASONS: Final = {
    "late": "came after its window, or the time for one, had closed",
    "duplicate": "repeats a record of its topic and window: the same event ID or, without one, equal bytes and time",
    "outside_window": "falls after a window of the unit that had ended, and into none",
    "no_exposure": "has no exposure of its unit before it",
}
"""What each reason of unjoined says of the record."""

REFUSALS: Final = {
    "tombstone": "has no value",
    "not_json": "is not JSON",
    "bad_framing": "is an envelope around something broken, or around several events",
    "too_large": "is larger than EVIDENCE_MAX_VALUE_BYTES",
    "schema_violation": "breaks the schema of its event",
    "unknown_flag": "names a flag without a contract",
    "unknown_variation": "names a variation that the flag does not have",
    "future_timestamp": "says it comes from the future",
    "misplaced": "lies in another partition than its key belongs to, and could not be moved",
    "internal": "met an error of this software",
    "rerouted": "lay in another partition than its key belongs to; its copy in the right one has a fate of its own",
}
"""What each reason of refused says of the record."""

COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "facts": {
        "flag_key": _FLAG_KEY,
        "experiment_key": "The key of the flag's experiment; null if the contract has none.",
        "unit_id": _UNIT,
        "assignment_unit": "What kind of thing the unit is, as the first exposure says.",
        "variation": "The variation that opened the window.",
        "state": "The step of the exposure ladder when the window opened; null without one.",
        "window_start": "The event time of the first exposure; with flag, unit and variation the key of the fact.",
        "window_end": "The end of the longest metric window, itself not part of it.",
        "last_exposure_at": "The event time of the latest exposure in the window.",
        "exposures": "How many exposures the window holds, duplicates left out.",
        "fallbacks": "How many of them ran a fallback.",
        "model_route": "The model route that ran at the first exposure.",
        "prompt_version": "The prompt version that ran at the first exposure.",
        "retrieval_profile": "The retrieval profile that ran at the first exposure.",
        "outcomes": "How many outcomes the window holds, those of another variation included, duplicates left out.",
        "guardrails": "How many guardrails the window holds, counted likewise.",
        "metrics": "The value of each metric of the contract by name, booleans as 1 and 0; one without an event in its "
        "window is absent. Outcomes that name another variation are left out.",
        "flags": "What makes the evidence doubtful, see below; empty for a clean fact.",
        "clean": "Whether there are no flags.",
        "attributes": "The attributes of the first exposure that the contract keeps.",
        "contract_version": "The contract of the first exposure, which the fact follows: the first 16 hex digits "
        "of the SHA-256 of the flag file.",
        "dt": _DT,
        "epoch": _EPOCH,
    },
    "events": {
        "flag_key": _FLAG_KEY,
        "unit_id": _UNIT,
        "fact_variation": "The variation of the fact that the record belongs to.",
        "window_start": "The start of the fact's window; with flag, unit and fact_variation the key of the fact.",
        "kind": "exposure, outcome or guardrail.",
        "topic": _TOPIC,
        "partition": _PARTITION,
        "offset": _OFFSET,
        "event": "The name of the event.",
        "event_time": "When it happened, in µs, by the record's body.",
        "variation": "The variation that the record itself names.",
        "mismatched": "Whether that is another one than the fact's.",
        "values": "The numbers and booleans of an outcome by name, or the value of a guardrail; booleans as 1 and 0.",
        "model_route": "The model route that ran; exposures only.",
        "prompt_version": "The prompt version that ran; exposures only.",
        "retrieval_profile": "The retrieval profile that ran; exposures only.",
        "fallback_used": "Whether a fallback ran in place of the assigned route; exposures only.",
        "guardrail": "The name of the guardrail; guardrails only.",
        "severity": "info, warning or severe; guardrails only.",
        "confirmed": "Whether someone confirmed it; guardrails only, null if not said.",
        "contract_version": _VERSION,
        "dt": _DT,
    },
    "unjoined": {
        "reason": "Why it belongs to no fact, see below.",
        "topic": _TOPIC,
        "partition": _PARTITION,
        "offset": _OFFSET,
        "event_time": "When it happened, in µs.",
        "flag_key": _FLAG_KEY,
        "unit_id": _UNIT,
        "variation": "The variation that the record names.",
        "value": "The record's value as it came, but for the schema-registry framing before it.",
        "contract_version": _VERSION,
        "dt": _DT,
    },
    "refused": {
        "reason": "Why it was turned away, see below.",
        "stage": "Where it was turned away: decode, validate or placement.",
        "topic": _TOPIC,
        "partition": _PARTITION,
        "offset": _OFFSET,
        "record_time": "Kafka's own time of the record.",
        "dt": _DT,
    },
    "dead_letters": {
        "reason": "Why it is one: a reason of the data dictionary, or the exception of the software that made it.",
        "family": "Whose headers it carries: evidence (this software), share group, connect, streams, spring, spring "
        "retry; empty for others.",
        "stage": "Where the record failed: decode, validate, placement or close; empty if not said.",
        "message": "What is wrong, in a line.",
        "details": "What is wrong with each field, as JSON: a list of type, loc and msg; empty if not said.",
        "topic": "The Kafka topic of the record that failed; null if not said.",
        "partition": "The number of its partition; null if not said.",
        "offset": "The offset of the record that failed; null if not said. A reserved word in SQL: quote it.",
        "flag_key": "The flag or experiment key that the value names, valid or not.",
        "unit_id": "The unit ID that the value names, valid or not.",
        "variation": "The variation that the value names, valid or not.",
        "record_time": "Kafka's own time of the record that failed; null if it is lost.",
        "failed_at": "When it failed, as the letter says, else Kafka's time of the letter.",
        "consumer_group": "The consumer group or connector that failed; empty if not said.",
        "pipeline_version": "The version of this software that made the letter; empty for others.",
        "replay_count": "How often the record had been replayed when it failed.",
        "truncated": "Whether a part of the value is missing, as it was too large.",
        "dlq_topic": "The dead-letter topic that the letter lies in.",
        "dlq_partition": "The number of its partition there.",
        "dlq_offset": "Its offset there.",
        "key": "The record's key, bytes as they came.",
        "value": "The record's value, bytes as they came.",
        "headers": "The record's own headers as they came.",
        "dt": _DT,
    },
    "facts_by_variation": {
        "flag_key": _FLAG_KEY,
        "epoch": _EPOCH,
        "variation": "The variation.",
        "facts": "How many facts.",
        "clean": "How many of them carry no flag.",
        **{flag: f"How many carry it. {text}" for flag, text in FLAGS.items()},
    },
    "contracts": {
        "flag_key": _FLAG_KEY,
        "epoch": _EPOCH,
        "contract_version": "The first 16 hex digits of the SHA-256 of the flag file.",
        "experiment_key": "The key of the flag's experiment; null if the contract has none.",
        "first_used": "When the first fact that follows it begins; null if there is none yet.",
        "last_used": "When the latest begins.",
        "facts": "How many facts follow it.",
        "clean": "How many of them carry no flag.",
        "text": "The flag file, as it was.",
    },
    "exposures_open": {
        "flag_key": _FLAG_KEY,
        "unit_id": _UNIT,
        "variation": "The variation that the unit met.",
        "event_time": "When, in µs.",
        "topic": _TOPIC,
        "partition": _PARTITION,
        "offset": _OFFSET,
        "event": "The name of the event.",
        "event_id": "The producer's ID of the event, if it gave one.",
        "assignment_unit": "What kind of thing the unit is.",
        "model_route": "The model route that ran.",
        "prompt_version": "The prompt version that ran.",
        "retrieval_profile": "The retrieval profile that ran.",
        "fallback_used": "Whether a fallback ran in place of the assigned route.",
        "attributes": "All attributes of the exposure.",
        "segments": "The segments that the unit belongs to, as the exposure says.",
        "contract_version": _VERSION,
    },
    "open_events": {
        "partition": _PARTITION,
        "kind": "exposure, outcome or guardrail.",
        "topic": _TOPIC,
        "offset": _OFFSET,
        "record_time": "Kafka's own time of the record.",
        "event_time": "When it happened, in µs.",
        "flag_key": _FLAG_KEY,
        "unit_id": _UNIT,
        "variation": "The variation that the record names.",
        "event": "The name of the event.",
        "event_id": "The producer's ID of the event, if it gave one.",
        "contract_version": _VERSION,
        "attributes": "All attributes of the record.",
        "segments": "The segments that the unit belongs to, as the record says.",
        "assignment_unit": "What kind of thing the unit is; exposures only.",
        "model_route": "The model route that ran; exposures only.",
        "prompt_version": "The prompt version that ran; exposures only.",
        "retrieval_profile": "The retrieval profile that ran; exposures only.",
        "fallback_used": "Whether a fallback ran in place of the assigned route; exposures only.",
        "values": "The numbers and booleans of an outcome by name, or the value of a guardrail; booleans as 1 and 0.",
        "guardrail": "The name of the guardrail; guardrails only.",
        "severity": "info, warning or severe; guardrails only.",
        "confirmed": "Whether someone confirmed it; guardrails only, null if not said.",
        "value": "The record's value, bytes as they came.",
        "key": "The record's key, bytes as they came.",
        "headers": "The record's headers as they came.",
    },
    "account": {
        "topic": _TOPIC,
        "partition": _PARTITION,
        "first_offset": "Where reading began.",
        "next_offset": "The next offset to read: the account covers those from first_offset up to it.",
        "joined": "How many belong to a fact (rows of events).",
        **{reason: f"How many of unjoined: a record that {text}." for reason, text in REASONS.items()},
        **{reason: f"How many of refused: a record that {text}." for reason, text in REFUSALS.items()},
        "undelivered": "How many offsets Kafka gives no record for: control records, aborted, compacted away.",
        "open": "How many are read and not decided yet (rows of open_events).",
        "unaccounted": "Offsets in the range less all of the above: 0, or something is wrong.",
    },
    "account_offsets": {
        "topic": _TOPIC,
        "partition": _PARTITION,
        "offset": _OFFSET,
        "fate": "joined, unjoined, refused, undelivered or open.",
        "reason": "Why, if unjoined or refused.",
    },
    "manifests": {
        "partition": _PARTITION,
        "seq": "The number of the checkpoint.",
        "committed_at": "When it was committed, by the worker's clock.",
        "watermark": "Up to where, in event time, the partition is taken to be complete.",
        "closed_through": "The watermark that the last close decided everything up to.",
        "stopped": "Why the partition was stopped; null if it was not. `evidence resume` lets it go on.",
        "stopped_topic": "The topic whose records stopped it.",
        "stopped_at": "When it was stopped.",
        "segments": "How many files of open events it has.",
        "segment_rows": "How many rows they have, some perhaps decided since.",
        "unpublished": "How many committed table files are not in their place yet; more than 0 for a moment, or until "
        "a worker that died here is replaced.",
        "totals": "How many offsets have had each fate since reading began.",
        "group": "The consumer group.",
        "writer": "Who committed it.",
        "pipeline_version": "The version of this software that committed it.",
        "lake_id": "The ID of the lake.",
    },
    "topics": {
        "topic": _TOPIC,
        "partition": _PARTITION,
        "kind": "Which events it carries: exposure, outcome or guardrail.",
        "first_offset": "Where reading began.",
        "next_offset": "The next offset to read.",
        "closed_offset": "The next offset at the last close: those below it have been judged.",
    },
}
"""By table or view, its columns in order."""


def markdown() -> str:
    """Return the page of the data dictionary."""
    return "\n".join(_lines()) + "\n"


def main() -> None:
    """Print the page."""
    sys.stdout.write(markdown())


def _lines() -> Iterator[str]:
    yield "# Data dictionary"
    yield ""
    yield "<!-- made by `python -m sinks.dictionary`; change the texts there -->"
    yield ""
    yield "Times are timestamps in UTC, in µs. The tables are Parquet files, one directory a day,"
    yield "`tables/<table>/dt=YYYY-MM-DD/`; `dt` comes from the directory, not from the file. Files never change; small"
    yield "ones of past days give way to large ones with the same rows, [at once](compaction.md)."
    yield "The views are what `evidence query` and `sinks.views.connect` offer beside the tables."
    yield ""
    yield "## Tables"
    for table, schema in (TABLES | EXPORTED).items():
        yield from _relation(table)
        yield "| column | type | |"
        yield "|---|---|---|"
        for field in [*schema, pa.field("dt", pa.date32())]:
            null = " or null" if field.nullable and field.name != "dt" else ""
            yield f"| `{field.name}` | {_type(field.type)}{null} | {COLUMNS[table][field.name]} |"
        for column in [name for name in COLUMNS[table] if name not in {*schema.names, "dt"}]:
            yield f"| `{column}` | in the view alone | {COLUMNS[table][column]} |"
    yield ""
    yield "## Flags of a fact"
    yield from _terms(FLAGS)
    yield ""
    yield "## Epochs of a flag"
    yield ""
    yield "Each fact follows one version of its flag's contract. Versions that differ only in what leaves facts"
    yield "comparable, such as a new owner or a later state, share an epoch; another route, allocation, metric, window"
    yield "or unit begins a new one, and a contract that comes back goes on with its old one. `evidence contracts diff`"
    yield "tells beforehand which it is, and why. A readout is of one epoch: filter or group by `epoch`. Files have no"
    yield "epoch, only `contract_version`; the view `contracts` maps one to the other."
    yield ""
    yield "## Reasons of unjoined"
    yield from _terms({reason: f"The record {text}." for reason, text in REASONS.items()})
    yield ""
    yield "## Reasons of refused"
    yield from _terms({reason: f"The record {text}." for reason, text in REFUSALS.items()})
    yield ""
    yield "## Views"
    for view in [name for name in RELATIONS if name not in TABLES | EXPORTED]:
        yield from _relation(view)
        yield "| column | |"
        yield "|---|---|"
        for column, text in COLUMNS[view].items():
            yield f"| `{column}` | {text} |"
    yield ""
    yield "### `metrics_<flag key>`"
    yield ""
    yield "Each flag with metrics has a view of its own, named by its key in small letters, all but letters and digits"
    yield "as `_`: the columns of its `facts`, `epoch` among them, then each metric of any version of its contract as a"
    yield "column."


def _relation(name: str) -> Iterator[str]:
    yield ""
    yield f"### {name}"
    yield ""
    yield RELATIONS[name]
    yield ""


def _terms(texts: Mapping[str, str]) -> Iterator[str]:
    yield ""
    for term, text in texts.items():
        yield f"- `{term}`: {text}"


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list<{kind.value_type}>"
    return str(kind).replace("timestamp[us, tz=UTC]", "timestamp").replace("date32[day]", "date")


if __name__ == "__main__":  # pragma: no cover - tests call main
    main()
