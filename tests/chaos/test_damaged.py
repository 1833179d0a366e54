"""Files of a lake that lost a part or changed by a byte: an error that names the file, never a wrong fact."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from contracts.errors import LakeError
from sinks.lineage import Lineage, open_lake, read_lake
from sinks.manifest import Manifest
from sinks.storage import LocalStorage
from tests.commands import run
from tests.pipeline.lab import FLAG, Lab, contract, exposure, outcome

SEED = 11
UNITS = [f"u{number}" for number in range(120)]
FLIPS = 2


class Lake:
    """A lake of one partition with closed and open windows; what its topics hold besides is in the lab's logs."""

    def __init__(self, root: Path) -> None:
        """Fill it in four checkpoints, two of them with a close."""
        self.root = root
        self.lab = Lab()
        storage = LocalStorage(root)
        open_lake(storage, lambda: "lake")
        writer = self.lab.writer(storage)
        for number in range(4):
            for unit in UNITS[number::4]:
                hour = 20 * number + int(unit[1:]) / 12
                self.lab.publish("exposures", exposure(unit, hour))
                self.lab.publish("outcomes", outcome(unit, hour + 1))
            self.lab.publish("guardrails", b"{")
            self.lab.read_all(writer)
            self.lab.checkpoint(writer, close=number % 2 == 1)
        self.lab.publish("outcomes", *(outcome(unit, 61 + int(unit[1:]) / 12) for unit in UNITS[3::4]))

    @property
    def newest(self) -> Manifest:
        manifest = Lineage(LocalStorage(self.root), 0).newest()
        assert manifest is not None
        return manifest

    def needed(self) -> set[str]:
        """Return the files that whoever goes on with the lake has to read."""
        manifest = self.newest
        return {
            "lake.json",
            Lineage(LocalStorage(self.root), 0).name(manifest.seq),
            *manifest.live(),
            *(f"contracts/{version}.yaml" for version in manifest.contracts),
        }

    def finish(self, root: Path) -> list[dict[str, Any]]:
        """Go on with a copy of the lake, under a later contract; decide everything, and return the facts."""
        storage = LocalStorage(root)
        read_lake(storage)
        lab = Lab(logs=self.lab.logs, contracts=(contract(f"{FLAG}# later\n"),))
        writer = lab.writer(storage)
        lab.read_all(writer)
        lab.checkpoint(writer, close=True, everything=True)
        files = sorted((root / "tables" / "facts").rglob("*.parquet"))
        return sorted((row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()), key=repr)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(tmp_path_factory.mktemp("damaged") / "lake")


def damages(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield what may be left of a file: nothing, half, all but a byte; or all with another bit somewhere."""
    yield from (b"", data[: len(data) // 2], data[:-1])
    for _ in range(FLIPS):
        place = rng.randrange(len(data))
        yield data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def test_whoever_needs_a_damaged_file_names_it(lake: Lake, tmp_path: Path) -> None:
    """Of manifests, segments, residue, contracts and the lake's own file; what nobody needs may be damaged."""
    rng = random.Random(SEED)  # noqa: S311
    shutil.copytree(lake.root, tmp_path / "sound")
    facts = lake.finish(tmp_path / "sound")
    assert len(facts) == len(UNITS)
    needed = lake.needed()
    noticed: set[str] = set()
    for file in sorted(path for path in lake.root.rglob("*") if path.is_file()):
        name = file.relative_to(lake.root).as_posix()
        if name.startswith(("tables/", ".locks/")):  # of tables below; a lock is an empty file
            continue
        for number, left in enumerate(damages(file.read_bytes(), rng)):
            copy = tmp_path / f"{len(noticed)}-{number}"
            shutil.copytree(lake.root, copy)
            (copy / name).write_bytes(left)
            try:
                assert lake.finish(copy) == facts, f"{name} made wrong facts"
                assert name not in needed or name == "lake.json", f"{name} was not looked at"
            except LakeError as error:
                assert name in str(error)  # noqa: PT017  # each damage may do either
                assert name in needed
                noticed.add(name)
            shutil.rmtree(copy)
    assert noticed == needed


def test_the_audit_finds_damaged_tables(lake: Lake, tmp_path: Path) -> None:
    rng = random.Random(SEED)  # noqa: S311
    shutil.copytree(lake.root, tmp_path / "lake")
    variables = {"EVIDENCE_LAKE": str(tmp_path / "lake")}
    assert run(variables, "verify", "--lake-only").returncode == 0
    files = {file.name: tmp_path / "lake" / file.name for file in lake.newest.files}
    for name, file in files.items():
        data = file.read_bytes()
        file.write_bytes(rng.choice([*damages(data, rng)]))
        audit = run(variables, "verify", "--lake-only")
        assert audit.returncode == 1
        assert name in audit.stdout + audit.stderr
        assert "Traceback" not in audit.stderr
        file.write_bytes(data)
