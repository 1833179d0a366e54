"""The client as services install it: small, typed, for Python 3.10, and without anything of the pipeline."""

import ast
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_packaging import pins

BLOCKED = ("contracts", "growthbook", "openfeature", "pipeline", "sinks")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Path:
    """Build wheel and source distribution."""
    directory = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(directory)]
    subprocess.run(build, cwd=checkout / "client", check=True, capture_output=True)
    return directory


@pytest.fixture
def project(checkout: Path) -> dict[str, Any]:
    return dict(tomllib.loads((checkout / "client" / "pyproject.toml").read_text())["project"])


def modules(checkout: Path) -> set[str]:
    package = checkout / "client" / "evidence_client"
    return {f"evidence_client/{file.name}" for file in package.iterdir() if file.is_file()}


def test_the_wheel_holds_the_package_and_what_marks_it_typed(built: Path, checkout: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        (told,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(told).decode())
        licences = [name for name in archive.namelist() if name.endswith("LICENSE")]
    assert files == modules(checkout) >= {"evidence_client/py.typed"}
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata.get_payload() == (checkout / "client" / "README.md").read_text()
    assert len(licences) == 1


def test_the_source_distribution_builds_the_same(built: Path, checkout: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - {".gitignore"} == modules(checkout) | {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}


def test_services_install_nothing_but_the_kafka_client(project: dict[str, Any]) -> None:
    assert [Requirement(line).name for line in project["dependencies"]] == ["confluent-kafka"]
    assert set(project["optional-dependencies"]) == {"openfeature", "growthbook"}


def test_what_was_tested_is_what_the_client_asks_for(checkout: Path, project: dict[str, Any]) -> None:
    """Whoever changes a dependency runs `make lock`."""
    locked = pins(checkout / "requirements-dev.txt")
    wanted = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
    ]
    unmet = [
        str(requirement)
        for requirement in map(Requirement, wanted)
        if not requirement.specifier.contains(locked.get(canonicalize_name(requirement.name), "0"))
    ]
    assert unmet == []


def test_the_licence_is_that_of_the_pipeline(checkout: Path, project: dict[str, Any]) -> None:
    assert (checkout / "client" / "LICENSE").read_bytes() == (checkout / "LICENSE").read_bytes()
    assert project["license"] == "Apache-2.0"


def test_the_wheel_imports_alone(built: Path) -> None:
    """Without the pipeline, and without the SDKs whose extras were not asked for."""
    (wheel,) = built.glob("*.whl")
    program = f"""
import sys
for name in {BLOCKED!r}: sys.modules[name] = None
sys.path.insert(0, {str(wheel)!r})
import evidence_client
assert evidence_client.__file__.startswith({str(wheel)!r}), evidence_client.__file__
assert set(evidence_client.__all__) <= set(dir(evidence_client))
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_every_module_parses_as_python_3_10(checkout: Path) -> None:
    """That it uses no younger library either, lint sees: mypy reads it as Python 3.10."""
    for file in (checkout / "client" / "evidence_client").glob("*.py"):
        ast.parse(file.read_text(), str(file), feature_version=(3, 10))
