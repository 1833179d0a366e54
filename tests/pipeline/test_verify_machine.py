"""Whatever arrives in whatever order, however closes, crashes and changed contracts fall between: the audit is clean.

Events come late, twice, out of order, with other variations and under other contracts. The pipeline joins them in SQL,
checkpoint by checkpoint; the audit reads them again and joins them by hand.
"""

import json
import random
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import Fenced
from pipeline.verify.audit import audit
from pipeline.verify.topics import LaterTopics
from sinks.lineage import open_lake
from tests.pipeline.auditing import audited, topics_of
from tests.pipeline.lab import FLAG, HOUR, TOPICS, Lab, Writer, contract, exposure, outcome

_STATES: Final = """\
  states:
    - {state: offline, from: 2026-06-07T06:00:00Z}
    - {state: ab, from: 2026-06-07T12:00:00Z}
    - {state: cleanup, from: 2026-06-09T00:00:00Z}
"""
_ASSIGNED: Final = """\
  assignment: {unit: user_id, eligibleSegment: paid, exclusions: [incident]}
  variations:
    control"""
_METRICS: Final = """\
    cost: {event: done, field: cost, kind: mean, aggregate: mean, window: 3h, goal: decrease}
    least: {event: done, field: cost, kind: mean, aggregate: min, window: 2h, goal: decrease}
    turns: {event: done, kind: mean, aggregate: count, window: 3h, goal: decrease}
"""
_WHOLE: Final = FLAG.replace("  variations:\n    control", _ASSIGNED) + _METRICS
CONTRACTS: Final = (
    contract(_WHOLE),
    contract(_WHOLE.replace("24h", "6h") + _STATES),
    contract(_WHOLE.replace("24h", "48h").replace("key: route_test", "key: route_test\n  attributes: [plan]")),
)


class Died(Exception):
    """The process ends at this call."""


class Story:
    """One random history of one partition."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.hour = 0.0
        self.lab = Lab(contracts=CONTRACTS[:1])
        open_lake(self.lab.storage, lambda: "lake")
        self.writer: Writer = self.lab.writer()

    def run(self) -> Lab:
        for _ in range(self.rng.randint(5, 40)):
            step = self.rng.choice(["publish"] * 5 + ["read"] * 2 + ["checkpoint"] * 2 + ["restart"])
            getattr(self, step)()
        if self.rng.random() < 0.5:
            self.lab.read_all(self.writer)
            self.lab.checkpoint(self.writer, close=True, everything=self.rng.random() < 0.7)
        return self.lab

    def publish(self) -> None:
        for _ in range(self.rng.randint(1, 6)):
            self.hour = min(self.hour + self.rng.choice([0, 0.5, 0.5, 3, 30]), 500)
            topic, value = self._event()
            self.lab.publish(topic, *[value] * self.rng.choice([1, 1, 1, 1, 2]))

    def read(self) -> None:
        self.lab.read(self.writer, self.rng.choice([*TOPICS]), self.rng.randint(1, 5), at_end=True)

    def checkpoint(self) -> None:
        left = self.rng.choice([0, 0, 0, self.rng.randint(1, 40)])  # calls to the storage until it dies; 0: never

        def die(_operation: str, _name: str) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Died

        self.lab.storage.on_call = die
        try:
            self.lab.checkpoint(self.writer, close=self.rng.random() < 0.6)
        except (Died, Fenced):
            self.lab.storage.on_call = lambda _operation, _name: None
            if self.rng.random() < 0.5:
                self.lab.storage.crash()
            self.writer = self.lab.writer()
        finally:
            self.lab.storage.on_call = lambda _operation, _name: None

    def restart(self) -> None:
        self.lab.contracts = (self.rng.choice(CONTRACTS),)
        self.lab.lateness = self.rng.choice([0, HOUR, HOUR, 10 * HOUR])
        self.writer = self.lab.writer()

    def _event(self) -> tuple[str, bytes]:
        pick = self.rng.choice
        unit, variation = pick(["u1", "u2", "u3"]), pick(["control", "candidate"])
        hour = max(0.0, self.hour - pick([0, 0, 0, 1, 5, 20, 50]))
        more: dict[str, Any] = {"eventId": pick(["a", "b", ""])} if pick([True, False, False]) else {}
        match pick(["exposure", "exposure", "outcome", "outcome", "outcome", "guardrail", "broken"]):
            case "exposure":
                more |= {
                    "fallbackUsed": pick([False, False, True]),
                    "segments": pick([None, [], ["paid"], ["incident"], ["free"]]),
                    "attributes": pick([None, {}, {"plan": "pro", "locale": "de"}]),
                    "assignmentUnit": pick(["user", "userId", "conversation"]),
                }
                return "exposures", _with(exposure(unit, hour, variation), more)
            case "outcome":
                more |= pick([{}, {"cost": 0.5}, {"cost": 2}, {"resolved": 0}, {"event": "other"}])
                return "outcomes", _with(outcome(unit, hour, variation), more)
            case "guardrail":
                more |= {"guardrail": "unsafe", "value": pick([True, 0.5]), "severity": pick(["info", "severe"])}
                return "guardrails", _with(outcome(unit, hour, variation), more, without="resolved")
        broken = pick(
            [{"flagKey": "other"}, {"variation": "other"}, {"unitId": ""}, {"cost": "1"}, {"timestamp": "noon"}]
        )
        return "outcomes", pick([b"{", b"[]", _with(outcome(unit, hour, variation), broken)])


def _with(value: bytes, more: dict[str, Any], without: str = "") -> bytes:
    body = {**json.loads(value), **more}
    body.pop(without, None)
    return json.dumps(body).encode()


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_audit_of_any_history_is_clean(seed: int) -> None:
    lab = Story(random.Random(seed)).run()  # noqa: S311 - a made-up history
    found = audited(lab)
    assert found.clean, [*found.lines()]
    assert [check.undone for check in found.checks if check.undone] == []


@given(seed=st.integers(0, 2**32), starts=st.tuples(*[st.integers(0, 12)] * len(TOPICS)))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_the_audit_of_the_later_part_of_any_history_is_clean(seed: int, starts: tuple[int, ...]) -> None:
    """Whatever a unit has before the offsets that are read, it is not taken for wrong."""
    lab = Story(random.Random(seed)).run()  # noqa: S311 - a made-up history
    later = {(topic, 0): start for topic, start in zip(TOPICS, starts, strict=True)}
    found = audit(lab.storage, LaterTopics(topics_of(lab), later))
    assert found.clean, [*found.lines()]
