"""Kafka as a source: a topic's messages become rows of the lake, every one exactly once.

The next offset of each partition is a cursor of the lake, moved in the commit that brings the rows;
whoever is given a partition asks the lake where to go on. A group only shares partitions between
processes: one that was overtaken after a rebalance finds its cursor moved, and nothing is stored.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from habitue.directory import Directory
from habitue.errors import Busy, Dropped, NoAnswer, Overtaken
from habitue.events import Instant, Rejection
from habitue.ingest.commit import Settled, Taker
from habitue.ingest.doors import native, posthog, segment
from habitue.ingest.doors.faults import Fault, rejection
from habitue.ingest.doors.intake import Door, Intake, Malformed, Translator
from habitue.ingest.doors.klaviyo import routes
from habitue.lake.eventlog.brokers import Cluster, Settings, hint, said
from habitue.lake.eventlog.records import Entry, Part
from habitue.lake.maintenance import tidy
from habitue.lake.tables import Lake
from habitue.refusals import Refusals

FORMATS: Mapping[str, Translator] = {      # a message is one request's body, or one record
    "native": native.translate,
    "segment": segment.translate_any,
    "klaviyo": routes.translate,
    "posthog": posthog.translate,
}
MOST_ROWS = 50_000                         # of one commit
MOST_BYTES = 64_000_000                    # of messages in one commit; bounds memory
TIMEOUT_SECONDS = 30.0                     # without a word of the brokers, where an end is awaited
TIDY_SECONDS = 15.0                        # between looks at the lake's files
RETRY_SECONDS = 1.0                        # after a commit that failed
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """What is read, for whom, and how."""

    shop: str
    cluster: Cluster
    name: str
    format: str = "native"                 # one of FORMATS; the source of its events
    group: str = ""                        # that shares partitions; none: one of the shop's own
    accepts_loss: bool = False             # go on where messages were dropped before they were read

    def application(self, partition: int) -> str:
        """The name of a partition's cursor in the lake."""
        return f"kafka-{self.shop}-{self.name}-{partition}"


@dataclass(slots=True)
class _Partition:
    """One partition, and what is held of it that the lake lacks."""

    cursor: int                            # as the lake has it; -1: none
    next: int                              # the offset after the last message that was seen
    is_at_end: bool = False
    first: int | None = None               # the offset of the first message that is held
    rows: int = 0
    entries: list[Entry] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    @property
    def is_begun(self) -> bool:
        """Whether anything of it was seen, now or before."""
        return self.cursor >= 0 or self.next > 0


