"""What is shipped beside the code: locks, wheel, image, composition, recipes."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from compose_spec import PyCompose
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.settings import PREFIX, describe

LOCKS = {
    "requirements.txt": (),
    "requirements-dev.txt": ("build", "demo", "dev"),
    "requirements-build.txt": None,
}


@pytest.fixture
def project(checkout: Path) -> dict[str, Any]:
    return dict(tomllib.loads((checkout / "pyproject.toml").read_text())["project"])


@pytest.fixture
def composition(checkout: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((checkout / "docker-compose.yml").read_text()))


def pins(lock: Path) -> dict[str, str]:
    """Read the version of each package, by its normalised name."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


# locks


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_hashes(checkout: Path, name: str) -> None:
    """A package whose archive changed is refused."""
    blocks = re.split(r"\n(?=\S)", (checkout / name).read_text())
    assert [block.split()[0] for block in blocks if "==" in block and "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("name", LOCKS)
def test_locks_name_no_registry(checkout: Path, name: str) -> None:
    assert not re.search(r"https?://|--index|--extra-index|--find-links|@ file", (checkout / name).read_text())


@pytest.mark.parametrize(("name", "extras"), [(name, extras) for name, extras in LOCKS.items() if extras is not None])
def test_locks_satisfy_the_project(checkout: Path, project: dict[str, Any], name: str, extras: tuple[str, ...]) -> None:
    """Whoever changes a dependency runs `make lock`."""
    locked = pins(checkout / name)
    wanted = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    unmet = [
        str(requirement)
        for requirement in map(Requirement, wanted)
        if not requirement.specifier.contains(locked.get(canonicalize_name(requirement.name), "0"))
    ]
    assert unmet == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-build.txt"])
def test_all_locks_agree(checkout: Path, name: str) -> None:
    """What was tested is what the image gets."""
    assert pins(checkout / name).items() <= pins(checkout / "requirements-dev.txt").items()


# the wheel


def test_wheel_holds_the_packages_and_their_sql(checkout: Path, tmp_path: Path) -> None:
    """The wheel has every module and SQL file of the three packages, the command, and no test."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=checkout, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        commands = archive.read(entry_points).decode()
    expected = {
        str(path.relative_to(checkout))
        for package in ("contracts", "sinks", "pipeline")
        for path in (checkout / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files == expected
    assert "evidence = pipeline.cli:command" in commands


def test_licence_is_the_one_that_is_declared(checkout: Path, project: dict[str, Any]) -> None:
    assert project["license"] == "Apache-2.0"
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", (checkout / "LICENSE").read_text())


# the image


def test_dockerfile_passes_its_linter(checkout: Path) -> None:
    linter = Path(sys.executable).parent / "hadolint"
    answer = subprocess.run([linter, "Dockerfile"], cwd=checkout, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout


def test_image_gets_what_it_copies(checkout: Path) -> None:
    """Each source of a COPY exists, and .dockerignore lets it through."""
    dockerfile = (checkout / "Dockerfile").read_text()
    copies = re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE)
    sources = {source for line in copies for source in line.split()[:-1]}
    let_through = set(re.findall(r"^!(\S+)$", (checkout / ".dockerignore").read_text(), re.MULTILINE))
    assert sources == let_through
    assert [source for source in sources if not (checkout / source).exists()] == []


def test_image_does_not_run_as_root(checkout: Path) -> None:
    users = re.findall(r"^USER (\S+)$", (checkout / "Dockerfile").read_text(), re.MULTILINE)
    assert users[-1] == "10001:10001"


# the composition


def test_composition_follows_the_compose_specification(composition: dict[str, Any]) -> None:
    """A parser of the specification, which knows no YAML merge keys, finds the same services once they are merged."""
    services = PyCompose.from_yaml(yaml.safe_dump(composition)).services
    assert services is not None
    assert (
        set(services)
        == set(composition["services"])
        == {
            "kafka",
            "topics",
            "worker",
            "traffic",
            "prometheus",
            "grafana",
        }
    )


def test_composition_refers_to_what_it_defines(composition: dict[str, Any]) -> None:
    """Services wait for services that exist, in a state they can reach; named volumes are declared."""
    services = composition["services"]
    for service in services.values():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in services[other]
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith("./") or source in composition["volumes"]


def test_composition_sets_only_known_settings(composition: dict[str, Any]) -> None:
    """The command refuses names that nobody knows, so none may stand here."""
    used = {name for service in composition["services"].values() for name in service.get("environment", ())}
    assert {name for name in used if name.startswith(PREFIX)} <= {row.name for row in describe()}


def test_composition_publishes_ports_on_loopback_only(composition: dict[str, Any]) -> None:
    ports = [port for service in composition["services"].values() for port in service.get("ports", [])]
    assert ports
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_composition_mounts_what_exists(composition: dict[str, Any], checkout: Path) -> None:
    """Docker would make an empty directory in the place of what is missing."""
    volumes = [volume for service in composition["services"].values() for volume in service.get("volumes", [])]
    mounted = [source for volume in volumes if (source := volume.split(":")[0]).startswith("./")]
    assert [source for source in mounted if not (checkout / source).is_dir()] == []


def test_prometheus_scrapes_the_workers_of_the_composition(checkout: Path, composition: dict[str, Any]) -> None:
    """By the name of the service, at the port of its web server."""
    told = yaml.safe_load((checkout / "monitoring" / "prometheus" / "prometheus.yml").read_text())
    [job] = told["scrape_configs"]
    [found] = job["dns_sd_configs"]
    assert set(found["names"]) <= set(composition["services"])
    assert [port["target"] for port in composition["services"]["worker"]["ports"]] == [found["port"]]


def test_grafana_asks_the_prometheus_of_the_composition(checkout: Path, composition: dict[str, Any]) -> None:
    """And finds the dashboard where it is told to look."""
    provisioning = checkout / "monitoring" / "grafana" / "provisioning"
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    [port] = composition["services"]["prometheus"]["ports"]
    assert source["url"] == f"http://prometheus:{port['target']}"
    [provider] = yaml.safe_load((provisioning / "dashboards" / "evidence.yml").read_text())["providers"]
    grafana = composition["services"]["grafana"]
    mounts = dict(reversed(volume.split(":")[:2]) for volume in grafana["volumes"])
    assert mounts[provider["options"]["path"]] == "./monitoring/grafana/dashboards"
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (checkout / mounts[str(Path(home).parent)] / Path(home).name).is_file()


def test_composition_runs_the_kafka_that_the_tests_run(checkout: Path, composition: dict[str, Any]) -> None:
    pom = ET.fromstring((checkout / "tests" / "kafka" / "pom.xml").read_text())  # noqa: S314  # our own file
    version = pom.findtext("{*}properties/{*}kafka.version")
    assert composition["services"]["kafka"]["image"] == f"apache/kafka:{version}"


# the recipes


def test_make_lists_its_recipes(checkout: Path) -> None:
    answer = subprocess.run(
        ["make", "--no-print-directory", "help"],  # noqa: S607
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    recipes = {line.split()[0] for line in answer.stdout.splitlines()}
    assert recipes >= {"demo", "test", "fmt", "lint", "bench", "broker", "venv", "lock"}


def test_ci_runs_what_make_test_runs(checkout: Path) -> None:
    script = checkout / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[-1] == "make test"
