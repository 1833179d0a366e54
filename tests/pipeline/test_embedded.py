"""The embedded broker: there while it is needed, gone afterwards, and clear about why it is not there."""

import os
from pathlib import Path

import pytest

from contracts.errors import KafkaUnavailable
from pipeline.embedded import embedded_broker
from pipeline.topics import await_brokers


@pytest.mark.embedded
@pytest.mark.usefixtures("embedded")  # skipped without it
def test_broker_answers_inside_the_block_only(tmp_path: Path) -> None:
    with embedded_broker(tmp_path / "broker.log") as bootstrap:
        assert bootstrap.startswith("127.0.0.1:")
        await_brokers({"bootstrap.servers": bootstrap})
    with pytest.raises(KafkaUnavailable):
        await_brokers({"bootstrap.servers": bootstrap}, timeout_s=0.5)
    assert "listening on" in (tmp_path / "broker.log").read_text()


def test_broker_that_dies_at_once_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that cannot serve must not be waited for."""
    program = tmp_path / "tansu"
    program.write_text("#!/bin/sh\necho no such luck\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(program))
    with pytest.raises(KafkaUnavailable, match="does not come up: no such luck"), embedded_broker():
        pass


def test_missing_program_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", os.devnull)
    with pytest.raises(KafkaUnavailable, match="EVIDENCE_BOOTSTRAP_SERVERS"), embedded_broker():
        pass
