"""How a process treats its memory: a worker holds on to it, so that what one batch frees serves the next.

A page that goes back to the system costs 1 to 8 µs to get again, filled with zeros: for buffers of a megabyte that come
and go with each fetch that is half of all CPU time spent on decoding them.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pyarrow as pa

__all__ = ["hold_memory", "without_collector"]

_TRIM_THRESHOLD: Final = -1, 2**31 - 1  # of free memory at the top of the heap, bytes: never give it back
_MMAP_THRESHOLD: Final = -3, 32 * 2**20  # the greatest that glibc takes: smaller buffers come from the heap


def hold_memory() -> None:
    """Let the process keep memory that it has freed, and Arrow use the same heap; for the life of the process.

    Only glibc can be told so; elsewhere this changes nothing but Arrow's pool.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(parameter, value)
    pa.set_memory_pool(pa.system_memory_pool())


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep the collector of cycles away: there are none, and it goes through millions of rows in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
