"""The model of a fact and the table of facts are the same."""

from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pyarrow as pa
from pydantic import AwareDatetime

from contracts.columns import TIMESTAMP
from contracts.facts import FLAGS, Fact
from sinks.tables import FACTS


def _arrow(hint: Any) -> pa.DataType:  # noqa: ANN401 -- types are values here
    origin, arguments = get_origin(hint), get_args(hint)
    if NoneType in arguments:
        return _arrow(next(argument for argument in arguments if argument is not NoneType))
    if origin is Literal:
        return pa.string()
    if origin is dict:
        return pa.map_(_arrow(arguments[0]), _arrow(arguments[1]))
    if origin is tuple:
        return pa.list_(_arrow(arguments[0]))
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), AwareDatetime: TIMESTAMP}[hint]


def test_a_fact_has_the_columns_of_the_table() -> None:
    hints = {name: info.annotation for name, info in Fact.model_fields.items()}
    model = [(name, _arrow(hint), NoneType in get_args(hint)) for name, hint in hints.items()]
    assert model == [(field.name, field.type, field.nullable) for field in FACTS]


def test_flags_are_a_closed_list() -> None:
    assert FLAGS == (
        "fallback_contaminated",
        "variation_mismatch",
        "route_drift",
        "crossover",
        "assignment_unit_mismatch",
        "excluded_unit",
        "wrong_state",
    )
