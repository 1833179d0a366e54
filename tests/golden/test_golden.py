"""Conversations and what becomes of them, in files that read in a diff (see `records`)."""

import json
from typing import Final

import pyarrow as pa
import pytest

from contracts.decode import Decoder
from contracts.flags import load_contract, read_contracts
from contracts.times import parse_time
from pipeline.close import Due, Horizon, close
from tests.golden.records import CASES, EXAMPLE, GOLDEN, KINDS, PARTITION, PlainRecord, expected, played
from tests.properties.chain import Chain, published
from tests.properties.comparing import differences
from tests.properties.events import HOUR
from tests.properties.oracle import Oracle

_TABLES: Final = ("facts", "events", "unjoined")


@pytest.mark.parametrize("case", CASES)
def test_the_close_publishes_the_expected_rows(case: str) -> None:
    """From the bytes of the records to the rows of the tables."""
    assert not differences(expected(case), played(case, Chain), _TABLES)


@pytest.mark.parametrize("case", CASES)
def test_the_oracle_publishes_the_expected_rows(case: str) -> None:
    """What judges the close in the property tests is judged by the same files."""
    assert not differences(expected(case), played(case, Oracle), _TABLES)


def test_the_decoder_s_own_batches_close_as_they_are() -> None:
    """The conversation, with the columns handed on as they were decoded."""
    lines = [json.loads(line) for line in (GOLDEN / "cases/conversation/input.ndjson").read_text().splitlines()]
    contract = load_contract((GOLDEN.parent.parent / "examples" / EXAMPLE).read_text(), EXAMPLE)
    decoder = Decoder(read_contracts({EXAMPLE: contract.text}), 1 << 20, HOUR)
    batches = []
    for line in lines[:2]:
        sent = parse_time(line["timestamp"]) // 1000
        record = PlainRecord(0, sent, json.dumps(line["value"]).encode(), b"conv_98271")
        batches.append(decoder.decode(KINDS[line["topic"]], line["topic"], [record], sent * 1000).events)
    due = Due(
        partition=PARTITION,
        closed_through=None,
        watermark=parse_time(lines[2]["close"]),
        allowed_lateness=HOUR,
        horizons={contract.flag_key: Horizon(contract.window_us, None)},
        contracts={contract.version: contract},
        old=[],
        new=[pa.Table.from_batches([batch]) for batch in batches],
        residue=[],
    )
    assert not differences(expected("conversation"), published(close(due)), _TABLES)
