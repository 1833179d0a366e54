"""The page on envelopes says what is so: its samples are read, its snippets publish what is read."""

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from contracts.events import Kind
from tests.contracts.records import VALID, PlainRecord
from tests.contracts.test_decode import decode, row

PAGE: Final = (Path(__file__).parents[3] / "docs" / "wire.md").read_text(encoding="utf-8")
KINDS: Final[dict[str, Kind]] = {"exposures": "exposure", "outcomes": "outcome"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def raw(text: str) -> bytes:
    """Return the bytes of a text in which some are written by their hexadecimal digits."""
    return text.encode().decode("unicode_escape").encode("latin-1") if "\\x" in text else text.encode()


@pytest.mark.parametrize("sample", blocks("text"))
def test_the_samples_are_valid_events(sample: str) -> None:
    head, _, value = sample.partition("\n\n")
    (_, topic), *headers = (line.split(": ", 1) for line in head.splitlines())
    record = PlainRecord(raw(value.rstrip("\n")), headers=[(name, raw(text)) for name, text in headers])
    found = row(decode(KINDS[topic], record))
    assert (found["flag_key"], found["unit_id"]) == ("support_answer_model_route", "conv_98271")
    assert found["event_time"] // 1_000_000 == 1_780_827_330
    assert (found["event_id"] is not None) == ("specversion" in sample)


@dataclass
class Topics:
    """Stands in for a producer in the snippets: what is published is kept."""

    published: list[PlainRecord] = field(default_factory=list)

    def produce(self, topic: str, value: bytes, key: str, headers: dict[str, bytes] | None = None) -> None:
        assert topic in KINDS
        pairs = list((headers or {}).items())
        self.published.append(PlainRecord(value, key=key.encode(), headers=pairs))


@pytest.mark.parametrize("snippet", blocks("python"))
def test_the_snippets_publish_what_is_read(snippet: str) -> None:
    topics, given = Topics(), VALID["outcome"]
    exec(snippet, {"producer": topics, "event": given, "registry_url": "mock://"})  # noqa: S102 -- the page is ours
    [record] = topics.published
    assert record.key == given["unitId"].encode()
    assert record.value != json.dumps(given).encode() or record.headers
    wrapped = decode("outcome", record, now=time.time_ns() // 1_000)  # the SDK gives the event a time, which is now
    assert row(wrapped)["values"] == row(decode("outcome", PlainRecord(json.dumps(given).encode())))["values"]


def test_the_collectors_configuration_is_yaml() -> None:
    [text] = blocks("yaml")
    configuration: dict[str, Any] = yaml.safe_load(text)
    assert configuration["exporters"]["kafka"]["logs"] == {"topic": "exposures", "encoding": "otlp_json"}
    assert configuration["processors"]["batch"]["send_batch_max_size"] == 1
