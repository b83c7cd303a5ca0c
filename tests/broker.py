"""librdkafka's own mock cluster, driven through its C interface: a broker in this process.

It knows no topic requests and no DeleteRecords; topics are made, partitions cut and requests made
to fail by calls that only the C interface has.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka

PRODUCE, FETCH, LIST_OFFSETS = 0, 1, 2     # the protocol's numbers of requests
NO_ERROR, MESSAGE_TOO_LARGE, NOT_ENOUGH_REPLICAS, TOPIC_NOT_ALLOWED = 0, 10, 19, 29

_PRODUCER = 0
_handle = ctypes.c_void_p


def _library() -> ctypes.CDLL:
    """The library that confluent_kafka has loaded."""
    beside = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    found = ctypes.CDLL(str(next(beside.glob("librdkafka*"))))
    for name, result, arguments in (
        ("rd_kafka_conf_new", _handle, []),
        (
            "rd_kafka_conf_set", ctypes.c_int,
            [_handle, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t],
        ),
        ("rd_kafka_new", _handle, [ctypes.c_int, _handle, ctypes.c_char_p, ctypes.c_size_t]),
        ("rd_kafka_mock_cluster_new", _handle, [_handle, ctypes.c_int]),
        ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, [_handle]),
        ("rd_kafka_mock_cluster_destroy", None, [_handle]),
        ("rd_kafka_destroy", None, [_handle]),
        (
            "rd_kafka_mock_topic_create", ctypes.c_int,
            [_handle, ctypes.c_char_p, ctypes.c_int, ctypes.c_int],
        ),
        ("rd_kafka_mock_topic_delete", ctypes.c_int, [_handle, ctypes.c_char_p]),
        (
            "rd_kafka_mock_partition_delete_records", ctypes.c_int,
            [_handle, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int64],
        ),
        (
            "rd_kafka_mock_push_request_errors_array", None,
            [_handle, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
        ),
        (
            "rd_kafka_mock_group_initial_rebalance_delay_ms", None, [_handle, ctypes.c_int32],
        ),
        ("rd_kafka_mock_clear_request_errors", None, [_handle, ctypes.c_int16]),
        ("rd_kafka_mock_broker_set_down", ctypes.c_int, [_handle, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", ctypes.c_int, [_handle, ctypes.c_int32]),
    ):  # fmt: skip
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found


class Broker:
    """A mock cluster; its topics live in memory until it is closed."""

    def __init__(self, brokers: int) -> None:
        self._library = _library()
        told = ctypes.create_string_buffer(512)
        conf = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(conf, b"log_level", b"2", told, len(told))
        self._owner = self._library.rd_kafka_new(_PRODUCER, conf, told, len(told))
        self._brokers = brokers
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._owner, brokers)
        self.addresses = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def make(self, topic: str, partitions: int) -> None:
        """A topic."""
        assert not self._library.rd_kafka_mock_topic_create(
            self._cluster, topic.encode(), partitions, 1
        )

    def remove(self, topic: str) -> None:
        """A topic, with all its rows."""
        assert not self._library.rd_kafka_mock_topic_delete(self._cluster, topic.encode())

    def cut(self, topic: str, partition: int, below: int) -> None:
        """Drop a partition's rows below an offset, as retention does."""
        assert not self._library.rd_kafka_mock_partition_delete_records(
            self._cluster, topic.encode(), partition, below
        )

    def fail(self, request: int, errors: Sequence[int]) -> None:
        """Answer the next requests of a kind with these errors; none: as usual again."""
        if not errors:
            self._library.rd_kafka_mock_clear_request_errors(self._cluster, request)
            return
        array = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, request, len(errors), array
        )

    def rebalance_delay(self, milliseconds: int) -> None:
        """How long a group waits for who else may join."""
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, milliseconds)

    def stop(self) -> None:
        """Refuse connections."""
        for number in range(1, self._brokers + 1):
            self._library.rd_kafka_mock_broker_set_down(self._cluster, number)

    def start(self) -> None:
        """Take connections again."""
        for number in range(1, self._brokers + 1):
            self._library.rd_kafka_mock_broker_set_up(self._cluster, number)

    def close(self) -> None:
        """End it."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._owner)


@contextmanager
def broker(brokers: int = 1) -> Iterator[Broker]:
    """A cluster for the time of a test."""
    one = Broker(brokers)
    try:
        yield one
    finally:
        one.close()
