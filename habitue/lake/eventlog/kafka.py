"""`KafkaLog`: the event log on Kafka, a topic with one partition per shard.

What `append` returned for was acknowledged by every replica in sync. Several processes may append.
Where an append fails, part of it may be in the log all the same: whoever sent it sends it again,
and the identities of what it holds make the repetition harmless.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from habitue.errors import Dropped, LogUnavailable
from habitue.faults import reach
from habitue.lake.eventlog.brokers import MESSAGE_BYTES, UNSUPPORTED, Place, Settings, hint, said
from habitue.lake.eventlog.records import Record

TIMEOUT_SECONDS = 10.0                     # for the brokers to answer, or to take a row
READERS = 3                                # of a shard that are kept, each where it stopped
_SLICE_SECONDS = 0.5                       # of one wait for rows that are known to be there
_SLACK_SECONDS = 5.0                       # that librdkafka gets to report what timed out
log = logging.getLogger(__name__)

Told: TypeAlias = Callable[[KafkaError | None, Message], None]


class KafkaLog:
    """An event log in a topic, which is made if it is missing. Threads may share it.

    `begins` is added to the offsets of each partition, where the log goes on from another one;
    `cluster` is what the brokers call themselves.

    Raises:
        LogUnavailable: no broker answers, or the topic has another number of partitions.
    """

    def __init__(
        self,
        place: Place,
        *,
        begins: Sequence[int] = (),
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self.place = place
        self._timeout = timeout_seconds
        self._asking = self._consumer()
        try:
            with self._told("opened"):
                self._shards = self._partitions()
        except BaseException:
            self._asking.close()
            raise
        self.begins = [*begins, *[0] * self._shards][: self._shards]
        self._guards = [threading.Lock() for _ in range(self._shards)]
        self._reading = [threading.Lock() for _ in range(self._shards)]
        self._producers: dict[int, Producer] = {}
        self._readers: dict[int, list[_Reader]] = {n: [] for n in range(self._shards)}

    @property
    def shards(self) -> int:
        """How many there are: the topic's partitions."""
        return self._shards

    def append(self, shard: int, bodies: Sequence[bytes]) -> Sequence[int]:
        """Append, acknowledged by every replica in sync on return; the offsets they got.

        Raises:
            LogUnavailable: not every row was acknowledged in time; any of them may be in the log.
        """
        with self._guards[shard], self._told("appended to"):
            if shard not in self._producers:
                self._producers[shard] = self._producer()
            try:
                offsets = _sent(
                    self._producers[shard],
                    TopicPartition(self.place.topic, shard),
                    bodies,
                    self._timeout + _SLACK_SECONDS,
                )
            except BaseException:
                self._producers.pop(shard).purge()         # what still waits is not sent later
                raise
            reach("log.after_commit")
            return [offset + self.begins[shard] for offset in offsets]

    def read(self, shard: int, offset: int, *, most_bytes: int = 16_000_000) -> list[Record]:
        """Rows from `offset` on in order, at least one if there is one, up to `most_bytes`.

        Raises:
            LogUnavailable: rows at or after `offset` were dropped, the log ends before it, or the
                brokers do not answer.
        """
        with self._reading[shard], self._told("read"):
            reader = self._reader(shard, offset)
            try:
                if reader.size < most_bytes:
                    first, end = self._bounds(shard)
                    _refuse_outside(offset, first, end)
                    reader.fill(end, most_bytes, self._timeout)
            except BaseException:
                self._readers[shard].remove(reader)
                reader.close()
                raise
            return reader.first(most_bytes)

    def end(self, shard: int) -> int:
        """The offset that the next row will get at the earliest.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        with self._told("read"):
            return self._bounds(shard)[1]

    def begin(self, shard: int) -> int:
        """The offset of the oldest row that is still there, or of the next one.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        with self._told("read"):
            return self._bounds(shard)[0]

    def trim(self, shard: int, below: int) -> int:
        """Drop rows below an offset; returns how many, 0 where the brokers cannot drop any.

        Raises:
            LogUnavailable: the brokers refuse it, or do not answer.
        """
        with self._told("trimmed"):
            first, end = self._bounds(shard)
            at = min(below, end)
            if at <= first:
                return 0
            row = TopicPartition(self.place.topic, shard, at - self.begins[shard])
            administrator = self._administrator()          # must outlive its answer
            try:
                told = administrator.delete_records(
                    [row], request_timeout=self._timeout, operation_timeout=self._timeout
                )
                dropped = told[row].result()
            except KafkaException as error:
                if error.args[0].code() not in UNSUPPORTED:
                    raise
                log.info("cannot drop rows topic=%s: %s", self.place.topic, error.args[0].str())
                return 0
            return int(dropped.low_watermark) + self.begins[shard] - first

    def close(self) -> None:
        """Give connections back."""
        for shard, guard in enumerate(self._guards):
            with guard:
                self._producers.pop(shard, None)
            with self._reading[shard]:
                while self._readers[shard]:
                    self._readers[shard].pop().close()
        self._asking.close()

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise LogUnavailable(
                f"the log in Kafka's topic {self.place.topic!r} cannot be {what}:"
                f" {said(error)}\nhint: {hint(error, self.place.cluster.brokers, self.place.topic)}"
            ) from error

    def _partitions(self) -> int:
        """How many the topic has; it is made where there is none."""
        told = self._asking.list_topics(timeout=self._timeout)
        self.cluster = str(told.cluster_id)
        found = told.topics
        if self.place.topic not in found:
            self._make()
            found = self._asking.list_topics(timeout=self._timeout).topics
        held = found[self.place.topic].partitions if self.place.topic in found else ()
        wanted = self.place.shards
        if not held or wanted not in (None, len(held)):
            raise LogUnavailable(
                f"Kafka's topic {self.place.topic!r} has {len(held)} partitions, not {wanted or 1}"
                "\nhint: the number is fixed when the topic is made; name another topic, or leave"
                " `shards` out"
            )
        return len(held)

    def _make(self) -> None:
        """The topic, whose rows stay until they are trimmed."""
        topic = NewTopic(
            self.place.topic,
            num_partitions=self.place.shards or 1,
            replication_factor=self.place.replication or -1,
            config={
                "cleanup.policy": "delete",
                "retention.ms": "-1",
                "retention.bytes": "-1",
                "max.message.bytes": str(MESSAGE_BYTES),
            },
        )
        administrator = self._administrator()              # must outlive its answer
        try:
            administrator.create_topics(
                [topic], request_timeout=self._timeout, operation_timeout=self._timeout
            )[self.place.topic].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        deadline = time.monotonic() + self._timeout
        while time.monotonic() < deadline:         # until the brokers have told each other
            if self.place.topic in self._asking.list_topics(timeout=self._timeout).topics:
                return
            time.sleep(0.1)

    def _bounds(self, shard: int) -> tuple[int, int]:
        """The first row's offset and the next one's."""
        row = TopicPartition(self.place.topic, shard)
        found = self._asking.get_watermark_offsets(row, timeout=self._timeout, cached=False)
        if found is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return found[0] + self.begins[shard], found[1] + self.begins[shard]

    def _reader(self, shard: int, offset: int) -> "_Reader":
        """A reader that goes on at an offset: one that stopped there, else the oldest one."""
        readers = self._readers[shard]
        reader = next((one for one in readers if one.is_at(offset)), None)
        if reader is not None:
            readers.remove(reader)
        else:
            reader = readers.pop(0) if len(readers) >= READERS else None
            begin = self.begins[shard]
            reader = reader or _Reader(self._consumer(), self.place.topic, shard, begin)
            reader.go_to(offset)
        readers.append(reader)                             # the last one was used last
        reader.drop_below(offset)
        return reader

    def _consumer(self) -> Consumer:
        own: Settings = {
            "group.id": "habitue-log",                     # wanted by the client; it joins no group
            "enable.auto.commit": False,
            "auto.offset.reset": "error",                  # what was dropped is never skipped
            "allow.auto.create.topics": False,
            "isolation.level": "read_uncommitted",
            "fetch.wait.max.ms": 100,
            "fetch.message.max.bytes": 8_000_000,
            "queued.max.messages.kbytes": 32_000,
            "log_level": 4,
        }
        return Consumer(self.place.cluster.settings(own), logger=log)

    def _producer(self) -> Producer:
        own: Settings = {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 1,
            "compression.type": "lz4",
            "message.timeout.ms": int(self._timeout * 1000),
            "message.max.bytes": MESSAGE_BYTES,
            "log_level": 4,
        }
        return Producer(self.place.cluster.settings(own), logger=log)

    def _administrator(self) -> AdminClient:
        return AdminClient(self.place.cluster.settings({"log_level": 4}), logger=log)


