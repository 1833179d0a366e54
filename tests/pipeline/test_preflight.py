"""What the topics have to be like: one change away from a fit set of topics, one problem."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from pipeline.preflight import ENVELOPE_BYTES, Problem, Topic, judge

SOURCES = ("exposures", "outcomes", "guardrails")
HOUR_MS = 3_600_000
NEEDED_MS = 25 * HOUR_MS


def topic(name: str, partitions: int, retention_ms: int, message_bytes: int) -> Topic:
    configs = {
        "cleanup.policy": "delete",
        "max.message.bytes": str(message_bytes),
        "message.timestamp.type": "CreateTime",
        "retention.bytes": "-1",
        "retention.ms": str(retention_ms),
    }
    return Topic(name, f"id of {name}", dict.fromkeys(range(partitions), True), configs)


def fit() -> dict[str, Topic]:
    """Make six topics that nobody could complain about."""
    sources = [topic(name, 12, NEEDED_MS + 1, 1_000_000) for name in SOURCES]
    letters = [topic(f"{name}.dlq", 12, 2 * NEEDED_MS, 1_000_000 + ENVELOPE_BYTES) for name in SOURCES]
    return {topic.name: topic for topic in (*sources, *letters)}


def configured(name: str, configs: Mapping[str, str]) -> dict[str, Topic]:
    """Make fit topics but for some configuration of one."""
    topics = fit()
    return topics | {name: replace(topics[name], configs={**topics[name].configs, **configs})}


def told(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.severity, problem.topic) for problem in problems]


def test_fit_topics_have_no_problem() -> None:
    assert judge(SOURCES, fit(), NEEDED_MS) == []


@pytest.mark.parametrize("name", ["outcomes", "outcomes.dlq"])
def test_missing_topic_is_an_error(name: str) -> None:
    topics = fit()
    del topics[name]
    (problem,) = judge(SOURCES, topics, NEEDED_MS)
    assert problem == Problem("error", name, "does not exist", "run: evidence topics create")


def test_unequal_partition_counts_are_an_error_of_all() -> None:
    """Nobody can tell which of the three is the wrong one."""
    topics = fit()
    for name in ("guardrails", "guardrails.dlq"):
        topics[name] = replace(topics[name], leaders=dict.fromkeys(range(8), True))
    problems = judge(SOURCES, topics, NEEDED_MS)
    assert told(problems) == [("error", name) for name in SOURCES]
    assert problems[0].message == "partition counts differ: exposures 12, outcomes 12, guardrails 8"


def test_dead_letter_topic_has_the_partitions_of_its_source() -> None:
    topics = fit()
    topics["outcomes.dlq"] = replace(topics["outcomes.dlq"], leaders={0: True})
    assert told(judge(SOURCES, topics, NEEDED_MS)) == [("error", "outcomes.dlq")]


def test_partition_without_leader_is_an_error() -> None:
    topics = fit()
    topics["outcomes"] = replace(topics["outcomes"], leaders=dict.fromkeys(range(12), True) | {3: False, 5: False})
    (problem,) = judge(SOURCES, topics, NEEDED_MS)
    assert (problem.severity, problem.message) == ("error", "no leader for partition 3, 5")


@pytest.mark.parametrize(
    ("name", "configs", "severity"),
    [
        pytest.param("exposures", {"retention.ms": str(NEEDED_MS)}, "error", id="kept-no-longer-than-a-window"),
        pytest.param("exposures", {"cleanup.policy": "compact"}, "error", id="compacted"),
        pytest.param("exposures", {"cleanup.policy": "compact,delete"}, "error", id="compacted-and-deleted"),
        pytest.param("exposures.dlq", {"cleanup.policy": "compact"}, "error", id="dead-letters-compacted"),
        pytest.param("exposures", {"retention.bytes": "1000"}, "note", id="cut-by-size"),
        pytest.param("exposures", {"message.timestamp.type": "LogAppendTime"}, "note", id="stamped-on-arrival"),
        pytest.param("exposures.dlq", {"retention.ms": str(NEEDED_MS)}, "warning", id="dead-letters-go-first"),
        pytest.param("exposures.dlq", {"max.message.bytes": "1000000"}, "warning", id="dead-letters-too-large"),
    ],
)
def test_configuration_is_judged(name: str, configs: dict[str, str], severity: str) -> None:
    assert told(judge(SOURCES, configured(name, configs), NEEDED_MS)) == [(severity, name)]


@pytest.mark.parametrize(
    ("name", "configs"),
    [
        pytest.param("exposures.dlq", {"retention.ms": "-1"}, id="dead-letters-kept-for-ever"),
        pytest.param(
            "exposures.dlq", {"message.timestamp.type": "LogAppendTime"}, id="dead-letters-stamped-on-arrival"
        ),
    ],
)
def test_configuration_is_fit(name: str, configs: dict[str, str]) -> None:
    assert judge(SOURCES, configured(name, configs), NEEDED_MS) == []


def test_records_kept_for_ever_want_dead_letters_kept_for_ever() -> None:
    (problem,) = judge(SOURCES, configured("exposures", {"retention.ms": "-1"}), NEEDED_MS)
    assert (problem.severity, problem.topic) == ("warning", "exposures.dlq")
    assert problem.remedy == "set retention.ms=-1 on exposures.dlq"


def test_broker_that_tells_no_configuration_is_noted() -> None:
    """Its topics may still be fit: nothing is made of what is not known."""
    topics = {name: replace(topic, configs={}) for name, topic in fit().items()}
    assert {problem.severity for problem in judge(SOURCES, topics, NEEDED_MS)} == {"note"}


def test_worst_comes_first() -> None:
    topics = configured("exposures", {"retention.bytes": "1000"})
    del topics["guardrails.dlq"]
    assert told(judge(SOURCES, topics, NEEDED_MS)) == [("error", "guardrails.dlq"), ("note", "exposures")]
