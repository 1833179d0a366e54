"""Which partition a key belongs to."""

import pyarrow as pa
import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from contracts.placement import crc32_partition, fnv1a_partition, murmur2_partition, partitioner_of

_MOST = 2**31 - 1


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_murmur2_is_the_one_of_java_clients(key: str, hashed: int) -> None:
    """The vectors are those of Kafka's own UtilsTest."""
    assert murmur2_partition([key], _MOST).tolist() == [(hashed & 0x7FFFFFFF) % _MOST]


@given(st.lists(st.text(max_size=40), max_size=20), st.integers(1, 1000))
def test_a_column_of_units_is_placed_as_each_of_them(units: list[str], partitions: int) -> None:
    expected = [(murmur2(unit.encode()) & 0x7FFFFFFF) % partitions for unit in units]
    assert murmur2_partition(units, partitions).tolist() == expected
    column = pa.array(["before", *units, "after"], pa.string()).slice(1, len(units))
    assert murmur2_partition(column, partitions).tolist() == expected


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("kafka", 0xD33C4E1),
        ("giberish123456789", 0x77A58295),
        ("1234", 0x23BDD03),
        ("234", 0x2DEA3CD2),
        ("4", 0x310CA263),
        ("PreAmbleWillBeRemoved,ThePrePartThatIs", 0x65CBD69C),
        ("", 0x7EE3623B),
    ],
)
def test_fnv1a_is_the_one_of_sarama_and_librdkafka(key: str, hashed: int) -> None:
    """The vectors are those of librdkafka's own unit test."""
    assert fnv1a_partition(key.encode(), 1 << 31) == hashed


def test_crc32_is_the_one_of_librdkafka() -> None:
    """The check value of CRC-32 is 0xCBF43926."""
    assert crc32_partition(b"123456789", 1 << 32) == 0xCBF43926


@pytest.mark.parametrize(
    ("partition", "partitioner"),
    [
        pytest.param(crc32_partition(b"conv_1", 12), "crc32", id="crc32"),
        pytest.param(fnv1a_partition(b"conv_1", 12), "fnv1a", id="fnv1a"),
        pytest.param(11, "unknown", id="neither"),
    ],
)
def test_a_misplaced_key_is_traced_to_its_partitioner(partition: int, partitioner: str) -> None:
    assert partitioner_of(b"conv_1", partition, 12) == partitioner


def test_murmur2_and_crc32_seldom_agree() -> None:
    """With twelve partitions by about one in twelve: producers with different defaults do not copartition."""
    units = [f"conv_{number}" for number in range(20_000)]
    placed = murmur2_partition(units, 12).tolist()
    agreed = sum(crc32_partition(unit.encode(), 12) == partition for unit, partition in zip(units, placed, strict=True))
    assert 0.075 < agreed / len(units) < 0.092
