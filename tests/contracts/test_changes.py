"""What a change of a flag file means for its evidence."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Union, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from contracts.changes import Change, changes, epoch_key, pattern, rewritten, unit_name
from contracts.flag_files import FlagFile
from contracts.flags import ContractBook, load_contract
from contracts.impacts import EFFECTS, FIELDS
from tests.contracts.records import EXAMPLE

STRING = "flag: {key: f, type: string, variations: {a: m, b: n}}"


def book(text: str, file: str = "flag.yaml") -> ContractBook:
    return ContractBook([load_contract(text, file)])


def edited(*edits: tuple[str, str]) -> str:
    text = EXAMPLE
    for old, new in edits:
        assert text.count(old) >= 1, old
        text = text.replace(old, new)
    return text


def diff(*edits: tuple[str, str], now: str | None = None) -> list[Change]:
    now_us = int(datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp() * 1e6) if now else None
    return changes(book(EXAMPLE, "old.yaml"), book(edited(*edits), "new.yaml"), now_us)


def patterns(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[str]:
    """Walk the model: the pattern of every field that a file may give, blocks that it names itself included."""
    for info in model.model_fields.values():
        yield from _patterns(info.annotation, (*path, str(info.alias)))


def _patterns(hint: Any, path: tuple[str, ...]) -> Iterator[str]:  # noqa: ANN401 - types are values here
    parts = list(_parts(hint))
    models = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
    if any(get_origin(part) is dict for part in parts):
        for part in parts:
            if get_origin(part) is dict:
                yield from {".".join((*path, "*")), *_patterns(get_args(part)[1], (*path, "*"))}
    elif models:
        for each in models:
            yield from patterns(each, path)
        if path[-1] == "*":
            yield ".".join(path)
    else:
        yield ".".join(path)


def _parts(hint: Any) -> Iterator[Any]:  # noqa: ANN401
    """Take annotations and unions apart; a list counts as one value."""
    if hasattr(hint, "__metadata__"):
        yield from _parts(hint.__origin__)
    elif get_origin(hint) in {Union, type(int | str)}:
        for part in get_args(hint):
            yield from _parts(part)
    else:
        yield hint


def test_a_share_of_nothing_is_none() -> None:
    assert diff(("candidate: 0.5}", "candidate: 0.5, fallback: 0}")) == []


def test_every_field_of_a_flag_file_has_its_effect() -> None:
    """A new field needs an entry: think what it does to facts when it is added, removed and changed."""
    assert set(patterns(FlagFile)) == set(FIELDS)


def test_every_impact_says_what_it_means_and_what_to_do() -> None:
    for field in FIELDS.values():
        for impact in (field.added, field.removed, field.changed):
            assert impact.effect in EFFECTS
            assert impact.means
            assert (impact.remedy == "nothing to do") == (impact.effect == "additive")


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param([], id="nothing"),
        pytest.param([("# The flag", "# A flag")], id="comment"),
        pytest.param([("    exclusions:\n", "\n    exclusions:\n")], id="layout"),
        pytest.param([("[locale, plan]", "[plan, locale]")], id="order of attributes"),
        pytest.param([("window: 1h, goal", "window: PT60M, goal")], id="another spelling of a duration"),
        pytest.param([("unit: conversation_id", "unit: conversation")], id="another spelling of the unit"),
        pytest.param([("from: 2026-06-01T00:00:00Z", "from: 2026-06-01T02:00:00+02:00")], id="another zone"),
        pytest.param([("above: 4000,", "above: 4000.0,")], id="another spelling of a number"),
    ],
)
def test_what_says_the_same_is_no_change(edits: list[tuple[str, str]]) -> None:
    assert diff(*edits) == []
    assert rewritten(book(EXAMPLE), book(edited(*edits))) == (["support_answer_model_route"] if edits else [])


def test_a_moved_file_is_no_change() -> None:
    assert changes(book(EXAMPLE, "a.yaml"), book(EXAMPLE, "elsewhere/b.yml")) == []


def test_the_short_form_of_a_route_is_that_route() -> None:
    long = STRING.replace("string", "json").replace("a: m", "a: {modelRoute: m}").replace("b: n", "b: {modelRoute: n}")
    [change] = changes(book(STRING), book(long))
    assert (change.effect, change.field, change.what) == ("breaking", "flag.type", '"string" became "json"')
    [change] = changes(book(STRING), book(STRING.replace("a: m", "a: other")))
    assert (change.effect, change.field) == ("epoch", "flag.variations.a.modelRoute")
    assert change.what == '"m" became "other"'


@pytest.mark.parametrize(
    ("edit", "effect", "line", "field"),
    [
        pytest.param(("owner: ai_platform", "owner: x"), "additive", 5, "flag.owner", id="owner"),
        pytest.param(("support_model_b", "model_c"), "epoch", 12, "flag.variations.candidate.modelRoute", id="a route"),
        pytest.param(("- regulated", "- other"), "epoch", 22, "flag.assignment.exclusions", id="exclusions"),
        pytest.param(("unit: conversation_id", "unit: user"), "epoch", 20, "flag.assignment.unit", id="the unit"),
        pytest.param(
            ("defaultVariation: fallback", "defaultVariation: control"),
            "additive",
            26,
            "flag.rollback.defaultVariation",
            id="where a rollback leads",
        ),
        pytest.param(
            ("ab, from: 2026-06-05", "ab, from: 2026-06-06"), "additive", 35, "experiment.states", id="a state"
        ),
        pytest.param(
            ("max, window: 1h", "max, window: 2h"), "epoch", 50, "experiment.metrics.latency.window", id="window"
        ),
        pytest.param(
            ("24h, goal: increase", "24h, goal: decrease"), "epoch", 46, "experiment.metrics.resolved.goal", id="goal"
        ),
        pytest.param(
            ("primaryMetric: resolved", "primaryMetric: cost"), "epoch", 53, "experiment.primaryMetric", id="primary"
        ),
        pytest.param(
            ("candidate: 0.5", "candidate: 0.4"), "epoch", 41, "experiment.allocation.candidate", id="allocation"
        ),
        pytest.param(
            ("minimumUnits: 2000", "minimumUnits: 9"), "additive", 42, "experiment.minimumUnits", id="minimum units"
        ),
        pytest.param(
            ("above: 4000", "above: 5"), "additive", 58, "experiment.rollbackWhen.latency_guardrail.above", id="a rule"
        ),
        pytest.param(
            ("[locale, plan]", "[locale, plan, region]"), "additive", 43, "experiment.attributes", id="more attributes"
        ),
        pytest.param(("[locale, plan]", "[plan]"), "breaking", 43, "experiment.attributes", id="fewer attributes"),
        pytest.param(("route_2026_06", "route_2026_07"), "breaking", 31, "experiment.key", id="the experiment's key"),
    ],
)
def test_one_change_has_one_effect_and_a_place(edit: tuple[str, str], effect: str, line: int, field: str) -> None:
    [change] = diff(edit)
    assert (change.effect, change.file, change.line, change.field) == (effect, "new.yaml", line, field)


def test_without_a_list_of_attributes_facts_keep_all() -> None:
    without = ("  attributes: [locale, plan] ", "  # ")
    [change] = diff(without)
    assert (change.effect, change.file, change.field) == ("additive", "old.yaml", "experiment.attributes")
    [change] = changes(book(edited(without)), book(EXAMPLE))
    assert change.effect == "breaking"


def test_what_is_gone_is_placed_in_the_old_file() -> None:
    [change, share] = diff(
        ("    candidate:\n      modelRoute: support_model_b\n      promptVersion: support_v3\n", ""),
        ("      retrievalProfile: baseline\n    fallback:", "    fallback:"),
        (", candidate: 0.5}", "}"),
    )
    assert (change.effect, change.file, change.line) == ("breaking", "old.yaml", 11)
    assert change.field == "flag.variations.candidate"
    assert (share.effect, share.field) == ("epoch", "experiment.allocation.candidate")


def test_a_renamed_variation_breaks_and_is_recognised() -> None:
    found = diff(("    candidate:", "    challenger:"), ("candidate: 0.5", "challenger: 0.5"))
    assert {(each.effect, each.field) for each in found} == {
        ("breaking", "flag.variations.candidate"),
        ("epoch", "flag.variations.challenger"),
        ("epoch", "experiment.allocation.challenger"),
        ("epoch", "experiment.allocation.candidate"),
    }
    assert "a rename, as 'challenger' holds the same?" in found[0].what


def test_a_renamed_flag_is_one_gone_and_one_new() -> None:
    gone, new = diff(("key: support_answer_model_route\n", "key: other\n"))
    assert (gone.effect, gone.flag_key, gone.file, gone.line) == (
        "breaking",
        "support_answer_model_route",
        "old.yaml",
        3,
    )
    assert gone.what.endswith("a rename to 'other'?")
    assert (new.effect, new.flag_key, new.file, new.line) == ("additive", "other", "new.yaml", 3)


def test_another_flag_in_the_same_file_looks_like_a_rename() -> None:
    other = ContractBook([load_contract(STRING, "new/flag.yaml")])
    gone, _ = changes(book(EXAMPLE, "old/flag.yaml"), other)
    assert gone.what.endswith("a rename to 'f'?")
    gone, _ = changes(book(EXAMPLE, "old/other.yaml"), other)
    assert gone.what.endswith("is gone")


def test_before_the_experiment_has_begun_there_is_no_epoch_to_end() -> None:
    edit = ("support_model_b", "support_model_c")
    assert [change.effect for change in diff(edit, now="2026-05-24")] == ["additive"]
    assert [change.effect for change in diff(edit, now="2026-05-25")] == ["epoch"]
    assert [change.effect for change in diff(("[locale, plan]", "[plan]"), now="2026-05-24")] == ["breaking"]


def test_a_flag_in_cleanup_may_go() -> None:
    def gone(day: int) -> list[str]:
        now = int(datetime(2026, 7, day, tzinfo=UTC).timestamp() * 1e6)
        return [change.effect for change in changes(book(EXAMPLE), ContractBook(), now)]

    assert (gone(12), gone(13)) == (["breaking"], ["additive"])


def test_an_experiment_that_is_added_begins_an_epoch_and_one_removed_breaks() -> None:
    bare = EXAMPLE.partition("\n# The experiment")[0] + "\n"
    assert {change.effect for change in changes(book(bare), book(EXAMPLE))} == {"additive", "epoch", "breaking"}
    gone = changes(book(EXAMPLE), book(bare))
    assert {change.field for change in gone if change.effect == "breaking"} >= {
        "experiment.key",
        "experiment.metrics.resolved",
    }


@pytest.mark.parametrize("unit", ["conversation", "conversation_id", "conversationId", "Conversation_id"])
def test_a_unit_has_one_name_however_it_is_written(unit: str) -> None:
    assert unit_name(unit) == "conversation"


_EDITS = [
    ("owner: ai_platform", "owner: other"),
    ("support_model_b", "support_model_c"),
    ("unit: conversation_id", "unit: user"),
    ("[locale, plan]", "[plan]"),
    ("primaryMetric: resolved", "primaryMetric: cost"),
    ("aggregate: max, window: 1h", "aggregate: max, window: 2h"),
    ("candidate: 0.5}", "candidate: 0.4}"),
    ("minimumUnits: 2000", "minimumUnits: 100"),
    ("type: json", "type:   json"),
    ("\n  attributes: [plan]", ""),
]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(_EDITS), max_size=4), st.lists(st.sampled_from(_EDITS), max_size=4))
def test_two_contracts_share_an_epoch_exactly_if_nothing_between_them_parts_epochs(
    first: list[tuple[str, str]], second: list[tuple[str, str]]
) -> None:
    one, other = EXAMPLE, EXAMPLE
    for old, new in first:
        one = one.replace(old, new)
    for old, new in second:
        other = other.replace(old, new)
    found = changes(book(one), book(other))
    parted = any(FIELDS[pattern(tuple(change.field.split(".")))].parts_epochs for change in found)
    [before], [after] = book(one), book(other)
    assert (epoch_key(before) == epoch_key(after)) is not parted


def test_changes_come_worst_first() -> None:
    found = diff(
        ("owner: ai_platform", "owner: x"), ("[locale, plan]", "[plan]"), ("support_model_b", "support_model_c")
    )
    ranks = [EFFECTS.index(change.effect) for change in found]
    assert all(earlier >= later for earlier, later in itertools.pairwise(ranks))
    assert ranks == [2, 1, 0]
