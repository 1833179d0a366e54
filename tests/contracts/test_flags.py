"""What a flag file may say, and where an error points."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.errors import ContractError
from contracts.flags import DEFAULT_WINDOW, ContractBook, Metric, Route, load_contract, read_contracts
from tests.contracts.records import CONTRACT, EXAMPLE, HOUR

FLAG_ONLY = EXAMPLE[: EXAMPLE.index("# The experiment")]


def _problem(text: str) -> str:
    with pytest.raises(ContractError) as refused:
        load_contract(text, "flags/f.yaml")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def _line_of_problem(text: str) -> int | None:
    """Return the line that a ContractError names, or None if the text loads; other errors go through."""
    try:
        contract = load_contract(text, "f.yaml")
    except ContractError as refused:
        return refused.line
    return None if contract.text == text else -1


def _flag(kind: str, variations: str) -> str:
    return f"flag: {{key: f, type: {kind}, variations: {variations}}}"


def test_the_example_names_the_routes_of_its_variations() -> None:
    assert CONTRACT.variations == {
        "control": Route("support_model_a", "support_v3", "baseline"),
        "candidate": Route("support_model_b", "support_v3", "baseline"),
        "fallback": Route("support_model_a", "support_v3", "safe_fallback"),
    }


def test_the_example_names_who_takes_part() -> None:
    assert CONTRACT.assignment_unit == "conversation_id"
    assert CONTRACT.eligible_segment == "paid_support_chat"
    assert CONTRACT.exclusions == ("incident_accounts", "regulated_accounts")
    assert CONTRACT.attributes == ("locale", "plan")


def test_the_example_names_its_metrics_and_the_longest_window() -> None:
    outcome = "support_conversation_outcome"
    assert CONTRACT.metrics == (
        Metric("resolved", outcome, "resolvedWithoutEscalation", "proportion", "last", 24 * HOUR, "increase"),
        Metric("human_correction", outcome, "humanCorrection", "proportion", "any", 24 * HOUR, "decrease"),
        Metric("latency", outcome, "latencyMs", "quantile", "max", HOUR, "decrease", 0.95),
        Metric("cost", outcome, "estimatedCost", "mean", "sum", 24 * HOUR, "decrease"),
    )
    assert CONTRACT.window_us == 24 * HOUR


def test_the_example_names_the_states_of_the_exposure_ladder() -> None:
    assert CONTRACT.states[0] == ("internal", 1_779_667_200_000_000)
    assert [state for state, _ in CONTRACT.states] == ["internal", "canary", "ab", "decision", "cleanup"]


def test_the_example_keeps_everything_else_as_a_document() -> None:
    experiment = CONTRACT.document.experiment
    assert experiment is not None
    assert experiment.minimum_units == 2000
    assert experiment.rollback_when.keys() == {
        "severe_quality_issue",
        "telemetry_missing",
        "latency_guardrail",
        "fallback_guardrail",
        "segment_harm",
    }
    assert [type(rule).__name__ for rule in experiment.rollback_when.values()] == [
        "GuardrailRule",
        "TelemetryRule",
        "MetricRule",
        "FallbackRule",
        "SegmentRule",
    ]


def test_the_example_has_its_content_for_version() -> None:
    assert CONTRACT.version == hashlib.sha256(EXAMPLE.encode()).hexdigest()[:16]
    assert CONTRACT.text == EXAMPLE
    assert load_contract(EXAMPLE + "# a comment\n", "f.yaml").version != CONTRACT.version


def test_the_example_loads_with_its_flag_block_alone() -> None:
    contract = load_contract(FLAG_ONLY, "f.yaml")
    assert contract.variations == CONTRACT.variations
    assert contract.window_us == DEFAULT_WINDOW == 24 * HOUR
    assert (contract.experiment_key, contract.metrics, contract.states, contract.attributes) == (None, (), (), None)


@pytest.mark.parametrize(
    ("text", "variations"),
    [
        pytest.param(
            _flag("string", "{control: support_model_a, on: support_model_b}"),
            {"control": Route("support_model_a"), "on": Route("support_model_b")},
            id="a string is a model route",
        ),
        pytest.param(_flag("boolean", "{on: true, off: false}"), {"on": Route(), "off": Route()}, id="boolean"),
        pytest.param(_flag("number", "{small: 1, large: 2.5}"), {"small": Route(), "large": Route()}, id="number"),
        pytest.param(
            _flag("json", "{a: {modelRoute: m}, b: {}}"), {"a": Route("m"), "b": Route()}, id="some dimensions only"
        ),
    ],
)
def test_flags_of_every_type_load(text: str, variations: dict[str, Route]) -> None:
    contract = load_contract(text, "f.yaml")
    assert contract.variations == variations
    assert (contract.assignment_unit, contract.eligible_segment, contract.exclusions) == (None, None, ())


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        pytest.param("  key: support_answer_model_route\n", "", "2: flag.key: is missing; add it", id="missing"),
        pytest.param(
            "promptVersion: support_v3",
            "promtVersion: support_v3",
            "9: flag.variations.control.promtVersion: is not a field here; remove it or correct its name",
            id="misspelt",
        ),
        pytest.param(
            "worseBy: 0.05",
            "worsBy: 0.05",
            "60: experiment.rollbackWhen.segment_harm.worsBy: is not a field here; remove it or correct its name",
            id="misspelt in one of several shapes",
        ),
        pytest.param(
            "promptVersion: support_v3",
            "promptVersion: 1.10",
            "9: flag.variations.control.promptVersion: is not text; give it some, in quotes "
            "where it looks like a number",
            id="number for text",
        ),
        pytest.param("owner: ai_platform", "key: again", "5: flag.key: is given twice; remove one", id="key twice"),
        pytest.param(
            "type: json",
            "type: string",
            "7: flag.variations.control: is not what a flag of type string holds",
            id="type",
        ),
        pytest.param(
            "defaultVariation: fallback",
            "defaultVariation: fall_back",
            "26: flag.rollback.defaultVariation: 'fall_back' is not defined; there is candidate, control, fallback",
            id="rollback to an unknown variation",
        ),
        pytest.param(
            "control: 0.5",
            "contrl: 0.5",
            "41: experiment.allocation.contrl: 'contrl' is not defined; there is candidate, control, fallback",
            id="share of an unknown variation",
        ),
        pytest.param(
            "control: 0.5",
            "control: 0.6",
            "41: experiment.allocation: the shares add up to more than 1",
            id="shares of more than all",
        ),
        pytest.param(
            "control: 0.5",
            "control: 50",
            "41: experiment.allocation.control: is too large; give it 1 at most",
            id="share in percent",
        ),
        pytest.param(
            "from: 2026-06-01T00:00:00Z",
            "from: 2026-06-01",
            "37: experiment.states.1.from: is no time with a zone; write it as 2026-06-07T10:15:30Z",
            id="state from a date",
        ),
        pytest.param(
            "from: 2026-06-01T00:00:00Z",
            "from: 2026-05-01T00:00:00Z",
            "37: experiment.states.1.from: is not after the state before; order states by time",
            id="states out of order",
        ),
        pytest.param(
            "state: canary",
            "state: beta",
            "37: experiment.states.1.state: is not 'offline', 'internal', 'canary', 'ab', 'decision' or "
            "'cleanup'; take one of these",
            id="unknown state",
        ),
        pytest.param(
            "window: 24h",
            "window: 0s",
            "46: experiment.metrics.resolved.window: is no window; give it more than 0s and 90d at most",
            id="empty window",
        ),
        pytest.param(
            "window: 24h",
            "window: 91d",
            "46: experiment.metrics.resolved.window: is no window; give it more than 0s and 90d at most",
            id="window of a quarter",
        ),
        pytest.param(
            "window: 24h",
            "window: 1:30",
            "46: experiment.metrics.resolved.window: '1:30' is not a duration; write it as 90s, 10m, 24h, 7d, 1h30m or "
            "PT10M",
            id="window in base 60",
        ),
        pytest.param(
            "window: 24h",
            "window: 24",
            "46: experiment.metrics.resolved.window: is no duration; write it as 90s, 10m, 24h or 7d",
            id="window without unit",
        ),
        pytest.param(
            "quantile: 0.95, ",
            "",
            "49: experiment.metrics.latency: is of kind quantile and has no quantile; add one, such as quantile: 0.95",
            id="quantile missing",
        ),
        pytest.param(
            "kind: mean,",
            "kind: mean, quantile: 0.5,",
            "52: experiment.metrics.cost.quantile: is only for kind quantile; remove it",
            id="quantile of a mean",
        ),
        pytest.param(
            "field: estimatedCost, ",
            "",
            "51: experiment.metrics.cost: has no field; only the aggregate count can do without",
            id="sum of nothing",
        ),
        pytest.param(
            "kind: proportion, aggregate: any",
            "kind: proportion, aggregate: sum",
            "48: experiment.metrics.human_correction.aggregate: a proportion is of yes or no; take one of all, any, "
            "first, last, max, min",
            id="proportion of a sum",
        ),
        pytest.param(
            "primaryMetric: resolved",
            "primaryMetric: solved",
            "53: experiment.primaryMetric: 'solved' is not defined; there is cost, human_correction, latency, resolved",
            id="unknown primary metric",
        ),
        pytest.param(
            "[human_correction, latency, cost]",
            "[human_correction, speed]",
            "54: experiment.guardrailMetrics.1: 'speed' is not defined; there is cost, human_correction, "
            "latency, resolved",
            id="unknown guardrail metric",
        ),
        pytest.param(
            "[locale, plan]",
            "[plan, plan]",
            "43: experiment.attributes.1: 'plan' is given twice; remove one",
            id="attribute twice",
        ),
        pytest.param(
            "attribute: plan",
            "attribute: region",
            "60: experiment.rollbackWhen.segment_harm.attribute: 'region' is not in the experiment's attributes",
            id="rule on an attribute that is not kept",
        ),
        pytest.param(
            "metric: latency, above",
            "metric: speed, above",
            "58: experiment.rollbackWhen.latency_guardrail.metric: 'speed' is not defined; there is cost, "
            "human_correction, latency, resolved",
            id="rule on an unknown metric",
        ),
        pytest.param(
            "metric: latency, above: 4000",
            "metric: latency, above: 4000, below: 1",
            "58: experiment.rollbackWhen.latency_guardrail: needs either above or below",
            id="rule with two bounds",
        ),
        pytest.param(
            "confirmed: true",
            "confirmed: yes",
            "56: experiment.rollbackWhen.severe_quality_issue.confirmed: is neither true nor false; "
            "write one of these, without quotes",
            id="a boolean of YAML 1.1",
        ),
    ],
)
def test_an_error_names_file_line_and_field(old: str, new: str, problem: str) -> None:
    assert old in EXAMPLE
    assert _problem(EXAMPLE.replace(old, new, 1)) == f"flags/f.yaml:{problem}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "1: file: is empty; write a flag: block", id="empty"),
        pytest.param("# only a comment", "1: file: is empty; write a flag: block", id="comment"),
        pytest.param("[]", "1: file: is not a block of fields; write them below it, indented", id="list"),
        pytest.param("a: b", "1: a: is not a field here; remove it or correct its name", id="other"),
        pytest.param(
            "\nflag: [", "2: file: is not YAML: expected the node content, but found '<stream end>'", id="cut"
        ),
        pytest.param("a: 1\n--- \nb: 2", "2: file: is not YAML: but found another document", id="two documents"),
        pytest.param("a\n\x00", "2: file: is not YAML: special characters are not allowed", id="NUL"),
        pytest.param('flag: "\\U99999999"', "0: file: is not YAML: OverflowError", id="no such character"),
        pytest.param('\nflag: "\\ud800"', "2: flag: has half a surrogate pair; write the character itself", id="half"),
        pytest.param("[" * 5000, "0: file: is nested too deeply", id="deep"),
        pytest.param("flag: &a [*a]", "1: flag.0: contains itself through an alias", id="recursive"),
        pytest.param("flag: *a", "1: file: is not YAML: found undefined alias 'a'", id="undefined alias"),
        pytest.param(
            "a: 1\n<<: {b: 2}", "2: file: has a merge key (<<), which is not read; write the fields out", id="<<"
        ),
        pytest.param("? [a]\n: 1", "1: file: has a key that is no text", id="list for a key"),
        pytest.param(
            "flag: !!python/name:os.system",
            "1: flag: has the tag 'tag:yaml.org,2002:python/name:os.system', which is not read; remove it",
            id="tag",
        ),
        pytest.param("flag: !x {}", "1: flag: has the tag '!x', which is not read; remove it", id="tagged mapping"),
        pytest.param(
            _flag("json", "{}"),
            "1: flag.variations: is empty; give it an entry at least",
            id="no variation",
        ),
        pytest.param(
            _flag("json", "a"),
            "1: flag.variations: is not a block of names; write them below it, indented",
            id="text for variations",
        ),
        pytest.param(_flag("string", "{a: ''}"), "1: flag.variations.a: is empty; name a model route", id="no route"),
        pytest.param(
            _flag("string", "{a: 1}"),
            "1: flag.variations.a: is not what a flag of type string holds",
            id="number in string",
        ),
        pytest.param(
            _flag("number", "{a: true}"),
            "1: flag.variations.a: is not what a flag of type number holds",
            id="boolean in number",
        ),
        pytest.param(
            _flag("boolean", "{a: yes}"), "1: flag.variations.a: is not what a flag of type boolean holds", id="yes"
        ),
        pytest.param(
            _flag("json", "{a: {}, b: m}"),
            "1: flag.variations.b: is not a block of fields; write them below it, indented",
            id="string among routes",
        ),
        pytest.param(
            _flag("json", "{a: {}}") + "\nexperiment: {key: e, primaryMetric: m}",
            "2: experiment.primaryMetric: 'm' is not defined, nor is any other",
            id="metric without metrics",
        ),
        pytest.param(
            '"a\\nb": 1', "1: 'a\\nb': is not a field here; remove it or correct its name", id="line feed in a key"
        ),
    ],
)
def test_what_is_no_flag_file(text: str, problem: str) -> None:
    assert _problem(text) == f"flags/f.yaml:{problem}"


def test_aliases_that_would_fill_the_memory_are_refused() -> None:
    laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    laughs += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)]
    assert "has more than 100,000 values once its aliases are written out" in _problem("\n".join(laughs))


@pytest.mark.parametrize(
    ("scalar", "variation"),
    [
        pytest.param("~", None, id="null"),
        pytest.param("12", 12, id="integer"),
        pytest.param("-1.5e3", -1500.0, id="decimal"),
        pytest.param("0x1F", "0x1F", id="hexadecimal is text"),
        pytest.param("1_000", "1_000", id="underscores are text"),
        pytest.param("010", "010", id="octal is text"),
        pytest.param("2026-06-01", "2026-06-01", id="date is text"),
        pytest.param("no", "no", id="no is text"),
        pytest.param("'true'", "true", id="quoted"),
        pytest.param("!!str 12", "12", id="asked to be text"),
    ],
)
def test_plain_scalars_are_read_as_in_yaml_1_2(scalar: str, variation: object) -> None:
    text = f"flag: {{key: f, type: string, owner: o, variations: {{a: b}}}}\nexperiment: {{key: e, owner: {scalar}}}"
    if variation is None or isinstance(variation, str):
        experiment = load_contract(text, "f.yaml").document.experiment
        assert experiment is not None
        assert experiment.owner == variation
    else:
        assert "experiment.owner: is not text; " in _problem(text)


def test_an_alias_stands_for_what_it_names() -> None:
    contract = load_contract(_flag("json", "{a: &a {modelRoute: m}, b: *a}"), "f.yaml")
    assert contract.variations["a"] == contract.variations["b"]


def test_a_book_finds_contracts_by_flag_experiment_and_version() -> None:
    book = read_contracts({"b.yaml": EXAMPLE, "a.yaml": _flag("string", "{a: m}")})
    assert [contract.flag_key for contract in book] == ["f", "support_answer_model_route"]
    assert len(book) == 2
    assert book.flags["support_answer_model_route"] == CONTRACT
    assert book.experiments == {"support_answer_model_route_2026_06": CONTRACT}
    assert book.versions[CONTRACT.version] == CONTRACT


def test_a_book_refuses_two_files_of_one_flag() -> None:
    with pytest.raises(ContractError) as refused:
        read_contracts({"a.yaml": EXAMPLE, "b.yaml": FLAG_ONLY})
    assert str(refused.value) == (
        "b.yaml:3: flag.key: 'support_answer_model_route' is also the key of a.yaml; each has one file"
    )


def test_a_book_refuses_two_files_of_one_experiment() -> None:
    other = EXAMPLE.replace("key: support_answer_model_route\n", "key: another\n", 1)
    with pytest.raises(ContractError, match=r"b.yaml:31: experiment.key: .* is also the key of a.yaml"):
        read_contracts({"a.yaml": EXAMPLE, "b.yaml": other})


def test_a_book_reports_the_first_wrong_file_by_name() -> None:
    with pytest.raises(ContractError, match=r"^a.yaml:1"):
        read_contracts({"b.yaml": "", "a.yaml": ""})


def test_a_book_equals_another_of_the_same_versions() -> None:
    assert ContractBook([CONTRACT]) == read_contracts({"other name": EXAMPLE})
    assert hash(ContractBook([CONTRACT])) == hash(read_contracts({"other name": EXAMPLE}))
    assert ContractBook([CONTRACT]) != ContractBook()
    assert ContractBook() != {}


_LINES = st.sampled_from(EXAMPLE.splitlines(keepends=True))
_YAML = st.text(st.sampled_from(list("ab:-[]{},&*!|>%@`'\"\\#?~ \n\t01.<=x\u0085\ufeff")), max_size=40)


@given(st.one_of(st.text(), _YAML, st.lists(_LINES | _YAML, max_size=40).map("".join)))
@example("%YAML 1.1\n%TAG ! a:\n---\n!b c")
@example("\ud800")
@example("flag: {key: f, type: json, variations: {a: {}}}\nexperiment: {key: 1e999}")
def test_no_text_raises_anything_but_a_contract_error(text: str) -> None:
    line = _line_of_problem(text)
    assert line is None or 0 <= line <= len(text) + 1


@given(st.data())
def test_no_damage_to_the_example_raises_anything_else(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(EXAMPLE)))
    end = data.draw(st.integers(start, min(len(EXAMPLE), start + 20)))
    damaged = EXAMPLE[:start] + data.draw(_YAML | st.just("")) + EXAMPLE[end:]
    line = _line_of_problem(damaged)
    assert line is None or 0 <= line <= damaged.count("\n") + 2


def test_every_example_loads() -> None:
    files = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
    assert read_contracts({file.name: file.read_text(encoding="utf-8") for file in files})
