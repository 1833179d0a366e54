"""Which partition a key belongs to, as the usual producers see it.

Java clients and this software place a key by murmur2. Two others are known so that a misplaced record can be traced to
its producer: librdkafka's default, CRC32, and Sarama's FNV-1a.
"""

import zlib
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["crc32_partition", "fnv1a_partition", "murmur2_partition", "partitioner_of"]

_POSITIVE: Final = np.uint32(0x7FFFFFFF)

# murmur2 as in org.apache.kafka.common.utils.Utils.murmur2
_SEED: Final = np.uint32(0x9747B28C)
_FACTOR: Final = np.uint32(0x5BD1E995)
_ROTATION: Final = np.uint32(24)
_LAST_ROTATIONS: Final = (np.uint32(13), np.uint32(15))
_TAIL_MASKS: Final = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF], dtype=np.uint32)  # by the number of bytes after whole words

_FNV_OFFSET: Final = 0x811C9DC5
_FNV_PRIME: Final = 0x01000193


def murmur2_partition(units: Sequence[str] | pa.StringArray, partitions: int) -> npt.NDArray[np.int32]:
    """Return the partition of each unit's UTF-8 bytes by Java's murmur2, among so many partitions (at least one).

    The units are without nulls.
    """
    column = units if isinstance(units, pa.StringArray) else pa.array(units, pa.string())
    count = len(column)
    if count == 0:
        return np.zeros(0, dtype=np.int32)
    _, offset_buffer, data = column.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int32)[column.offset : column.offset + count + 1].astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    # A word may begin at any byte; four more bytes let the last word be read whole.
    text = (bytes(data[first:last]) if data is not None else b"") + bytes(4)
    words = np.ndarray(shape=(len(text) - 3,), dtype="<u4", buffer=text, strides=(1,))
    hashes = _murmur2(words, offsets[:-1] - first, np.diff(offsets)) & _POSITIVE
    return (hashes % np.uint32(partitions)).astype(np.int32)


def crc32_partition(key: bytes, partitions: int) -> int:
    """Return the partition of a key by librdkafka's `consistent`: CRC-32 modulo the number of partitions."""
    return zlib.crc32(key) % partitions


def fnv1a_partition(key: bytes, partitions: int) -> int:
    """Return the partition of a key by librdkafka's `fnv1a`, which is Sarama's: |32-bit FNV-1a| modulo partitions."""
    state = _FNV_OFFSET
    for byte in key:
        state = (state ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return (state if state < 1 << 31 else (1 << 32) - state) % partitions


def partitioner_of(key: bytes, partition: int, partitions: int) -> Literal["crc32", "fnv1a", "unknown"]:
    """Return which partitioner other than murmur2 puts the key there; CRC32 where both do."""
    if crc32_partition(key, partitions) == partition:
        return "crc32"
    if fnv1a_partition(key, partitions) == partition:
        return "fnv1a"
    return "unknown"


def _murmur2(
    words: npt.NDArray[np.uint32], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint32]:
    """Hash all keys word by word, the longest first: those that still have a word are then always in front."""
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    whole = lengths // 4
    state = _SEED ^ lengths.astype(np.uint32)
    for word in range(int(whole[0])):
        running = int(np.searchsorted(-whole, -word, side="left"))
        mixed = words[starts[:running] + 4 * word] * _FACTOR
        mixed ^= mixed >> _ROTATION
        state[:running] *= _FACTOR
        state[:running] ^= mixed * _FACTOR
    rest = lengths % 4
    tail = words[starts + 4 * whole] & _TAIL_MASKS[rest]
    state = np.where(rest > 0, (state ^ tail) * _FACTOR, state)
    state ^= state >> _LAST_ROTATIONS[0]
    state *= _FACTOR
    state ^= state >> _LAST_ROTATIONS[1]
    hashes = np.empty_like(state)
    hashes[order] = state
    return hashes
