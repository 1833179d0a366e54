"""Log lines of a worker: text for people, JSON for machines, on stderr.

Tracebacks are for faults of this software. Faust and aiokafka also log those of lost connections, such as when a broker
dies while a worker ends; they are one line, with the error in it, at any level but DEBUG.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Final

from pipeline.settings import Settings

__all__ = ["configure"]

# Libraries that say at INFO what is not a change of state to whoever runs a worker; at DEBUG all of it is wanted.
CHATTY: Final = ("faust", "mode", "aiokafka", "aiohttp", "asyncio", "pipeline.transport")

LIBRARIES: Final = ("faust", "mode", "aiokafka", "asyncio")
OURS: Final = ("contracts", "sinks", "pipeline")


def configure(settings: Settings) -> None:
    """Send all log lines to stderr, in the settings' format and from its level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if settings.log_format == "json" else _Text())
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    if settings.log_level == "INFO":
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)


def _exception(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _is_of_the_connection(record: logging.LogRecord, error: BaseException) -> bool:
    """Tell whether a library has logged an error of its connections, which no code of ours has a part in."""
    if record.name.split(".")[0] not in LIBRARIES or logging.getLogger().isEnabledFor(logging.DEBUG):
        return False
    if isinstance(error, OSError | TimeoutError) or type(error).__module__.split(".")[0] == "aiokafka":
        return True
    frames = traceback.walk_tb(error.__traceback__)
    return not any(frame.f_globals.get("__name__", "").split(".")[0] in OURS for frame, _ in frames)


def _in_short(error: BaseException) -> str:
    name, text = type(error).__name__, str(error)
    return text if text.startswith(name) else f"{name}: {text}".removesuffix(": ")  # aiokafka's name themselves


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return `time LEVEL message`, and the traceback of an exception below it."""
        line = f"{_time(record)} {record.levelname:<7} {record.getMessage()}"
        error = _exception(record)
        if error is None:
            return line
        if _is_of_the_connection(record, error):
            return f"{line}: {_in_short(error)}"
        return f"{line}\n{self.formatException(record.exc_info)}"  # type: ignore[arg-type]  # there is one


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object in one line."""
        body = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        error = _exception(record)
        if error is not None:
            brief = _is_of_the_connection(record, error)
            body["exception"] = _in_short(error) if brief else self.formatException(record.exc_info)  # type: ignore[arg-type]  # there is one
        return json.dumps(body)
