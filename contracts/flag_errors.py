"""What pydantic finds wrong with a flag file, as one error in plain words that names the line and the way out."""

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from contracts.errors import ContractError
from contracts.marked_yaml import MarkedYaml

__all__ = ["first_error"]

_PLAIN: Final[Mapping[str, str]] = {
    "extra_forbidden": "is not a field here; remove it or correct its name",
    "missing": "is missing; add it",
    "string_type": "is not text; give it some, in quotes where it looks like a number",
    "string_too_short": "is empty; give it some text",
    "string_too_long": "is too long; give it {max_length} characters at most",
    "bool_type": "is neither true nor false; write one of these, without quotes",
    "int_type": "is not a whole number; write it as 2000, without quotes or separators",
    "float_type": "is not a number; write it as 0.5, without quotes or %",
    "less_than": "is too large; give it less than {lt:g}",
    "less_than_equal": "is too large; give it {le:g} at most",
    "greater_than": "is too small; give it more than {gt:g}",
    "greater_than_equal": "is too small; give it {ge:g} at least",
    "literal_error": "is not {expected}; take one of these",
    "model_type": "is not a block of fields; write them below it, indented",
    "dict_type": "is not a block of names; write them below it, indented",
    "time_type": "is no time with a zone; write it as 2026-06-07T10:15:30Z",
    "time_parsing": "is no time with a zone; write it as 2026-06-07T10:15:30Z",
    "time_too_early": "is before the year 2000; give it a later time",
    "tuple_type": "is not a list; write it as [a, b]",
    "too_short": "is empty; give it an entry at least",
}
"""By pydantic's type of error; its context fills in the rest."""


def first_error(invalid: ValidationError, source: MarkedYaml) -> ContractError:
    """Return the most telling of pydantic's errors: a misspelt field hides a missing one."""
    errors = invalid.errors(include_input=False, include_url=False)
    error = min(errors, key=lambda each: each["type"] != "extra_forbidden")
    plain = _PLAIN.get(error["type"])
    problem = plain.format(**error.get("ctx", {})) if plain else error["msg"].removeprefix("Value error, ")
    return source.wrong(source.steps(error["loc"]), problem)
