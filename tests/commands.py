"""The `evidence` command as a child process, set up by its environment as in production."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from contracts.durations import parse_duration
from pipeline.settings import PREFIX, Settings, describe

__all__ = ["environment", "run", "running"]

EVIDENCE: Final = (sys.executable, "-c", "from pipeline.cli import command; command()")
TIMEOUT_S: Final = 120.0
STOP_S: Final = 60.0


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that say the same as `settings`."""
    given = {f"{PREFIX}{name.upper()}": getattr(settings, name) for name in Settings.model_fields}
    return {name: _text(name, value) for name, value in given.items() if value is not None}


def run(variables: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [*EVIDENCE, *arguments],
        env=_inherited() | dict(variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


@contextmanager
def running(variables: Mapping[str, str], *arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command that goes on; what it says goes to `log`. Whatever still runs at the end of the block is killed."""
    with log.open("ab") as told:
        process = subprocess.Popen(
            [*EVIDENCE, *arguments], env=_inherited() | dict(variables), stdout=told, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(STOP_S)


def _inherited() -> dict[str, str]:
    """Return an environment in which the child finds the checkout, and no setting or width but those of the test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "COLUMNS"))}
    return kept | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


def _text(name: str, value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return f"{value}us" if name in DURATIONS else str(value)


def _is_duration(text: str) -> bool:
    try:
        parse_duration(text)
    except ValueError:
        return False
    return True


DURATIONS: Final = {row.name for row in describe() if _is_duration(row.default)}
