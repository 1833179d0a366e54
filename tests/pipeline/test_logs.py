"""Log lines: one a change of state; tracebacks where a fault of ours may be."""

import json
import logging
import sys
from collections.abc import Callable, Iterator

import pytest
from aiokafka.errors import KafkaConnectionError

from contracts.durations import parse_duration
from pipeline.logs import configure
from pipeline.settings import Settings


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lost() -> None:
    raise KafkaConnectionError("no connection to node 1")


def refused() -> None:
    raise ConnectionRefusedError(111, "Connection refused")


def closed_twice() -> None:
    sys.exit("closed")


def of_ours() -> None:
    parse_duration("soon")


def said(caught: pytest.CaptureFixture[str], name: str, fault: Callable[[], None], **settings: str) -> str:
    """Return what is written where that logger tells of the fault."""
    configure(Settings(**{"bootstrap_servers": "localhost:1", **settings}))  # type: ignore[arg-type]
    try:
        fault()
    except (Exception, SystemExit):
        logging.getLogger(name).exception("cannot leave the group")
    return caught.readouterr().err


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param(lost, "KafkaConnectionError: no connection to node 1", id="client"),
        pytest.param(refused, "ConnectionRefusedError: [Errno 111] Connection refused", id="system"),
        pytest.param(closed_twice, "SystemExit: closed", id="library"),
    ],
)
def test_what_libraries_say_of_connections_is_one_line(
    capsys: pytest.CaptureFixture[str], fault: Callable[[], None], told: str
) -> None:
    [line] = said(capsys, "aiokafka.consumer", fault).splitlines()
    assert line.endswith(f" ERROR   cannot leave the group: {told}")
    body = json.loads(said(capsys, "mode.services", fault, log_format="json"))
    assert (body["message"], body["exception"]) == ("cannot leave the group", told)


@pytest.mark.parametrize(
    ("name", "fault", "level"),
    [
        pytest.param("faust.agents", of_ours, "INFO", id="a fault of ours, told by a library"),
        pytest.param("pipeline.worker", lost, "INFO", id="told by us"),
        pytest.param("aiokafka.consumer", lost, "DEBUG", id="at DEBUG"),
    ],
)
def test_other_faults_have_their_traceback(
    capsys: pytest.CaptureFixture[str], name: str, fault: Callable[[], None], level: str
) -> None:
    assert "Traceback (most recent call last)" in said(capsys, name, fault, log_level=level)
    body = json.loads(said(capsys, name, fault, log_level=level, log_format="json"))
    assert "Traceback (most recent call last)" in body["exception"]


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
