"""Log lines of a worker, for people and for machines."""

import json
import logging
from collections.abc import Iterator

import pytest

from pipeline.logs import configure
from pipeline.settings import Settings


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    root.handlers[:], root.level = handlers, level


def say(capsys: pytest.CaptureFixture[str], log_format: str) -> list[str]:
    configure(Settings(log_format=log_format))
    log = logging.getLogger("pipeline.worker")
    log.info('partition %d: "a\nname"', 5)
    log.debug("too much")
    log.error("the disk", exc_info=OSError("no space"))
    return capsys.readouterr().err.splitlines()


def test_json_lines_are_objects_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = map(json.loads, say(capsys, "json"))
    assert first.keys() == {"time", "level", "logger", "message"}
    assert (first["level"], first["logger"], first["message"]) == ("info", "pipeline.worker", 'partition 5: "a\nname"')
    assert first["time"].endswith("Z")
    assert second["level"] == "error"
    assert second["exception"].splitlines()[-1] == "OSError: no space"


def test_text_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    lines = say(capsys, "text")
    assert lines[0].split(maxsplit=1)[1] == 'INFO    partition 5: "a'
    assert lines[-1] == "OSError: no space"
