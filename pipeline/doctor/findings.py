"""Every fault that the doctor knows: how bad it is, why it matters, what to do. docs/doctor.md has the same words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, get_args

from pipeline.dlq.places import Place

__all__ = [
    "FAULTS",
    "SEVERITIES",
    "Fault",
    "FaultId",
    "Finding",
    "InOrder",
    "NotJudged",
    "Remark",
    "Severity",
    "share",
]

Severity = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)

FaultId = Literal[
    "missing_topic",
    "unequal_partitions",
    "empty_topic",
    "unread_partitions",
    "crc32_partitioner",
    "fnv1a_partitioner",
    "unknown_partitioner",
    "added_partitions",
    "null_keys",
    "quoted_keys",
    "framed_keys",
    "utf16_keys",
    "padded_keys",
    "foreign_keys",
    "variation_is_route",
    "contract_names_routes",
    "unknown_flag",
    "unknown_variation",
    "refused_records",
    "clock_ahead",
    "clock_skew",
    "route_drift",
    "assignment_unit_mismatch",
    "excluded_unit",
    "events_before_exposure",
    "events_after_window",
    "variation_mismatch",
    "crossover",
    "events_without_exposure",
    "exposures_without_outcomes",
    "metric_event_absent",
    "metric_field_absent",
    "outcomes_without_latency",
    "outcomes_without_cost",
    "wrong_state",
    "past_decision_date",
    "flag_without_traffic",
    "variation_without_traffic",
    "sample_ratio_mismatch",
    "high_fallback",
    "missing_timestamps",
    "missing_event_ids",
    "reused_event_ids",
    "duplicates",
]


class Fault(NamedTuple):
    """A fault in general; `why` and `remedy` are sentences."""

    severity: Severity
    meaning: str
    why: str
    remedy: str


_LEAST_PERCENT, _MOST_PERCENT = 0.1, 99

_PARTITIONER_WHY: Final = (
    "Records of one unit must meet in one partition number of the three topics. Workers copy the misplaced ones to "
    "their partition, which costs a second record, fails without the right to write, and may come late in a backlog."
)
_KEY_WHY: Final = (
    "The key decides the partition. A key that is not the unit ID, byte for byte, places the record where its unit is "
    "not, and workers have to copy it."
)

FAULTS: Final[Mapping[FaultId, Fault]] = MappingProxyType(
    {
        "missing_topic": Fault(
            "error",
            "A topic does not exist, or may not be seen.",
            "Without one of the three topics nothing is joined.",
            "Run: evidence topics create; or correct EVIDENCE_*_TOPIC, or ask for the right to describe and read it.",
        ),
        "unequal_partitions": Fault(
            "error",
            "The three topics differ in their partition counts.",
            "A unit has another partition number in each topic, so its events never meet.",
            "Give all three the greatest count (kafka-topics.sh --alter), then start a new lake.",
        ),
        "empty_topic": Fault(
            "warning",
            "No record of exposures, or of outcomes, is there.",
            "Without exposures there is no fact, without outcomes no metric. No guardrails are no fault.",
            "See whether the service publishes: its last deployment, its credentials, the topic it names.",
        ),
        "unread_partitions": Fault(
            "warning",
            "Partitions could not be read to their end.",
            "What is not read is not judged. Workers may be kept from reading it as well.",
            "See whether it has a leader (evidence topics check) and may be read, or give a longer --time-limit.",
        ),
        "crc32_partitioner": Fault(
            "error",
            "Records are placed by CRC32, the default of librdkafka's clients (Python, Go, .NET, Node, PHP, Rust).",
            _PARTITIONER_WHY,
            "librdkafka: partitioner=murmur2_random. ruby-kafka: Kafka::Partitioner.new(hash_function: :murmur2).",
        ),
        "fnv1a_partitioner": Fault(
            "error",
            "Records are placed by FNV-1a, the default of Sarama (Go).",
            _PARTITIONER_WHY,
            "Sarama: a Partitioner with murmur2, or move to franz-go, whose default it is. "
            "librdkafka with fnv1a_random: partitioner=murmur2_random.",
        ),
        "unknown_partitioner": Fault(
            "error",
            "Records are placed by no partitioner that looks at the key: at random, in turn, or by hand.",
            _PARTITIONER_WHY,
            "Let the client choose the partition: librdkafka partitioner=murmur2_random; kafka-go "
            "Balancer: kafka.Murmur2Balancer{}; Java without partitioner.class and partitioner.ignore.keys.",
        ),
        "added_partitions": Fault(
            "error",
            "Records are placed by murmur2 among fewer partitions than the topic has: partitions were added.",
            "Units have moved to other partitions. The lake of before cannot go on with the new count.",
            "Restart producers that still know the old count; begin a new lake, on new topics if old records count.",
        ),
        "null_keys": Fault(
            "error",
            "Records have no key.",
            "Without a key the client places a record anywhere, and workers have to copy it.",
            "Publish with the unit ID as the key: produce(topic, key=event['unitId'], value=…).",
        ),
        "quoted_keys": Fault(
            "error",
            "Keys are JSON: the unit ID in quotes, or in an object.",
            _KEY_WHY,
            "Give the key a plain string serialiser: StringSerializer (Java), StringConverter (Connect), str.encode.",
        ),
        "framed_keys": Fault(
            "error",
            "Keys carry a schema registry's frame: a magic byte and the ID of a schema before the unit ID.",
            _KEY_WHY,
            "Give the key a plain string serialiser, and keep the registry's for the value at most.",
        ),
        "utf16_keys": Fault(
            "error",
            "Keys are UTF-16.",
            _KEY_WHY,
            "Encode the key as UTF-8: Encoding.UTF8 (.NET), StandardCharsets.UTF_8 (Java).",
        ),
        "padded_keys": Fault(
            "error",
            "Keys and unit IDs differ by white space, letter case or a zero byte at an end.",
            _KEY_WHY,
            "Trim the unit ID once, where it is made, and use the same string for key and unitId.",
        ),
        "foreign_keys": Fault(
            "error",
            "Keys are something else than the unit ID.",
            _KEY_WHY,
            "Publish with the unit ID as the key: produce(topic, key=event['unitId'], value=…).",
        ),
        "variation_is_route": Fault(
            "error",
            "Events name the model route in place of the variation.",
            "They are refused as unknown_variation, or cannot be told from another variation on the same route.",
            "Publish the name of the variation that the flag gave (control, candidate), and the route as modelRoute.",
        ),
        "contract_names_routes": Fault(
            "warning",
            "A contract's variations have the names of models or of model routes.",
            "When a route changes, the variation's name is wrong; two variations on one route cannot be told apart.",
            "Name variations by their part in the test (control, candidate, fallback), before traffic starts.",
        ),
        "unknown_flag": Fault(
            "error",
            "Events name a flag or experiment that has no flag file.",
            "They are dead letters.",
            "Add the flag file, or correct the key in the service; then evidence dlq replay --reason unknown_flag.",
        ),
        "unknown_variation": Fault(
            "error",
            "Events name a variation that their flag does not have.",
            "They are dead letters.",
            "Bring flag file and service together; then evidence dlq replay --reason unknown_variation.",
        ),
        "refused_records": Fault(
            "error",
            "Records break the evidence contract.",
            "They are dead letters; where they belong to one variation more than the other, they bias the experiment.",
            "Mend the fields that are named, in the service; evidence dlq show tells of each record.",
        ),
        "clock_ahead": Fault(
            "error",
            "Events lie in the future: they are later than the clock of whoever received them.",
            "A clock that is ahead moves the watermark, and what others publish becomes late.",
            "Set the clock of the machine (NTP); take event times from servers, not from browsers and phones.",
        ),
        "clock_skew": Fault(
            "warning",
            "The times of one producer differ from those of the others on the topic, always by as much.",
            "Its outcomes fall out of their metric window, or its exposures come after what they caused.",
            "Set the clocks of its machines (NTP). If it publishes late on purpose, nothing is wrong with it.",
        ),
        "route_drift": Fault(
            "error",
            "Exposures ran another model, prompt or retrieval profile than the contract names for their variation.",
            "Facts of such exposures are marked route_drift, and readouts leave them out.",
            "Give the service the contracted route back; or, if the change is wanted, give it a variation of its own.",
        ),
        "assignment_unit_mismatch": Fault(
            "error",
            "Exposures name another assignment unit than the contract.",
            "Facts of such exposures are marked assignment_unit_mismatch, and readouts leave them out.",
            "Evaluate the flag for the contract's unit, and publish it as assignmentUnit, with its ID as unitId.",
        ),
        "excluded_unit": Fault(
            "warning",
            "Exposures are of units of an excluded segment, or without the eligible one.",
            "Facts of such exposures are marked excluded_unit, and readouts leave them out.",
            "Bring the flag's targeting and the contract's segments together, and the names that are published.",
        ),
        "events_before_exposure": Fault(
            "error",
            "Outcomes or guardrails are earlier than the first exposure of their unit.",
            "They count in no fact, and become dead letters of the reason no_exposure.",
            "See that exposures have the time of evaluation, not of the answer's end, and that all times are UTC.",
        ),
        "events_after_window": Fault(
            "warning",
            "Outcomes or guardrails come when the metric window of their unit is over.",
            "They count in no fact: they are outside_window.",
            "See that their times are those of the event, in UTC; or measure in a longer window.",
        ),
        "variation_mismatch": Fault(
            "error",
            "Outcomes or guardrails name another variation than their unit was exposed to.",
            "Their facts are marked variation_mismatch, and readouts leave them out.",
            "Publish with an outcome the variation that the unit got, kept from the exposure, not evaluated anew.",
        ),
        "crossover": Fault(
            "error",
            "Units are exposed to several variations in overlapping metric windows.",
            "Their facts are marked crossover, and readouts leave them out.",
            "See that the flag assigns by the contract's unit, always alike, and that no cache or default answers.",
        ),
        "events_without_exposure": Fault(
            "error",
            "Outcomes or guardrails are of units that were never exposed.",
            "They count in no fact, and become dead letters of the reason no_exposure.",
            "Look for exposures that are not published, or under another unit ID or flag.",
        ),
        "exposures_without_outcomes": Fault(
            "warning",
            "Exposed units have no outcomes, all of them or all of one variation.",
            "Their facts have no metrics; where it is one variation, the comparison is worthless.",
            "Look for outcomes that are not published, or under another unit ID, flag or variation.",
        ),
        "metric_event_absent": Fault(
            "error",
            "A contract measures an event that no outcome has.",
            "The metric stays empty, and nobody is told.",
            "Bring `event` of the metric and `event` of the outcomes together.",
        ),
        "metric_field_absent": Fault(
            "warning",
            "A contract measures a field that no outcome has.",
            "The metric stays empty, and nobody is told.",
            "Bring `field` of the metric and the names of the outcomes' fields together.",
        ),
        "outcomes_without_latency": Fault(
            "warning",
            "Units have outcomes without the latency that the contract measures.",
            "Latency is a guardrail: where it is missing, a slow route looks as good as a fast one.",
            "Publish the latency with every outcome, also where the answer failed or a fallback ran.",
        ),
        "outcomes_without_cost": Fault(
            "warning",
            "Units have outcomes without the cost that the contract measures.",
            "Cost is a guardrail: where it is missing, a dear route looks as good as a cheap one.",
            "Publish the cost with every outcome, also where the answer failed or a fallback ran.",
        ),
        "wrong_state": Fault(
            "error",
            "A flag gets traffic while its experiment has not begun, is offline or in cleanup.",
            "Facts of such exposures are marked wrong_state, and readouts leave them out.",
            "Switch the flag off for these units, or bring the states of the flag file up to date.",
        ),
        "past_decision_date": Fault(
            "warning",
            "A flag gets traffic after its decision date.",
            "An experiment that goes on after its decision costs units and money, and invites to look again.",
            "Decide, and end the experiment; or move decisionDate, with a reason.",
        ),
        "flag_without_traffic": Fault(
            "warning",
            "A flag whose experiment runs gets no traffic.",
            "The flag is not evaluated where the model runs, or its events carry another key.",
            "See whether the flag is on, and which flagKey the service publishes.",
        ),
        "variation_without_traffic": Fault(
            "error",
            "A variation that should have a share of the units has none.",
            "There is nothing to compare.",
            "See the flag's rollout, and whether the service publishes exposures of that variation.",
        ),
        "sample_ratio_mismatch": Fault(
            "error",
            "The split of the units is not the allocation of the contract.",
            "Units are lost or added in a way that depends on the variation: no readout of it can be trusted.",
            "Look for exposures that one variation does not publish, for targeting that differs, for a flag whose "
            "rollout is not the contract's allocation.",
        ),
        "high_fallback": Fault(
            "warning",
            "A fallback ran in many exposures.",
            "The variation was assigned and something else ran; such facts are not clean.",
            "See why the model or its gateway fails; the rollback rule of the contract may apply.",
        ),
        "missing_timestamps": Fault(
            "note",
            "Events carry no timestamp of their own.",
            "The record's time counts, which is that of sending, or of arrival: batching and retries move it.",
            "Publish timestamp, RFC 3339 with a zone, taken when it happened.",
        ),
        "missing_event_ids": Fault(
            "note",
            "Events carry no eventId.",
            "An event that is published again is recognised by equal bytes alone.",
            "Publish eventId, made once an event, not once a sending.",
        ),
        "reused_event_ids": Fault(
            "error",
            "One eventId stands on events that differ.",
            "Within a unit's window only the first of them counts, the others are duplicates.",
            "Make a new eventId for each event: a UUID, not the unit's ID or a constant.",
        ),
        "duplicates": Fault(
            "warning",
            "Events are published more than once.",
            "Each counts once, but they cost room, and without eventId only equal bytes are recognised.",
            "Set enable.idempotence, and do not send again what was acknowledged.",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that was found."""

    id: FaultId
    what: str
    """One plain sentence, with its subject and the most telling figure."""
    evidence: Sequence[str]
    """A line each."""
    count: int
    """How many of `of` show it."""
    of: int
    example: Place | None = None

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return FAULTS[self.id].severity

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        example = None if self.example is None else self.example._asdict()
        return {
            "id": self.id,
            "severity": self.severity,
            "what": self.what,
            "count": self.count,
            "of": self.of,
            "evidence": list(self.evidence),
            "example": example,
            "why": FAULTS[self.id].why,
            "remedy": FAULTS[self.id].remedy,
        }


@dataclass(frozen=True, slots=True)
class InOrder:
    """What was looked at and found in order: one sentence with its figures."""

    what: str


@dataclass(frozen=True, slots=True)
class NotJudged:
    """What the sample does not tell, and why."""

    what: str


Remark = Finding | InOrder | NotJudged


def share(count: int, of: int) -> str:
    """Return `12 of 1,000 (1.2 %)`; what is not none or all never reads as such."""
    percent = 100 * count / of if of else 0.0
    if 0 < percent < _LEAST_PERCENT:
        return f"{count:,} of {of:,} (under {_LEAST_PERCENT} %)"
    if _MOST_PERCENT < percent < 100:  # noqa: PLR2004 - all
        return f"{count:,} of {of:,} (over {_MOST_PERCENT} %)"
    digits = 0 if percent >= 10 or percent == int(percent) else 1  # noqa: PLR2004 - two digits tell enough
    return f"{count:,} of {of:,} ({percent:.{digits}f} %)"
