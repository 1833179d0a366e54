"""A map that remembers for a while, and not more than so many."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from evidence_client.forks import renew_in_children

__all__ = ["Recent"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Keys with values, each for `ttl_s` seconds from when it was put, the least recently used dropped beyond `most`.

    Safe to use from several threads.
    """

    def __init__(self, most: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Remember nothing yet; `clock` gives seconds."""
        self._most, self._ttl, self._clock = most, ttl_s, clock
        self._lock = threading.RLock()
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()
        renew_in_children(self)

    def get(self, key: K) -> V | None:
        """Return the value of the key, if it is remembered."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            if self._clock() - kept[0] >= self._ttl:
                del self._kept[key]
                return None
            self._kept.move_to_end(key)
            return kept[1]

    def put(self, key: K, value: V) -> None:
        """Remember the value of the key, from now on."""
        with self._lock:
            self._kept[key] = (self._clock(), value)
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def put_new(self, key: K, value: V) -> bool:
        """Put the key unless it is remembered; return whether it was put. Of several threads, one puts it."""
        with self._lock:
            if self.get(key) is not None:
                return False
            self.put(key, value)
            return True

    def forget(self, key: K) -> None:
        """Remember the key no more."""
        with self._lock:
            self._kept.pop(key, None)

    def __len__(self) -> int:
        """Return how many are kept, those among them whose time is over."""
        return len(self._kept)

    def after_fork(self) -> None:
        """Take a new lock: a thread that is not there may have held the old one."""
        self._lock = threading.RLock()
