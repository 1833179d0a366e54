"""A lab whose lake lies on disk, and its topics and dead letters in memory."""

from pathlib import Path
from typing import cast

from contracts.decode import Decoder
from contracts.flags import ContractBook
from pipeline.dlq.lake import LakeState
from pipeline.dlq.reading import MemoryReader
from pipeline.preflight import DLQ_SUFFIX
from pipeline.verify.topics import Record
from sinks.lineage import open_lake
from sinks.storage import LocalStorage, MemoryStorage
from tests.pipeline.lab import NOON, TOPICS, Lab

__all__ = ["cluster", "decoder", "lab_on_disk", "state"]


def lab_on_disk(root: Path) -> Lab:
    storage = LocalStorage(root)
    open_lake(storage, lambda: "lake")
    return Lab(storage=cast("MemoryStorage", storage))


def state(lab: Lab) -> LakeState:
    """Return what the lab's lake knows now."""
    storage = cast("LocalStorage", lab.storage)
    return LakeState(storage.root, ContractBook(lab.contracts), lab.lateness)


def cluster(lab: Lab) -> MemoryReader:
    """Return the lab's topics, dead letters among them."""
    logs = {
        topic: {0: [Record(offset, NOON // 1000, False, None, value) for offset, value in enumerate(log)]}  # noqa: FBT003
        for topic, log in lab.logs.items()
    }
    for topic in TOPICS:
        name = topic + DLQ_SUFFIX
        sent = [each for each in lab.sent if each.topic == name]
        logs[name] = {
            0: [
                Record(offset, each.timestamp, False, each.key, each.value, tuple(each.headers))  # noqa: FBT003
                for offset, each in enumerate(sent)
            ]
        }
    return MemoryReader(logs, batch=3)


def decoder(lab: Lab) -> Decoder:
    return Decoder(ContractBook(lab.contracts), 1 << 20, 10**15)
