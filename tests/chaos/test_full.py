"""A disk that is full at any write, and files that may not grow: the worker waits, and says what to do."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.errors import StorageUnavailable
from pipeline.checkpoint import Checkpointer
from tests.brokers import ApacheKafka
from tests.chaos.fleet import fleet_of
from tests.chaos.forms import long_form
from tests.chaos.load import Load
from tests.chaos.verdict import judge
from tests.integration.deployment import Deployment
from tests.pipeline.lab import HOUR, Lab, exposure

ROOM = "20MB"
UNITS = 60_000
SHARE = 0.004  # a checkpoint makes some two hundred
BYTES = 3_000  # less than a segment under load


@long_form
def test_a_disk_that_is_full_again_and_again(apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    """Whichever write fails, and half of it stays: the checkpoint is tried again, and nothing is lost or doubled."""
    deployment = deploy(apache.bootstrap)
    with fleet_of(deployment) as fleet:
        with Load(deployment, 7) as load:
            members = [fleet.start(full=SHARE) for _ in range(2)]
            for _ in range(5):
                fleet.moves()
            for member in members:
                assert "No space left on device; free space on its disk; trying again" in member.said()
                member.kill()
        deployment.read_to_end("--close-windows")
    judge(deployment, load.expected)


def test_a_worker_whose_files_may_not_grow_ends_with_a_remedy(
    apache: ApacheKafka, deploy: Callable[..., Deployment]
) -> None:
    """It waits as long as it may; asked to end it says so, and the next goes on from before."""
    deployment = deploy(apache.bootstrap)
    with fleet_of(deployment) as fleet:
        with Load(deployment, 8) as load:
            member = fleet.start(file_size=BYTES)
            member.says("File too large; raise the limit on file size (ulimit -f); trying again")
            member.process.send_signal(signal.SIGTERM)
            assert member.ends() == 3
            assert "evidence: cannot write " in member.said()
            assert "Traceback" not in member.said()
        deployment.read_to_end("--close-windows")
    judge(deployment, load.expected)


def test_a_close_that_has_no_room_says_what_to_enlarge(tmp_path: Path) -> None:
    lab = Lab()
    writer = lab.writer()
    lab.publish("exposures", *(exposure(f"u{number}", number / UNITS) for number in range(UNITS)))
    lab.read(writer, "exposures", UNITS)
    frozen = writer.partition.freeze(0)
    small = Checkpointer(
        lab.storage,
        send=lab.sent.append,
        flush=lambda: None,
        clock=lambda: lab.now,
        new_id=lambda: "abc",
        allowed_lateness=0,
        memory_limit=ROOM,
        temp_directory=str(tmp_path),
    )
    with pytest.raises(StorageUnavailable, match=r"raise EVIDENCE_MEMORY_LIMIT|larger disk in TMPDIR"):
        small.checkpoint(writer.base, frozen, lab.now + 100 * HOUR)
    assert lab.rows("facts") == []
