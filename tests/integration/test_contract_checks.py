"""`evidence contracts check --kafka`, at a broker."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

from contracts.durations import parse_duration
from contracts.flags import load_contract
from pipeline.contracts.check import check, with_topics
from pipeline.settings import Settings
from pipeline.topics import create
from tests.brokers import ApacheKafka
from tests.contracts.records import EXAMPLE


def test_topics_are_held_against_the_windows_of_the_flag_files(
    apache: ApacheKafka, settings_for: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = settings_for(apache.bootstrap)
    flag = tmp_path / "flag.yaml"
    flag.write_text(EXAMPLE, encoding="utf-8")
    files = check([flag], date(2026, 6, 20))

    def errors(given: Settings) -> list[tuple[str, str]]:
        return [(each.rule, each.file) for each in with_topics(files, given).failing("error")]

    assert errors(settings) == [("topic-there", topic) for topic in settings.topics]
    create(settings, [load_contract(EXAMPLE, str(flag))], 2, -1)
    assert errors(settings) == []
    patient = settings.model_copy(update={"allowed_lateness": parse_duration("30d")})
    assert errors(patient) == [("topic-retention", topic) for topic in settings.topics]
