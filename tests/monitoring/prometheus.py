"""The real Prometheus, as Debian packages it: a server on loopback, and its tool."""

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from pipeline.embedded import free_port
from tests.waiting import until

__all__ = ["ALERTS", "PrometheusMissing", "Server", "promtool", "serving", "sixty_times_faster"]

ALERTS: Final = Path(__file__).parents[2] / "monitoring" / "prometheus" / "alerts.yml"
SPANS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
START_S: Final = 60.0


class PrometheusMissing(Exception):
    """The machine lacks Prometheus; the message says what to do."""


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Prometheus' tool."""
    return subprocess.run([_program("promtool"), *arguments], capture_output=True, text=True, check=False)


def sixty_times_faster(rules: str) -> str:
    """Return the rules with each span of time a sixtieth of what it was: a minute becomes a second."""
    return re.sub(r"\b(\d+)([smhd])\b", lambda span: f"{max(int(span[1]) * SPANS[span[2]] // 60, 1)}s", rules)


@dataclass(frozen=True)
class Server:
    """A running Prometheus."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query; it must be one that Prometheus understands."""
        return list(self._get(f"query?{urllib.parse.urlencode({'query': expression})}")["result"])

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {alert["labels"]["alertname"] for alert in self._get("alerts")["alerts"] if alert["state"] == "firing"}

    def fired(self) -> set[str]:
        """Return the names of the alerts that fire or fired before."""
        found = self.query('max by (alertname) (max_over_time(ALERTS{alertstate="firing"}[1h]))')
        return {sample["metric"]["alertname"] for sample in found}

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=10) as answer:  # noqa: S310  # our own
            body = json.load(answer)
        assert body["status"] == "success", body
        return dict(body["data"])


@contextmanager
def serving(home: Path, target: str, rules: str) -> Iterator[Server]:
    """Run Prometheus, which scrapes the target each second, until the end of the block."""
    home.mkdir()
    (home / "alerts.yml").write_text(rules)
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [{"job_name": "evidence", "static_configs": [{"targets": [target]}]}],
    }
    (home / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    with (home / "prometheus.log").open("wb") as told:
        process = subprocess.Popen(
            [
                _program("prometheus"),
                f"--config.file={home / 'prometheus.yml'}",
                f"--storage.tsdb.path={home / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=told,
            stderr=subprocess.STDOUT,
        )
    server = Server(f"http://127.0.0.1:{port}")
    try:
        until(lambda: _answers(server), START_S, "Prometheus")
        yield server
    finally:
        process.terminate()
        process.wait(START_S)


def _answers(server: Server) -> bool:
    try:
        return bool(server.query("vector(1)"))
    except OSError:
        return False


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise PrometheusMissing(f"{name} is missing; install Debian's package prometheus")
    return found
