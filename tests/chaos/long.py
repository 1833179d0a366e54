"""The long form: round after round of seeded chaos, until time is up.

    python -m tests.chaos.long [--minutes 60] [--seed 1] [--home build/chaos]

Each round has a lake, topics and load of its own; three workers and the broker fail in ways that the seed chooses, and
at the end the lake is read to its end and judged. What was done goes to `HOME/SEED.jsonl`, a line a round; the same
seed goes on behind its last line. A round that fails leaves its lake and logs in place. What a run has come to is a
line more of the ledger (see `rounds`).
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contracts.errors import KafkaUnavailable
from tests.brokers import ApacheKafka, kafka_jars
from tests.chaos.fleet import Fleet, Member, fleet_of
from tests.chaos.load import FLAG, SETTINGS, Load
from tests.chaos.points import BETWEEN_FILES, COMPACTING, STEP_ENDS, Plan
from tests.chaos.rounds import append, kills_of, rounds_of
from tests.chaos.verdict import judge
from tests.integration.deployment import Deployment
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

WORKERS: Final = 3
PARTITIONS: Final = 6
FAULTS: Final = 25  # a round
STARTS: Final = 5

UNREACHABLE: Final = 3  # how a worker may end that starts while its disk is full or its broker is away


class Round:
    """One lake, from its first worker to the verdict."""

    def __init__(self, broker: ApacheKafka, home: Path, seed: str) -> None:
        """Make the deployment that the seed chooses."""
        self.done = Counter[str]()
        self.published = 0
        self._seed = seed
        self._rng = random.Random(seed)  # noqa: S311
        self._broker = broker
        intervals = {
            "checkpoint_interval": f"{self._rng.choice((200, 400, 1000))}ms",
            "close_interval": f"{self._rng.choice((500, 1000, 3000))}ms",
            "compact_interval": "1s",
        }
        self._deployment = Deployment.make(
            broker.bootstrap, home, partitions=PARTITIONS, flag=FLAG, **{**SETTINGS, **intervals}
        )

    def run(self) -> None:
        """Go through all faults; AssertionError if anything is not as it has to be."""
        faults: tuple[tuple[Callable[[Fleet], None], int], ...] = (
            (self._kill, 8),
            (self._kill_all, 8),
            (self._hang, 3),
            (self._end, 2),
            (self._join, 2),
            (self._change_contract, 1),
            (self._restart_broker, 1),
            (self._kill_broker, 1),
            (self._freeze_broker, 1),
        )
        chosen = self._rng.choices([fault for fault, _ in faults], [often for _, often in faults], k=FAULTS)
        with fleet_of(self._deployment) as fleet:
            with Load(self._deployment, self._rng.randrange(10**9)) as load:
                for fault in chosen:
                    self._fill(fleet)
                    self._wait(3.0)
                    fault(fleet)
                self._fill(fleet)
                fleet.moves(120)
            self.published = load.published
            for member in fleet.members:
                self._ended_well(member)
            for member in fleet.alive:
                member.kill()
        self._deployment.read_to_end("--close-windows")
        judge(self._deployment, load.expected)

    def _fill(self, fleet: Fleet) -> None:
        """Start workers until there are enough; most have a fault in them."""
        while len(fleet.alive) < WORKERS:
            chance = self._rng.random()
            if chance < 0.6:
                fleet.start(
                    Plan(self._rng.choice([*STEP_ENDS, *BETWEEN_FILES, *COMPACTING]), self._rng.randrange(1, 8))
                )
            elif chance < 0.7:
                fleet.start(full=0.004)
                self.done["worker with a full disk"] += 1
            elif chance < 0.8:
                fleet.start(clock=self._rng.randrange(1_000))
                self.done["worker whose clock jumps"] += 1
            else:
                fleet.start()
        until(lambda: len(fleet.alive) < WORKERS or any(map(_at_work, fleet.alive)), 60, "work")

    def _wait(self, most: float) -> None:
        end = time.monotonic() + self._rng.uniform(0, most)
        until(lambda: time.monotonic() > end, most + 1)

    def _one(self, fleet: Fleet) -> Member:
        return self._rng.choice(fleet.alive or [fleet.start()])

    def _kill(self, fleet: Fleet) -> None:
        self._one(fleet).kill()
        self.done["SIGKILL at a random time"] += 1

    def _kill_all(self, fleet: Fleet) -> None:
        for member in fleet.alive:
            member.kill()
            self.done["SIGKILL at a random time"] += 1

    def _hang(self, fleet: Fleet) -> None:
        member = self._one(fleet)
        member.hang()
        self._wait(8.0)
        member.go_on()
        self.done["SIGSTOP and SIGCONT"] += 1

    def _end(self, fleet: Fleet) -> None:
        self._one(fleet).process.send_signal(signal.SIGTERM)
        self.done["SIGTERM"] += 1

    def _join(self, fleet: Fleet) -> None:
        fleet.start()
        self.done["worker more"] += 1

    def _change_contract(self, _fleet: Fleet) -> None:
        text = f"{FLAG}# {self._rng.random()}\n"
        (self._deployment.home / "flags" / "route.yaml").write_text(text)
        self.done["contract changed"] += 1

    def _restart_broker(self, _fleet: Fleet) -> None:
        self._broker.stop()
        self._wait(5.0)
        _start(self._broker)
        self.done["broker restarted"] += 1

    def _kill_broker(self, _fleet: Fleet) -> None:
        self._broker.kill()
        self._wait(10.0)
        _start(self._broker)
        self.done["broker killed"] += 1

    def _freeze_broker(self, _fleet: Fleet) -> None:
        self._broker.freeze()
        self._wait(10.0)
        self._broker.thaw()
        self.done["broker hung"] += 1

    def _ended_well(self, member: Member) -> None:
        """See that it still runs, was killed, was asked to end, or says why it could not begin."""
        said, code = member.said(), member.process.poll()
        if code == -signal.SIGKILL and "chaos: SIGKILL " in said:
            assert member.plan is not None
            self.done[f"SIGKILL {member.plan.point}"] += 1
        could_not_begin = code == UNREACHABLE and "evidence: " in said
        # Python hears a signal neither while it starts nor when it is all but gone
        unheard = code == -signal.SIGTERM and ("stopping: " in said or not _at_work(member))
        well = code in {None, 0, -signal.SIGKILL} or could_not_begin or unheard
        assert well, f"{member.log} ended with {code}:\n{said[-3_000:]}"
        self.done["libraries logged a traceback"] += code != -signal.SIGKILL and "Traceback" in said
        self.done["workers started"] += 1


def _start(broker: ApacheKafka) -> None:
    """Start it again; a client that calls where it was may have its port for a moment."""
    for _ in range(STARTS):
        with suppress(KafkaUnavailable):
            broker.start()
            return
    broker.start()


def _at_work(member: Member) -> bool:
    return "going on from checkpoint" in member.said()


def main() -> int:
    """Run rounds until time is up; return 1 if one failed."""
    parser = argparse.ArgumentParser(description="Seeded chaos, round after round.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--home", type=Path, default=Path("build/chaos"))
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    told = given.home / f"{given.seed}.jsonl"
    _say(f"seed {given.seed}; {told}")
    end = time.monotonic() + given.minutes * 60
    number = before = len(_rounds(told))
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        broker = ApacheKafka(Path(directory) / "broker", kafka_jars())
        broker.start()
        try:
            while time.monotonic() < end:
                outcome = _round(broker, given.home / f"{given.seed}-{number}", f"{given.seed}/{number}")
                with told.open("a") as lines:
                    lines.write(json.dumps(outcome) + "\n")
                number += 1
        finally:
            broker.kill()
    rounds = _rounds(told)
    _summarise(rounds)
    run = rounds_of(datetime.now(UTC).date().isoformat(), given.seed, rounds[before:])
    append(run)
    return int(run.clean < run.rounds)


def _round(broker: ApacheKafka, home: Path, seed: str) -> dict[str, Any]:
    began = time.monotonic()
    shutil.rmtree(home, ignore_errors=True)
    one, failed = Round(broker, home, seed), None
    try:
        one.run()
        shutil.rmtree(home)
    except AssertionError as wrong:
        failed = str(wrong)
        broker.kill()  # in whatever state it is
        _start(broker)
    kills = kills_of(one.done)
    took = time.monotonic() - began
    _say(f"round {seed}: {kills} kills, {one.published} records, {took:.0f} s: {failed or 'fine'}")
    return {
        "round": seed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "records": one.published,
        "seconds": round(took),
        "done": one.done,
        "failed": failed,
    }


def _rounds(told: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []


def _summarise(rounds: list[dict[str, Any]]) -> None:
    done = Counter[str]()
    for each in rounds:
        done.update(each["done"])
    kills = kills_of(done)
    failed = [each["round"] for each in rounds if each["failed"] is not None]
    _say(f"{len(rounds)} rounds, {kills} kills, {sum(each['records'] for each in rounds)} records, failed: {failed}")
    for fault, count in sorted(done.items()):
        _say(f"{count:6}  {fault}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
