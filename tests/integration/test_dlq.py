"""Dead letters in the hands of whoever is on call: from what is wrong to facts, over real topics."""

import json
import signal
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from contracts.errors import OffsetsLost
from pipeline.cli import main
from pipeline.dlq.kafka import KafkaReader
from pipeline.dlq.places import Place
from pipeline.dlq.reading import Bounds
from pipeline.preflight import DLQ_SUFFIX
from pipeline.topics import create_beside
from tests.commands import environment, running
from tests.integration.deployment import Deployment, exposure, outcome, pair
from tests.pipeline import lab
from tests.pipeline.dlq.letters import connect, spring
from tests.waiting import until

Dlq = Callable[..., Any]

OTHER_FLAG = lab.FLAG.replace("route\n", "other\n").replace("route_test", "other_test")
UNITS = [f"u{number}" for number in range(6)]


@pytest.fixture
def dlq(on_apache: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Dlq:
    """Give `evidence dlq`, in this process: with --json what it prints as values, else as text."""

    def run(*arguments: str, code: int = 0, as_json: bool = True) -> Any:  # noqa: ANN401 - what it prints
        for name, value in environment(on_apache.settings).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["evidence", "dlq", *arguments, *(["--json"] if as_json else [])])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert (ended.value.code or 0) == code, told
        return json.loads(told.out) if as_json else told.out

    return run


def sent(deployed: Deployment) -> Counter[str]:
    """Count the records of outcomes by the unit that they name."""
    records = deployed._read([deployed.topic("outcome")])  # noqa: SLF001 - to read a topic is what it is for
    return Counter(json.loads(record.value())["unitId"] for record in records)


def test_from_what_is_wrong_to_facts(on_apache: Deployment, dlq: Dlq) -> None:
    name = on_apache.topic("outcome")
    hostile = replace(outcome("v", 1), value=b'{"flagKey": "route", "\x1b[2J": "\x1b]0;owned\x07"}')
    on_apache.publish([*pair("w", 0), hostile, *(exposure(unit, 0, flagKey="other") for unit in UNITS)])
    on_apache.publish(outcome(unit, 1, flagKey="other") for unit in UNITS)
    on_apache.read_to_end()

    # what is wrong
    groups = {(group["topic"], group["reason"], group["flag"]): group for group in dlq("ls")}
    assert groups[name, "unknown_flag", "other"]["count"] == len(UNITS)
    assert groups[name, "unknown_flag", "other"]["variations"] == {"control": len(UNITS)}
    shown = dlq("show", groups[name, "not_json", None]["latest"], as_json=False)
    assert r"\x1b[2J" in shown
    place = shown.splitlines()[0].partition(", in ")[2]
    assert dlq("show", place, as_json=False) == shown
    assert [group["reason"] for group in dlq("ls", "--reason", "not_json", "--since", "1h")] == ["not_json"]
    dlq("ls", "--topic", "nowhere", as_json=False, code=1)
    dlq("show", f"{name}/0/999", as_json=False, code=1)
    assert not [each for each in shown.replace("\n", "") if unicodedata.category(each) == "Cc"]

    # what can be done about it, and done
    unknown = 2 * len(UNITS)
    told = dlq("replay", "--dry-run", "--reason", "unknown_flag", as_json=False)
    assert told.startswith(f"{unknown} dead letters chosen\n  refused_again  {unknown}  would be refused again: ")
    assert dlq("replay", code=4)["decisions"] == {"refused_again": unknown + 1}
    (on_apache.home / "flags" / "other.yaml").write_text(OTHER_FLAG)
    some = dlq("replay", "--flag", "other", "--max", "5", "--rate", "1000")
    assert (some["sent"], some["decisions"]) == (5, {"send": 5, "over_max": unknown - 5})
    assert dlq("replay", "--flag", "other")["sent"] == unknown - 5
    assert dlq("replay", "--flag", "other")["decisions"] == {"replayed": unknown}

    # letters of others
    producer = on_apache.producer()
    for headers, hour in ((connect(Place(name, 0, 10**6)), 2), (spring(Place("scoring-retry-0", 0, 3)), 3)):
        value = lab.outcome("w", hour, eventId=f"e{hour}")
        producer.produce(name + DLQ_SUFFIX, value, b"w", partition=0, headers=headers)
    assert producer.flush(30) == 0
    assert dlq("replay", "--reason", "IllegalStateException", code=4)["decisions"] == {"no_origin": 1}
    assert dlq("replay", "--reason", "IllegalStateException", "--to", name)["sent"] == 1
    assert dlq("replay", "--reason", "DataException", code=4)["decisions"] == {"undecided": 1}

    # what came of it; the hostile record comes back, and is parked rather than sent again
    once = ("replay", "--reason", "not_json", "--anyway", "--max-replays", "1")
    assert dlq(*once)["sent"] == 1
    assert (dlq("export")["letters"], dlq("export")["letters"]) == (unknown + 3, 0)
    again = on_apache.with_new_group()
    again.read_to_end("--close-windows")
    assert {fact["unit_id"]: fact["outcomes"] for fact in again.facts()} == {"w": 2, **dict.fromkeys(UNITS, 1)}
    parked = dlq(*once)
    assert (parked["sent"], parked["parked"], parked["decisions"]) == (0, 1, {"park": 1, "replayed": 1})
    assert dlq(*once)["decisions"] == {"replayed": 1, "parked": 1}
    assert dlq("ls", "--topic", f"{name}{DLQ_SUFFIX}.parked")[0]["count"] == 1
    assert dlq("export")["letters"] == 1
    query = "SELECT count(*) AS letters, max(replay_count) AS replays FROM dead_letters WHERE reason = 'not_json'"
    assert json.loads(again.evidence("query", "--json", query).stdout) == {"letters": 2, "replays": 1}
    assert again.evidence("verify").returncode == 0


def test_a_replay_that_is_killed_goes_on_and_sends_each_once(on_apache: Deployment, dlq: Dlq) -> None:
    units = [f"k{number}" for number in range(30)]
    on_apache.publish(outcome(unit, 1, flagKey="other") for unit in units)
    on_apache.read_to_end()
    (on_apache.home / "flags" / "other.yaml").write_text(OTHER_FLAG)
    log = on_apache.home / "replay.log"
    with running(environment(on_apache.settings), "dlq", "replay", "--rate", "10", log=log) as process:
        until(lambda: sent(on_apache).total() > len(units), 60, "the first records")
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert len(units) < sent(on_apache).total() < 2 * len(units)
    assert dlq("replay")["sent"] > 0
    assert sent(on_apache) == dict.fromkeys(units, 2)


def test_records_that_are_deleted_while_they_are_read_are_said(on_apache: Deployment) -> None:
    with KafkaReader(on_apache.settings.librdkafka()) as reader:
        with pytest.raises(OffsetsLost, match="deleted while they were read; run it again"):
            list(reader.read({(on_apache.topic("outcome"), 0): Bounds(1_000, 1_001)}))
        assert reader.bounds("nowhere") == {}
        assert reader.topic_id("nowhere") is None


def test_a_topic_that_was_just_made_can_be_read(on_apache: Deployment) -> None:
    """Its leader is known before it answers; letters are parked in such a topic."""
    beside = on_apache.topic("outcome")
    with KafkaReader(on_apache.settings.librdkafka()) as reader:
        for name in (f"{beside}-{number}" for number in range(8)):
            create_beside(on_apache.settings, name, beside)
            assert set(reader.bounds(name).values()) == {Bounds(0, 0)}
