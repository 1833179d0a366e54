"""What is wrong with a flag file is told in plain words."""

import pytest

from contracts.errors import ContractError
from contracts.flags import load_contract
from tests.contracts.records import EXAMPLE


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("minimumUnits: 2000", 'minimumUnits: "2000"', "is not a whole number; write it as 2000, without quotes or s"),
        ("minimumUnits: 2000", "minimumUnits: 2_000", "is not a whole number; write it as 2000, without quotes or s"),
        ("minimumUnits: 2000", "minimumUnits: 0", "is too small; give it 1 at least"),
        ("control: 0.5", "control: 50%", "is not a number; write it as 0.5, without quotes or %"),
        ("control: 0.5", "control: 50", "is too large; give it 1 at most"),
        ("quantile: 0.95", "quantile: 1", "is too large; give it less than 1"),
        ("worseBy: 0.05", "worseBy: 0", "is too small; give it more than 0"),
        ("owner: ai_platform", "owner: null\n  type: json", "is given twice; remove one"),
        ("unit: conversation_id", "unit: ''", "is empty; give it some text"),
        ("unit: conversation_id", f"unit: {'u' * 257}", "is too long; give it 256 characters at most"),
        ("unit: conversation_id", "unit: 7", "is not text; give it some, in quotes where it looks like a number"),
        ("[locale, plan]", "locale", "is not a list; write it as [a, b]"),
        ("segments: [enterprise]", "segments: []", "is empty; give it an entry at least"),
        ("confirmed: true", "confirmed: yes", "is neither true nor false; write one of these, without quotes"),
        ("from: 2026-06-05T00:00:00Z", "from: 2026-06-05", "is no time with a zone; write it as 2026-06-07T10:15:30Z"),
        ("from: 2026-06-05T00:00:00Z", "from: 7", "is no time with a zone; write it as 2026-06-07T10:15:30Z"),
        ("from: 2026-05-25T00:00:00Z", "from: 1970-01-01T00:00:00Z", "is before the year 2000; give it a later time"),
        (
            "{control: 0.5",
            "{c\u043entrol: 0.5",
            "'c\\u043entrol' is not defined; there is candidate, control, fallback",
        ),
        (
            "    control:",
            "    c\u043entrol:",
            "'control' is not defined; there is candidate, 'c\\u043entrol', fallback",
        ),
        ("window: 1h", "window: 91d", "is no window; give it more than 0s and 90d at most"),
        ("window: 1h", "window: 3600", "is no duration; write it as 90s, 10m, 24h or 7d"),
        ("decisionDate: 2026-06-29", "decisionDate: 06/29/2026", "is no day of the calendar; write one as 2026-06-07"),
        ("decisionDate: 2026-06-29", "decisionDate: 2026-02-30", "is no day of the calendar; write one as 2026-06-07"),
    ],
)
def test_an_error_says_what_is_so_and_what_to_write(old: str, new: str, problem: str) -> None:
    assert old in EXAMPLE
    with pytest.raises(ContractError) as raised:
        load_contract(EXAMPLE.replace(old, new, 1), "f.yaml")
    assert raised.value.problem.startswith(problem)
    assert "\n" not in str(raised.value)


def test_a_field_that_looks_like_another_is_shown_with_escapes() -> None:
    with pytest.raises(ContractError, match="is not a field here") as raised:
        load_contract(EXAMPLE.replace("  variations:", "  v\u0430riations:"), "f.yaml")
    assert raised.value.field == "flag.'v\\u0430riations'"


def test_an_error_repeats_what_is_in_braces_as_it_is() -> None:
    with pytest.raises(ContractError, match=r"'\{0\}' is not a duration"):
        load_contract(EXAMPLE.replace("window: 1h", "window: '{0}'", 1), "f.yaml")