class Feed:
    """A topic on its way into the lake: all partitions up to their ends, or a share for ever.

    Close it to leave the group.
    """

    def __init__(
        self,
        topic: Topic,
        taker: Taker,
        directory: Directory,
        *,
        follows: bool,
        now: Callable[[], datetime],
    ) -> None:
        """Where it `follows`, it joins the group; else it reads to where the topic ends now.

        Raises:
            NoAnswer: no broker answers, or there is no such topic.
        """
        self.topic, self.follows = topic, follows
        self._taker, self._directory, self._now = taker, directory, now
        self._translate = FORMATS[topic.format]
        self._shop = directory.shop(topic.shop, create=True)   # its names are read at every step
        self._partitions: dict[int, _Partition] = {}
        self._rows = self._bytes = 0       # that are held
        self._heard = time.monotonic()     # when the brokers last told anything
        self._consumer = Consumer(topic.cluster.settings(_own(topic)), logger=log)
        try:
            self._begin()
        except BaseException:
            self._consumer.close()
            raise

    @property
    def partitions(self) -> list[int]:
        """Those that it reads now."""
        return sorted(self._partitions)

    @property
    def is_done(self) -> bool:
        """Whether all is in the lake up to the ends; never where it follows."""
        return self._is_drained and not self._rows

    def step(self, *, most_rows: int = MOST_ROWS, wait_seconds: float = 1.0) -> Settled | None:
        """Gather messages for so long, or so many rows, and commit them; None where none came.

        Raises:
            Dropped: messages are gone that were never read.
            NoAnswer: the brokers refuse, or do not answer.
            OSError, Busy: the lake cannot be written; the next step tries again.
        """
        self._shop = self._directory.shop(self.topic.shop, create=True)
        deadline = time.monotonic() + wait_seconds
        while self._rows < most_rows and self._bytes < MOST_BYTES and not self._is_drained:
            left = deadline - time.monotonic()
            message = self._consumer.poll(max(left, 0.0))
            if message is not None:
                self._hear(message)
            elif left <= 0:
                break
        self._check_silence()
        return self._commit()

    def tidy(self) -> None:
        """Merge small files of many commits, so that the next ones stay as quick."""
        with suppress(Busy):               # whoever else keeps house merges ours as well
            tidy(self._taker.lake, now=self._now())

    def close(self) -> None:
        """Leave the group; what is held and not committed is read again by whoever is next."""
        self._consumer.close()

    @property
    def _is_drained(self) -> bool:
        return not self.follows and all(one.is_at_end for one in self._partitions.values())

    def _begin(self) -> None:
        if self.follows:
            self._consumer.subscribe(
                [self.topic.name],
                on_assign=lambda _, given: self._assign([one.partition for one in given]),
                on_revoke=lambda _, taken: self._forget(),
                on_lost=lambda _, taken: self._forget(),
            )
            return
        try:
            topics = self._consumer.list_topics(timeout=TIMEOUT_SECONDS).topics
        except KafkaException as error:
            raise self._no_answer(error) from error
        if self.topic.name not in topics:
            known = ", ".join(sorted(topics)[:10]) or "none"
            raise NoAnswer(f"no topic {self.topic.name!r} there\nhint: there are: {known}")
        self._assign(sorted(topics[self.topic.name].partitions))

    def _assign(self, numbers: Iterable[int]) -> None:
        """Read these partitions, each from where the lake is."""
        self._forget()
        for number in numbers:
            cursor = self._taker.lake.cursor(self.topic.application(number))
            self._partitions[number] = _Partition(cursor, max(cursor, 0))
        log.info("reads topic=%s partitions=%s", self.topic.name, sorted(self._partitions))
        self._go_on()

    def _go_on(self) -> None:
        """Let the brokers send what follows what was seen."""
        self._consumer.assign(
            [
                TopicPartition(self.topic.name, n, one.next if one.is_begun else OFFSET_BEGINNING)
                for n, one in self._partitions.items()
            ]
        )

    def _forget(self) -> None:
        """Let go of what is held: whoever reads these partitions next asks the lake."""
        self._partitions.clear()
        self._rows = self._bytes = 0

    def _hear(self, message: Message) -> None:
        self._heard = time.monotonic()
        number, error = message.partition(), message.error()
        if error is not None and error.code() == KafkaError._MAX_POLL_EXCEEDED:
            return                         # the group went on without us, and takes us in again
        partition = self._partitions.get(-1 if number is None else number)
        if error is not None and error.code() not in _OF_PARTITIONS:
            raise self._no_answer(KafkaException(error))
        if partition is None or number is None:
            return                         # of a partition that was taken from us
        if error is None:
            self._hold(number, partition, message)
        elif error.code() == KafkaError._PARTITION_EOF:
            partition.is_at_end = True
        else:
            self._lost(number, partition)

    def _hold(self, number: int, partition: _Partition, message: Message) -> None:
        """Translate a message, and keep what it became until the next commit."""
        offset, body = message.offset(), message.value()
        assert offset is not None, "a message has its offset"
        if offset < partition.next:
            return
        if partition.first is None:
            partition.first = offset
        partition.next = offset + 1
        partition.is_at_end = False
        if body is None:                   # a tombstone: it holds no record
            return
        intake = self._translated(body, _time_of(message, self._now()))
        start = partition.rows
        partition.entries += (Entry(start + one.position, one.nouns) for one in intake.entries)
        partition.rejections += (_moved(one, start) for one in intake.rejections)
        partition.rows += intake.rows
        self._rows += intake.rows
        self._bytes += len(body)

    def _translated(self, body: bytes, received: Instant) -> Intake:
        door = Door(
            shop=self._shop.name,
            source=self.topic.format,
            received=received,
            secret=self._shop.secret,
            names=self._shop.names.get(self.topic.format, {}),
            currency=self._shop.currency,
        )
        try:
            return self._translate(body, door)
        except Malformed as error:
            fault = Fault(error.pointer, error.reason, str(error))
            return Intake(rows=1, rejections=(rejection(0, fault, body),))

    def _commit(self) -> Settled | None:
        """All that is held, in one commit with the cursors."""
        held = {n: one for n, one in self._partitions.items() if one.first is not None}
        parts = [self._part(number, one) for number, one in held.items() if one.rows]
        if not parts:
            return None
        moved = {self.topic.application(n): (one.cursor, one.next) for n, one in held.items()}
        try:
            settled = self._taker.take(parts, moved)
        except Overtaken as error:
            log.warning("another reader was first: %s", error)
            self._assign(list(self._partitions))
            return None
        for number, one in held.items():
            self._partitions[number] = _Partition(one.next, one.next, is_at_end=one.is_at_end)
        self._rows = self._bytes = 0
        return settled

    def _part(self, number: int, partition: _Partition) -> Part:
        """What came of one partition as one request; its receipt is named after its offsets."""
        named = f"{self.topic.name}/{number}/{partition.first}-{partition.next - 1}"
        digest = hashlib.blake2b(f"{self.topic.shop}\0{named}".encode(), digest_size=8)
        return Part(
            receipt=digest.hexdigest(),
            shop=self.topic.shop,
            source=self.topic.format,
            origin=f"kafka:{named}",
            received=self._now(),
            entries=tuple(partition.entries),
            rejections=tuple(partition.rejections),
        )

    def _lost(self, number: int, partition: _Partition) -> None:
        """The offset to go on from is not there."""
        place = TopicPartition(self.topic.name, number)
        try:
            first, end = self._consumer.get_watermark_offsets(place, timeout=TIMEOUT_SECONDS)
        except KafkaException as error:
            raise self._no_answer(error) from error
        if first <= partition.next <= end:
            self._go_on()
            return
        if partition.next > end:
            raise NoAnswer(
                f"partition {number} of {self.topic.name!r} ends at {end}, and {partition.next} was"
                " to be read next: it was deleted and made again\nhint: give the topic a new name"
            )
        told = f"messages {partition.next} to {first - 1} of partition {number} are gone"
        if not self.topic.accepts_loss:
            raise Dropped(
                f"{told}: the topic dropped them before they were read\n"
                "hint: --accept-loss goes on with what is left; a longer retention.ms loses less"
            )
        log.warning("accepted a loss: %s", told)
        partition.next = first
        self._go_on()

    def _check_silence(self) -> None:
        """Where an end is awaited, somebody must answer."""
        silent = time.monotonic() - self._heard
        if not self.follows and not self._is_drained and silent > TIMEOUT_SECONDS:
            raise self._no_answer(KafkaException(KafkaError(KafkaError._TIMED_OUT)))

    def _no_answer(self, error: KafkaException) -> NoAnswer:
        brokers, topic = self.topic.cluster.brokers, self.topic.name
        return NoAnswer(
            f"the topic {topic!r} cannot be read: {said(error)}\n"
            f"hint: {hint(error, brokers, topic)}"
        )


