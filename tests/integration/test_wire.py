"""Topics with events in all kinds of envelope, read by a worker: facts, dead letters and the audit."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import pytest

from contracts.placement import murmur2_partition
from pipeline.traffic import Message
from tests.contracts.wire.envelopes import CE_TIME, FORMS, METRIC, evaluation, insight, log_record
from tests.integration.deployment import Deployment, exposure, outcome

PARTITIONS: Final = 2
CLOUD: Final = "CloudEvent in binary mode"
GUID: Final = "schema GUID"  # such bytes are no UTF-8
CLOUDS: Final = tuple(form for form in FORMS if "CloudEvent" in form or "mode" in form)
MEASURED: Final = METRIC | {"eventName": "done", "timestamp": 1_780_833_600_000}
PROPERTIES: Final = {"modelRoute": "a", "promptVersion": "p", "retrievalProfile": "r", "fallbackUsed": "false"}


def wrapped(form: str, message: Message, **changes: Any) -> Message:  # noqa: ANN401 -- fields of an event
    """Return the message with its event in an envelope, and with other fields or without (`...`)."""
    fields = {name: value for name, value in (json.loads(message.value or b"") | changes).items() if value is not ...}
    value, headers = FORMS[form](json.dumps(fields).encode())
    return replace(message, value=value, headers=tuple((name, text or b"") for name, text in headers))


def timeless(form: str) -> dict[str, Any]:
    """Return what takes the event's own time away where the envelope has one."""
    return {"timestamp": ...} if form in CLOUDS else {}


def misplaced(message: Message) -> Message:
    """Return the message in the other partition, under the key that a framing serialiser makes."""
    right = int(murmur2_partition([message.key.decode()], PARTITIONS)[0])
    return replace(message, partition=1 - right, key=b"\0\0\0\0\7" + json.dumps(message.key.decode()).encode())


def featbit(unit: str, **lists: Any) -> Message:  # noqa: ANN401 -- as JSON
    kind = "outcome" if lists else "exposure"
    properties = {"flagKey": "route", "variation": "control"} if lists else PROPERTIES
    user = {"keyId": unit, "customizedProperties": [{"name": name, "value": text} for name, text in properties.items()]}
    lists = lists or {
        "variations": [
            {
                "featureFlagKey": "route",
                "variation": {"id": "1", "value": "control"},
                "sendToExperiment": True,
                "timestamp": 1_780_830_000_000,
            }
        ]
    }
    return Message(kind, unit.encode(), json.dumps(insight(user=user, **lists)).encode(), 1_780_830_000_000)


def opentelemetry(unit: str) -> Message:
    said = {
        "feature_flag.key": "route",
        "feature_flag.result.variant": "control",
        "feature_flag.context.id": unit,
        "evidence.assignment_unit": "user",
        "evidence.model_route": "a",
        "evidence.prompt_version": "p",
        "evidence.retrieval_profile": "r",
    }
    return Message(
        "exposure", unit.encode(), json.dumps(evaluation(log_record(attributes=said))).encode(), 1_780_830_000_000
    )


@pytest.mark.embedded
def test_events_in_all_envelopes_become_facts_that_the_audit_confirms(
    embedded: str, deploy: Callable[..., Deployment]
) -> None:
    deployed = deploy(embedded, partitions=PARTITIONS)
    units = {form: f"unit-{number}" for number, form in enumerate(FORMS)}
    good = [wrapped(form, exposure(unit, 11)) for form, unit in units.items()]
    good += [wrapped(form, outcome(unit, 11.5), **timeless(form)) for form, unit in units.items()]
    vendors = [featbit("featbit"), featbit("featbit", variations=[], metrics=[MEASURED]), opentelemetry("otel")]
    good += [wrapped("schema ID", outcome("otel", 13))]
    moved = [f"moved-{number}" for number in range(4)]
    good += [exposure(unit, 11) for unit in moved]
    astray = [misplaced(wrapped(CLOUD, outcome(unit, 11.5), timestamp=...)) for unit in moved]
    twice = [wrapped(CLOUD, outcome(units[CLOUD], 11.5, note=number), timestamp=...) for number in range(2)]
    lonely = wrapped(GUID, outcome("lonely", 11.5))
    broken = [
        replace(lonely, value=(lonely.value or b"")[:9]),
        replace(featbit("two"), value=json.dumps([*insight(), *insight()]).encode()),
        replace(good[-1], headers=(("content-type", b"application/cloudevents-batch+json"),)),
    ]

    # read, and audited while all is open
    deployed.publish([*good, *vendors, *astray, *twice, lonely, *broken])
    deployed.read_to_end()
    assert deployed.fates() == Counter(rerouted=len(astray), bad_framing=len(broken))
    assert deployed.evidence("verify").returncode == 0

    # read on, closed, and audited again
    again = deployed.with_new_group()
    again.read_to_end("--close-windows")
    audit = again.evidence("verify")
    assert audit.returncode == 0, audit.stdout
    expected = [*units.values(), "featbit", "otel", *moved]
    assert {fact["unit_id"]: fact["outcomes"] for fact in again.facts()} == dict.fromkeys(expected, 1)
    times = {row["unit_id"]: row["event_time"] for row in again.rows("events") if row["kind"] == "outcome"}
    at_envelopes = {units[form] for form in CLOUDS} | {*moved}
    assert {unit for unit, time in times.items() if time == datetime.fromisoformat(CE_TIME)} == at_envelopes

    # what was left over, text for analysts and bytes for on-call
    assert again.fates() == Counter(
        joined=2 * len(units) + 2 * len(moved) + 4,
        rerouted=len(astray),
        bad_framing=len(broken),
        duplicate=len(twice),
        no_exposure=1,
    )
    [left] = [row for row in again.rows("unjoined") if row["unit_id"] == "lonely"]
    assert json.loads(left["value"])["unitId"] == "lonely"
    letters = again.letters()
    assert [letter.value for letter in letters if letter.reason == "no_exposure"] == [lonely.value]
    framed = {
        letter.value: letter.headers["evidence.dlq.details"] for letter in letters if letter.reason == "bad_framing"
    }
    assert framed.keys() == {message.value for message in broken}
    layers = {json.loads(details)[0]["type"] for details in framed.values()}
    assert layers == {"schema_registry", "featbit", "cloudevents"}
