"""Schemas of standards, as their makers publish them; README.md says where each is from."""

import json
from pathlib import Path
from typing import Any

__all__ = ["standard"]


def standard(name: str) -> dict[str, Any]:
    """Return the schema of a standard, such as `sarif-2.1.0`."""
    return dict(json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8")))
