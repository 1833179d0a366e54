"""The planted traffic is what it says: recounted here from its bytes alone, with rules written down once more."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any, Final

import pytest

from contracts.decode import Decoder
from contracts.flags import Contract, ContractBook, load_contract
from contracts.placement import murmur2_partition
from pipeline.demo import EXAMPLE
from pipeline.planted import ARTICLE_UNIT, FAULTS, Planted, Traffic, generate
from pipeline.traffic import Message

NOW: Final = 1_780_000_000_000_000
MINUTE: Final = 60_000_000
HOUR: Final = 60 * MINUTE
PARTITIONS: Final = 6


def rng(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  # made-up traffic


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(EXAMPLE.read_text(), str(EXAMPLE))


@pytest.fixture(scope="module")
def traffic(contract: Contract) -> Traffic:
    return generate(rng(7), NOW, contract, events=20_000, partitions=PARTITIONS)


def partition_of(message: Message) -> int:
    if message.partition is not None:
        return message.partition
    return int(murmur2_partition([message.key.decode()], PARTITIONS)[0])


@dataclass(frozen=True)
class Event:
    """One valid message."""

    kind: str
    at: int
    body: dict[str, Any]
    value: bytes
    partition: int
    second: bool


@dataclass
class Window:
    """24 h of one unit and variation."""

    variation: str
    start: int
    exposures: list[dict[str, Any]] = field(default_factory=list)
    mismatched: bool = False

    def contains(self, at: int) -> bool:
        """Say whether the time is inside."""
        return self.start <= at < self.start + 24 * HOUR


def refusal(message: Message, contract: Contract) -> str | None:
    """Say why a message is refused, if it is."""
    if message.value is None:
        return "tombstone"
    try:
        body = json.loads(message.value)
    except ValueError:
        return "not_json"
    numbers = [value for name, value in body.items() if name in {"latencyMs", "estimatedCost"}]
    if (
        "unitId" not in body
        or any(isinstance(value, str) for value in numbers)
        or body.get("resolvedWithoutEscalation", True) is None
        or not body.get("timestamp", "Z").endswith("Z")
    ):
        return "schema_violation"
    if body["flagKey"] != contract.flag_key:
        return "unknown_flag"
    if body["variation"] not in contract.variations:
        return "unknown_variation"
    return "future_timestamp" if time_of(message, body) > NOW + 10 * MINUTE else None


def time_of(message: Message, body: dict[str, Any]) -> int:
    if "timestamp" not in body:
        return message.timestamp_ms * 1_000
    return round(datetime.fromisoformat(body["timestamp"]).timestamp() * 1_000) * 1_000


def recount(traffic: Traffic, contract: Contract) -> Planted:
    """Work out, from the bytes, what the messages must become."""
    refused: Counter[str] = Counter()
    rerouted = 0
    units: dict[str, list[Event]] = defaultdict(list)
    reached = [0] * PARTITIONS  # greatest event time of the first part, by partition
    for second, message in chain(((False, m) for m in traffic.first), ((True, m) for m in traffic.second)):
        reason = refusal(message, contract)
        if reason is not None:
            refused[reason] += 1
            continue
        assert message.value is not None
        body = json.loads(message.value)
        right = int(murmur2_partition([body["unitId"]], PARTITIONS)[0])
        at = time_of(message, body)
        if partition_of(message) != right:
            rerouted += 1
        elif not second:
            reached[right] = max(reached[right], at)
        units[body["unitId"]].append(Event(message.kind, at, body, message.value, right, second))
    facts, clean = Counter[str](), Counter[str]()
    flags, joined, unjoined = Counter[tuple[str, str]](), Counter[str](), Counter[str]()
    for events in units.values():
        windows = judge(events, reached, joined, unjoined)
        for window in windows:
            found = flags_of(window, windows, contract)
            facts[window.variation] += 1
            clean[window.variation] += not found
            flags.update((window.variation, flag) for flag in found)
    published = len(traffic.first) + len(traffic.second)
    faults = traffic.planted.faults
    return Planted(published, faults, facts, clean, flags, joined, unjoined, refused, rerouted)


def judge(events: list[Event], reached: list[int], joined: Counter[str], unjoined: Counter[str]) -> list[Window]:
    late = [e for e in events if e.second and e.at + 25 * HOUR <= reached[e.partition] - MINUTE]
    if late:
        unjoined["late"] += len(late)
    rest = sorted((e for e in events if e not in late), key=lambda e: e.at)
    windows: list[Window] = []
    for event in (e for e in rest if e.kind == "exposure"):
        own = [w for w in windows if w.variation == event.body["variation"] and w.contains(event.at)]
        if not own:
            own = [Window(event.body["variation"], event.at)]
            windows += own
        own[0].exposures.append(event.body)
        joined["exposure"] += 1
    seen: set[object] = set()
    for event in (e for e in rest if e.kind != "exposure"):
        around = [w for w in windows if w.contains(event.at)]
        own = [w for w in around if w.variation == event.body["variation"]]
        identity = event.body.get("eventId", event.value)
        if not around:
            ended = any(w.start + 24 * HOUR <= event.at < w.start + 48 * HOUR for w in windows)
            unjoined["outside_window" if ended else "no_exposure"] += 1
        elif identity in seen:
            unjoined["duplicate"] += 1
        else:
            joined[event.kind] += 1
            around[0].mismatched |= not own
        seen.add(identity)
    return windows


def flags_of(window: Window, windows: Iterable[Window], contract: Contract) -> set[str]:
    route = contract.variations[window.variation]
    flags = set()
    for body in window.exposures:
        ran = (body["modelRoute"], body["promptVersion"], body["retrievalProfile"])
        if body["fallbackUsed"]:
            flags.add("fallback_contaminated")
        elif ran != (route.model_route, route.prompt_version, route.retrieval_profile):
            flags.add("route_drift")
        if body["assignmentUnit"] != "conversation":
            flags.add("assignment_unit_mismatch")
        if "incident_accounts" in body.get("segments", ()):
            flags.add("excluded_unit")
    if window.mismatched:
        flags.add("variation_mismatch")
    if any(w.variation != window.variation and abs(w.start - window.start) < 24 * HOUR for w in windows):
        flags.add("crossover")
    return flags


@dataclass(frozen=True)
class Fetched:
    """One message as a consumer hands it over."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@pytest.mark.parametrize("seed", range(3))
