"""One dead letter, whole, as lines that are safe for a terminal or as values for machines."""

import base64
from collections.abc import Iterator
from typing import Any, Final

from contracts.times import format_time
from pipeline.dlq.letters import Letter
from pipeline.terminal import safe, safe_bytes, shortened

__all__ = ["as_json", "lines"]

SHOWN_CHARACTERS: Final = 4_000
"""Of a value or header; the rest is in `--json`."""


def lines(letter: Letter) -> Iterator[str]:
    """Yield the lines to print: what is wrong, the headers and the value; none of them has a control character."""
    yield f"{safe(str(letter.identity))}, in {safe(str(letter.place))}"
    by = f"{letter.family or 'unknown software'} {letter.version}".rstrip()
    facts = {
        "reason": letter.reason + (f" ({letter.stage})" if letter.stage else ""),
        "message": letter.message,
        "failed at": format_time(letter.failed_at),
        "failed in": f"{by}, group {letter.group}" if letter.group else by,
        "record time": "lost" if letter.timestamp is None else format_time(letter.timestamp),
        "replays": str(letter.replays),
    }
    for name, text in facts.items():
        yield f"  {name:<12} {_short(safe(text))}".rstrip()
    yield f"  {'key':<12} {_short(safe_bytes(letter.key))}"
    size = "no value" if letter.value is None else f"{len(letter.value):,} bytes"
    yield f"  {'value':<12} {size}{', the rest is cut off' if letter.cut else ''}"
    faults = letter.faults()
    if faults:
        yield "errors"
        width = max(len(safe(fault.path)) for fault in faults)
        for fault in faults:
            yield f"  {safe(fault.path):<{width}}  {_short(safe(fault.message))} ({safe(fault.kind)})"
    if letter.headers:
        yield "headers"
        for name, value in letter.headers:
            yield f"  {_short(safe(name))}: {_short(safe_bytes(value))}"
    if letter.value is not None:
        yield "value"
        yield f"  {_short(safe_bytes(letter.value))}"


def as_json(letter: Letter) -> dict[str, Any]:
    """Return the letter for machines; bytes are text where they are UTF-8, else `{"base64": …}`."""
    return {
        "place": str(letter.place),
        "origin": None if letter.origin is None else str(letter.origin),
        "topic": letter.topic,
        "family": letter.family,
        "reason": letter.reason,
        "stage": letter.stage,
        "message": letter.message,
        "errors": [fault._asdict() for fault in letter.faults()],
        "group": letter.group,
        "pipeline_version": letter.version,
        "failed_at": format_time(letter.failed_at),
        "timestamp": None if letter.timestamp is None else format_time(letter.timestamp),
        "replay_count": letter.replays,
        "truncated": letter.cut,
        "key": _value(letter.key),
        "value": _value(letter.value),
        "headers": [[name, _value(value)] for name, value in letter.headers],
    }


def _short(text: str) -> str:
    return shortened(text, SHOWN_CHARACTERS)


def _value(data: bytes | None) -> object:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}
