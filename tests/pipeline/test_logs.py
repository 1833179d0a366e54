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
