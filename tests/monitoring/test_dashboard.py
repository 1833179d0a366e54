"""The dashboard is one that Grafana reads, and asks for what there is."""

import json
import re
from itertools import combinations
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from pipeline.metrics import METRICS
from tests.monitoring.dashboard import FILE, panels, queries


def test_it_follows_the_schema_of_grafana() -> None:
    """Its models of dashboard, panels and queries know each field, and give it back as it was."""
    register_default_plugins()
    written = json.loads(FILE.read_text())
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(written)))
    assert list(lost(written, read)) == []


def lost(written: Any, read: Any, path: str = "$") -> list[str]:  # noqa: ANN401  # JSON
    """Return the paths of what is not in `read` as it is in `written`."""
    if isinstance(written, dict) and isinstance(read, dict):
        return [each for name in written for each in lost(written[name], read.get(name), f"{path}.{name}")]
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        pairs = enumerate(zip(written, read, strict=True))
        return [each for place, (a, b) in pairs for each in lost(a, b, f"{path}[{place}]")]
    return [] if written == read else [path]


def test_panels_ask_for_metrics_that_there_are() -> None:
    names = {name for _, query in queries("1m") for name in re.findall(r"\bevidence_\w+", query)}
    assert {re.sub(r"_(bucket|sum)$", "", name) for name in names} <= METRICS.keys()
    assert "evidence_records_total" in names


def test_panels_say_what_they_show() -> None:
    assert [panel["title"] for panel in panels() if not panel.get("description")] == []


def test_panels_lie_side_by_side() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    for one, other in combinations(panels(), 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(one[a] < other[a] + other[b] and other[a] < one[a] + one[b] for a, b in (("x", "w"), ("y", "h")))
