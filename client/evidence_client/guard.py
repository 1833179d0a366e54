"""The promise to the request path: nothing that is passed raises."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

__all__ = ["guarded"]

P = ParamSpec("P")


def guarded(method: Callable[P, None]) -> Callable[P, None]:
    """Return the method such that an exception, also of a call that does not fit it, goes to `self._failed`."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # whatever it is: the request goes on
            owner: Any = args[0]
            owner._failed(error)  # noqa: SLF001  # of the class whose method this is

    return call
