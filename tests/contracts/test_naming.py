"""What names tell."""

import pytest

from contracts.flags import Metric, load_contract
from contracts.naming import measures_cost, measures_latency, named_after_models


@pytest.mark.parametrize(
    ("name", "field", "latency", "cost"),
    [
        ("latency", "latencyMs", True, False),
        ("p95", "responseTime", True, False),
        ("slow", "totalMs", True, False),
        ("first", "ttftSeconds", True, False),
        ("cost", "estimatedCost", False, True),
        ("spend", "usd", False, True),
        ("used", "outputTokens", False, True),
        ("resolved", "resolvedWithoutEscalation", False, False),
        ("problems", "problems", False, False),
        ("second_contact", "secondContact", False, False),
    ],
)
def test_latency_and_cost_are_known_by_their_names(*, name: str, field: str, latency: bool, cost: bool) -> None:
    metric = Metric(name, "done", field, "mean", "sum", 1, "decrease")
    assert (measures_latency(metric), measures_cost(metric)) == (latency, cost)


def test_variations_named_after_models() -> None:
    named = "{control: m_a, m_b: m_b, gpt-4o: m_c, with_claude: m_d, opusculum: m_e, o3-mini: m_f, canary_2: m_g}"
    contract = load_contract(f"flag: {{key: f, type: string, variations: {named}}}", "f.yaml")
    assert named_after_models(contract) == ["m_b", "gpt-4o", "with_claude", "o3-mini"]