class _Reader:
    """A consumer of one partition, and rows that it was given and not all of which are done."""

    def __init__(self, consumer: Consumer, topic: str, shard: int, begin: int) -> None:
        self._consumer, self._topic, self._shard, self._begin = consumer, topic, shard, begin
        self._held: list[Record] = []
        self._next = -1                    # the offset that follows what is held

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return sum(len(record.body) for record in self._held)

    def is_at(self, offset: int) -> bool:
        """Whether what comes from an offset on can be read without going there."""
        return (self._held[0].offset if self._held else self._next) <= offset <= self._next

    def go_to(self, offset: int) -> None:
        """Hold nothing, and go on at an offset."""
        self._held.clear()
        self._next = offset
        at = max(offset - self._begin, 0)
        self._consumer.assign([TopicPartition(self._topic, self._shard, at)])

    def drop_below(self, offset: int) -> None:
        """Let go of what is done."""
        self._held = [record for record in self._held if record.offset >= offset]

    def fill(self, end: int, most_bytes: int, patience_seconds: float) -> None:
        """Hold so many bytes, or all rows up to the log's end, or at least one of them."""
        deadline = time.monotonic() + patience_seconds
        size = self.size
        while self._next < end and size < most_bytes:
            average = size // len(self._held) + 1 if self._held else most_bytes
            wanted = min(end - self._next, max((most_bytes - size) // average, 1), 10_000)
            for message in self._consumer.consume(wanted, timeout=_SLICE_SECONDS):
                if (error := message.error()) is not None:
                    raise KafkaException(error)
                body = message.value() or b""
                offset = _offset(message) + self._begin
                self._held.append(Record(offset, body))
                self._next = offset + 1
                size += len(body)
            if time.monotonic() > deadline:
                if not self._held:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
                return

    def first(self, most_bytes: int) -> list[Record]:
        """What is held, at least one row of it, up to so many bytes."""
        found: list[Record] = []
        for record in self._held:
            most_bytes -= len(record.body)
            if found and most_bytes < 0:
                break
            found.append(record)
        return found

    def close(self) -> None:
        """Give the connection back."""
        self._consumer.close()


def _sent(
    producer: Producer, row: TopicPartition, bodies: Sequence[bytes], patience_seconds: float
) -> list[int]:
    """Send rows, all in flight at once; their offsets once every one was acknowledged."""
    offsets: dict[int, int] = {}
    errors: list[KafkaError] = []

    def told(error: KafkaError | None, message: Message, *, place: int) -> None:
        if error is not None:
            errors.append(error)
        else:
            offsets[place] = _offset(message)

    deadline = time.monotonic() + patience_seconds
    for place, body in enumerate(bodies):
        _put(producer, row, body, partial(told, place=place), deadline)
    reach("log.before_commit")
    while len(offsets) < len(bodies) and not errors and time.monotonic() < deadline:
        producer.poll(0.1)
    if errors or len(offsets) < len(bodies):
        raise KafkaException(errors[0] if errors else KafkaError(KafkaError._TIMED_OUT))
    return [offsets[place] for place in range(len(bodies))]


def _put(
    producer: Producer, row: TopicPartition, body: bytes, told: Told, deadline: float
) -> None:
    """Give the producer a row as soon as its queue has room."""
    while time.monotonic() < deadline:
        with suppress(BufferError):
            producer.produce(row.topic, value=body, partition=row.partition, on_delivery=told)
            return
        producer.poll(0.1)
    raise KafkaException(KafkaError(KafkaError._QUEUE_FULL))


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None, "a message of a partition has its offset"
    return offset


def _refuse_outside(offset: int, first: int, end: int) -> None:
    if offset < first:
        raise Dropped(
            f"rows {offset} to {first - 1} are no longer in Kafka's topic\n"
            "hint: its retention must be longer than the lake is ever behind; -1 keeps all"
        )
    if offset > end:
        raise LogUnavailable(
            f"the log in Kafka ends at {end}; the row before {offset} is gone\n"
            "hint: was the topic deleted and made again, or is it another one?"
        )
