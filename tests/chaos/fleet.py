"""Workers of one deployment that come, fail as they are told, and go."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.settings import PREFIX
from tests.chaos.points import Plan
from tests.commands import environment
from tests.integration.deployment import Deployment, RunningWorker
from tests.waiting import until

__all__ = ["Fleet", "Member", "fleet_of"]

ROOT: Final = Path(__file__).resolve().parents[2]
STOP_S: Final = 60.0


@dataclass(frozen=True)
class Member(RunningWorker):
    """One worker, and the plan that it was started with."""

    plan: Plan | None

    @property
    def gone(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        """End it as a power cut would end it, hanging or not."""
        self.process.kill()
        self.process.wait(STOP_S)

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return int(self.process.wait(STOP_S))

    def dies(self) -> None:
        """Wait until it died at the point of its plan."""
        assert self.ends() == -signal.SIGKILL, self.said()
        assert self.plan is not None
        assert f"chaos: SIGKILL {self.plan.point}\n" in self.said()


@dataclass
class Fleet:
    """The workers of a deployment."""

    deployment: Deployment
    members: list[Member] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def start(self, plan: Plan | None = None, *flags: str, **chaos: object) -> Member:
        """Start a worker; keywords are the child's CHAOS_* variables in lower case."""
        variables: Mapping[str, str] = {f"CHAOS_{name.upper()}": str(value) for name, value in chaos.items()}
        kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "CHAOS_"))}
        log = self.deployment.home / f"member-{next(self._numbers)}.log"
        with log.open("xb") as told:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.child", "worker", *flags],
                env={
                    **kept,
                    **environment(self.deployment.settings),
                    **(plan.variables() if plan else {}),
                    "CHAOS_HURRY": "1",
                    **variables,
                },
                cwd=ROOT,
                stdout=told,
                stderr=subprocess.STDOUT,
            )
        member = Member(process, log, plan)
        self.members.append(member)
        return member

    @property
    def alive(self) -> list[Member]:
        """Those whose process is there, hanging or not."""
        return [member for member in self.members if not member.gone]

    def moves(self, deadline: float = 60.0) -> None:
        """Wait until every partition of the deployment has a new checkpoint."""
        before = self.seqs()

        def moved() -> bool:
            now = self.seqs()
            return len(now) == self.deployment.partitions and all(now[p] > before.get(p, 0) for p in now)

        until(moved, deadline, f"a new checkpoint of each partition after {before}\n{self.said()}")

    def seqs(self) -> dict[int, int]:
        """Return the number of the newest manifest of each partition."""
        return {number: manifest.seq for number, manifest in self.deployment.manifests().items()}

    def end(self) -> None:
        """Ask all to end, and see that none fails."""
        for member in self.alive:
            member.process.send_signal(signal.SIGTERM)
        for member in self.alive:
            assert member.process.wait(STOP_S) == 0, member.said()[-3_000:]

    def said(self) -> str:
        """Return the last words of each."""
        return "\n".join(f"--- {member.log.name}\n{member.said()[-1_500:]}" for member in self.members[-4:])


@contextmanager
def fleet_of(deployment: Deployment) -> Iterator[Fleet]:
    """Give a fleet without workers; whatever still runs at the end of the block is killed."""
    fleet = Fleet(deployment)
    try:
        yield fleet
    finally:
        for member in fleet.members:
            if not member.gone:
                member.kill()
