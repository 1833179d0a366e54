"""Shows the status once, or again and again on a terminal."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.live import Live

from pipeline.settings import Settings
from pipeline.status.look import look
from pipeline.status.screen import screen
from pipeline.status.state import Status

__all__ = ["WIDTH", "show", "watch"]

WIDTH: Final = 160
"""How wide the screen is that does not go to a terminal."""


def show(settings: Settings, *, as_json: bool) -> Status:
    """Print how things stand now, and return it."""
    status = look(settings, time.time_ns() // 1000)
    if as_json:
        print(json.dumps({**asdict(status), "fine": status.fine}))  # noqa: T201 - the result
        return status
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(screen(status, console.width))
    return status


def watch(settings: Settings, console: Console, seconds: float, goes_on: Callable[[], bool] = lambda: True) -> Status:
    """Show it on the whole terminal, anew every so many seconds, until Ctrl-C; return the last."""
    status = look(settings, time.time_ns() // 1000)
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(screen(status, console.width, console.height), refresh=True)
                if not goes_on():
                    break
                time.sleep(seconds)
                status = look(settings, time.time_ns() // 1000)
    except KeyboardInterrupt:
        pass
    return status
