"""`evidence contracts export`: where documents go, and that they are the same each time."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.cli import Exit
from tests.contracts.records import EXAMPLE, VALID
from tests.pipeline.test_cli import complaint, evidence
from tests.standards import standard


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the working directory, with a flag file in flags/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flags").mkdir()
    (tmp_path / "flags" / "route.yaml").write_text(EXAMPLE, encoding="utf-8")
    return tmp_path


def exported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert evidence(monkeypatch, "contracts", "export", *options) == Exit.FINE
    return capsys.readouterr().out


def test_json_schema_is_printed_as_one_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = json.loads(exported(monkeypatch, capsys))
    assert set(schema["$defs"]) == {"exposure", "outcome", "guardrail", "flag-file"}
    exposure = jsonschema.Draft202012Validator(schema["$defs"]["exposure"])
    assert not exposure.is_valid({**VALID["exposure"], "flagKey": "another"})


def test_of_any_flag_no_flag_file_is_asked(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "flags" / "route.yaml").unlink()
    schema = json.loads(exported(monkeypatch, capsys, "--any-flag"))
    exposure = jsonschema.Draft202012Validator(schema["$defs"]["exposure"])
    assert exposure.is_valid({**VALID["exposure"], "flagKey": "another"})


@pytest.mark.parametrize(
    ("name", "files"),
    [
        (
            "jsonschema",
            [
                "event.schema.json",
                "exposure.schema.json",
                "flag-file.schema.json",
                "guardrail.schema.json",
                "outcome.schema.json",
            ],
        ),
        ("asyncapi", ["asyncapi.yaml"]),
        ("odcs", ["evidence.odcs.yaml"]),
    ],
)
def test_a_directory_gets_all_documents_and_the_same_each_time(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, files: list[str]
) -> None:
    told = exported(monkeypatch, capsys, "--format", name, "--output", "out/new")
    assert sorted(told.split()) == [f"out/new/{file}" for file in files]
    assert sorted(path.name for path in (home / "out" / "new").iterdir()) == files
    exported(monkeypatch, capsys, "--format", name, "--output", "again")
    for file in files:
        assert (home / "out" / "new" / file).read_bytes() == (home / "again" / file).read_bytes()


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml"])
def test_a_file_is_written_as_its_name_says(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    assert exported(monkeypatch, capsys, "--format", "asyncapi", "--output", f"api{suffix}") == f"api{suffix}\n"
    content = (home / f"api{suffix}").read_text(encoding="utf-8")
    document = json.loads(content) if suffix == ".json" else yaml.safe_load(content)
    jsonschema.Draft7Validator(standard("asyncapi-3.1.0")).validate(document)
    assert "&id" not in content


def test_asyncapi_says_what_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "BOOTSTRAP_SERVERS": "a:9092,b:9093",
        "OUTCOMES_TOPIC": "results",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "KAFKA_SASL_USERNAME": "me",
        "KAFKA_SASL_PASSWORD": "hunter2",
        "REROUTE": "false",
    }
    for setting, value in settings.items():
        monkeypatch.setenv(f"EVIDENCE_{setting}", value)
    printed = exported(monkeypatch, capsys, "--format", "asyncapi", "--partitions", "48")
    assert "hunter2" not in printed
    document = yaml.safe_load(printed)
    jsonschema.Draft7Validator(standard("asyncapi-3.1.0")).validate(document)
    assert [server["host"] for server in document["servers"].values()] == ["a:9092", "b:9093"]
    assert document["channels"]["outcomeDeadLetters"]["address"] == "results.dlq"
    assert document["channels"]["outcomes"]["bindings"]["kafka"]["partitions"] == 48
    assert document["components"]["securitySchemes"]["brokers"]["type"] == "scramSha256"


def test_odcs_names_the_lake_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVIDENCE_LAKE", "/srv/lake")
    document = yaml.safe_load(exported(monkeypatch, capsys, "--format", "odcs"))
    jsonschema.Draft201909Validator(standard("odcs-3.2.0")).validate(document)
    assert document["servers"][0]["path"] == "/srv/lake/tables/{model}/**/*.parquet"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--output", "flags/route.yaml/below"], "--output flags/route.yaml/below: Not a directory; name a place"),
        (["nowhere"], "nowhere: is not there; name a flag file"),
        (["broken.yaml"], "broken.yaml:1: file: is empty"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    (home / "broken.yaml").touch()
    assert evidence(monkeypatch, "contracts", "export", *options) == Exit.USAGE
    assert said in complaint(capsys)
