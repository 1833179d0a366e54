"""`evidence contracts check`: flag files, and with --kafka the topics, held against the checklist."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

from contracts.checklist import RULES, SEVERITIES, Finding, Severity
from contracts.checks import judge
from contracts.errors import ContractError
from contracts.flags import Contract, load_contract
from pipeline.contracts.files import find_some, read
from pipeline.preflight import Topic
from pipeline.settings import Settings

__all__ = ["TOPIC_RULES", "Checked", "check", "topic_findings", "with_topics"]

TOPIC_RULES: Final = tuple(rule for rule in RULES if rule.startswith("topic-"))
"""The rules that the brokers are asked for."""

TIMEOUT_S: Final = 10.0  # to wait for the brokers
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found; `findings` by file and line, ignored ones marked, then those of topics."""

    files: Mapping[str, str | ContractError]  # text by name, or why there is none
    findings: Sequence[Finding]
    not_checked: Sequence[str]  # rules that nobody was asked about

    def failing(self, on: Severity) -> list[Finding]:
        """Return what is as bad as `on` or worse, and not ignored."""
        least = SEVERITIES.index(on)
        return [each for each in self.open if SEVERITIES.index(each.severity) >= least]

    @property
    def open(self) -> list[Finding]:
        """What is not ignored."""
        return [each for each in self.findings if each.ignored is None]


def check(paths: Sequence[Path], as_of: date) -> Checked:
    """Check the flag files at the paths as on a day; raises SettingsError where there are none."""
    texts = read(find_some(paths))
    return Checked(texts, judge(texts, as_of), TOPIC_RULES)


def with_topics(checked: Checked, cluster: Settings) -> Checked:
    """Add what the brokers say of the topics; raises KafkaUnavailable where none answers."""
    from pipeline.topics import describe, needed_ms  # noqa: PLC0415 - the client is loaded when it is needed

    topics = describe(cluster, TIMEOUT_S)
    found = topic_findings(cluster.topics, topics, needed_ms(cluster, _sound(checked.files)))
    return Checked(checked.files, [*checked.findings, *found], ())


def topic_findings(sources: Sequence[str], topics: Mapping[str, Topic], needed_ms: int) -> Iterator[Finding]:
    """Yield what breaks the rules of topics, under the topic's name; `needed_ms` is how long a record has to stay."""
    there = {name: topics[name] for name in sources if name in topics}
    counts = {name: topic.partitions for name, topic in there.items()}
    for name in sources:
        if name not in there:
            yield _of_topic("topic-there", name, "does not exist")
            continue
        kept = there[name].retention_ms
        if kept is not None and kept <= needed_ms:
            told = f"keeps records for {_hours(kept)}, the longest metric window and the allowed lateness are "
            yield _of_topic("topic-retention", name, told + _hours(needed_ms))
        if not there[name].configs:
            silent = _of_topic("topic-retention", name, "the broker does not tell how long it keeps records")
            yield replace(silent, severity="note", remedy="look where it was made")
        if counts[name] < max(counts.values()):
            told = ", ".join(f"{each} {count}" for each, count in counts.items())
            yield _of_topic("topic-partitions", name, f"partition counts differ: {told}")


def _of_topic(rule: str, topic: str, message: str) -> Finding:
    return Finding(rule, RULES[rule].severity, topic, 0, "", message, RULES[rule].remedy)


def _sound(texts: Mapping[str, str | ContractError]) -> Iterator[Contract]:
    for file, text in texts.items():
        try:
            if isinstance(text, str):
                yield load_contract(text, file)
        except ContractError:
            continue  # it is among the findings


def _hours(ms: int) -> str:
    return f"{ms / _HOUR_MS:.1f} h"
