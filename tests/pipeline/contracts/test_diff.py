"""`evidence contracts diff`: what it reads, and how it ends."""

import json
from pathlib import Path

import pytest

from pipeline.cli import Exit
from tests.contracts.records import EXAMPLE
from tests.pipeline.test_cli import complaint, evidence


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Give two directories of flag files that hold the example."""
    monkeypatch.chdir(tmp_path)
    for name in ("old", "new"):
        Path(name).mkdir()
        write(Path(name))
    return Path("old"), Path("new")


def write(directory: Path, *edit: str) -> None:
    text = EXAMPLE.replace(*edit) if edit else EXAMPLE  # type: ignore[arg-type]
    (directory / "route.yaml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("edit", "options", "code"),
    [
        ([], ["--fail-on", "epoch"], Exit.FINE),
        (["owner: ai_platform", "owner: x"], ["--fail-on", "epoch"], Exit.FINE),
        (["support_model_b", "support_model_c"], [], Exit.FINE),
        (["support_model_b", "support_model_c"], ["--fail-on", "breaking"], Exit.FINE),
        (["support_model_b", "support_model_c"], ["--fail-on", "epoch"], Exit.WRONG),
        (["support_model_b", "support_model_c"], ["--fail-on", "epoch", "--as-of", "2026-05-24"], Exit.FINE),
        (["support_model_b", "support_model_c"], ["--fail-on", "epoch", "--as-of", "2026-05-25"], Exit.WRONG),
        (["[locale, plan]", "[plan]"], ["--fail-on", "breaking"], Exit.WRONG),
        (["[locale, plan]", "[plan]"], ["--fail-on", "epoch"], Exit.WRONG),
    ],
)
def test_the_exit_code_says_whether_a_change_is_too_bad(
    sides: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, edit: list[str], options: list[str], code: Exit
) -> None:
    write(sides[1], *edit)
    assert evidence(monkeypatch, "contracts", "diff", "old", "new", *options) == code


def test_a_change_is_told_with_its_place_its_meaning_and_what_to_do(
    sides: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(sides[1], "support_model_b", "other")
    assert evidence(monkeypatch, "contracts", "diff", "old", "new/route.yaml") == Exit.FINE
    assert capsys.readouterr().out.splitlines() == [
        'new/route.yaml:12: new epoch: flag.variations.candidate.modelRoute: "support_model_b" became "other"',
        "    the variation runs something else than before, under the same name",
        "    do: better a new variation, or a new experiment key; else read facts of before and after apart",
        "0 breaking, 1 new epoch, 0 additive",
    ]


def test_the_json_holds_all(
    sides: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(sides[1], "# The flag", "# A flag")
    (sides[0] / "other.yaml").write_text("flag: {key: o, type: string, variations: {a: m}}")
    assert evidence(monkeypatch, "contracts", "diff", "--json", "old", "new") == Exit.FINE
    told = json.loads(capsys.readouterr().out)
    assert told["rewritten"] == ["support_answer_model_route"]
    [change] = told["changes"]
    assert (told["worst"], change["effect"], change["flag_key"]) == ("breaking", "breaking", "o")
    assert (change["file"], change["line"], change["field"]) == ("old/other.yaml", 1, "flag.key")


def test_a_directory_may_have_become_empty(
    sides: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (sides[1] / "route.yaml").unlink()
    assert evidence(monkeypatch, "contracts", "diff", "old", "new", "--as-of", "2026-06-20") == Exit.FINE
    assert "the flag 'support_answer_model_route' is gone" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flag: [", "evidence: new/route.yaml:2: file: is not YAML"),
        ("", "evidence: new/route.yaml:1: file: is empty"),
        ("a" * 300_000, "evidence: new/route.yaml:0: file: has 293 KiB"),
    ],
)
def test_a_broken_file_is_one_line(
    sides: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    said: str,
) -> None:
    (sides[1] / "route.yaml").write_text(text + "\n" * bool(text and "[" in text))
    assert evidence(monkeypatch, "contracts", "diff", "old", "new") == Exit.USAGE
    assert complaint(capsys).startswith(said)
