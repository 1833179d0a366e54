"""FeatBit's insights: what its SDKs post to `/api/public/insight/track`, relayed to Kafka as one insight a record.

An insight is an end user with evaluations of flags and with metrics that were tracked. A record has one fate, so it
may hold one of either and no more. What FeatBit has no field for comes from the user's custom properties, under the
names of the contract.
"""

from collections.abc import Mapping
from typing import Any, Final

from contracts.events import Kind
from contracts.times import LATEST, format_time
from contracts.wire.broken import bad_framing, missing, violation

__all__ = ["event_of", "is_insight"]

Json = Any  # as JSON is read

_FIELDS: Final = frozenset({"user", "variations", "metrics"})
_PLACES: Final[Mapping[Kind, str]] = {"exposure": "variations", "outcome": "metrics"}
_BOOLEANS: Final = {"true": True, "false": False}
_ROUTE: Final = ("modelRoute", "promptVersion", "retrievalProfile", "fallbackUsed")
_ASSIGNMENT: Final = ("flagKey", "experimentKey", "variation")
_OURS: Final = frozenset({*_ROUTE, *_ASSIGNMENT, "assignmentUnit", "reason"})  # other properties are attributes


def is_insight(body: Json) -> bool:
    """Return whether a JSON text is an insight, or an array that begins with one."""
    return _is_one(body[0] if isinstance(body, list) and body else body)


def event_of(kind: Kind, body: Json) -> dict[str, Json]:
    """Return the one event of an insight, or of an array of one insight, as the contract has it. Raises Broken.

    An evaluation is an exposure, a metric an outcome.
    """
    insights = body if isinstance(body, list) else [body]
    if not all(map(_is_one, insights)):
        raise bad_framing("featbit", (), "Input should be one insight, with user, variations and metrics")
    found = [
        (name, insight["user"], each)
        for insight in insights
        for name in ("variations", "metrics")
        for each in _listed(insight.get(name))
    ]
    if len(found) != 1:
        text = f"Input should hold one evaluation or one metric, it holds {len(found)}; publish a record for each"
        raise bad_framing("featbit", (), text)
    ((name, user, each),) = found
    if not isinstance(each, dict):
        raise bad_framing("featbit", (name, 0), "Input should be an object")
    if _PLACES.get(kind) != name:
        text = (
            "Input should be an evaluation in exposures, a metric in outcomes; guardrails come as the contract has them"
        )
        raise violation("featbit", (name,), text)
    properties = _properties(user)
    event = _exposure(each, properties) if kind == "exposure" else _outcome(each, properties)
    attributes = {name: text for name, text in properties.items() if name not in _OURS}
    return event | {
        "unitId": user["keyId"],
        "timestamp": _time(each.get("timestamp")),
        "attributes": attributes or None,
    }


def _is_one(body: Json) -> bool:
    return (
        isinstance(body, dict)
        and body.keys() <= _FIELDS
        and isinstance(body.get("user"), dict)
        and isinstance(body["user"].get("keyId"), str)
        and any(isinstance(body.get(name), list) for name in ("variations", "metrics"))
    )


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _properties(user: Mapping[str, Json]) -> dict[str, str]:
    """Return the custom properties by name; the last of a name counts."""
    properties = {}
    for place, each in enumerate(_listed(user.get("customizedProperties"))):
        name, text = (each.get("name"), each.get("value")) if isinstance(each, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(text, str):
            path = ("user", "customizedProperties", place)
            raise bad_framing("featbit", path, "Input should be an object with name and value, both texts")
        properties[name] = text
    return properties


def _exposure(evaluation: Mapping[str, Json], properties: Mapping[str, str]) -> dict[str, Json]:
    served = evaluation.get("variation")
    variation = served.get("value") if isinstance(served, dict) else None
    absent = [("flagKey", "featureFlagKey")] * (evaluation.get("featureFlagKey") is None)
    absent += [("variation", "variation.value")] * (variation is None)
    absent += [(name, f"the user's custom property {name}") for name in _ROUTE if name not in properties]
    if absent:
        raise missing(absent)
    if evaluation.get("sendToExperiment") is False:
        text = "Input should be true; what is not part of an experiment is no exposure"
        raise violation("featbit", ("variations", 0, "sendToExperiment"), text)
    return {
        "event": "FlagValue",
        "flagKey": evaluation["featureFlagKey"],
        "variation": variation,
        "assignmentUnit": properties.get("assignmentUnit", "user"),
        **{name: properties[name] for name in _ROUTE},
        "fallbackUsed": _BOOLEANS.get(properties["fallbackUsed"].lower()),  # the model refuses what is neither
        "reason": properties.get("reason"),
    }


def _outcome(metric: Mapping[str, Json], properties: Mapping[str, str]) -> dict[str, Json]:
    absent = [("event", "eventName")] * (metric.get("eventName") is None)
    absent += [("flagKey", "the user's custom property flagKey")] * properties.keys().isdisjoint(_ASSIGNMENT[:2])
    absent += [("variation", "the user's custom property variation")] * ("variation" not in properties)
    if absent:
        raise missing(absent)
    assignment = {name: properties[name] for name in _ASSIGNMENT if name in properties}
    measured = {"numericValue": metric["numericValue"]} if metric.get("numericValue") is not None else {}
    return {"event": metric["eventName"], **assignment, **measured}


def _time(milliseconds: Json) -> Json:
    """Return a time as text; what is none is for the model to refuse."""
    if type(milliseconds) is int and 0 <= milliseconds <= LATEST // 1000:
        return format_time(milliseconds * 1000)
    return milliseconds
