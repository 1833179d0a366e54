"""Golden cases as files: what is read, and the rows that come of it.

`input.ndjson` is told line by line: a record of a topic (`timestamp` is the record's own time, by default the body's),
a `checkpoint`, a `close` through a watermark, or a `contract` file that is in force from here on. `facts.ndjson`,
`events.ndjson` and `unjoined.ndjson` hold the expected rows in any order, times as text and contracts by file name.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa

from contracts.decode import Decoder
from contracts.flags import Contract, ContractBook, load_contract
from contracts.times import parse_time
from tests.properties.chain import Chain
from tests.properties.events import HOUR, SECOND, Event, events_of
from tests.properties.oracle import Oracle, Row, Rows

__all__ = ["CASES", "EXAMPLE", "GOLDEN", "KINDS", "PARTITION", "PlainRecord", "expected", "played"]

GOLDEN: Final = Path(__file__).parent
CASES: Final = sorted(path.name for path in (GOLDEN / "cases").iterdir())
EXAMPLE: Final = "support_answer_model_route.yaml"  # in force until an input says otherwise
PARTITION: Final = 3

KINDS: Final[Mapping[str, Literal["exposure", "outcome", "guardrail"]]] = {
    "exposures": "exposure",
    "outcomes": "outcome",
    "guardrails": "guardrail",
}
_TIMES: Final = frozenset({"window_start", "window_end", "last_exposure_at", "event_time"})


@dataclass(frozen=True, slots=True)
class PlainRecord:
    """A record as a consumer parsed it; the timestamp is in milliseconds, of type 0 (producer) or 1 (append)."""

    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None = None
    timestamp_type: int = 0
    headers: Sequence[tuple[str, bytes | None]] = ()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines():
        yield json.loads(line)


def _contract(name: str) -> Contract:
    folder = GOLDEN.parent.parent / "examples" if name == EXAMPLE else GOLDEN
    return load_contract((folder / name).read_text(), name)


def _contracts(case: str) -> dict[str, Contract]:
    """Return the contracts of a case by version, the example first."""
    later = [line["contract"] for line in _lines(GOLDEN / "cases" / case / "input.ndjson") if "contract" in line]
    return {contract.version: contract for contract in map(_contract, [EXAMPLE, *later])}


def _decoded(contract: Contract, line: Mapping[str, Any], offset: int) -> list[Event]:
    body = line["value"]
    sent = parse_time(line.get("timestamp") or body["timestamp"]) // 1000
    record = PlainRecord(offset, sent, json.dumps(body).encode(), body["unitId"].encode())
    decoder = Decoder(ContractBook([contract]), 1 << 20, HOUR)
    decoded = decoder.decode(KINDS[line["topic"]], line["topic"], [record], sent * 1000 + SECOND)
    assert not decoded.refused
    return events_of(pa.Table.from_batches([decoded.events]))


def played(case: str, engine: type[Chain] | type[Oracle]) -> Rows:
    """Return all that the engine publishes for the case."""
    contracts = _contracts(case)
    contract = next(iter(contracts.values()))
    join, rows, offsets = engine(contracts, HOUR, PARTITION, [contract.version]), Rows(), dict.fromkeys(KINDS, 0)
    for line in _lines(GOLDEN / "cases" / case / "input.ndjson"):
        match line:
            case {"topic": topic}:
                join.arrive(_decoded(contract, line, offsets[topic]))
                offsets[topic] += 1
            case {"contract": name}:
                contract = _contract(name)
            case {"close": watermark}:
                rows.extend(join.close(parse_time(watermark)))
            case _:
                if isinstance(join, Chain):
                    join.checkpoint()
    return rows


def expected(case: str) -> Rows:
    """Return the rows that the case's files hold."""
    versions = {contract.file: version for version, contract in _contracts(case).items()}

    def read(line: Row) -> Row:
        times = {name: parse_time(line[name]) for name in _TIMES & line.keys()}
        return line | times | {"contract_version": versions[line["contract_version"]]}

    folder = GOLDEN / "cases" / case
    return Rows(*([read(row) for row in _lines(folder / f"{name}.ndjson")] for name in ("facts", "events", "unjoined")))
