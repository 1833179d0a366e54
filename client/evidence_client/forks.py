"""What begins anew in a forked child, where only the forking thread lives on and locks may be held for good."""

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Forked", "renew_in_children"]


class Forked(Protocol):
    """Something with locks or threads."""

    def after_fork(self) -> None:
        """Begin anew; called in the child, before anything else runs there."""


_living: "WeakSet[Forked]" = WeakSet()


def renew_in_children(forked: Forked) -> None:
    """Have the object begin anew in every child that this process forks."""
    _living.add(forked)


def _renew() -> None:
    for forked in list(_living):
        forked.after_fork()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_renew)