def consume_topic(
    topic: Topic,
    lake: Lake,
    directory: Directory,
    *,
    follows: bool,
    now: Callable[[], datetime],
    told: Callable[[Settled], None],
) -> None:
    """Take a topic into a lake, to where it ends now or for ever."""
    with (
        closing(Refusals(directory, clock=time.monotonic)) as refuses,
        closing(Taker(lake, refuses=refuses)) as taker,
        closing(Feed(topic, taker, directory, follows=follows, now=now)) as feed,
    ):
        consume(feed, told)


def consume(
    feed: Feed,
    told: Callable[[Settled], None],
    *,
    most_rows: int = MOST_ROWS,
    pace_seconds: float = 1.0,
) -> None:
    """Take a topic into the lake until it is done, telling of each commit.

    Where it follows, a commit that fails is tried again.
    """
    next_tidy = time.monotonic() + TIDY_SECONDS
    while not feed.is_done:
        try:
            settled = feed.step(most_rows=most_rows, wait_seconds=pace_seconds)
        except (Busy, OSError) as error:
            if not feed.follows:
                raise
            log.warning("committing failed, trying again: %s", error)
            time.sleep(RETRY_SECONDS)
            continue
        if settled is not None:
            told(settled)
        if time.monotonic() > next_tidy:
            feed.tidy()
            next_tidy = time.monotonic() + TIDY_SECONDS


_OF_PARTITIONS = (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET)


def _own(topic: Topic) -> Settings:
    """What the client must do for us, whatever else it is told."""
    return {
        "group.id": topic.group or f"habitue-{topic.shop}",
        "enable.auto.commit": False,       # where we are is in the lake
        "auto.offset.reset": "error",      # what was dropped is never skipped unseen
        "allow.auto.create.topics": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "queued.max.messages.kbytes": 32_000,
        "log_level": 4,
    }


def _time_of(message: Message, now: Instant) -> Instant:
    """When Kafka got a message, by its own word; now where it has none that can be."""
    _, milliseconds = message.timestamp()
    try:
        told = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return now
    return told if milliseconds > 0 and told <= now else now


def _moved(one: Rejection, start: int) -> Rejection:
    return Rejection(
        position=start + one.position, pointer=one.pointer, reason=one.reason, payload=one.payload
    )
