"""The two forms of the suite: what every run does, and what is for `make chaos`."""

import os
from typing import Final

import pytest

__all__ = ["long_form"]

long_form: Final = pytest.mark.skipif("CHAOS_MINUTES" not in os.environ, reason="for the long form: make chaos")
"""Marks a scenario that every run would take too long with."""
