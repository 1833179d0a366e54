"""The mock cluster that librdkafka has inside: brokers on loopback that refuse requests on demand."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import confluent_kafka.cimpl

__all__ = ["mock_brokers"]

PRODUCER: Final = 0  # of `rd_kafka_type_t`
PRODUCE: Final = 0  # the number of the request


@contextmanager
def mock_brokers(topics: Sequence[str], refusals: Sequence[int], answer_ms: int) -> Iterator[str]:
    """Give the address of one broker with these topics, of a partition each.

    It answers after so many milliseconds, and the first requests to write with these errors; nothing of those is kept.
    """
    library = ctypes.CDLL(confluent_kafka.cimpl.__file__)
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    why = ctypes.create_string_buffer(512)
    client = library.rd_kafka_new(PRODUCER, ctypes.c_void_p(library.rd_kafka_conf_new()), why, len(why))
    assert client, why.value
    handle = ctypes.c_void_p(client)
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(handle, 1))
    try:
        for topic in topics:
            assert library.rd_kafka_mock_topic_create(cluster, topic.encode(), 1, 1) == 0
        errors = (ctypes.c_int * len(refusals))(*refusals)
        library.rd_kafka_mock_push_request_errors_array(
            cluster, ctypes.c_int16(PRODUCE), ctypes.c_size_t(len(refusals)), errors
        )
        library.rd_kafka_mock_broker_set_rtt(cluster, ctypes.c_int32(1), answer_ms)
        yield library.rd_kafka_mock_cluster_bootstraps(cluster).decode()
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(handle)
