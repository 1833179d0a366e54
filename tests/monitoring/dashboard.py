"""The dashboard, as its file has it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

__all__ = ["FILE", "panels", "queries"]

FILE: Final = Path(__file__).parents[2] / "monitoring" / "grafana" / "dashboards" / "evidence.json"


def panels() -> list[dict[str, Any]]:
    """Return the panels that show something."""
    return [panel for panel in json.loads(FILE.read_text())["panels"] if panel["type"] != "row"]


def queries(rate_interval: str) -> Iterator[tuple[str, str]]:
    """Yield the title and each expression of every panel, with what Grafana puts in for the interval of rates."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", rate_interval)
