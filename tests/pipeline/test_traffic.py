"""Made-up events pass as real ones, whatever the flag; live traffic follows the clock it is given."""

import json
import random
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import pytest

from contracts.decode import Decoder
from contracts.flags import Contract, ContractBook, load_contract
from pipeline.demo import EXAMPLE
from pipeline.traffic import Bodies, Live, Message, encode

NOW: Final = 1_780_000_000_000_000
SECOND: Final = 1_000_000

STRING_FLAG: Final = """\
flag:
  key: summary_model
  type: string
  variations:
    control: summary_model_a
    candidate: summary_model_b
"""

BOOLEAN_FLAG: Final = """\
flag:
  key: summaries_on
  type: boolean
  variations:
    on: true
    off: false
"""


@dataclass(frozen=True)
class Fetched:
    """One message as a consumer hands it over."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def rng(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  # made-up traffic


def example() -> Contract:
    return load_contract(EXAMPLE.read_text(), str(EXAMPLE))


def refusals(contracts: list[Contract], messages: list[Message], now_us: int) -> Counter[str]:
    decoder = Decoder(ContractBook(contracts), max_value_bytes=1 << 20, max_future_us=60 * SECOND)
    reasons: Counter[str] = Counter()
    for kind in ("exposure", "outcome", "guardrail"):
        own = [message for message in messages if message.kind == kind]
        records = [Fetched(n, m.timestamp_ms, 0, m.key, m.value, m.headers) for n, m in enumerate(own)]
        reasons.update(refused.reason for refused in decoder.decode(kind, kind, records, now_us).refused)
    return reasons


def live(seed: int, count: int, units: int = 50) -> list[Message]:
    traffic = Live(rng(seed), [example()], units)
    return [traffic.next(NOW + n * SECOND // 10) for n in range(count)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(EXAMPLE.read_text(), id="json flag with an experiment"),
        pytest.param(STRING_FLAG, id="string flag"),
        pytest.param(BOOLEAN_FLAG, id="boolean flag"),
    ],
)
def test_bodies_are_valid_events_of_any_flag(text: str) -> None:
    contract = load_contract(text, "flag.yaml")
    bodies = Bodies(rng(0), contract)
    messages = []
    for unit in map(str, range(50)):
        variation = bodies.variation(unit)
        for kind, body in (
            ("exposure", bodies.exposure(unit, variation, NOW)),
            ("outcome", bodies.outcome(unit, variation, NOW)),
            ("guardrail", bodies.guardrail(unit, variation, NOW)),
        ):
            messages.append(Message(kind, unit.encode(), encode(body), NOW // 1_000))
    assert refusals([contract], messages, NOW) == {}


def test_an_outcome_has_a_value_for_each_metric() -> None:
    body = Bodies(rng(0), example()).outcome("u", "control", NOW)
    assert {"resolvedWithoutEscalation", "humanCorrection", "latencyMs", "estimatedCost"} <= body.keys()


def test_a_unit_keeps_its_variation_and_attributes() -> None:
    one, other = Bodies(rng(1), example()), Bodies(rng(2), example())
    assert [one.variation(str(n)) for n in range(20)] == [other.variation(str(n)) for n in range(20)]
    at = [bodies.exposure("u", "control", NOW)["attributes"] for bodies in (one, other)]
    assert at[0] == at[1]


def test_live_traffic_of_one_seed_and_clock_is_the_same() -> None:
    assert live(5, 300) == live(5, 300) != live(6, 300)


def test_live_events_happen_now() -> None:
    for n, message in enumerate(live(5, 200)):
        then = NOW // 1_000 + n * 100
        assert message.timestamp_ms in {then, then - 100}, "now, or the one before once more"


def test_live_outcomes_follow_an_exposure_of_their_unit() -> None:
    exposed: set[bytes] = set()
    kinds: Counter[str] = Counter()
    for message in live(5, 3_000):
        kinds[message.kind] += 1
        if message.kind == "exposure":
            exposed.add(message.key)
        else:
            assert message.key in exposed
    assert kinds["exposure"] > kinds["outcome"] > kinds["guardrail"] > 0


def test_few_live_events_are_refused() -> None:
    messages = live(5, 10_000, units=2_000)
    refused = refusals([example()], messages, NOW + 10_000 * SECOND)
    assert {"not_json", "schema_violation", "unknown_flag", "unknown_variation"} == refused.keys()
    assert 30 < refused.total() < 150


def test_live_traffic_draws_from_the_units_asked_for() -> None:
    units = {message.key for message in live(5, 2_000, units=5)}
    assert units == {f"conv_{n:06d}".encode() for n in range(5)}


def test_live_events_are_sometimes_published_twice() -> None:
    messages = [message for message in live(5, 5_000) if message.value is not None]
    again = [b for a, b in pairwise(messages) if a == b]
    assert 0 < len(again) < 30
    assert all(json.loads(message.value or b"{}").get("eventId") for message in again)
