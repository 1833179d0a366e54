"""Waiting for something to become true, with a deadline instead of a sleep."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["until"]

T = TypeVar("T")

PAUSE_S: Final = 0.05


def until(predicate: Callable[[], T], deadline: float = 30.0, what: str = "") -> T:
    """Return the first truthy value of `predicate`, asked again and again for `deadline` seconds.

    Raises AssertionError after that, naming `what` was waited for.
    """
    end = time.monotonic() + deadline
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {deadline:g} s: {what or getattr(predicate, '__name__', predicate)}")
        time.sleep(PAUSE_S)
