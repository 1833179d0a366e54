"""The version of this software, as manifests and dead letters name it."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

__all__ = ["VERSION"]


def _installed() -> str:
    try:
        return version("evidence-pipeline")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0+checkout"


VERSION: Final = _installed()