def test_a_recount_of_the_bytes_gives_what_was_planted(contract: Contract, seed: int) -> None:
    made = generate(rng(seed), NOW, contract, events=5_000, partitions=PARTITIONS)
    assert recount(made, contract) == made.planted


def test_the_same_arguments_give_the_same_bytes(contract: Contract) -> None:
    once, again = (generate(rng(1), NOW, contract, events=2_000) for _ in range(2))
    assert once == again


def test_another_seed_gives_other_bytes(contract: Contract) -> None:
    one, other = (generate(rng(seed), NOW, contract, events=2_000) for seed in (1, 2))
    assert one.first != other.first


def test_about_as_many_messages_as_asked_for(traffic: Traffic) -> None:
    assert 20_000 <= len(traffic.first) + len(traffic.second) == traffic.planted.published < 20_020


@pytest.mark.parametrize("events", [500, 20_000])
def test_every_fault_is_planted(contract: Contract, events: int) -> None:
    planted = generate(rng(3), NOW, contract, events=events).planted
    assert planted.faults.keys() == FAULTS.keys()
    assert planted.unjoined.keys() == {"late", "duplicate", "outside_window", "no_exposure"}
    assert planted.refused.keys() == {
        "tombstone",
        "not_json",
        "schema_violation",
        "unknown_flag",
        "unknown_variation",
        "future_timestamp",
    }
    assert {flag for _, flag in planted.flags} == {
        "fallback_contaminated",
        "variation_mismatch",
        "route_drift",
        "crossover",
        "assignment_unit_mismatch",
        "excluded_unit",
    }
    assert planted.rerouted == planted.faults["misplaced key"]


def test_decode_refuses_what_was_planted_and_nothing_else(contract: Contract, traffic: Traffic) -> None:
    decoder = Decoder(ContractBook([contract]), max_value_bytes=1 << 20, max_future_us=10 * MINUTE)
    reasons: Counter[str] = Counter()
    for kind in ("exposure", "outcome", "guardrail"):
        messages = [m for m in (*traffic.first, *traffic.second) if m.kind == kind]
        records = [Fetched(n, m.timestamp_ms, 0, m.key, m.value, m.headers) for n, m in enumerate(messages)]
        decoded = decoder.decode(kind, kind + "s", records, NOW)
        reasons.update(refused.reason for refused in decoded.refused)
        assert decoded.events.num_rows + len(decoded.refused) == len(messages)
    assert reasons == traffic.planted.refused


def test_messages_arrive_out_of_order_by_less_than_a_minute(contract: Contract, traffic: Traffic) -> None:
    for part in (traffic.first, traffic.second):
        newest = 0
        for message in part:
            at = message.timestamp_ms
            assert at > newest - 60_000 or at * 1_000 < NOW - 40 * HOUR, "neither in order nor late"
            newest = max(newest, at)


def test_the_first_part_ends_before_the_windows_of_misplaced_messages_do(traffic: Traffic) -> None:
    end = max(message.timestamp_ms for message in traffic.first)
    misplaced = [message for message in traffic.first if message.partition is not None]
    assert len(misplaced) == traffic.planted.rerouted
    assert all(message.timestamp_ms * 1_000 + 24 * HOUR > end * 1_000 for message in misplaced)
    assert all(message.partition is None for message in traffic.second)


def test_the_conversation_of_the_documentation_has_an_outcome_without_time(traffic: Traffic) -> None:
    exposure, outcome = (m for m in traffic.first if m.key == ARTICLE_UNIT.encode())
    assert (exposure.kind, outcome.kind) == ("exposure", "outcome")
    assert b"timestamp" not in (outcome.value or b"")
    assert 0 < outcome.timestamp_ms - exposure.timestamp_ms < 10 * 60_000


def test_nothing_happens_after_now(traffic: Traffic) -> None:
    assert all(message.timestamp_ms * 1_000 < NOW for message in (*traffic.first, *traffic.second))
