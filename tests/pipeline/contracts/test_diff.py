"""`evidence contracts diff`: what it reads, and how it ends."""

import json
import subprocess
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


# revisions of git


def git(*arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)  # noqa: S607


@pytest.fixture
def repository(sides: tuple[Path, Path]) -> Path:
    """Give a working tree whose first commit holds the example, and other things, in new/."""
    _, new = sides
    (new / "notes.txt").write_text("no flag file")
    (new / ".hidden.yaml").write_text("flag: [")
    git("init")
    git("add", ".")
    git("commit", "--message", "first")
    return new


@pytest.mark.parametrize(
    ("old", "file"),
    [
        ("HEAD:new", "HEAD:new/route.yaml"),
        ("HEAD:new/", "HEAD:new/route.yaml"),
        ("HEAD:new/route.yaml", "HEAD:new/route.yaml"),
        ("HEAD:./new", "HEAD:./new/route.yaml"),
    ],
)
def test_flag_files_are_compared_with_those_of_a_revision(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], old: str, file: str
) -> None:
    assert evidence(monkeypatch, "contracts", "diff", old, "new") == Exit.FINE
    assert capsys.readouterr().out == "no change of a contract\n"
    write(repository, "  primaryMetric: resolved\n", "")
    assert evidence(monkeypatch, "contracts", "diff", old, "new", "--fail-on", "epoch") == Exit.WRONG
    assert capsys.readouterr().out.startswith(f"{file}:53: new epoch: experiment.primaryMetric: removed")


def test_the_root_of_a_revision_is_a_directory_too(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("route.yaml").write_text(EXAMPLE)
    git("add", ".")
    git("commit", "--message", "second")
    assert evidence(monkeypatch, "contracts", "diff", "HEAD:", "new") == Exit.FINE
    assert capsys.readouterr().out == "no change of a contract\n"


@pytest.mark.parametrize("place", ["HEAD:new", "HEAD:new/route.yaml"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"flag:\n  key: \xff", "HEAD:new/route.yaml:2: file: is not UTF-8"),
        (b"a" * 300_000, "HEAD:new/route.yaml:0: file: has 293 KiB"),
    ],
)
def test_what_is_broken_in_a_revision_is_one_line(
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    *,
    content: bytes,
    said: str,
) -> None:
    (repository / "route.yaml").write_bytes(content)
    git("commit", "--all", "--message", "broken")
    write(repository)
    assert evidence(monkeypatch, "contracts", "diff", place, "new") == Exit.USAGE
    assert said in complaint(capsys)


def test_a_link_in_a_revision_is_not_followed(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "link.yaml").symlink_to("route.yaml")
    git("add", ".")
    git("commit", "--message", "linked")
    assert evidence(monkeypatch, "contracts", "diff", "HEAD:new", "new/route.yaml") == Exit.USAGE
    assert complaint(capsys).startswith("evidence: HEAD:new/link.yaml:0: file: is no plain file")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nowhere:flags", "evidence: nowhere:flags: is not there, nor does git have it (fatal:"),
        ("HEAD:nowhere", "evidence: HEAD:nowhere: is not there, nor does git have it (fatal:"),
        ("--output=x:y", "evidence: --output=x:y: is not there; name a flag file"),
    ],
)
def test_a_revision_that_is_not_there_is_one_line(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str, said: str
) -> None:
    assert evidence(monkeypatch, "contracts", "diff", "--", place, "new") == Exit.USAGE
    assert complaint(capsys).startswith(said)


def test_without_git_a_path_is_asked_for(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert evidence(monkeypatch, "contracts", "diff", "HEAD:new", "new") == Exit.USAGE
    assert complaint(capsys) == "evidence: HEAD:new: git does not answer (FileNotFoundError); name a path instead"
