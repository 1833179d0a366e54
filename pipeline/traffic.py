"""Made-up events of a flag: their bodies, and endless traffic as it happens.

Pure: the generator of random numbers and the time are arguments, the same ones give the same bytes. `pipeline.planted`
makes the traffic of which it is known what it must become; `pipeline.publish` brings messages to Kafka.
"""

import heapq
import json
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from contracts.flags import Contract, Metric
from contracts.times import format_time

__all__ = ["Bodies", "Live", "Message", "encode"]


@dataclass(frozen=True, slots=True)
class Message:
    """One record to publish; `partition` is None where the key decides."""

    kind: str  # exposure, outcome or guardrail
    key: bytes
    value: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


class Bodies:
    """The JSON of one flag's events, with values that look like its metrics'."""

    def __init__(self, rng: random.Random, contract: Contract) -> None:
        """Keep the contract whose names and routes the events carry."""
        self._rng = rng
        self.contract = contract
        self.unit_name = (contract.assignment_unit or "unit").removesuffix("_id")
        self._metrics: dict[str, list[Metric]] = {}
        for metric in contract.metrics:
            self._metrics.setdefault(metric.event, []).append(metric)
        self._segments = [contract.eligible_segment] if contract.eligible_segment else []
        experiment = contract.document.experiment
        allocation = (experiment.allocation if experiment else None) or dict.fromkeys(contract.variations, 1.0)
        self.assigned, self._shares = tuple(allocation), tuple(allocation.values())

    def variation(self, unit: str) -> str:
        """Return the variation that the flag assigns, always the same for a unit."""
        stable = random.Random(f"{self.contract.flag_key} {unit}")  # noqa: S311  # an assignment, not a secret
        return stable.choices(self.assigned, self._shares)[0]

    def exposure(self, unit: str, variation: str, at_us: int) -> dict[str, Any]:
        """Return an exposure that ran what the contract says."""
        route = self.contract.variations[variation]
        return {
            "event": "ai_model_route_exposure",
            "eventId": self._event_id(),
            "flagKey": self.contract.flag_key,
            "assignmentUnit": self.unit_name,
            "unitId": unit,
            "variation": variation,
            "modelRoute": route.model_route or "unnamed",
            "promptVersion": route.prompt_version or "unnamed",
            "retrievalProfile": route.retrieval_profile or "unnamed",
            "fallbackUsed": False,
            "attributes": self._attributes(unit),
            "segments": list(self._segments),
            "timestamp": format_time(at_us),
        }

    def outcome(self, unit: str, variation: str, at_us: int) -> dict[str, Any]:
        """Return an outcome with a value for each metric of one of the contract's outcome events."""
        event = self._rng.choice(list(self._metrics)) if self._metrics else "outcome"
        return {
            "event": event,
            "eventId": self._event_id(),
            "flagKey": self.contract.flag_key,
            "unitId": unit,
            "variation": variation,
            **{m.field: self._value(m, variation) for m in self._metrics.get(event, ()) if m.field},
            "timestamp": format_time(at_us),
        }

    def guardrail(self, unit: str, variation: str, at_us: int) -> dict[str, Any]:
        """Return a guardrail of little weight."""
        name, severity = self._rng.choice(
            (("slow_answer", "warning"), ("off_topic", "info"), ("unsafe_answer", "info"))
        )
        return {
            "event": "ai_guardrail",
            "eventId": self._event_id(),
            "flagKey": self.contract.flag_key,
            "unitId": unit,
            "variation": variation,
            "guardrail": name,
            "value": True,
            "severity": severity,
            "confirmed": False,
            "timestamp": format_time(at_us),
        }

    def _event_id(self) -> str:
        return f"{self._rng.getrandbits(64):016x}"

    def _attributes(self, unit: str) -> dict[str, str]:
        stable = random.Random(unit)  # noqa: S311  # a unit keeps its attributes in all its events
        locale = stable.choice(("en-GB", "en-US", "de-DE", "fr-FR", "ja-JP"))
        return {"locale": locale, "plan": stable.choice(("team", "team", "business", "enterprise"))}

    def _value(self, metric: Metric, variation: str) -> bool | float:
        """Draw a value: what is not the control resolves more, is slower and costs more."""
        rng, treated = self._rng, variation != "control"
        if metric.kind == "proportion":
            share = (0.71 if treated else 0.66) if metric.goal == "increase" else (0.10 if treated else 0.12)
            return rng.random() < share
        if metric.kind == "quantile":
            return round(rng.lognormvariate(math.log(1_650 if treated else 1_450), 0.4))
        return round(rng.lognormvariate(math.log(0.014 if treated else 0.011), 0.3), 4)


class Live:
    """Endless traffic of some flags as it happens: a conversation's exposure now, its outcome some seconds later.

    About one event in a hundred has a fault. Everything but the times follows from the arguments.
    """

    def __init__(self, rng: random.Random, contracts: Iterable[Contract], units: int) -> None:
        """Draw from `units` units of each flag; each keeps its variation."""
        self._rng = rng
        self._bodies = [Bodies(rng, contract) for contract in contracts]
        self._units = units
        self._due: list[tuple[int, int, Bodies, str, str]] = []  # time of the outcome, a tie-breaker, whose it is
        self._told = 0
        self._again: Message | None = None

    def next(self, now_us: int) -> Message:
        """Return the event that happens at `now_us`: an outcome that is due, or else an exposure."""
        self._told += 1
        if self._again is not None:
            message, self._again = self._again, None
            return message
        if self._due and self._due[0][0] <= now_us:
            _, _, bodies, unit, variation = heapq.heappop(self._due)
            kind = "guardrail" if self._rng.random() < 0.04 else "outcome"  # noqa: PLR2004
            body = (bodies.guardrail if kind == "guardrail" else bodies.outcome)(unit, variation, now_us)
        else:
            kind, bodies = "exposure", self._rng.choice(self._bodies)
            unit = f"{bodies.unit_name[:4]}_{self._rng.randrange(self._units):06d}"
            variation = bodies.variation(unit)
            body = bodies.exposure(unit, variation, now_us)
            if self._rng.random() < 0.8:  # noqa: PLR2004  # the others are left open
                then = now_us + int(min(self._rng.lognormvariate(math.log(20), 0.7), 300.0) * 1_000_000)
                heapq.heappush(self._due, (then, self._told, bodies, unit, variation))
        value = encode(body)
        if self._rng.random() < 0.01:  # noqa: PLR2004
            value = self._spoilt(body, value, bodies)
        message = Message(kind, unit.encode(), value, now_us // 1_000)
        if self._rng.random() < 0.002:  # noqa: PLR2004  # published twice
            self._again = message
        return message

    def _spoilt(self, body: dict[str, Any], value: bytes, bodies: Bodies) -> bytes:
        changed = self._rng.choice(
            (
                None,  # cut off
                {"timestamp": "yesterday"},
                {"flagKey": body["flagKey"] + "_typo"},
                {"variation": "unheard_of"},
                {"variation": self._rng.choice(bodies.assigned)},  # perhaps another one
                {"promptVersion": "next"} if "promptVersion" in body else {"value": "much"},
                {"fallbackUsed": True} if "fallbackUsed" in body else {"unitId": ""},
            )
        )
        return value[: len(value) // 2] if changed is None else encode(body | changed)


def encode(body: Mapping[str, Any]) -> bytes:
    """Return the JSON of a body, compact, UTF-8."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
