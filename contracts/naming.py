"""What names tell: that a metric is of latency or of cost, that a variation is a model."""

import re
from typing import Final

from contracts.flags import Contract, Metric

__all__ = ["measures_cost", "measures_latency", "named_after_models", "names_model"]

_LATENCY: Final = re.compile(
    r"latenc|duration|elapsed|response_?time|(^|_)(ttft|ms|msec|millis|milliseconds|secs?|seconds)(_|$)"
)
_COST: Final = re.compile(r"cost|price|spend|(^|_)(tokens|usd|eur|gbp|cents)(_|$)")
_MODEL: Final = re.compile(
    r"(^|[^a-z])((gpt|claude|gemini|llama|mistral|mixtral|qwen|deepseek|grok|sonnet|haiku|opus|gemma)(?![a-z])"
    r"|phi-?\d|o\d-)"
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def measures_latency(metric: Metric) -> bool:
    """Return whether a metric's name or field speaks of latency."""
    return any(_LATENCY.search(name) for name in _names(metric))


def measures_cost(metric: Metric) -> bool:
    """Return whether a metric's name or field speaks of cost."""
    return any(_COST.search(name) for name in _names(metric))


def names_model(name: str) -> bool:
    """Return whether a name has that of a well-known family of models in it, as `gpt-4o` and `with_claude` have."""
    return _MODEL.search(name.lower()) is not None


def named_after_models(contract: Contract) -> list[str]:
    """Return the variations that have the name of a model, or of a model route of the flag, in the file's order."""
    routes = {route.model_route for route in contract.variations.values()}
    return [name for name in contract.variations if name in routes or names_model(name)]


def _names(metric: Metric) -> tuple[str, str]:
    return _snake(metric.name), _snake(metric.field or "")


def _snake(name: str) -> str:
    return _CAMEL.sub("_", name).lower()
