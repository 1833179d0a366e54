"""Log lines of a worker: text for people, JSON for machines, on stderr."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

from pipeline.settings import Settings

__all__ = ["configure"]

# Libraries that say at INFO what is not a change of state to whoever runs a worker; at DEBUG all of it is wanted.
CHATTY: Final = ("faust", "mode", "aiokafka", "aiohttp", "asyncio", "pipeline.transport")


def configure(settings: Settings) -> None:
    """Send all log lines to stderr, in the settings' format and from its level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if settings.log_format == "json" else _Text())
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    if settings.log_level == "INFO":
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return `time LEVEL message`, and the traceback of an exception below it."""
        line = f"{_time(record)} {record.levelname:<7} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object in one line."""
        body = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return json.dumps(body)
