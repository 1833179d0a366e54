"""The data dictionary is whole, true of the schemas, and the page in docs/ is up to date."""

from pathlib import Path
from typing import get_args

import pytest

from contracts.dead_letters import Reason
from sinks import dictionary
from sinks.dictionary import COLUMNS, FLAGS, REASONS, REFUSALS, RELATIONS, markdown
from sinks.tables import TABLES

PAGE = Path(__file__).parents[2] / "docs" / "data-dictionary.md"


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_column_of_a_table_is_described_in_its_order(table: str) -> None:
    assert list(COLUMNS[table]) == [*TABLES[table].names, "dt", *(["epoch"] if table == "facts" else [])]


def test_every_relation_is_described() -> None:
    assert set(COLUMNS) == set(RELATIONS)


def test_every_reason_of_a_dead_letter_has_a_fate() -> None:
    assert {*REASONS, *REFUSALS} == {*get_args(Reason), "duplicate", "outside_window", "rerouted"}


def test_the_account_has_a_column_for_every_fate() -> None:
    fates = ["joined", *REASONS, *REFUSALS, "undelivered", "open"]
    assert list(COLUMNS["account"])[4:-1] == fates


def test_facts_by_variation_counts_every_flag() -> None:
    assert list(COLUMNS["facts_by_variation"])[5:] == list(FLAGS)


def test_every_text_is_a_sentence() -> None:
    texts = [text for columns in COLUMNS.values() for text in columns.values()] + list(RELATIONS.values())
    assert [text for text in texts if not text.endswith(".")] == []
    assert [text for text in texts if "|" in text] == []


def test_the_page_is_what_the_module_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """If not: python -m sinks.dictionary > docs/data-dictionary.md."""
    dictionary.main()
    assert capsys.readouterr().out == markdown() == PAGE.read_text(encoding="utf-8")
